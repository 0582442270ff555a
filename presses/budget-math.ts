/** Typed door to the budget arithmetic in asm/ (kept-count.ts, allocate.ts, pyramid.ts, ada-counts.ts). Exact integers. */
import type { BudgetMathExports } from '../worker/backend/kernel-exports.ts';

export interface BudgetMath {
  /** Tokens kept per layer and head. Corrected: N(1-r) rounded down, safe against float error (100 at 0.8 -> 20). Compat: kvpress's trunc(N * (1 - r)) in f64 (-> 19). */
  keptCount(tokens: number, ratio: number, compat: boolean): number;
  /**
   * Deals `total` by `weights` (non-negative integers below 2^53) above `floor`, capped by `caps`: what a full layer cannot take goes to the others.
   * `ceiling`: intermediate stage, ceilings of the shares; otherwise largest remainder, sum exactly min(total, sum caps). All-zero weights deal evenly.
   */
  allocate(weights: readonly number[], total: number, floor: number, caps: readonly number[], ceiling: boolean): number[];
  /** PyramidKV: a straight line from hi to lo = b/beta. Compat: kvpress's rounding. Corrected: the same real ramp, rounded by largest remainder so that the sum is L * n_avg. */
  pyramid(layers: number, tokens: number, ratio: number, window: number, beta: number, compat: boolean): number[];
  /** AdaKV, floor form: `total` evictable tokens over the heads, each head's best `safe` pinned first; ties to the lower head. */
  adaCounts(sorted: readonly Float32Array[], total: number, safe: number): number[];
}

/** The module, its memory, and room in it for arguments: `alloc` returns an address, 8-byte aligned, and throws when there is no room. */
export interface BudgetMathHost {
  readonly exports: BudgetMathExports;
  readonly memory: WebAssembly.Memory;
  alloc(bytes: number): number;
  free(address: number): void;
}

const ALLOCATE_MISTAKES: Record<number, string> = {
  [-1]: 'weights must be non-negative integers below 2^53',
  [-2]: 'the floors alone exceed the total',
  [-3]: 'a cap is below the floor',
  [-4]: 'more than 256 layers',
};

export function createBudgetMath({ exports, memory, alloc, free }: BudgetMathHost): BudgetMath {
  /** Room for the time of `use`; views are made after alloc, which may have grown the memory. */
  function borrow<T>(bytes: number, use: (address: number) => T): T {
    const address = alloc(bytes);
    try {
      return use(address);
    } finally {
      free(address);
    }
  }
  const integers = (address: number, length: number) => Array.from(new Uint32Array(memory.buffer, address, length));

  return {
    keptCount: (tokens, ratio, compat) => exports.keptCount(tokens, ratio, compat) >>> 0,

    allocate(weights, total, floor, caps, ceiling) {
      const layers = weights.length;
      if (caps.length !== layers) throw new Error(`allocate: ${layers} weights, ${caps.length} caps`);
      if (!(total >= 0 && total < 2 ** 53 && isCount(floor) && caps.every(isCount)))
        throw new Error(`allocate: total ${total}, floor ${floor} and caps must be counts`);
      return borrow(layers * 16 + exports.allocateScratchBytes(layers), (at) => {
        const capsAt = at + layers * 8;
        const budgetsAt = capsAt + layers * 4;
        new Float64Array(memory.buffer, at, layers).set(weights);
        new Uint32Array(memory.buffer, capsAt, layers).set(caps);
        const status = exports.allocate(budgetsAt, at, capsAt, layers, total, floor, ceiling, at + layers * 16);
        if (status !== 0) throw new Error(`allocate: ${ALLOCATE_MISTAKES[status] ?? `status ${status}`}`);
        return integers(budgetsAt, layers);
      });
    },

    pyramid: (layers, tokens, ratio, window, beta, compat) =>
      borrow(layers * 4, (at) => {
        exports.pyramid(at, layers, tokens, ratio, window, beta, compat);
        return integers(at, layers);
      }),

    adaCounts(sorted, total, safe) {
      const heads = sorted.length;
      if (!isCount(total) || !isCount(safe)) throw new Error(`adaCounts: total ${total} and safe ${safe} must be counts`);
      const tokens = sorted.reduce((sum, list) => sum + list.length, 0);
      return borrow(heads * 8 + tokens * 4, (at) => {
        const lengthsAt = at + heads * 4;
        const sortedAt = lengthsAt + heads * 4;
        new Uint32Array(memory.buffer, lengthsAt, heads).set(sorted.map((list) => list.length));
        let offset = 0;
        for (const list of sorted) {
          new Float32Array(memory.buffer, sortedAt + offset * 4, list.length).set(list);
          offset += list.length;
        }
        const status = exports.adaCounts(at, sortedAt, lengthsAt, heads, total, safe);
        if (status !== 0) throw new Error(`adaCounts: total ${total} of ${tokens} tokens over ${heads} heads with ${safe} pinned in each`);
        return integers(at, heads);
      });
    },
  };
}

function isCount(x: number): boolean {
  return Number.isInteger(x) && x >= 0 && x < 2 ** 32;
}
