/** The budget arithmetic written a second time, plainly, in BigInt: what asm/ is checked against, and what presses run on without it. */
import type { BudgetMath } from '../../presses/budget-math.ts';

export const referenceBudgetMath: BudgetMath = {
  keptCount(tokens, ratio, compat) {
    const kept = tokens * (1 - ratio);
    if (compat) return Math.trunc(kept);
    return Math.abs(kept - Math.round(kept)) <= 1e-9 * Math.max(1, tokens) ? Math.round(kept) : Math.floor(kept);
  },

  allocate(weights, total, floor, caps, ceiling) {
    const m = weights.length;
    const c = caps.map(BigInt);
    const b = BigInt(floor);
    const T = BigInt(total);
    if (c.reduce((sum, cap) => sum + cap, 0n) <= T) return [...caps];
    let u = weights.map(BigInt);
    const n = [...c];
    const rest = Array<bigint>(m).fill(0n);
    let free = Array.from({ length: m }, (_, i) => i);
    for (;;) {
      if (free.every((i) => u[i] === 0n)) u = u.map(() => 1n);
      const full = c.reduce((sum, cap, i) => (free.includes(i) ? sum : sum + cap), 0n);
      const R = T - full - b * BigInt(free.length);
      const U = free.reduce((sum, i) => sum + u[i], 0n);
      const over = free.filter((i) => b * U + R * u[i] >= c[i] * U);
      if (over.length === 0) {
        for (const i of free) {
          n[i] = b + (R * u[i]) / U;
          rest[i] = (R * u[i]) % U;
        }
        break;
      }
      free = free.filter((i) => !over.includes(i));
    }
    if (ceiling) return n.map((x, i) => Number(x + (rest[i] > 0n ? 1n : 0n)));
    const left = Number(T - n.reduce((sum, x) => sum + x, 0n));
    const byRest = [...free].sort((i, j) => (rest[i] === rest[j] ? i - j : rest[i] > rest[j] ? -1 : 1));
    for (const i of byRest.slice(0, left)) n[i]++;
    return n.map(Number);
  },

  pyramid(layers, tokens, ratio, window, beta, compat) {
    const b = compat ? tokens * (1 - ratio) : referenceBudgetMath.keptCount(tokens, ratio, false);
    let lo = b / beta;
    let hi = 2 * b - lo;
    if (hi >= tokens - window) {
      hi = tokens - window;
      lo = 2 * b - hi;
    }
    if (layers === 1 || !(tokens >= hi && hi >= lo && lo >= window)) return Array(layers).fill(halfToEven(b));
    const line = Array.from({ length: layers }, (_, l) => hi - (l * (hi - lo)) / (layers - 1));
    if (compat) return line.map(halfToEven);
    const near = line.map((x) => (Math.abs(x - Math.round(x)) < 1e-9 * Math.max(1, hi) ? Math.round(x) : x));
    const n = near.map(Math.floor);
    const byRest = n.map((_, l) => l).sort((i, j) => (Math.abs(near[j] - n[j] - near[i] + n[i]) < 1e-9 ? i - j : near[j] - n[j] - (near[i] - n[i])));
    const left = layers * b - n.reduce((sum, x) => sum + x, 0);
    for (const l of byRest.slice(0, left)) n[l]++;
    return n;
  },

  adaCounts(sorted, total, safe) {
    const counts = sorted.map((list) => Math.min(safe, list.length));
    const others = sorted.flatMap((list, h) =>
      Array.from(list.subarray(counts[h]), (score) => ({ h, score: Number.isNaN(score) ? -Infinity : score })),
    );
    others.sort((x, y) => (x.score === y.score ? x.h - y.h : y.score - x.score));
    const left = total - counts.reduce((sum, count) => sum + count, 0);
    for (const { h } of others.slice(0, left)) counts[h]++;
    return counts;
  },
};

function halfToEven(x: number): number {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2) : Math.round(x);
}
