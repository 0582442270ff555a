/** Typed door to the budget arithmetic in asm/ (kept-count.ts, allocate.ts, pyramid.ts, ada-counts.ts). Exact integers. */
export interface BudgetMath {
  /** Tokens kept per layer and head. Corrected: N(1-r) rounded down, safe against float error (100 at 0.8 -> 20). Compat: kvpress's trunc(N * (1 - r)) in f64 (-> 19). */
  keptCount(tokens: number, ratio: number, compat: boolean): number;
  /**
   * Deals `total` by `weights` (non-negative integers below 2^53) above `floor`, capped by `caps` with water-filling (presses.md 7.4).
   * `ceiling`: intermediate stage, ceilings of the shares; otherwise largest remainder, sum exactly min(total, sum caps). All-zero weights deal evenly.
   */
  allocate(weights: readonly number[], total: number, floor: number, caps: readonly number[], ceiling: boolean): number[];
  /** PyramidKV (presses.md 3.16). Compat: kvpress's rounding. Corrected: the same real ramp, rounded by largest remainder so that the sum is L * n_avg. */
  pyramid(layers: number, tokens: number, ratio: number, window: number, beta: number, compat: boolean): number[];
  /** AdaKV, floor form (presses.md 4.1): `total` evictable tokens over the heads, each head's best `safe` pinned first; ties to the lower head. */
  adaCounts(sorted: readonly Float32Array[], total: number, safe: number): number[];
}
