/** What a request asks for, checked before any compute: its tokens, what the press covers of them, and the pages that all of it takes. */
import type { ArtifactOf } from '../../presses/artifacts.ts';
import type { BudgetMath } from '../../presses/budget-math.ts';
import { type CheckedDecoding, checkDecoding } from '../../presses/check-decoding.ts';
import { addedRows, type CheckedPress, checkPress } from '../../presses/check-press.ts';
import { decodingPress } from '../../presses/check-schedule.ts';
import { isNoOp } from '../../presses/config.ts';
import type { AddedRows, PressRequest, Scope } from '../../presses/contract.ts';
import { InputError } from '../../presses/input-error.ts';
import type { EntryType } from '../backend/backend.ts';
import { passSize, type TokenList } from './forward-bytes.ts';
import { behindHeld, type HeldContext } from './held.ts';
import { entriesPerPageOf, type KvCache } from './kv-cache.ts';
import { passesOf } from './passes.ts';
import { anyTokens, checkTokens, fieldOf, type PromptParts, tokenise, tooLong } from './prompt-tokens.ts';
import { mountedSize, type RequestShape, type RequestSize, requestSize } from './request-size.ts';
import type { PromptInput, PromptLength } from './types.ts';

/** What checking a request needs of the engine. */
export interface JobParts extends PromptParts {
  readonly cache: KvCache;
  readonly math: BudgetMath;
  readonly options: EngineOptions;
}

export interface EngineOptions {
  readonly entryType: EntryType; // when the request does not say
  readonly maxWaiting: number; // requests in the queue before others are refused
  readonly defaultMaxTokens: number; // when the request does not say
  /** A request whose client has not taken anything for so long is given up. */
  readonly idleMs: number;
}

export interface Job {
  readonly tokens: readonly number[];
  /** Tokens before the last text part of the last user message; null where that is not known. */
  readonly boundary: number | null;
  readonly covered: number;
  readonly scope: Scope;
  /** Null = nothing is removed, or a held context was pressed before. */
  readonly checked: CheckedPress | null;
  /** The context that the request has mounted: of the prompt, the tokens behind it are read. */
  readonly held: HeldContext | null;
  /** The press that acts while decoding, if any. */
  readonly decoding: CheckedDecoding | null;
  /** What the press has read over the covered tokens before it scores. */
  readonly passes: readonly TokenList[];
  /** What the press adds behind the covered tokens, at positions of its own; null = nothing. */
  readonly added: AddedRows | null;
  /** How many rows it added, now or when the context was held. */
  readonly rows: number;
  readonly entryType: EntryType;
  readonly maxTokens: number;
  /** When nobody asked for a length: the default, within the context length, of which `maxTokens` is what the pool holds. Else null. */
  readonly defaultTokens: number | null;
  /** Deviations from what was asked, for usage.kv_cache. */
  readonly notes: readonly string[];
  readonly shape: RequestShape;
  readonly size: RequestSize;
  readonly press: PressRequest;
}

/** Throws InputError where the request asks for something that does not exist or does not go together; room is not looked at. `press` is that of `held`. */
export function checkJob(
  parts: JobParts,
  prompt: PromptInput | PromptLength,
  press: PressRequest,
  artifact: ArtifactOf,
  asked: number | null,
  held: HeldContext | null = null,
): Job {
  const { cache, options } = parts;
  const { contextLength } = parts.info;
  const { tokens, boundary, notes: seam } = tokensOf(parts, prompt, held);
  checkTokens(tokens, parts.info, fieldOf(prompt));
  const acting = decodingPress(press.presses);
  const decoding = acting && checkDecoding(acting, { tokens: tokens.length, math: parts.math, artifact });
  // What acts while decoding has no scope; kvpress reads what lies behind one as a step of its own.
  const { scope, covered } =
    held ?? (isNoOp(press) && !acting?.compat ? { scope: 'prompt' as const, covered: tokens.length } : pressed(tokens.length, boundary, press));

  const { shape: model, pageBytes } = cache;
  const entryType = held?.entryType ?? press.entryType ?? options.entryType;
  const entriesPerPage = entriesPerPageOf(entryType, model.headDim);
  const rows = held?.rows ?? addedRows(press.presses, artifact)?.rows ?? 0;
  const places = contextLength - rows; // added rows stand among the tokens
  if (tokens.length >= places) throw tooLong(String(tokens.length), contextLength, fieldOf(prompt), contextLength - places);
  const most = Math.min(asked ?? options.defaultMaxTokens, places - tokens.length);
  const cut = `the context length of ${contextLength} leaves ${most} tokens for the answer: max_tokens ${asked} was cut to that`;
  const asksFor =
    scope === 'context' && !held ? press.presses.find(({ scorer, schedule }) => scorer.part.question && schedule.part.prefill) : undefined;
  const noQuestion = `${asksFor?.scorer.part.name} takes the last tokens of what is pressed for the question, and scope "context" leaves the question out: "scope": "prompt" has it`;
  const notes = [...seam, ...(asked !== null && most < asked ? [cut] : []), ...(asksFor ? [noQuestion] : [])];
  const defaultTokens = asked === null ? most : null;
  let planned: readonly TokenList[] | null = null; // the same whatever the answer's length
  const sized = (maxTokens: number): Job => {
    const pages = { pageBytes, entriesPerPage, extraTokens: tokens.length - covered + maxTokens };
    const checked =
      held || isNoOp(press)
        ? null
        : checkPress(press, { tokens: covered, layers: model.layers, kvHeads: model.kvHeads, math: parts.math, pages, artifact });
    const passes = checked ? (planned ??= passesOf(parts, checked, tokens.slice(0, covered))) : [];
    const added = checked?.added ?? null;
    const passTokens = passSize(passes, added).longest;
    const shape: RequestShape = {
      promptTokens: tokens.length,
      coveredTokens: covered,
      maxTokens,
      passTokens,
      entriesPerPage,
      pageBytes,
      checked,
      decoding,
    };
    const size = held ? mountedSize(model, shape, held) : requestSize(model, shape);
    return {
      tokens,
      boundary,
      covered,
      scope,
      checked,
      held,
      decoding,
      passes,
      added,
      rows,
      entryType,
      maxTokens,
      defaultTokens,
      notes,
      shape,
      size,
      press,
    };
  };
  let job: Job;
  try {
    job = sized(most);
  } catch (error) {
    // Such a press is refused for its window, and the caller may have taken it for the question.
    if (!asksFor || !(error instanceof InputError) || !['press_prompt_short', 'press_budget_tight'].includes(error.code)) throw error;
    throw new InputError(error.code, error.param, `${error.message}; and ${noQuestion}`);
  }
  // Nobody asked for a length: generate as much as the pool holds.
  while (asked === null && job.maxTokens > 1 && job.size.pagesMost > cache.requestPages) job = sized(Math.floor(job.maxTokens / 2));
  if (asked !== null || job.maxTokens === most) return job;
  return { ...job, notes: [...notes, `the KV pool has room for ${job.maxTokens} tokens of answer: max_tokens is that, not the default ${most}`] };
}

function tokensOf(parts: JobParts, prompt: PromptInput | PromptLength, held: HeldContext | null): ReturnType<typeof behindHeld> {
  if (prompt.kind === 'length') return { ...anyTokens(prompt.tokens, parts.info), notes: [] };
  return held ? behindHeld(parts, held, prompt) : { ...tokenise(parts, prompt), notes: [] };
}

/** The scope, and how many tokens it covers, the first ones of the prompt. */
export function pressed(tokens: number, boundary: number | null, press: PressRequest): { scope: Scope; covered: number } {
  const scope = press.scope ?? (boundary ? 'context' : 'prompt');
  if (scope === 'prompt') return { scope, covered: tokens };
  if (scope === 'context') {
    if (boundary) return { scope, covered: boundary };
    throw new InputError(
      'press_scope',
      'press.scope',
      'scope "context" needs something before the last text part of the last user message: a part, a message or a system prompt; use "prompt" or {"protect_last": n}',
    );
  }
  if (scope.protect_last < tokens) return { scope, covered: tokens - scope.protect_last };
  throw new InputError(
    'press_scope',
    'press.scope.protect_last',
    `protect_last ${scope.protect_last} covers the whole prompt of ${tokens} tokens; use a smaller number`,
  );
}
