/**
 * Runs a checked press over the layers of one prompt, as the prefill hands them over.
 *
 *   per layer   score -> rank order of every head -> the layer's signal -> limits -> earlier layers shrink -> this layer's best entries are stored
 *   streaming   a new layer's signal only lowers the earlier limits, and entries lie in rank order, so shrinking is truncation. The store
 *               never holds more than the total budget plus less than one token per layer and head, which ceilings add
 *   deferred    every layer is stored whole and truncated once, at the end. The same cache, entry for entry
 *   composed    all presses but the last have exact budgets and equal heads; each one hands the rows that it keeps, in ascending position, to the next
 */
import type { Backend, DeviceBuffer, View } from '../worker/backend/backend.ts';
import { type CheckedPress, protectedCount, queriesOf, type Stage } from './check-press.ts';
import type { KeptStore, LayerTensors, PressReport, ScoreContext } from './contract.ts';
import { Gathered } from './gather.ts';
import { OBSERVATION_WINDOW, windowAttention } from './window-attention.ts';

export interface CompressorOptions {
  readonly backend: Backend;
  readonly checked: CheckedPress;
  readonly store: KeptStore;
  /** Queries that observe the retained mass; 0 = not measured. */
  readonly massWindow?: number;
}

/** A stored layer, as far as shrinking and the report need it. Per head, in rank order. */
interface KeptLayer {
  readonly layer: number;
  counts: number[]; // [H] entries held
  sorted: Float32Array[]; // [H] scores of the evictable ones, best first; empty unless heads share by score
  masses: Float32Array[]; // [H] attention mass of each; empty when not measured
  wholeMass: number[]; // [H] of all n columns
  lmba: number | null;
}

export class Compressor {
  /** How many of the last queries of the pressed tokens `layer` must be handed. */
  readonly queries: number;

  readonly #backend: Backend;
  readonly #checked: CheckedPress;
  readonly #last: Stage;
  readonly #store: KeptStore;
  readonly #massWindow: number;
  readonly #seed: number;
  readonly #kept: KeptLayer[] = [];
  readonly #signals: number[] = [];
  readonly #storing: Promise<void>[] = [];
  readonly #notes: Set<string>;

  constructor({ backend, checked, store, massWindow = OBSERVATION_WINDOW }: CompressorOptions) {
    const last = checked.stages.at(-1);
    if (last === undefined) throw new Error('nothing to compress: the press removes nothing');
    const n = checked.size.tokens;
    this.#backend = backend;
    this.#checked = checked;
    this.#last = last;
    this.#store = store;
    this.#massWindow = Math.min(massWindow, n - 1);
    this.#seed = crypto.getRandomValues(new Uint32Array(1))[0];
    this.#notes = new Set(checked.notes);
    this.queries = Math.max(this.#massWindow, ...checked.stages.map((stage) => queriesOf(stage.press, stage.context.tokens)));
  }

  /** Takes layer 0, 1, ... L-1 in turn. Whatever it borrows from the device is given back before it resolves or throws. */
  async layer(tensors: LayerTensors): Promise<void> {
    const borrowed: DeviceBuffer[] = [];
    try {
      await this.#layer(tensors, borrowed);
    } finally {
      for (const buffer of borrowed) this.#backend.free(buffer);
    }
  }

  async finish(): Promise<PressReport> {
    await Promise.all(this.#storing);
    const { layers, tokens, kvHeads } = this.#checked.size;
    if (this.#kept.length !== layers) throw new Error(`the press saw ${this.#kept.length} of ${layers} layers`);
    if (this.#checked.deferred) this.#shrinkTo(this.#limits());
    const keptPerLayer = this.#kept.map(({ counts }) => sum(counts) / kvHeads);
    return {
      press: this.#checked.name,
      compressionRatio: 1 - sum(keptPerLayer) / (layers * tokens),
      keptPerLayer,
      lmbaPerLayer: this.#kept.map(({ lmba }) => lmba),
      retainedMassPerLayer: this.#kept.map(retainedMass),
      layerBudget: this.#last.layerBudget.part.name,
      notes: [...this.#notes],
    };
  }

  async #layer(tensors: LayerTensors, borrowed: DeviceBuffer[]): Promise<void> {
    const index = this.#kept.length;
    const { kvHeads: H } = tensors.shape;
    const context = this.#context(tensors, borrowed);
    const rows = new Gathered(context); // all rows, until an earlier press of a composition narrows them
    for (const stage of this.#checked.stages.slice(0, -1)) {
      const { order, stride } = this.#rank(stage, rows.context, stage.exact![index]);
      await rows.narrow({ rows: order, stride }, stage.exact![index]);
    }

    const { part: budget, params } = this.#last.layerBudget;
    const { ragged } = this.#last.press.headBudget.part;
    const n = this.#last.context.caps[index]; // rows that this press chooses from
    const whole = this.#checked.deferred || ragged || budget.signal !== 'none';
    const ranked = whole ? n : this.#last.exact![index];
    const { order, scores, keep, stride } = this.#rank(this.#last, rows.context, ranked);

    const masses = this.#massWindow > 0 ? this.#masses(context) : null;
    const { scorer } = this.#last.press;
    const signalContext = { ...rows.context, scores, order, keep, massMap: scorer.part.massMap, scorerQueries: scorer.part.queries(scorer.params) };
    const mba = budget.signal === 'none' ? null : budget.measure(signalContext, params);

    const heads = Array.from({ length: H }, (_, h) => h);
    const P = protectedCount(keep, n);
    const entry: KeptLayer = { layer: tensors.layer, counts: heads.map(() => ranked), sorted: [], masses: [], wholeMass: [], lmba: null };
    const read = Promise.all([
      mba,
      this.#read(order, H * stride).then((bytes) => new Uint32Array(bytes)),
      this.#read(scores, H * n).then((bytes) => new Float32Array(bytes)),
      masses ? this.#read(masses, H * tensors.n).then((bytes) => new Float32Array(bytes)) : null,
    ]);
    const host = read.then(([counted, ranksRead, scoresRead, massesRead]) => {
      const ranks = heads.map((h) => ranksRead.subarray(h * stride, h * stride + ranked));
      if (counted) {
        this.#signals.push(sum(counted));
        entry.lmba = sum(counted) / counted.length;
      }
      if (ragged) entry.sorted = heads.map((h) => Float32Array.from(ranks[h].subarray(P), (row) => scoresRead[h * n + row]));
      if (massesRead) {
        const massOf = (h: number, row: number): number => massesRead[h * tensors.n + rows.position(h, row)];
        entry.masses = heads.map((h) => Float32Array.from(ranks[h].subarray(0, entry.counts[h]), (row) => massOf(h, row)));
        entry.wholeMass = heads.map((h) => sum(massesRead.subarray(h * tensors.n, (h + 1) * tensors.n)));
      }
      return { ranks, scores: heads.map((h) => scoresRead.subarray(h * n, (h + 1) * n)) };
    });

    // Where what is read decides nothing, nobody waits for it before the end: on a GPU a wait costs more than the reading.
    const decides = mba !== null || ragged || rows.narrowed;
    if (decides) await host;
    const limits = this.#checked.deferred ? null : this.#limits();
    if (limits) {
      this.#shrinkTo(limits); // earlier layers first: their pages are there for this one
      this.#trim(entry, this.#counts(entry, limits[index]));
    }
    const { counts } = entry;
    const kept = rows.narrowed ? rows.inFullRows(await host, counts) : { order: { rows: order, stride }, counts, host };
    const stored = Promise.resolve(this.#store.keep(tensors, kept));
    this.#kept.push(entry);
    if (decides) return stored;
    stored.catch(() => {}); // finish() waits for it, unless the request ends before
    this.#storing.push(stored);
  }

  /** Scores [H, n] and the best `count` rows of every head, in rank order [H, stride]. */
  #rank(stage: Stage, context: ScoreContext, count: number): { scores: View; order: View; keep: Stage['keep']; stride: number } {
    const { n, shape, backend } = context;
    const { scorer } = stage.press;
    const scores = scorer.part.score(context, scorer.params);
    const stride = Math.max(count, protectedCount(stage.keep, n)); // topK ranks the protected in any case; under compat fewer may be kept
    const order = context.scratch(shape.kvHeads * stride * 4, 'rank order');
    backend.topK(order, scores, shape.kvHeads, n, stride, stage.keep);
    return { scores, order, keep: stage.keep, stride };
  }

  /** What each limit is now: exact, or ceilings that later layers will lower. */
  #limits(): readonly number[] {
    const { part, params } = this.#last.layerBudget;
    return this.#last.exact ?? part.limits(this.#signals, this.#last.context, params);
  }

  #shrinkTo(limits: readonly number[]): void {
    for (const [i, entry] of this.#kept.entries()) {
      const counts = this.#counts(entry, limits[i]);
      for (const [h, count] of counts.entries()) if (count < entry.counts[h]) this.#store.truncate(entry.layer, h, count);
      this.#trim(entry, counts);
    }
  }

  #counts({ sorted }: KeptLayer, limit: number): number[] {
    const { part, params } = this.#last.press.headBudget;
    return part.counts(sorted, limit, this.#last.context.protectedTokens, this.#last.context, params);
  }

  /** The host's lists become as short as the stored ones. */
  #trim(entry: KeptLayer, counts: number[]): void {
    const P = this.#last.context.protectedTokens;
    for (const [h, count] of counts.entries()) {
      if (entry.sorted.length > 0) entry.sorted[h] = entry.sorted[h].slice(0, Math.max(0, count - P));
      if (entry.masses.length > 0) entry.masses[h] = entry.masses[h].slice(0, count);
    }
    entry.counts = counts;
  }

  /** The attention that every key receives from the last queries, mean over the heads of its group: [H, n]. */
  #masses(context: ScoreContext): View {
    const { queryHeads: Hq, kvHeads: H } = context.shape;
    const masses = context.scratch(H * context.n * 4, 'attention mass');
    this.#backend.groupMean(masses, windowAttention(context, this.#massWindow), H, Hq / H, context.n);
    return masses;
  }

  #context(tensors: LayerTensors, borrowed: DeviceBuffer[]): ScoreContext {
    const backend = this.#backend;
    return {
      ...tensors,
      backend,
      layers: this.#checked.size.layers,
      seed: this.#seed,
      scratch: (bytes, label) => {
        const buffer = backend.alloc(bytes, label);
        borrowed.push(buffer);
        return buffer;
      },
      note: (text) => this.#notes.add(text),
    };
  }

  async #read(view: View, count: number): Promise<ArrayBuffer> {
    const bytes = await this.#backend.read(view, count * 4);
    return bytes.slice().buffer; // its own memory, aligned
  }
}

function retainedMass({ masses, wholeMass }: KeptLayer): number | null {
  if (masses.length === 0) return null;
  return sum(masses.map((kept, h) => sum(kept) / wholeMass[h])) / masses.length;
}

function sum(values: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i];
  return total;
}
