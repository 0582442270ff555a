/**
 * The engine as a program's author calls it: a plain prompt, a press in any form that a request may have it, the sampling fields that matter.
 * What is left out is as in the HTTP API, and so are the checks; InputError names the field.
 */
import * as z from 'zod'; // not { z }: that would bundle all of zod's languages
import { parsePress } from '../presses/config.ts';
import type { PressRequest } from '../presses/contract.ts';
import { InputError } from '../presses/input-error.ts';
import type { EdgeEngine } from './engine/engine.ts';
import type { Inspection } from './engine/inspection.ts';
import type { EngineSupply } from './engine/supply.ts';
import type { ChatMessage, GenerateEvent, Health, ModelInfo, PressPlan, PromptInput, PromptLength, Sampling } from './engine/types.ts';
import { defaultLimits } from './wire/limits.ts';
import { chatPrompt } from './wire/prompt.ts';
import { requestSchemas } from './wire/request-schema.ts';
import { samplingOf } from './wire/sampling.ts';
import { show, strictObject, validate } from './wire/validate.ts';

export { parsePress } from '../presses/config.ts';
export type { PressRequest } from '../presses/contract.ts';
export { InputError } from '../presses/input-error.ts';
export { listPresses } from '../presses/list-presses.ts';
export { type CalibrationOptions, calibrate } from './engine/calibrate.ts';
export type { EdgeEngine } from './engine/engine.ts';
export type { Inspection } from './engine/inspection.ts';
export type { BackendName, LoadSettings } from './engine/load.ts';
export { EngineSupply } from './engine/supply.ts';
export type * from './engine/types.ts';

export interface Message {
  readonly role: 'system' | 'developer' | 'user' | 'assistant' | (string & {}); // what a variable's inferred type has is checked when it runs
  /** A text, or parts {type: 'text', text}; of a user message's parts, scope "context" presses all but the last one. */
  readonly content: string | readonly { readonly type: string; readonly text: string }[];
}

/** A string is one user message, put into the model's chat template; {kind: 'text', text} is continued as it stands. */
export type Prompt = string | readonly Message[] | PromptInput;

/** As in a request: a preset's name, an object, or a list of them; or what parsePress made of one. */
export type PressConfig = string | Readonly<Record<string, unknown>> | readonly (string | Readonly<Record<string, unknown>>)[] | PressRequest;

/** Default: temperature 1, nothing cut off, at most 512 new tokens. */
export type SamplingConfig = Partial<Omit<Sampling, 'stop'>> & { readonly stop?: string | readonly string[] | null };

export interface ModelRequest {
  readonly prompt: Prompt;
  readonly press?: PressConfig | null;
  readonly sampling?: SamplingConfig | null;
}

/** A prompt, or only how many tokens it has: `tokens`, or {kind: 'length', tokens}. */
export interface PlanRequest {
  readonly prompt?: Prompt | PromptLength;
  readonly tokens?: number;
  readonly press?: PressConfig | null;
  readonly maxTokens?: number | null;
}

export class Model {
  readonly #supply: EngineSupply;

  constructor(supply: EngineSupply) {
    this.#supply = supply;
  }

  /** The engine itself, which takes what it is given as it is. After its GPU failed, the next request puts another one in its place. */
  get engine(): EdgeEngine {
    return this.#supply.current;
  }

  get info(): ModelInfo {
    return this.engine.info;
  }

  health(): Health {
    return this.engine.health();
  }

  /** Tokens of a prompt, by the model's tokenizer and chat template. */
  tokenise(prompt: Prompt): readonly number[] {
    return this.engine.tokenise(promptOf(prompt));
  }

  /** What a press would take of the KV pool for a prompt, or for one of so many `tokens`, whatever they are, without running it. */
  async plan(request: PlanRequest): Promise<PressPlan> {
    const { prompt, tokens, press, maxTokens } = asInput(planFields, request);
    if (prompt !== undefined && tokens !== undefined)
      throw new InputError('invalid_value', 'tokens', `send prompt or tokens, not both, got tokens ${show(tokens)}`);
    const given = tokens === undefined ? prompt : { kind: 'length', tokens };
    const engine = await this.#supply.get();
    return engine.plan({ prompt: isLength(given) ? given : promptOf(given), press: pressOf(press), maxTokens: maxTokens ?? null });
  }

  /** Events: the prompt is read; pieces of text; the finish with its account. Leaving the loop early, or `signal`, gives back every page. */
  async *generate(request: ModelRequest, signal?: AbortSignal): AsyncGenerator<GenerateEvent, void, void> {
    const { prompt, press, sampling } = asInput(requestFields, request);
    const engine = await this.#supply.get();
    yield* engine.generate({ prompt: promptOf(prompt), press: pressOf(press), sampling: fullSampling(sampling ?? {}) }, signal);
  }

  /** Which positions every layer and head keeps of a prompt; all of it is pressed unless the press has a scope. */
  async inspect(prompt: Prompt, press?: PressConfig | null): Promise<Inspection> {
    const engine = await this.#supply.get();
    return engine.inspect(promptOf(prompt), pressOf(press));
  }

  close(): void {
    this.#supply.close();
  }
}

const { chat, completion, plan: planned } = requestSchemas(defaultLimits);
const wire = completion.shape;
const anything = z.unknown().optional();

const samplingFields = strictObject({
  maxTokens: wire.max_tokens,
  temperature: wire.temperature,
  topK: wire.top_k,
  topP: wire.top_p,
  minP: wire.min_p,
  seed: wire.seed,
  frequencyPenalty: wire.frequency_penalty,
  presencePenalty: wire.presence_penalty,
  stop: wire.stop,
  topLogprobs: wire.logprobs,
  ignoreEos: wire.ignore_eos,
});
type SamplingGiven = z.output<typeof samplingFields>;
const requestFields = strictObject({ prompt: anything, press: anything, sampling: samplingFields.nullish() });
const planFields = strictObject({ prompt: anything, tokens: planned.shape.tokens, press: anything, maxTokens: wire.max_tokens });
const messageFields = strictObject({ prompt: chat.shape.messages });

function asInput<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  if (typeof value !== 'object' || value === null)
    throw new InputError('invalid_type', null, `an object with a prompt is expected, got ${show(value)}`);
  return validate(schema, value);
}

function promptOf(prompt: unknown): PromptInput {
  if (typeof prompt === 'string') {
    if (prompt.trim() === '') throw new InputError('prompt_empty', 'prompt', `prompt must not be empty, got ${show(prompt)}`);
    return { kind: 'chat', messages: [{ role: 'user', parts: [prompt] }] };
  }
  if (Array.isArray(prompt)) return chatPrompt(asInput(messageFields, { prompt }).prompt);
  const { kind, text, tokens, messages } = (prompt ?? {}) as Record<string, unknown>;
  if (kind === 'text' && typeof text === 'string') return { kind, text };
  if (kind === 'tokens' && Array.isArray(tokens)) return { kind, tokens };
  if (kind === 'chat' && Array.isArray(messages) && messages.every(inParts)) return { kind, messages };
  throw new InputError(
    prompt === undefined ? 'missing_field' : 'invalid_type',
    'prompt',
    `prompt must be a string, a list of messages, or {kind: "text", text}, {kind: "tokens", tokens}, {kind: "chat", messages of {role, parts}}, got ${show(prompt)}`,
  );
}

function inParts(message: Partial<ChatMessage> | null): boolean {
  return typeof message?.role === 'string' && Array.isArray(message.parts) && message.parts.every((part) => typeof part === 'string');
}

function isLength(prompt: unknown): prompt is PromptLength {
  const { kind, tokens } = (prompt ?? {}) as Record<string, unknown>;
  if (kind !== 'length') return false;
  if (Number.isSafeInteger(tokens) && (tokens as number) > 0) return true;
  throw new InputError('invalid_value', 'prompt.tokens', `prompt.tokens must be a whole number, 1 or more, got ${show(tokens)}`);
}

function pressOf(press: unknown): PressRequest {
  return isParsed(press) ? press : parsePress(press);
}

/** What parsePress makes: its presses hold the parts themselves. */
function isParsed(press: unknown): press is PressRequest {
  const { presses, name } = (press ?? {}) as Partial<PressRequest>;
  return Array.isArray(presses) && typeof name === 'string' && presses.every((one) => typeof one?.scorer?.part?.score === 'function');
}

function fullSampling({ maxTokens, topLogprobs, topK, topP, minP, frequencyPenalty, presencePenalty, ignoreEos, ...same }: SamplingGiven): Sampling {
  const wire = {
    top_k: topK,
    top_p: topP,
    min_p: minP,
    frequency_penalty: frequencyPenalty,
    presence_penalty: presencePenalty,
    ignore_eos: ignoreEos,
  };
  return samplingOf({ ...same, ...wire }, maxTokens ?? null, topLogprobs ?? null);
}
