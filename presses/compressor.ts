/**
 * Runs a checked press over the layers of one prompt, as the prefill hands them over.
 *
 *   per layer   the selection scores and ranks every head -> the layer's signal -> limits -> earlier layers shrink -> transforms -> this layer's best
 *               entries are stored
 *   streaming   a new layer's signal only lowers the earlier limits, and entries lie in rank order, so shrinking is truncation. The store
 *               never holds more than the total budget plus less than one token per layer and head, which ceilings add
 *   deferred    every layer is stored whole and truncated once, at the end. The same cache, entry for entry
 *   composed    all presses but the last have exact budgets and equal heads; each one hands the rows that it keeps, in ascending position, to the next
 */

import { type Backend, type DeviceBuffer, type Protected, type RankOrder, readFloats, readWords, type View } from '../worker/backend/backend.ts';
import { Borrowed } from '../worker/backend/borrowed.ts';
import { noArtifacts } from './artifacts.ts';
import { countingSelection } from './check-parts.ts';
import { type CheckedPress, type PressReads, readsOf, type Stage } from './check-press.ts';
import type {
  HostRows,
  KeptStore,
  LayerTensors,
  OtherBudget,
  PassTensors,
  PressReport,
  RankContext,
  Ranked,
  ScoreContext,
  Signal,
} from './contract.ts';
import { checkScores } from './finite-scores.ts';
import { Gathered } from './gather.ts';
import { scoreOnce } from './known-scores.ts';
import { MadeOnce } from './made-once.ts';
import { Onlooker } from './other-budgets.ts';
import { partParam } from './part-param.ts';
import { protectedCount } from './protected-count.ts';
import { sum } from './sum.ts';
import { OBSERVATION_WINDOW, windowAttention } from './window-attention.ts';

export interface CompressorOptions {
  readonly backend: Backend;
  readonly checked: CheckedPress;
  readonly store: KeptStore;
  /** For scorers that draw and were given no seed of their own; null = a random one. */
  readonly seed?: number | null;
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
  /** What `layer` must be handed of the pressed tokens beside keys and values. */
  readonly reads: PressReads;

  readonly #backend: Backend;
  readonly #checked: CheckedPress;
  readonly #last: Stage;
  readonly #store: KeptStore;
  readonly #massWindow: number;
  readonly #seed: number;
  readonly #kept: KeptLayer[] = [];
  readonly #signals: Signal[] = [];
  readonly #others: readonly Onlooker[];
  readonly #storing: Promise<void>[] = [];
  readonly #notes: Set<string>;
  readonly #made = new MadeOnce(); // what scorers have once for all layers
  /** What the passes over the prompt are added up in, layer after layer. */
  #sums: DeviceBuffer | null = null;

  constructor({ backend, checked, store, seed = null, massWindow = OBSERVATION_WINDOW }: CompressorOptions) {
    const last = checked.stages.at(-1);
    if (last === undefined) throw new Error('nothing to compress: the press removes nothing');
    const n = checked.size.tokens;
    this.#backend = backend;
    this.#checked = checked;
    this.#last = last;
    this.#store = store;
    this.#massWindow = Math.min(massWindow, n - 1);
    this.#seed = seed ?? crypto.getRandomValues(new Uint32Array(1))[0];
    this.#notes = new Set(checked.notes);
    this.#others = checked.others.map((budget) => new Onlooker(budget));
    this.reads = readsOf(checked, massWindow);
  }

  /** Takes layer 0, 1, ... L-1 in turn. Whatever it borrows from the device is given back before it resolves or throws. */
  async layer(tensors: LayerTensors): Promise<void> {
    const borrowed = new Borrowed(this.#backend);
    try {
      await this.#layer(tensors, borrowed);
    } finally {
      borrowed.giveBack();
    }
  }

  /** Takes some rows of a pass over the prompt, which come right before their layer. Only the first press of a composition has passes: it sees whole layers. */
  pass(rows: PassTensors): void {
    const { press, context } = this.#checked.stages[0];
    const { part, params } = press.scorer;
    this.#sums ??= this.#backend.alloc(rows.shape.queryHeads * rows.n * 4, 'sums of passes');
    const borrowed = new Borrowed(this.#backend);
    try {
      const { scratch } = borrowed;
      part.passes!.observe({ ...rows, backend: this.#backend, scratch, sums: this.#sums, compat: context.compat }, params);
    } finally {
      borrowed.giveBack();
    }
  }

  /** Gives back what outlives a layer. To be called when no more layers come, for whatever reason. */
  close(): void {
    if (this.#sums) this.#backend.free(this.#sums);
    this.#sums = null;
  }

  async finish(): Promise<PressReport> {
    await Promise.all(this.#storing);
    const { layers, tokens, kvHeads } = this.#checked.size;
    if (this.#kept.length !== layers) throw new Error(`the press saw ${this.#kept.length} of ${layers} layers`);
    if (this.#checked.deferred) this.#shrinkTo(this.#limits());
    const keptPerLayer = this.#kept.map(({ counts }) => sum(counts) / kvHeads);
    const added = this.#checked.added?.rows ?? 0;
    const { part, params } = this.#last.layerBudget;
    const silent = part.signal === 'none' ? null : (part.fallback?.(this.#signals, params) ?? null);
    if (silent !== null) this.#notes.add(`layer_budget "${part.name}": ${silent}`);
    return {
      press: this.#checked.name,
      compressionRatio: 1 - (sum(keptPerLayer) + layers * added) / (layers * tokens),
      keptPerLayer,
      lmbaPerLayer: this.#kept.map(({ lmba }) => lmba),
      retainedMassPerLayer: this.#kept.map(retainedMass),
      layerBudget: this.#last.layerBudget.part.name,
      nextPosition: this.#last.press.transforms.some(({ part }) => part.renumbers) ? this.#evenCount() : tokens + added,
      otherBudgets: this.#checked.explain ? await this.#otherBudgets() : null,
      notes: [...this.#notes],
    };
  }

  /** What every head of every layer keeps. */
  #evenCount(): number {
    const counts = this.#kept.flatMap((entry) => entry.counts);
    if (counts.some((count) => count !== counts[0])) throw new Error('renumbered lists of unequal length: a check let them pass');
    return counts[0];
  }

  async #otherBudgets(): Promise<OtherBudget[]> {
    const asked = await Promise.all(this.#others.map((other) => other.budgets(this.#last.context)));
    return [...asked, ...this.#checked.unasked];
  }

  async #layer(tensors: LayerTensors, borrowed: Borrowed): Promise<void> {
    const index = this.#kept.length;
    const { kvHeads: H } = tensors.shape;
    const context = this.#context(tensors, borrowed);
    const masses = this.#massWindow > 0 ? this.#masses(context) : null; // before any transform changes keys
    const rows = new Gathered(context); // all rows, until an earlier press of a composition narrows them
    for (const stage of this.#checked.stages.slice(0, -1)) {
      const count = stage.exact![index];
      const { order, stride } = await this.#rank(stage, rows.context, count);
      const counts = Array<number>(H).fill(count);
      if (stage.press.transforms.length > 0)
        await this.#transform(stage, context, await rows.orderInFullRows({ rows: order, stride }, counts), counts, rows.left);
      await rows.narrow({ rows: order, stride }, count);
    }

    const { part: budget, params } = this.#last.layerBudget;
    const { scorer, transforms } = this.#last.press;
    const ragged = this.#ragged;
    const n = this.#last.context.caps[index]; // rows that this press chooses from
    const whole = this.#checked.deferred || ragged || budget.signal !== 'none' || this.#checked.others.some(({ part }) => part.signal !== 'none');
    const ranked = whole ? n : this.#last.exact![index];
    const { order, scores, stride } = await this.#rank(this.#last, rows.context, ranked);
    const { keep } = this.#last;

    const { averageBudget } = this.#last.context;
    const measured = { massMap: scorer.part.massMap, scorerQueries: scorer.part.queries(scorer.params) };
    const signalContext = { ...this.#inStage(this.#last, rows.context), scores, order, keep, averageBudget, ...measured };
    const signal = budget.signal === 'none' ? null : budget.measure(signalContext, params);
    for (const other of this.#others) await other.measure(signalContext);

    const heads = Array.from({ length: H }, (_, h) => h);
    const P = protectedCount(keep, n);
    const entry: KeptLayer = { layer: tensors.layer, counts: heads.map(() => ranked), sorted: [], masses: [], wholeMass: [], lmba: null };
    const read = Promise.all([
      signal,
      readWords(this.#backend, order, H * stride),
      readFloats(this.#backend, scores, H * n),
      masses && readFloats(this.#backend, masses, H * tensors.n),
    ]);
    const host: Promise<HostRows> = read.then(([seen, ranksRead, scoresRead, massesRead]) => {
      const ranks = heads.map((h) => ranksRead.subarray(h * stride, h * stride + ranked));
      const byHead = heads.map((h) => scoresRead.subarray(h * n, (h + 1) * n));
      checkScores(scorer.part.name, signalContext, byHead, keep);
      if (seen && budget.signal !== 'none') {
        this.#signals.push(seen);
        entry.lmba = budget.lmba?.(seen) ?? null;
      }
      if (ragged) entry.sorted = heads.map((h) => Float32Array.from(ranks[h].subarray(P), (row) => scoresRead[h * n + row]));
      if (massesRead) {
        const massOf = (h: number, row: number): number => massesRead[h * tensors.n + rows.position(h, row)];
        entry.masses = heads.map((h) => Float32Array.from(ranks[h].subarray(0, entry.counts[h]), (row) => massOf(h, row)));
        entry.wholeMass = heads.map((h) => sum(massesRead.subarray(h * tensors.n, (h + 1) * tensors.n)));
      }
      return { ranks, scores: byHead };
    });

    // Where what is read decides nothing, nobody waits for it before the end: on a GPU a wait costs more than the reading.
    const decides = signal !== null || ragged || rows.narrowed;
    if (decides) await host;
    const limits = this.#checked.deferred ? null : this.#limits();
    if (limits) {
      this.#shrinkTo(limits); // earlier layers first: their pages are there for this one
      this.#trim(entry, this.#counts(entry, limits[index]));
    }
    const { counts } = entry;
    if (transforms.length > 0) {
      // Budgets that are planned are final, also where whole layers are stored first.
      const final = limits === null && this.#last.exact !== null ? this.#counts(entry, this.#last.exact[index]) : counts;
      await this.#transform(this.#last, context, await rows.orderInFullRows({ rows: order, stride }, final), final, rows.left);
    }
    const kept = rows.narrowed ? rows.inFullRows(await host, counts) : { order: { rows: order, stride }, counts, host };
    const stored = Promise.resolve(this.#store.keep(tensors, kept));
    this.#kept.push(entry);
    if (decides) return stored;
    this.#later(stored);
  }

  /** Scores [H, n] and the best `count` rows of every head, in rank order [H, stride]. */
  async #rank(stage: Stage, context: ScoreContext, count: number): Promise<Ranked & { stride: number }> {
    const { scorer, selection } = stage.press;
    const { keep } = stage;
    const stride = Math.max(count, protectedCount(keep, context.n)); // the protected are ranked in any case; under compat fewer may be kept
    const inStage = this.#inStage(stage, context);
    const protects = (n: number): Protected => scorer.part.protect(scorer.params, n, stage.context.compat);
    const seen: Promise<Float32Array[]>[] = []; // scores that are read for the check alone
    const score = (part: ScoreContext): View => {
      const { known } = part.k === context.k && part.n === context.n ? context : { known: null };
      const scores = known ? scoreOnce(known, scorer, part) : scorer.part.score(part, scorer.params);
      if (selection.part.ownScores) seen.push(this.#evictable(scores, part, protects(part.n)));
      return scores;
    };
    const ranked = await selection.part.rank(
      {
        ...inStage,
        keep,
        count: stride,
        averageBudget: stage.context.averageBudget,
        score,
        protects,
        headCounts: this.#countFirst(stage, context),
      },
      selection.params,
    );
    if (stage !== this.#last && !selection.part.ownScores) seen.push(this.#evictable(ranked.scores, context, keep));
    if (seen.length > 0) this.#later(Promise.all(seen).then((parts) => checkScores(scorer.part.name, inStage, parts.flat(), { first: 0, last: 0 })));
    return { ...ranked, stride };
  }

  /** The scores [H] of rows that are not protected. */
  async #evictable(scores: View, { n, shape: { kvHeads: H } }: ScoreContext, { first, last }: Protected): Promise<Float32Array[]> {
    const all = await readFloats(this.#backend, scores, H * n);
    return Array.from({ length: H }, (_, h) => all.subarray(h * n + Math.min(first, n), (h + 1) * n - Math.min(last, n - Math.min(first, n))));
  }

  #countFirst(stage: Stage, { n }: ScoreContext): RankContext['headCounts'] {
    const { part, params } = stage.press.headBudget;
    if (!part.sure || stage.exact === null) return null;
    const index = this.#kept.length;
    const budget = stage.exact[index];
    const sure = part.sure(budget, stage.context, params);
    const protectedTokens = protectedCount(stage.keep, n);
    return (sorted) => ({ counts: part.counts({ index, sorted, protectedTokens }, budget, stage.context, params), sure });
  }

  /** Changes keys and values of the kept rows where the layer has them. */
  async #transform(stage: Stage, context: ScoreContext, order: RankOrder, counts: readonly number[], among: RankOrder | null): Promise<void> {
    for (const { part, params } of stage.press.transforms)
      await part.apply?.({ ...this.#inStage(stage, context), order, counts, among, keep: stage.keep }, params);
  }

  #inStage({ press, context: { compressionRatio, compat } }: Stage, context: ScoreContext): ScoreContext {
    return { ...context, compressionRatio, compat, param: (field) => partParam(press, 'scorer', field) };
  }

  /** Heads may differ, so that sorted scores must be known before anything is stored. */
  get #ragged(): boolean {
    const { headBudget } = this.#last.press;
    return headBudget.part.ragged || countingSelection(this.#last.press) !== null;
  }

  /** What each limit is now: exact, or ceilings that later layers will lower. */
  #limits(): readonly number[] {
    const { part, params } = this.#last.layerBudget;
    return this.#last.exact ?? part.limits(this.#signals, this.#last.context, params);
  }

  #shrinkTo(limits: readonly number[]): void {
    this.#forget(limits);
    for (const [i, entry] of this.#kept.entries()) {
      const counts = this.#counts(entry, limits[i]);
      for (const [h, count] of counts.entries()) if (count < entry.counts[h]) this.#store.truncate(entry.layer, h, count);
      this.#trim(entry, counts);
    }
  }

  /** Signals become as short as their layers. */
  #forget(limits: readonly number[]): void {
    const { part } = this.#last.layerBudget;
    if (part.signal === 'none' || !part.held) return;
    for (const [i, signal] of this.#signals.entries()) this.#signals[i] = part.held(signal, limits[i], this.#last.context);
  }

  #counts({ layer: index, sorted }: KeptLayer, limit: number): number[] {
    const { headBudget } = this.#last.press;
    const { context } = this.#last;
    const counting = countingSelection(this.#last.press);
    const ranked = { index, sorted, protectedTokens: context.protectedTokens };
    if (counting !== null) return counting.part.counts(ranked, limit, context, counting.params);
    return headBudget.part.counts(ranked, limit, context, headBudget.params);
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

  #context(tensors: LayerTensors, { scratch }: Borrowed): ScoreContext {
    return {
      ...tensors,
      backend: this.#backend,
      scratch,
      sums: this.#sums,
      layers: this.#checked.size.layers,
      seed: this.#seed,
      note: (text) => this.#notes.add(text),
      later: (check) => this.#later(check),
      param: (field) => partParam(this.#last.press, 'scorer', field),
      compressionRatio: 0,
      compat: false,
      start: 0,
      positions: null,
      once: this.#made.once,
      artifact: this.#checked.size.artifact ?? noArtifacts,
    };
  }

  #later(work: Promise<void>): void {
    work.catch(() => {}); // finish() waits for it, unless the request ends before
    this.#storing.push(work);
  }
}

function retainedMass({ masses, wholeMass }: KeptLayer): number | null {
  if (masses.length === 0) return null;
  return sum(masses.map((kept, h) => sum(kept) / wholeMass[h])) / masses.length;
}
