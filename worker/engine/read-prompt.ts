/** Reads the prompts of admitted requests, one at a time, and presses them: only one holds hidden states and a layer's K,V. */

import type { PressReads } from '../../presses/check-press.ts';
import { Compressor } from '../../presses/compressor.ts';
import type { PressReport } from '../../presses/contract.ts';
import { InputError } from '../../presses/input-error.ts';
import { partParam } from '../../presses/part-param.ts';
import { scoresPrompt } from '../../presses/token-scores.ts';
import type { Backend } from '../backend/backend.ts';
import { AddedOnDevice } from './added-rows.ts';
import type { Forward, TakeLogits } from './forward.ts';
import { passSize } from './forward-bytes.ts';
import { FairLock } from './gate.ts';
import type { HeldContext } from './held.ts';
import type { Job } from './job.ts';
import { type KvCache, type KvSequence, type KvShape, layerBytesOf } from './kv-cache.ts';
import { NO_READS } from './press-bytes.ts';
import { type Reading, Replay, record } from './reading.ts';
import { pressSeed } from './sampler.ts';
import { type Running, TURN_STALE_MS, type Turns } from './turns.ts';
import type { Explanation, KvCacheUsage } from './types.ts';

export interface ReaderParts {
  readonly backend: Backend;
  readonly forward: Forward;
  readonly cache: KvCache;
  readonly options: { readonly idleMs: number };
}

type Slot = Awaited<ReturnType<FairLock['acquire']>>;

export class PromptReader {
  readonly #parts: ReaderParts;
  readonly #turns: Turns;
  readonly #lock = new FairLock(TURN_STALE_MS);
  /** Who reads, and what was free before it took its own. A holder that lost the lock may still be at work: it is not this one. */
  #reading: { readonly slot: Slot; readonly freeBytes: number } | null = null;

  constructor(parts: ReaderParts, turns: Turns) {
    this.#parts = parts;
    this.#turns = turns;
  }

  /** Device bytes that are free when nobody reads a prompt: what the next one to be read will find. */
  get freeBytes(): number {
    return this.#reading?.freeBytes ?? this.#parts.backend.memory.freeBytes;
  }

  /**
   * `take` is handed the logits after the last token within the piece of work that makes them; null when nobody wants them. What was read `before` is not read
   * again, where it is just what the press looks at; without a press, where the prompt begins with it.
   */
  async read(job: Job, run: Running, take: TakeLogits | null, signal?: AbortSignal, before: Reading | null = null): Promise<KvCacheUsage> {
    if (job.held) return this.#goOn(job, job.held, run, take, signal);
    const { forward, cache, backend } = this.#parts;
    const { tokens, checked, passes } = job;
    const { sequence } = run;
    const recent = run.eviction?.recent ?? null;
    const scores = run.eviction?.scores ?? null;
    const scored = scores !== null && scoresPrompt(job.decoding, checked) ? scores : null;
    const remembered = recent?.queries ?? null;
    const slot = await this.#begin(run, signal);
    const compressor = checked && checked.stages.length > 0 ? new Compressor({ backend, checked, store: sequence, seed: pressSeed(run.seed) }) : null;
    const reads = compressor?.reads ?? NO_READS;
    const wanted = { ...reads, hidden: reads.hidden || scored !== null, queries: Math.max(reads.queries, remembered?.size ?? 0) };
    const covered = compressor || before === null ? job.covered : Math.min(job.covered, before.tokens.length);
    const pressed = covered === tokens.length ? tokens : tokens.slice(0, covered);
    const replayed = passes.length === 0 && job.added === null && before?.serves(pressed, wanted) ? before : null;
    const { rows } = job;
    let added: AddedOnDevice | null = null;
    try {
      const piece = <T>(part: 'prefillMs' | 'pressMs', work: () => T | Promise<T>): Promise<T> => {
        slot.beat();
        // Where operations are queued, the press would be billed for all that stands before its own: reading and pressing are one figure there.
        return this.#turns.piece(run, backend.queued ? 'prefillMs' : part, work, signal);
      };
      added = job.added && new AddedOnDevice(backend, cache.shape, job.added, forward.chunkTokens);
      sequence.scratchBytes = layerBytesOf(cache.shape, covered + passSize(passes, job.added).longest + cache.shape.layers * rows);
      await (replayed ? new Replay(backend, forward, replayed) : forward).prefill(pressed, {
        ...wanted,
        logits: covered === tokens.length ? take : null,
        run: (work) => piece('prefillMs', work),
        runPass: (work) => piece('pressMs', work), // it is the press that asks
        passes,
        onPass: (tensors) => compressor?.pass(tensors),
        added,
        onLayer: async (tensors) => {
          if (remembered) await piece('prefillMs', () => remembered.put(tensors.layer, tensors.q, tensors.window, covered));
          if (scored) await piece('pressMs', () => scored.layer(tensors));
          if (compressor) await piece('pressMs', () => compressor.layer(tensors));
          else await piece('prefillMs', () => sequence.append(tensors.layer, tensors.k, tensors.v, tensors.n, 0));
        },
      });
      remembered?.advance(covered);
      const report = compressor && (await piece('pressMs', () => compressor.finish()));
      if (scores) await piece('pressMs', () => scores.prompt(covered));
      sequence.scratchBytes = layerBytesOf(cache.shape, cache.shape.layers * rows);
      if (report) sequence.renumber(covered + rows, report.nextPosition, job.decoding !== null);
      const explain = report?.otherBudgets ? explanation(sequence, cache.shape, report.otherBudgets) : null;
      if (added && !(await piece('pressMs', () => added!.areNumbers()))) throw noNumbers(job);
      if (added) await piece('pressMs', () => added?.each((layer, k, v) => sequence.append(layer, k, v, rows, covered)));
      added?.close();
      sequence.scratchBytes = 0;
      const score = (start: number): Promise<void> => piece('pressMs', () => scores!.score(start));
      await this.#extend(job, run, covered, take, (work) => piece('prefillMs', work), score);
      if (replayed) replayed.served++;
      const usage = { ...usageOf(job, run, cache, report), ...(explain && { explain }) };
      sequence.shrinkReservation(job.size.pagesEnd);
      return usage;
    } finally {
      added?.close();
      compressor?.close();
      this.#end(slot);
    }
  }

  /** Reads what stands behind a held context. That takes no more than decoding does: nobody's turn to read is waited for. */
  async #goOn(job: Job, held: HeldContext, run: Running, take: TakeLogits | null, signal?: AbortSignal): Promise<KvCacheUsage> {
    const piece = <T>(work: () => T | Promise<T>): Promise<T> => this.#turns.piece(run, 'prefillMs', work, signal);
    const score = (start: number): Promise<void> => this.instead(run, () => run.eviction!.scores!.score(start), signal);
    await this.#extend(job, run, held.tokens.length, take, piece, score);
    run.sequence.shrinkReservation(job.size.pagesEnd);
    return mountedUsage(job, held, run, this.#parts.cache);
  }

  /** Reads the prompt from `start` on over what the cache holds of it. `score` makes room for more hidden states, where a press wants them. */
  async #extend(
    { tokens, rows }: Job,
    { sequence, eviction }: Running,
    start: number,
    take: TakeLogits | null,
    piece: <T>(work: () => T | Promise<T>) => Promise<T>,
    score: (start: number) => Promise<void>,
  ): Promise<void> {
    const { forward } = this.#parts;
    const [recent, scores] = [eviction?.recent ?? null, eviction?.scores ?? null];
    for (let at = start; at < tokens.length; ) {
      if (scores && scores.room(at) <= 0) await score(at);
      const chunk = tokens.slice(at, at + Math.min(forward.chunkTokens, scores?.room(at) ?? Infinity));
      const last = at + chunk.length === tokens.length;
      await piece(() => {
        const logits = forward.extend(chunk, at + rows, sequence, last && take !== null, recent);
        return logits && take?.(logits);
      });
      at += chunk.length;
    }
  }

  /** Reads tokens for many presses; nothing is stored in the cache. */
  async record(tokens: readonly number[], reads: PressReads, run: Running, signal?: AbortSignal): Promise<Reading> {
    const { backend, forward } = this.#parts;
    const slot = await this.#begin(run, signal);
    const piece = <T>(work: () => T | Promise<T>): Promise<T> => {
      slot.beat();
      return this.#turns.piece(run, 'prefillMs', work, signal);
    };
    try {
      return await record(backend, forward, tokens, reads, piece);
    } finally {
      this.#end(slot);
    }
  }

  /** Runs a piece of work that needs the memory which reading a prompt needs: nobody reads one meanwhile. */
  async instead(run: Running, work: () => Promise<void>, signal?: AbortSignal): Promise<void> {
    const slot = await this.#begin(run, signal);
    try {
      await this.#turns.piece(run, 'pressMs', work, signal);
    } finally {
      this.#end(slot);
    }
  }

  /** Waits for the turn to read, with the device's memory as free as it gets. */
  async #begin(run: Running, signal?: AbortSignal): Promise<Slot> {
    const { backend } = this.#parts;
    const slot = await this.#turnToRead(run, signal);
    backend.trim(); // what kernels kept since the last prompt lies above room that this one needs in one piece
    this.#reading = { slot, freeBytes: backend.memory.freeBytes };
    return slot;
  }

  #end(slot: Slot): void {
    if (this.#reading?.slot === slot) this.#reading = null;
    slot.release();
  }

  /** As long as its context lives, a request that waits is not an idle one, however long those before it take. */
  async #turnToRead(run: Running, signal?: AbortSignal): Promise<Slot> {
    const alive = setInterval(() => {
      run.beat = Date.now();
    }, this.#parts.options.idleMs / 4);
    try {
      return await this.#lock.acquire(signal);
    } finally {
      clearInterval(alive);
    }
  }
}

/** What is trained can be too large to be multiplied; the model's own weights gave numbers for the prompt. */
function noNumbers({ press: { presses } }: Job): InputError {
  const adding = presses.find(({ transforms }) => transforms.some(({ part }) => part.adds))!;
  const { part, params } = adding.transforms.find(({ part }) => part.adds)!;
  const { param } = part.artifact!;
  return new InputError(
    'press_numbers',
    partParam(adding, 'transforms', param),
    `${params[param]}: the rows that it adds have keys or values that are not numbers: it holds numbers too large for 32-bit arithmetic; a file of smaller ones would work`,
  );
}

/** Positions and budgets, right after the press: what follows the scope is not among them yet. */
function explanation(sequence: KvSequence, { layers, kvHeads }: KvShape, others: NonNullable<PressReport['otherBudgets']>): Explanation {
  const list = (length: number) => Array.from({ length }, (_, i) => i);
  return {
    kept: list(layers).map((layer) => list(kvHeads).map((head) => [...sequence.entries(layer, head).positions])),
    other_layer_budgets: others.map(({ layerBudget, budgets, why }) => ({ layer_budget: layerBudget, budgets: budgets && [...budgets], why })),
  };
}

function usageOf(job: Job, { sequence }: Running, { shape, pageBytes }: KvCache, report: PressReport | null): KvCacheUsage {
  const all = <T>(value: T): T[] => new Array(shape.layers).fill(value);
  const silent = job.press.explain && report === null ? ['explain: nothing was removed from the prompt, so there is nothing to tell'] : [];
  return {
    press: report?.press ?? (job.decoding ? job.press.name : job.checked?.name) ?? 'no_press',
    scope: job.scope,
    compression_ratio: report?.compressionRatio ?? 0,
    tokens: job.covered,
    kept_per_layer: report?.keptPerLayer ?? all(job.covered),
    ...(job.added && { added_per_layer: job.added.rows }),
    lmba_per_layer: report?.lmbaPerLayer ?? all(null),
    retained_mass_per_layer: report?.retainedMassPerLayer ?? all(1),
    bytes_full: job.size.pagesFull * pageBytes,
    bytes_kept: sequence.heldBytes,
    bytes_peak: sequence.peakBytes,
    layer_budget: report?.layerBudget ?? 'none',
    entry_type: job.entryType,
    notes: [...(report?.notes ?? job.checked?.notes ?? []), ...silent, ...job.notes],
  };
}

/** Of a request that goes on behind a held context: what became of the context is told as it was then. */
function mountedUsage({ size, notes }: Job, { kvCache }: HeldContext, { sequence }: Running, { pageBytes }: KvCache): KvCacheUsage {
  return {
    ...kvCache,
    bytes_full: size.pagesFull * pageBytes,
    bytes_kept: sequence.heldBytes,
    bytes_shared: sequence.sharedBytes,
    bytes_peak: sequence.peakBytes,
    notes: [...kvCache.notes, ...notes],
  };
}
