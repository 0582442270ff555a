/**
 * The rows that are left of one layer while composed presses narrow them. Rows stand in ascending position, so that a later
 * press sees what it would see in a shorter prompt; each head has its own rows, as many as the others.
 */
import { type RankOrder, readWords } from '../worker/backend/backend.ts';
import type { HostRows, KeptRows, ScoreContext } from './contract.ts';

export class Gathered {
  /** The layer as the next press sees it: n, k and v of the rows that are left. The last queries stay as they are. */
  context: ScoreContext;
  readonly #full: ScoreContext;
  #positions: Uint32Array[] | null = null; // [H] the original row of each row; null = all rows are there

  constructor(full: ScoreContext) {
    this.#full = full;
    this.context = full;
  }

  /** The rows that are left, [H, stride] ascending; null = all. */
  left: RankOrder | null = null;

  get narrowed(): boolean {
    return this.#positions !== null;
  }

  position(head: number, row: number): number {
    return this.#positions === null ? row : this.#positions[head][row];
  }

  /** Keeps the first `count` of every head's rank order. */
  async narrow({ rows, stride }: RankOrder, count: number): Promise<void> {
    const { backend, scratch, k, v, shape } = this.#full;
    if (count === this.context.n) return;
    const { kvHeads: H, headDim: d } = shape;
    const ranks = await readWords(backend, rows, H * stride);
    const kept = Array.from({ length: H }, (_, h) => ranks.slice(h * stride, h * stride + count).sort());
    this.#positions = kept.map((list, h) => list.map((row) => this.position(h, row)));
    const ascending = scratch(H * count * 4, 'gathered rows');
    backend.write(ascending, joined(this.#positions, count));
    this.left = { rows: ascending, stride: count };
    const [keys, values] = [scratch(count * H * d * 4, 'gathered keys'), scratch(count * H * d * 4, 'gathered values')]; // [count, H, d]
    backend.gather(keys, k, { rows: ascending, stride: count }, count, H, d);
    backend.gather(values, v, { rows: ascending, stride: count }, count, H, d);
    this.context = { ...this.context, n: count, k: keys, v: values, hidden: null, known: null, positions: this.#positions, end: this.#full.n };
  }

  /** The first counts[h] of every head's rank order, in all rows. */
  async orderInFullRows(order: RankOrder, counts: readonly number[]): Promise<RankOrder> {
    if (!this.narrowed) return order;
    const { backend, shape } = this.#full;
    const ranks = await readWords(backend, order.rows, shape.kvHeads * order.stride);
    return this.#written(counts.map((count, h) => ranks.slice(h * order.stride, h * order.stride + count).map((row) => this.position(h, row))));
  }

  /** What is kept of the rows that are left, in all rows. Rows that an earlier press dropped score -infinity. */
  inFullRows({ ranks, scores }: HostRows, counts: readonly number[]): KeptRows {
    const { n } = this.#full;
    const full = ranks.map((list, h) => list.subarray(0, counts[h]).map((row) => this.position(h, row)));
    const spread = (of: Float32Array, h: number): Float32Array => {
      const all = new Float32Array(n).fill(-Infinity);
      for (const [row, score] of of.entries()) all[this.position(h, row)] = score;
      return all;
    };
    return { order: this.#written(full), counts, host: Promise.resolve({ ranks: full, scores: scores.map(spread) }) };
  }

  #written(lists: readonly Uint32Array[]): RankOrder {
    const stride = Math.max(1, ...lists.map((list) => list.length));
    const rows = this.#full.scratch(lists.length * stride * 4, 'order in full rows');
    this.#full.backend.write(rows, joined(lists, stride));
    return { rows, stride };
  }
}

/** [lists, stride], each list from the start of its row. */
export function joined(lists: readonly Uint32Array[], stride: number): Uint32Array {
  const all = new Uint32Array(lists.length * stride);
  for (const [i, list] of lists.entries()) all.set(list, i * stride);
  return all;
}
