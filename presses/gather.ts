/**
 * The rows that are left of one layer while composed presses narrow them. Rows stand in ascending position, so that a later
 * press sees what it would see in a shorter prompt; each head has its own rows, as many as the others.
 */
import { at, type View } from '../worker/backend/backend.ts';
import type { ScoreContext } from './contract.ts';

export class Gathered {
  /** The layer as the next press sees it: n, k and v of the rows that are left. The last queries stay as they are. */
  context: ScoreContext;
  readonly #full: ScoreContext;
  #positions: Uint32Array[] | null = null; // [H] the original row of each row; null = all rows are there

  constructor(full: ScoreContext) {
    this.#full = full;
    this.context = full;
  }

  get narrowed(): boolean {
    return this.#positions !== null;
  }

  position(head: number, row: number): number {
    return this.#positions === null ? row : this.#positions[head][row];
  }

  /** Keeps the first `count` of every head's rank order [H, stride]. Row by row: a copy kernel for whole heads would serve a GPU better. */
  async narrow(order: View, stride: number, count: number): Promise<void> {
    const { backend, scratch, n, k, v, shape } = this.context;
    if (count === n) return;
    const { kvHeads: H, headDim: d } = shape;
    const rowBytes = d * 4;
    const bytes = await backend.read(order, H * stride * 4);
    const ranks = new Uint32Array(bytes.slice().buffer);
    const keys = scratch(count * H * rowBytes, 'gathered keys'); // [count, H, d]
    const values = scratch(count * H * rowBytes, 'gathered values');
    const positions: Uint32Array[] = [];
    for (let h = 0; h < H; h++) {
      const kept = ranks.slice(h * stride, h * stride + count).sort();
      for (const [j, row] of kept.entries()) {
        const to = (j * H + h) * rowBytes;
        const from = (row * H + h) * rowBytes;
        backend.copy(at(keys, to), at(k, from), rowBytes);
        backend.copy(at(values, to), at(v, from), rowBytes);
      }
      positions.push(kept.map((row) => this.position(h, row)));
    }
    this.#positions = positions;
    this.context = { ...this.context, n: count, k: keys, v: values };
  }

  /** A rank order and its scores, from the rows that are left back to all rows. Rows that an earlier press dropped score -infinity. */
  inFullRows(head: number, ranks: Uint32Array, scores: Float32Array): { order: View; scores: View } {
    const { backend, scratch, n } = this.#full;
    const order = scratch(Math.max(1, ranks.length) * 4, 'order in full rows');
    backend.write(
      order,
      ranks.map((row) => this.position(head, row)),
    );
    const full = new Float32Array(n).fill(-Infinity);
    for (const [row, score] of scores.entries()) full[this.position(head, row)] = score;
    const fullScores = scratch(n * 4, 'scores in full rows');
    backend.write(fullScores, full);
    return { order, scores: fullScores };
  }
}
