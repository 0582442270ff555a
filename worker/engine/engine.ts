/** The engine: checks a request, waits for room, reads and presses the prompt, decodes. Knows nothing of HTTP. */
import type { BudgetMath } from '../../presses/budget-math.ts';
import { type CheckedPress, checkPress, protectedCount } from '../../presses/check-press.ts';
import { Compressor } from '../../presses/compressor.ts';
import { isNoOp } from '../../presses/config.ts';
import type { Press, PressReport, PressRequest, Scope } from '../../presses/contract.ts';
import { InputError } from '../../presses/input-error.ts';
import { type Backend, type EntryType, OutOfDeviceMemory } from '../backend/backend.ts';
import { formatBytes } from './bytes.ts';
import type { Forward } from './forward.ts';
import { FairLock, Gate } from './gate.ts';
import { entriesPerPageOf, type KvCache, type KvSequence } from './kv-cache.ts';
import { anyPressPages, fittingRatio, isStatic, type RequestShape, type RequestSize, requestSize } from './request-size.ts';
import { createSampler } from './sampler.ts';
import { TextStream } from './text-stream.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';
import type {
  ChatMessage,
  Engine,
  GenerateEvent,
  GenerateRequest,
  Health,
  KvCacheUsage,
  ModelInfo,
  PressPlan,
  PromptInput,
  TokenLogprob,
} from './types.ts';

export interface EngineParts {
  readonly info: ModelInfo;
  readonly backend: Backend;
  readonly forward: Forward;
  readonly cache: KvCache;
  readonly math: BudgetMath;
  /** Null: the model came without one and reads token ids only. */
  readonly tokenizer: Tokenizer | null;
  readonly eosIds: readonly number[];
  readonly options: EngineOptions;
  /** Gives back weights and whatever else the loader took. */
  dispose(): void;
}

export interface EngineOptions {
  readonly entryType: EntryType; // when the request does not say
  readonly maxWaiting: number; // requests in the queue before others are refused
  readonly defaultMaxTokens: number; // when the request does not say
  /** A request whose client has not taken anything for so long is given up. */
  readonly idleMs: number;
}

/** Kept positions and budgets of one prompt, as `edgepress inspect` writes them (design.md section 6). */
export interface Inspection {
  tokens: number;
  layers: { budget: number; lmba: number | null; heads: { kept: number[]; scores: (number | null)[] }[] }[];
}

/** A checked request: everything known before compute. */
interface Job {
  readonly tokens: readonly number[];
  /** Tokens before the last text part of the last user message; null where that is not known. */
  readonly boundary: number | null;
  readonly covered: number;
  readonly scope: Scope;
  readonly checked: CheckedPress | null;
  readonly entryType: EntryType;
  readonly maxTokens: number;
  readonly shape: RequestShape;
  readonly size: RequestSize;
  readonly press: PressRequest;
}

interface Running {
  readonly sequence: KvSequence;
  beat: number;
}

const TURN_STALE_MS = 60_000;

export class EdgeEngine implements Engine {
  readonly info: ModelInfo;
  readonly #parts: EngineParts;
  readonly #admission: Gate;
  /** One piece of compute at a time, in order of arrival: requests decode side by side, token by token. */
  readonly #turn = new FairLock(TURN_STALE_MS);
  /** One prompt at a time holds hidden states and a layer's K,V. */
  readonly #reading = new FairLock(TURN_STALE_MS);
  readonly #running = new Set<Running>();
  /** Bytes in use before the prompt that is being read took its own: what the next one will find. */
  #usedAtRest: number | null = null;

  constructor(parts: EngineParts) {
    this.#parts = parts;
    this.info = parts.info;
    this.#admission = new Gate(parts.options.maxWaiting);
  }

  health(): Health {
    const { backend, cache } = this.#parts;
    const { usedBytes, peakBytes, limitBytes } = backend.memory;
    return {
      status: 'ok',
      model: this.info,
      backend: { name: backend.name, variant: backend.variant },
      memory: {
        used_bytes: usedBytes,
        peak_bytes: peakBytes,
        limit_bytes: limitBytes,
        weights_bytes: this.info.weightBytes,
        kv_pool_bytes: cache.poolBytes,
        kv_used_bytes: cache.usedBytes,
        kv_reserved_bytes: cache.reservedBytes,
        ledger_bytes: cache.ledgerBytes,
      },
      requests: { running: this.#running.size, waiting: this.#admission.waiting },
    };
  }

  tokenise(prompt: PromptInput): readonly number[] {
    return this.#tokenise(prompt).tokens;
  }

  plan(request: {
    prompt: PromptInput | { readonly kind: 'length'; readonly tokens: number };
    press: PressRequest;
    maxTokens: number | null;
  }): PressPlan {
    const { contextLength } = this.info;
    // One token more than the context holds is refused like any number beyond it, and needs no array of that length.
    const length = request.prompt.kind === 'length' ? Math.min(request.prompt.tokens, contextLength) : 0;
    const prompt: PromptInput = request.prompt.kind === 'length' ? { kind: 'tokens', tokens: new Array(length).fill(0) } : request.prompt;
    const { cache } = this.#parts;
    const { tokens, covered, scope, checked, entryType, size } = this.#check(prompt, request.press, request.maxTokens);
    const even = { min: covered, max: covered };
    return {
      press: request.press.name,
      scope,
      tokens: covered,
      prompt_tokens: tokens.length,
      compression_ratio: checked ? 1 - checked.averageBudget / covered : 0,
      average_budget: checked ? checked.averageBudget : covered,
      per_layer: checked ? checked.bounds.map(({ min, max }) => ({ min, max })) : new Array(this.info.layers).fill(even),
      exact: checked ? isStatic(checked) : true,
      entry_type: entryType,
      bytes_full: size.pagesFull * cache.pageBytes,
      bytes_kept: size.pagesKept * cache.pageBytes,
      bytes_peak: size.bytesPeak,
      pool_bytes: cache.poolBytes,
      fits: size.pagesMost <= cache.pages,
    };
  }

  async *generate(request: GenerateRequest, signal?: AbortSignal): AsyncGenerator<GenerateEvent, void, void> {
    const { sampling } = request;
    const job = this.#check(request.prompt, request.press, sampling.maxTokens);
    this.#checkRoom(job);
    const run = await this.#admit(job, signal);
    try {
      const started = performance.now();
      const read = await this.#readPrompt(job, run, true, signal);
      let logits = read.logits!;
      const prefillMs = performance.now() - started;
      yield { type: 'prompt', promptTokens: job.tokens.length, kvCache: read.usage };

      const decodeStarted = performance.now();
      const sampler = createSampler(sampling);
      const text = new TextStream(this.#parts.tokenizer, sampling.stop);
      const eos = new Set(sampling.ignoreEos ? [] : this.#parts.eosIds);
      let reason: 'stop' | 'length' = 'length';
      let count = 0;
      while (count < job.maxTokens) {
        run.beat = Date.now();
        const { tokenId, logprobs } = sampler.next(logits);
        count++;
        if (eos.has(tokenId)) {
          reason = 'stop';
          break;
        }
        const piece = text.push(tokenId, logprobs && this.#named(tokenId, logprobs));
        if (piece) yield piece;
        if (text.stopped) {
          reason = 'stop';
          break;
        }
        if (count === job.maxTokens) break;
        const position = job.tokens.length + count - 1;
        logits = (await this.#piece(run, () => this.#parts.forward.extend([tokenId], position, run.sequence, true), signal))!;
      }
      const rest = text.flush();
      if (rest) yield rest;
      if (text.stopped) reason = 'stop';
      yield {
        type: 'finish',
        reason,
        usage: { promptTokens: job.tokens.length, completionTokens: count, kvCache: read.usage },
        timings: { prefillMs: prefillMs - read.pressMs, pressMs: read.pressMs, decodeMs: performance.now() - decodeStarted },
      };
    } catch (error) {
      throw asInputError(error);
    } finally {
      this.#dismiss(run);
    }
  }

  /** The logits [vocab] after a prompt, read under a press. */
  async logits(prompt: PromptInput, press: PressRequest): Promise<Float32Array> {
    return this.#reads(this.#check(prompt, press, 0), true, ({ logits }) => logits!);
  }

  /** Reads a prompt, presses all of it, and tells which positions every layer and head kept. */
  async inspect(prompt: PromptInput, press: PressRequest): Promise<Inspection> {
    const job = this.#check(prompt, { ...press, scope: press.scope ?? 'prompt' }, 0);
    return this.#reads(job, false, ({ usage, sequence }) => {
      // Protected tokens come first and were not ranked by their scores; where nothing was pressed there are none.
      const stage = job.checked?.stages.at(-1);
      const unscored = stage ? protectedCount(stage.keep, job.covered) : job.covered;
      const { layers, kvHeads } = this.#parts.cache.shape;
      const head = (layer: number, h: number) => {
        const { positions, scores } = sequence.entries(layer, h);
        return { kept: [...positions], scores: Array.from(scores, (score, rank) => (rank < unscored ? null : score)) };
      };
      return {
        tokens: job.covered,
        layers: Array.from({ length: layers }, (_, layer) => ({
          budget: usage.kept_per_layer[layer],
          lmba: usage.lmba_per_layer[layer],
          heads: Array.from({ length: kvHeads }, (_, h) => head(layer, h)),
        })),
      };
    });
  }

  close(): void {
    for (const run of this.#running) this.#dismiss(run);
    this.#parts.forward.close();
    this.#parts.cache.close();
    this.#parts.dispose();
  }

  /** Reads a job's prompt, hands what came of it to `use`, and gives everything back. */
  async #reads<T>(
    job: Job,
    wantLogits: boolean,
    use: (read: { logits: Float32Array | null; usage: KvCacheUsage; sequence: KvSequence }) => T,
  ): Promise<T> {
    this.#checkRoom(job);
    const run = await this.#admit(job);
    try {
      const read = await this.#readPrompt(job, run, wantLogits);
      return use({ ...read, sequence: run.sequence });
    } catch (error) {
      throw asInputError(error);
    } finally {
      this.#dismiss(run);
    }
  }

  // --- before compute ---------------------------------------------------------------------------------------------------------------

  /** Tokens, and how many of them lie before the last text part of the last user message; null where that is not known. */
  #tokenise(prompt: PromptInput): { tokens: readonly number[]; boundary: number | null } {
    const { tokenizer } = this.#parts;
    if (prompt.kind === 'tokens') return { tokens: prompt.tokens, boundary: null };
    if (!tokenizer)
      throw new InputError('no_tokenizer', 'prompt', `the model ${this.info.id} came without a tokenizer: give token ids as the prompt`);
    // Tokenising takes seconds for some megabytes; what surely has too many tokens is not even tried.
    const text = prompt.kind === 'text' ? [prompt.text] : prompt.messages.flatMap(({ parts }) => parts);
    const least = Math.ceil(text.reduce((sum, part) => sum + part.length, 0) / tokenizer.longestTokenBytes); // UTF-8 is no shorter than UTF-16 units
    if (least > this.info.contextLength) throw tooLong(`at least ${least}`, this.info.contextLength);
    if (prompt.kind === 'text') return { tokens: tokenizer.encodeText(prompt.text), boundary: null };
    const { ids, boundary } = tokenizer.encodeChat(prompt.messages);
    return { tokens: ids, boundary: hasContext(prompt.messages) ? boundary : null };
  }

  /** Tokens, what the press covers of them, and the pages that all of it takes. Throws InputError. */
  #check(prompt: PromptInput, press: PressRequest, asked: number | null): Job {
    const { cache, math, options } = this.#parts;
    const { contextLength, layers, vocabSize } = this.info;
    const { tokens, boundary } = this.#tokenise(prompt);
    let covered = tokens.length;
    let scope: Scope = 'prompt';
    const pressed = !isNoOp(press);
    if (pressed) {
      scope = press.scope ?? (boundary ? 'context' : 'prompt');
      if (scope === 'context') {
        if (!boundary) {
          throw new InputError(
            'press_scope',
            'press.scope',
            'scope "context" needs something before the last text part of the last user message: a part, a message or a system prompt; use "prompt" or {"protect_last": n}',
          );
        }
        covered = boundary;
      } else if (scope !== 'prompt') {
        covered = tokens.length - scope.protect_last;
        if (covered < 1)
          throw new InputError(
            'press_scope',
            'press.scope.protect_last',
            `protect_last ${scope.protect_last} covers the whole prompt of ${tokens.length} tokens; use a smaller number`,
          );
      }
    }
    const N = tokens.length;
    if (N === 0) throw new InputError('prompt_empty', 'prompt', 'the prompt has no tokens');
    const unknown = tokens.findIndex((id) => id < 0 || id >= vocabSize);
    if (unknown >= 0)
      throw new InputError('token_unknown', 'prompt', `token ${tokens[unknown]} at index ${unknown} is not in the vocabulary of ${vocabSize}`);
    if (N >= contextLength) throw tooLong(String(N), contextLength);

    const entryType = press.entryType ?? options.entryType;
    const entriesPerPage = entriesPerPageOf(entryType, cache.shape.headDim);
    let maxTokens = Math.min(asked ?? options.defaultMaxTokens, contextLength - N);
    const { pageBytes, pages } = cache;
    const sized = (): Job => {
      const pageSizes = { pageBytes, entriesPerPage, extraTokens: N - covered + maxTokens };
      const checked = pressed ? checkPress(press, { tokens: covered, layers, kvHeads: cache.shape.kvHeads, math, pages: pageSizes }) : null;
      const shape: RequestShape = { promptTokens: N, coveredTokens: covered, maxTokens, entriesPerPage, pageBytes, checked };
      return { tokens, boundary, covered, scope, checked, entryType, maxTokens, shape, size: requestSize(cache.shape, shape), press };
    };
    let job = sized();
    // Nobody asked for a length: generate as much as the pool holds.
    while (asked === null && maxTokens > 1 && job.size.pagesMost > pages) {
      maxTokens = Math.floor(maxTokens / 2);
      job = sized();
    }
    return job;
  }

  /** Refuses what can never fit. What fits once others are done waits in the queue instead. */
  #checkRoom(job: Job): void {
    const { cache, forward, backend } = this.#parts;
    const { size } = job;
    if (size.pagesMost > cache.pages) {
      const [needed, pool] = [size.pagesMost * cache.pageBytes, cache.poolBytes];
      const how = job.checked ? `at compression_ratio ${(1 - job.checked.averageBudget / job.covered).toFixed(2)}` : 'without a press';
      throw new InputError(
        'kv_budget_exceeded',
        'press.compression_ratio',
        `the request needs ${formatBytes(needed)} (${needed} bytes) of KV pages ${how}; the pool has ${formatBytes(pool)} (${pool} bytes), of which ${formatBytes(cache.openPages * cache.pageBytes)} are free now; ${this.#whatFits(job)}`,
      );
    }
    const scratch = forward.prefillBytes(job.covered, Math.min(job.covered, MOST_WINDOW)) + pressScratchBytes(cache.shape, job.covered);
    const free = backend.memory.limitBytes - (this.#usedAtRest ?? backend.memory.usedBytes);
    if (scratch > free) {
      throw new InputError(
        'kv_budget_exceeded',
        'messages',
        `reading ${job.covered} tokens at once needs ${formatBytes(scratch)} (${scratch} bytes) of activations, ${formatBytes(free)} (${free} bytes) are free: a shorter prompt, a smaller KV pool or a higher memory limit would work`,
      );
    }
  }

  /** The ratio at which the request's own press would fit; any press, where it has none or sets its ratios by layer. */
  #whatFits({ tokens, boundary, checked, shape, press, maxTokens }: Job): string {
    const { pages, shape: model } = this.#parts.cache;
    const last = press.presses.at(-1);
    const ratioOf = (mode: Press['mode']): number | null => {
      if (!checked || !last || last.layerBudget.part.ownRatio) {
        const pressed = { ...shape, coveredTokens: checked?.size.tokens ?? boundary ?? tokens.length }; // the scope that a press would have
        return fittingRatio(pages, (ratio) => anyPressPages(model, pressed, ratio));
      }
      return fittingRatio(pages, (ratio) => {
        const other = { ...last, mode, compressionRatio: ratio, memoryBudgetBytes: null };
        const tried = orRefusal(() => checkPress({ ...press, presses: [...press.presses.slice(0, -1), other] }, checked.size));
        return tried && requestSize(model, { ...shape, checked: tried }).pagesMost;
      });
    };
    const which = press.presses.length > 1 ? ' of the last press' : '';
    const ratio = ratioOf(last?.mode ?? 'streaming');
    if (ratio !== null) return `compression_ratio ${ratio}${which} fits`;
    const streaming = last?.mode === 'deferred' ? ratioOf('streaming') : null;
    if (streaming !== null) return `mode "deferred" stores the whole prompt first; mode "streaming" with compression_ratio ${streaming}${which} fits`;
    return `no compression_ratio fits: the tokens after the pressed part and max_tokens ${maxTokens} alone are too many`;
  }

  async #admit(job: Job, signal?: AbortSignal): Promise<Running> {
    let sequence: KvSequence | null = null;
    await this.#admission.enter(() => {
      this.#dismissIdle();
      sequence = this.#parts.cache.open(job.entryType, job.size.pagesMost);
      return sequence !== null;
    }, signal);
    const run = { sequence: sequence!, beat: Date.now() };
    this.#running.add(run);
    return run;
  }

  #dismiss(run: Running): void {
    run.sequence.close();
    this.#running.delete(run);
    this.#admission.poke();
  }

  /** Requests that show no sign of life: their client reads no more, or their context is gone. */
  #dismissIdle(): void {
    const oldest = Date.now() - this.#parts.options.idleMs;
    for (const run of this.#running) if (run.beat < oldest) this.#dismiss(run);
  }

  // --- compute ----------------------------------------------------------------------------------------------------------------------

  /** Runs one bounded piece of work in its turn, then lets the event loop see to others, to the client and to an abort. */
  async #piece<T>(run: Running, work: () => T | Promise<T>, signal?: AbortSignal): Promise<T> {
    const turn = await this.#turn.acquire(signal);
    run.beat = Date.now();
    try {
      return await work();
    } finally {
      turn.release();
      await pause();
      signal?.throwIfAborted();
    }
  }

  /** Waits to read a prompt. As long as its context lives, a request that waits is not an idle one, however long those before it take. */
  async #turnToRead(run: Running, signal?: AbortSignal): ReturnType<FairLock['acquire']> {
    const alive = setInterval(() => {
      run.beat = Date.now();
    }, this.#parts.options.idleMs / 4);
    try {
      return await this.#reading.acquire(signal);
    } finally {
      clearInterval(alive);
    }
  }

  async #readPrompt(
    job: Job,
    run: Running,
    wantLogits: boolean,
    signal?: AbortSignal,
  ): Promise<{ logits: Float32Array | null; usage: KvCacheUsage; pressMs: number }> {
    const { forward, cache, backend } = this.#parts;
    const { tokens, covered, checked } = job;
    const { sequence } = run;
    const slot = await this.#turnToRead(run, signal);
    this.#usedAtRest = backend.memory.usedBytes;
    try {
      const piece = <T>(work: () => T | Promise<T>): Promise<T> => {
        slot.beat();
        return this.#piece(run, work, signal);
      };
      const compressor = checked && checked.stages.length > 0 ? new Compressor({ backend, checked, store: sequence }) : null;
      let pressMs = 0;
      const { kvHeads, headDim } = cache.shape;
      sequence.scratchBytes = covered * kvHeads * headDim * 2 * 4;
      let logits = await forward.prefill(covered === tokens.length ? tokens : tokens.slice(0, covered), {
        queries: compressor ? compressor.queries : 0,
        wantLogits: wantLogits && covered === tokens.length,
        run: piece,
        onLayer: async (tensors) => {
          const started = performance.now();
          if (compressor) await compressor.layer(tensors);
          else sequence.append(tensors.layer, tensors.k, tensors.v, tensors.n, 0);
          pressMs += performance.now() - started;
        },
      });
      const report = compressor ? await compressor.finish() : null;
      sequence.scratchBytes = 0;
      for (let start = covered; start < tokens.length; start += forward.chunkTokens) {
        const chunk = tokens.slice(start, start + forward.chunkTokens);
        logits = await piece(() => forward.extend(chunk, start, sequence, wantLogits && start + chunk.length === tokens.length));
      }
      const usage = this.#usage(job, run, report);
      sequence.shrinkReservation(job.size.pagesEnd);
      this.#admission.poke();
      return { logits, usage, pressMs: compressor ? pressMs : 0 };
    } finally {
      this.#usedAtRest = null;
      slot.release();
    }
  }

  #usage(job: Job, { sequence }: Running, report: PressReport | null): KvCacheUsage {
    const all = <T>(value: T): T[] => new Array(this.info.layers).fill(value);
    return {
      press: report?.press ?? job.checked?.name ?? 'no_press',
      scope: job.scope,
      compression_ratio: report?.compressionRatio ?? 0,
      tokens: job.covered,
      kept_per_layer: report?.keptPerLayer ?? all(job.covered),
      lmba_per_layer: report?.lmbaPerLayer ?? all(null),
      retained_mass_per_layer: report?.retainedMassPerLayer ?? all(1),
      bytes_full: job.size.pagesFull * this.#parts.cache.pageBytes,
      bytes_kept: sequence.heldBytes,
      bytes_peak: sequence.peakBytes,
      layer_budget: report?.layerBudget ?? 'none',
      entry_type: job.entryType,
      notes: report?.notes ?? (job.checked ? [...job.checked.notes, 'the whole cache fits the memory_budget: nothing was removed'] : []),
    };
  }

  #named(tokenId: number, raw: { logprob: number; top: readonly { tokenId: number; logprob: number }[] }): TokenLogprob {
    const name = (id: number) => {
      const bytes = this.#parts.tokenizer?.tokenBytes(id) ?? new Uint8Array();
      return { token: new TextDecoder().decode(bytes), tokenId: id, bytes: [...bytes] };
    };
    return { ...name(tokenId), logprob: raw.logprob, top: raw.top.map(({ tokenId: id, logprob }) => ({ ...name(id), logprob })) };
  }
}

/** The largest observation window that admission assumes; a press that asks for more takes it from the same memory. */
const MOST_WINDOW = 256;

/** Scores per query head and per KV head, rank orders, sorting: what scoring one layer takes at most. */
function pressScratchBytes({ queryHeads, kvHeads }: { queryHeads: number; kvHeads: number }, tokens: number): number {
  return tokens * (2 * queryHeads * 4 + 4 * kvHeads * 4 + 32);
}

function tooLong(tokens: string, contextLength: number): InputError {
  return new InputError(
    'prompt_too_long',
    'messages',
    `the prompt has ${tokens} tokens, but the context length is ${contextLength} with at least one token to generate: shorten the prompt`,
  );
}

/** Memory that ran out in spite of the check is the request's size, not our fault; anything else stays as it is. */
function asInputError(error: unknown): unknown {
  if (!(error instanceof OutOfDeviceMemory)) return error;
  return new InputError('kv_budget_exceeded', null, `${error.message}; a shorter prompt or a higher compression_ratio would work`);
}

/** What `run` returns, or null where it refuses its input. */
function orRefusal<T>(run: () => T): T | null {
  try {
    return run();
  } catch (error) {
    if (error instanceof InputError) return null;
    throw error;
  }
}

/** Whether something of the caller's stands before the last text part of the last user message: the template alone is nothing to press. */
function hasContext(messages: readonly ChatMessage[]): boolean {
  const last = messages.findLastIndex(({ role }) => role === 'user');
  const before = messages.slice(0, last + 1).map(({ parts }, i) => (i === last ? parts.slice(0, -1) : parts));
  return before.flat().some((part) => part.trim() !== '');
}

/** One turn of the event loop. */
function pause(): Promise<void> {
  return new Promise((resolve) => (typeof setImmediate === 'function' ? setImmediate(resolve) : setTimeout(resolve, 0)));
}
