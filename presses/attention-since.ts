/**
 * What every stored row of a running sequence received in attention since it was stored, for transforms that ask.
 *
 * Between two compressions rows only come on top, so that it is causal window attention over the rows that are there.
 */
import type { AttentionShape, Backend } from '../worker/backend/backend.ts';
import { Borrowed } from '../worker/backend/borrowed.ts';
import { queriesOfHead } from './queries-of-head.ts';
import { receivedAttention } from './received-attention.ts';
import type { RecentQueries, RunningStore } from './running-store.ts';

const F32 = 4;

export interface AttentionParts {
  readonly backend: Backend;
  readonly store: Pick<RunningStore, 'positions' | 'read'>;
  readonly queries: RecentQueries | null;
  readonly layers: readonly { readonly shape: AttentionShape }[];
  readonly checked: { readonly interval: number };
}

export class AttentionSince {
  readonly #parts: AttentionParts;
  readonly #received: Map<number, number>[][]; // [layer][head] by position in the text
  readonly #steps: number[]; // [layer]

  constructor(parts: AttentionParts) {
    this.#parts = parts;
    this.#received = parts.layers.map(({ shape }) => Array.from({ length: shape.kvHeads }, () => new Map()));
    this.#steps = parts.layers.map(() => 0);
  }

  /** Adds that of the last tokens, `recent` of them. */
  async add(layer: number, recent: number): Promise<void> {
    const { backend, checked, store, layers, queries } = this.#parts;
    const { shape } = layers[layer];
    const window = Math.min(recent, checked.interval, queries?.held ?? 0); // under compat the question is one step: that of its last token
    this.#steps[layer] += window;
    for (const [head, before] of this.#received[layer].entries()) {
      const borrowed = new Borrowed(backend);
      const { scratch } = borrowed;
      try {
        const positions = store.positions(layer, head);
        const entries = Uint32Array.from(positions, (_, entry) => entry).sort((a, b) => positions[a] - positions[b]);
        const [k, v] = ['keys', 'values'].map((what) => scratch(entries.length * shape.headDim * F32, `${what} of one head`));
        store.read(layer, head, [entries], k, v);
        const all = scratch(window * shape.queryHeads * shape.headDim * F32, 'queries since the last time');
        queries!.read(all, layer, window);
        const q = queriesOfHead({ backend, scratch }, head, all, window, shape);
        const rows = entries.map((entry) => positions[entry]);
        const one = { ...shape, queryHeads: shape.queryHeads / shape.kvHeads, kvHeads: 1 };
        const received = await receivedAttention({ backend, scratch }, q, k, rows, window, one);
        // What went is forgotten.
        this.#received[layer][head] = new Map(Array.from(rows, (position, row) => [position, (before.get(position) ?? 0) + received[row]]));
      } finally {
        borrowed.giveBack();
      }
    }
  }

  /** [n] of the rows at these positions of the text. */
  of(layer: number, head: number, positions: Uint32Array): Float64Array {
    return Float64Array.from(positions, (position) => this.#received[layer][head].get(position) ?? 0);
  }

  /** Tokens since something went last. */
  steps(layer: number): number {
    return this.#steps[layer];
  }

  restart(layer: number): void {
    this.#steps[layer] = 0;
  }
}
