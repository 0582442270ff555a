/** The engine: checks a request, waits for room, reads and presses the prompt, decodes. Knows nothing of HTTP. */
import { protectedCount } from '../../presses/check-press.ts';
import { Compressor } from '../../presses/compressor.ts';
import type { PressReport, PressRequest } from '../../presses/contract.ts';
import { InputError } from '../../presses/input-error.ts';
import { type Backend, OutOfDeviceMemory } from '../backend/backend.ts';
import type { Forward } from './forward.ts';
import { FairLock, Gate } from './gate.ts';
import { checkJob, type Job, type JobParts, tokenise } from './job.ts';
import type { KvSequence } from './kv-cache.ts';
import { isStatic } from './request-size.ts';
import { checkRoom } from './room.ts';
import { createSampler } from './sampler.ts';
import { TextStream } from './text-stream.ts';
import type {
  Engine,
  GenerateEvent,
  GenerateRequest,
  Health,
  KvCacheUsage,
  ModelInfo,
  PressPlan,
  PromptInput,
  PromptLength,
  TokenLogprob,
} from './types.ts';

export interface EngineParts extends JobParts {
  readonly backend: Backend;
  readonly forward: Forward;
  readonly eosIds: readonly number[];
  /** Gives back weights and whatever else the loader took. */
  dispose(): void;
}

/** Kept positions and budgets of one prompt, as `edgepress inspect` writes them. */
export interface Inspection {
  tokens: number;
  layers: { budget: number; lmba: number | null; heads: { kept: number[]; scores: (number | null)[] }[] }[];
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
    return tokenise(this.#parts, prompt).tokens;
  }

  plan({ prompt, press, maxTokens }: { prompt: PromptInput | PromptLength; press: PressRequest; maxTokens: number | null }): PressPlan {
    const { cache } = this.#parts;
    const { tokens, covered, scope, checked, entryType, size } = checkJob(this.#parts, prompt, press, maxTokens);
    const even = { min: covered, max: covered };
    return {
      press: press.name,
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
    const job = checkJob(this.#parts, request.prompt, request.press, sampling.maxTokens);
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
    return this.#reads(checkJob(this.#parts, prompt, press, 0), true, ({ logits }) => logits!);
  }

  /** Reads a prompt, presses all of it, and tells which positions every layer and head kept. */
  async inspect(prompt: PromptInput, press: PressRequest): Promise<Inspection> {
    const job = checkJob(this.#parts, prompt, { ...press, scope: press.scope ?? 'prompt' }, 0);
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

  // --- admission --------------------------------------------------------------------------------------------------------------------

  /** Waits until the pool has room for the whole request. Throws InputError where it never will. */
  async #admit(job: Job, signal?: AbortSignal): Promise<Running> {
    const { cache, forward, backend } = this.#parts;
    checkRoom(job, cache, forward, backend.memory.limitBytes - (this.#usedAtRest ?? backend.memory.usedBytes));
    let sequence: KvSequence | null = null;
    await this.#admission.enter(() => {
      this.#dismissIdle();
      sequence = cache.open(job.entryType, job.size.pagesMost);
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

/** Memory that ran out in spite of the check is the request's size, not our fault; anything else stays as it is. */
function asInputError(error: unknown): unknown {
  if (!(error instanceof OutOfDeviceMemory)) return error;
  return new InputError('kv_budget_exceeded', null, `${error.message}; a shorter prompt or a higher compression_ratio would work`);
}

/** One turn of the event loop. */
function pause(): Promise<void> {
  return new Promise((resolve) => (typeof setImmediate === 'function' ? setImmediate(resolve) : setTimeout(resolve, 0)));
}
