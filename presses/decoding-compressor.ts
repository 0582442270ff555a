/**
 * Runs a press over a sequence that is being decoded: every list (layer, KV head) shrinks to the target, prompt and answer alike.
 *
 *   rows      a list's entries in ascending original position, whatever order they lie in: to the scorer it is a shorter text. Where a sliding window
 *             hides some from all that follows, these go without being scored
 *   queries   the real ones of the last tokens, as attention saw them
 *   scores    of rows as they are stored; of hidden states those that tokens got while theirs was there (token-scores.ts)
 *   heads     of equal length are scored at once; of unequal length one by one, as a layer with one KV head
 *   storage   what stays is moved as it is stored, and only the gaps are filled: nothing is rounded twice
 *
 * kvpress, and compat: rows in the order of the last compression's scores, then the new ones; all queries turned to the position of the newest.
 */

import { type AttentionShape, at, type Backend, readFloats, readWords, type View } from '../worker/backend/backend.ts';
import { Borrowed } from '../worker/backend/borrowed.ts';
import { ropeTable } from '../worker/backend/rope-table.ts';
import { AttentionSince } from './attention-since.ts';
import type { CheckedDecoding } from './check-decoding.ts';
import { countingSelection, slidingBudget } from './check-parts.ts';
import type { BudgetContext, LayerModel, RunningHead, ScoreContext } from './contract.ts';
import { checkScores } from './finite-scores.ts';
import { joined } from './gather.ts';
import { MadeOnce } from './made-once.ts';
import { noView } from './no-view.ts';
import { partParam } from './part-param.ts';
import { protectedCount } from './protected-count.ts';
import { queriesOfHead } from './queries-of-head.ts';
import type { RecentQueries, RunningStore } from './running-store.ts';
import { sum } from './sum.ts';
import type { TokenScores } from './token-scores.ts';

const F32 = 4;

/** Rows have gaps between them: no table of positions 0..n-1 would be theirs. Parts that read one are refused. */
const NO_TABLE = noView('rows of a running sequence have no rotary table');
const NO_ROWS = noView('rows that have their scores are not read again');

export interface DecodingOptions {
  readonly backend: Backend;
  readonly checked: CheckedDecoding;
  readonly store: RunningStore;
  /** Null where the press looks at none. */
  readonly queries: RecentQueries | null;
  /** Null where the press scores rows as they are stored. */
  readonly scores: TokenScores | null;
  readonly layers: readonly { readonly shape: AttentionShape; readonly model: LayerModel }[];
  /** Numbers in [0, 1) from the request's seed. */
  random(): number;
}

/** What one compression is about. */
interface Moment {
  readonly tokens: number; // read so far: where the next one stands
  readonly recent: number; // of them since the last compression
  readonly target: number; // T
}

/** A layer's lists before a compression. */
interface Held {
  readonly layer: number;
  readonly positions: readonly Uint32Array[]; // [H] in list order
  readonly groups: readonly Group[];
}

/** Heads first .. first + entries.length - 1 of a layer, of n rows each. */
interface Group {
  readonly first: number;
  readonly n: number;
  /** [heads] row i is this entry of the list. */
  readonly entries: readonly Uint32Array[];
  /** [heads] of its entry, as of the tokens. */
  readonly positions: readonly Uint32Array[];
  /** All rows stay. */
  readonly whole: boolean;
}

interface Ranked extends Group {
  /** [heads] rows, the protected ones first, then the best: all that stay, or all that there are where more must be known. */
  readonly ranks: readonly Uint32Array[];
  readonly scores: readonly Float32Array[]; // [heads] of [n]; empty unless heads share by score, or something is made of what goes
}

export class DecodingCompressor {
  /** How often it removed something. */
  compressions = 0;
  readonly notes: Set<string>;
  readonly #options: DecodingOptions;
  readonly #seed: number;
  /** What parts keep from layer to layer of one compression. */
  readonly #same = new MadeOnce();
  readonly #checks: Promise<void>[] = [];
  /** compat: [layer][head] positions in the order of the last compression's scores. */
  readonly #byScore: Uint32Array[][] = [];
  /** Null where no transform asks. */
  readonly #attention: AttentionSince | null;
  readonly #random: () => number;
  readonly #counting: ReturnType<typeof countingSelection>;
  /** Says how much each head keeps by its length alone. */
  readonly #sliding: ReturnType<typeof slidingBudget>;

  constructor(options: DecodingOptions) {
    this.#options = options;
    this.#counting = countingSelection(options.checked.press);
    this.#sliding = slidingBudget(options.checked.press);
    this.#seed = Math.floor(options.random() * 2 ** 32);
    this.notes = new Set(options.checked.notes);
    this.#attention = options.checked.press.transforms.length > 0 ? new AttentionSince(options) : null;
    this.#random = options.random;
  }

  /** Brings every layer to its target; `tokens` were read so far, `recent` of them since it last acted. Whatever it borrows from the device is given back before it resolves or throws. */
  async compress(tokens: number, recent: number): Promise<void> {
    const { checked, layers, store, scores } = this.#options;
    const moment = { tokens, recent, target: checked.target(tokens) };
    this.#same.forget();
    if (scores !== null && scores.waiting(tokens) > checked.sure) await scores.score(tokens);
    // All layers are recorded before anything is waited for: on a GPU a wait costs more than the reading.
    const recorded: { readonly held: Held; readonly ranked: Promise<readonly Ranked[]> }[] = [];
    for (const layer of layers.keys()) {
      await this.#attention?.add(layer, recent);
      const held = this.#held(layer, moment);
      if (held === null) continue;
      const reads: Promise<Ranked>[] = [];
      for (const group of held.groups) reads.push((await this.#rank(layer, group, moment)).read);
      const ranked = Promise.all(reads);
      ranked.catch(() => {}); // who waits for an earlier layer hears of this one too late
      recorded.push({ held, ranked });
    }
    let removed = false;
    for (const { held, ranked } of recorded) {
      const groups = await ranked;
      const kept = this.#kept(held, groups, moment);
      if (kept.every((list, h) => list.length === held.positions[h].length)) continue;
      removed = true;
      if (checked.press.transforms.length > 0) await this.#transform(held, groups, kept, moment);
      else store.retain(held.layer, kept);
    }
    await Promise.all(this.#checks.splice(0));
    if (removed) this.compressions++;
  }

  /** The layer's lists as rows; null where they are no longer than the target, or hold what is protected alone. */
  #held(layer: number, moment: Moment): Held | null {
    const { tokens, target } = moment;
    const { checked, layers, store } = this.#options;
    const { kvHeads: H, slidingWindow } = layers[layer].shape;
    const heads = Array.from({ length: H }, (_, h) => h);
    const positions = heads.map((h) => store.positions(layer, h));
    const seen = (position: number): boolean => slidingWindow === 0 || position > tokens - slidingWindow; // by the next token; else by none after it
    const entries = positions.map((list, h) => this.#inOrder(layer, h, list).filter((entry) => seen(list[entry])));
    const lengths = entries.map(({ length }) => length);
    const { ragged } = checked.press.headBudget.part;
    const most = (length: number): number => (this.#counting ? protectedCount(checked.keep(length, target), length) : target);
    const counts = this.#sliding && this.#slidingCounts(layer, lengths, moment);
    const all = ragged ? sum(lengths) <= H * target : lengths.every((length) => length <= most(length));
    const whole = (h: number): boolean => (counts === null ? all : lengths[h] <= counts[h]);
    if (heads.every(whole) && lengths.every((length, h) => length === positions[h].length)) return null;
    const equal = counts === null && lengths.every((length) => length === lengths[0]);
    const standing = entries.map((list, h) => list.map((entry) => positions[h][entry]));
    const groups = equal
      ? [{ first: 0, n: lengths[0], entries, positions: standing, whole: all }]
      : heads.map((h) => ({ first: h, n: lengths[h], entries: [entries[h]], positions: [standing[h]], whole: whole(h) }));
    return { layer, positions, groups };
  }

  /** Entries of a list in the order in which they are scored. */
  #inOrder(layer: number, head: number, positions: Uint32Array): Uint32Array {
    const order = Uint32Array.from(positions, (_, entry) => entry);
    const last = this.#byScore[layer]?.[head] ?? new Uint32Array();
    const before = new Map(Array.from(last, (position, rank) => [position, rank - last.length])); // negative: before all that came later
    const place = Array.from(positions, (position) => before.get(position) ?? position);
    return order.sort((a, b) => place[a] - place[b]);
  }

  /** Scores and ranks rows; what comes back from the device is still on its way. */
  async #rank(layer: number, group: Group, moment: Moment): Promise<{ readonly read: Promise<Ranked> }> {
    const { backend, checked } = this.#options;
    const { selection, scorer, headBudget, transforms } = checked.press;
    const ragged = headBudget.part.ragged || this.#counting !== null;
    const { n, entries } = group;
    const keep = checked.keep(n, moment.target);
    const P = protectedCount(keep, n);
    const inTurn = Uint32Array.from({ length: n }, (_, row) => row);
    if (group.whole || n <= Math.max(1, P) || (!ragged && n <= moment.target)) {
      const scores = entries.map(() => new Float32Array(n).fill(Infinity));
      return { read: Promise.resolve({ ...group, ranks: entries.map(() => inTurn), scores }) };
    }
    const borrowed = new Borrowed(backend);
    try {
      const context = this.#context(layer, group, moment, borrowed);
      const whole = (ragged && this.#sliding === null) || transforms.length > 0;
      const count = whole ? n : Math.min(n, moment.target);
      const stride = Math.max(count, P); // the protected are ranked in any case
      const ranked = await selection.part.rank(
        {
          ...context,
          keep,
          count: stride,
          averageBudget: moment.target,
          score: (part) => this.#score(part, group),
          protects: (rows) => scorer.part.protect(scorer.params, rows),
          headCounts: null,
        },
        selection.params,
      );
      const order = readWords(backend, ranked.order, entries.length * stride);
      const scores = readFloats(backend, ranked.scores, entries.length * n);
      const read = Promise.all([order, scores]).then(([rows, values]) => {
        const byHead = entries.map((_, h) => values.subarray(h * n, (h + 1) * n));
        checkScores(scorer.part.name, context, byHead, keep);
        const ranks = entries.map((_, h) => rows.subarray(h * stride, h * stride + count));
        return { ...group, ranks, scores: whole ? byHead : [] };
      });
      return { read };
    } finally {
      borrowed.giveBack();
    }
  }

  /** The rows as a scorer sees them: a layer of as many KV heads as the group has. */
  #context(
    layer: number,
    { first, n, entries, positions }: Group,
    { tokens, recent, target }: Moment,
    { scratch }: Borrowed,
    forTransforms = false,
  ): ScoreContext {
    const { backend, checked, store, layers, queries } = this.#options;
    const { shape, model } = layers[layer];
    const heads = entries.length;
    const queryHeads = (shape.queryHeads / shape.kvHeads) * heads;
    const wanted = forTransforms || this.#options.scores === null; // what has its scores is ranked by them alone
    const [k, v] = ['keys', 'values'].map((what) => (wanted ? scratch(n * heads * shape.headDim * F32, `${what} of a running sequence`) : NO_ROWS));
    if (wanted) store.read(layer, first, entries, k, v);
    const { compat, scorer } = checked.press;
    const { someQueries } = scorer.part;
    const held = Math.min(forTransforms ? 0 : checked.window, queries?.held ?? 0);
    const window = compat && someQueries ? Math.min(held, recent) : held; // kvpress forgets them each time
    const next = tokens - store.shift; // where the next token stands, as RoPE has it
    // Statistics of queries take the first of them for one at `start`, and want to know where the next token stands; all others count rows.
    const start = !someQueries || (compat && window > 0) ? 0 : next - (window || n);
    const ofAll = window > 0 ? this.#queries(layer, window, tokens, scratch) : k; // nobody reads it then
    const q = window > 0 && heads < shape.kvHeads ? queriesOfHead({ backend, scratch }, first, ofAll, window, shape) : ofAll;
    return {
      layer,
      n,
      k,
      v,
      q,
      window,
      hidden: null,
      rope: NO_TABLE,
      shape: { ...shape, kvHeads: heads, queryHeads, slidingWindow: 0 }, // every row is seen
      model,
      backend,
      layers: layers.length,
      seed: this.#seed,
      scratch,
      note: (text) => this.notes.add(text),
      later: (check) => this.#later(check),
      param: (field) => partParam(checked.press, 'scorer', field),
      once: this.#same.once,
      compressionRatio: 1 - Math.min(1, target / n),
      compat,
      start,
      positions: positions.map((list, h) => from(start, store.standing(layer, first + h, list))),
      firstHead: first,
      step: this.compressions,
      sums: null,
      artifact: checked.artifact,
    };
  }

  /** The last `window` queries of a layer, [window, Hq, d]. */
  #queries(layer: number, window: number, tokens: number, scratch: ScoreContext['scratch']): View {
    const { backend, queries, layers, checked, store } = this.#options;
    const { shape, model } = layers[layer];
    const q = scratch(window * shape.queryHeads * shape.headDim * F32, 'last queries');
    queries!.read(q, layer, window);
    const { compat, scorer } = checked.press;
    if (!compat) return q;
    // As kvpress has them: window scorers turn all of them to the newest's position, statistics of queries take them for positions 0, 1, ...
    const turns = Array.from({ length: window }, (_, i) => (scorer.part.someQueries ? window - (tokens - store.shift) : window - 1 - i));
    const table = scratch(window * shape.headDim * F32, 'turns');
    backend.write(table, Float32Array.from(turns.flatMap((by) => [...ropeTable(model.invFreq, by, 1)])));
    backend.rope([{ x: q, heads: shape.queryHeads }], table, window, shape.headDim);
    return q;
  }

  /** [H] the entries that stay. */
  #kept({ layer, positions }: Held, groups: readonly Ranked[], moment: Moment): Uint32Array[] {
    const { checked } = this.#options;
    const { compat, headBudget } = checked.press;
    const sliding = this.#sliding !== null;
    const ragged = headBudget.part.ragged || this.#counting !== null;
    const heads = groups.flatMap(({ n, entries, ranks, scores, whole }) =>
      entries.map((list, h) => ({ n, list, rank: ranks[h], score: scores[h], whole })),
    );
    const lengths = heads.map(({ n }) => n);
    const shares = sliding ? this.#slidingCounts(layer, lengths, moment) : ragged && !heads[0].whole ? this.#shares(layer, heads, moment) : null;
    const most = (h: number): number => shares?.[h] ?? (ragged || heads[h].whole ? heads[h].n : Math.min(heads[h].n, moment.target));
    const kept = heads.map(({ list, rank }, h) => rank.subarray(0, most(h)).map((row) => list[row]));
    // Heads that kvpress masks are never shortened there, and what it merges it keeps in place, so that the order stays.
    if (compat && !ragged && checked.press.transforms.length === 0)
      this.#byScore[layer] = kept.map((list, h) => list.map((entry) => positions[h][entry]));
    return kept;
  }

  /** Scores of the rows; the mean over the heads where all are to keep the same tokens, and have the same. */
  #score(context: ScoreContext, group: Group): View {
    const { entries, positions } = group;
    const { part, params } = this.#options.checked.press.scorer;
    const { transforms, headBudget } = this.#options.checked.press;
    const scores = this.#options.scores === null ? part.score(context, params) : this.#remembered(context, group);
    const same = transforms.some((transform) => transform.part.sameTokens) && !headBudget.part.ragged;
    if (!same || entries.length === 1 || !positions.every((list) => list.every((position, row) => position === positions[0][row]))) return scores;
    const { backend, n } = context;
    const mean = context.scratch(entries.length * n * F32, 'mean scores');
    backend.groupMean(mean, scores, 1, entries.length, n);
    for (let h = 1; h < entries.length; h++) backend.copy(at(mean, h * n * F32), mean, n * F32);
    return mean;
  }

  /** Scores that rows got while their hidden states were there, [heads, n]. */
  #remembered({ backend, scratch, layer, n }: ScoreContext, { first, entries }: Group): View {
    const scores = scratch(entries.length * n * F32, 'remembered scores');
    for (const [h, list] of entries.entries()) {
      const all = this.#options.store.scores(layer, first + h);
      backend.write(
        at(scores, h * n * F32),
        Float32Array.from(list, (entry) => all[entry]),
      );
    }
    return scores;
  }

  /** Changes what stays by what goes, and stores it anew: f32 and f16 rows that were not changed come back bit for bit, int8 rows are rounded again. */
  async #transform({ layer }: Held, groups: readonly Ranked[], kept: readonly Uint32Array[], moment: Moment): Promise<void> {
    const { backend, checked, store } = this.#options;
    const attention = this.#attention!;
    const borrowed = new Borrowed(backend);
    try {
      const changed: { readonly group: Ranked; readonly k: View; readonly v: View }[] = [];
      for (const group of groups) {
        const { first, n, entries, positions, ranks, scores, whole } = group;
        if (whole) continue;
        const context = this.#context(layer, group, moment, borrowed, true);
        const heads: RunningHead[] = entries.map((_, h) => ({
          positions: positions[h],
          ranks: ranks[h],
          kept: kept[first + h].length,
          scores: scores[h],
          attention: attention.of(layer, first + h, positions[h]),
        }));
        const order = context.scratch(entries.length * n * F32, 'rank order');
        backend.write(order, joined(ranks, n));
        const counts = heads.map((head) => head.kept);
        const running = { heads, steps: attention.steps(layer), random: this.#random };
        const keep = checked.keep(n, moment.target);
        for (const { part, params } of checked.press.transforms)
          await part.apply?.({ ...context, order: { rows: order, stride: n }, counts, among: null, keep, running }, params);
        changed.push({ group, k: context.k, v: context.v });
      }
      const stand = store.retain(layer, kept);
      for (const { group, k, v } of changed) {
        const rows = group.entries.map((list, h) => {
          const row = new Map(Array.from(list, (entry, i) => [entry, i]));
          return stand[group.first + h].map((entry) => row.get(entry)!);
        });
        const stride = Math.max(1, ...rows.map(({ length }) => length));
        const order = borrowed.scratch(rows.length * stride * F32, 'rows of entries');
        backend.write(order, joined(rows, stride));
        store.rewrite(layer, group.first, rows.length, { rows: order, stride }, k, v);
      }
      attention.restart(layer);
    } finally {
      borrowed.giveBack();
    }
  }

  /** How much each head keeps, where they share by score. */
  #shares(layer: number, heads: readonly { n: number; rank: Uint32Array; score: Float32Array }[], { target }: Moment): number[] {
    const { part, params } = this.#counting ?? this.#options.checked.press.headBudget;
    const lengths = heads.map(({ n }) => n);
    const context = this.#budgetContext(lengths, target);
    const { protectedTokens } = context;
    const sorted = heads.map(({ rank, score }) => Float32Array.from(rank.subarray(protectedTokens), (row) => score[row]));
    const counts = part.counts({ index: layer, sorted, protectedTokens }, target, context, params);
    return counts.map((count, h) => Math.min(count, lengths[h]));
  }

  /** How much each head keeps, where lengths say it. */
  #slidingCounts(layer: number, lengths: readonly number[], { target }: Moment): number[] {
    const { part, params } = this.#sliding!;
    const context = this.#budgetContext(lengths, target);
    const counts = part.counts({ index: layer, sorted: [], protectedTokens: context.protectedTokens }, target, context, params);
    return counts.map((count, h) => Math.min(count, lengths[h]));
  }

  #budgetContext(lengths: readonly number[], target: number): BudgetContext {
    const { checked, layers } = this.#options;
    const { press, math, artifact } = checked;
    const tokens = Math.max(...lengths);
    return {
      layers: layers.length,
      tokens,
      caps: layers.map(() => tokens),
      even: layers.map(() => target),
      averageBudget: target,
      protectedTokens: protectedCount(checked.keep(tokens, target), tokens),
      compressionRatio: 1 - target / tokens,
      compat: press.compat,
      kvHeads: lengths.length,
      math,
      artifact,
    };
  }

  #later(check: Promise<void>): void {
    check.catch(() => {}); // it is waited for at the end, unless the request ends before
    this.#checks.push(check);
  }
}

/** So that the position of row t is at start + t. */
function from(start: number, positions: Uint32Array): Uint32Array {
  const all = new Uint32Array(Math.max(0, start) + positions.length);
  all.set(positions, Math.max(0, start));
  return all;
}
