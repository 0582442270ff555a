import { readFileSync } from 'node:fs';
import { beforeEach, expect, test } from 'vitest';
import { createBudgetMath } from '../presses/budget-math.ts';
import type { BudgetMathExports } from '../worker/backend/kernel-exports.ts';
import { loadKernels } from './support/kernels.ts';
import { Random } from './support/random.ts';

const kernels = loadKernels();
const math = createBudgetMath({
  exports: kernels.exports as unknown as BudgetMathExports,
  memory: kernels.memory,
  alloc: (bytes) => kernels.alloc(bytes),
  free: () => kernels.reset(), // one block at a time
});
beforeEach(() => kernels.reset());

const sum = (xs: readonly number[]) => xs.reduce((a, b) => a + b, 0);

/** n_i = min(c_i, b + R u_i / U), full layers taken out until none is over, then largest remainders: in BigInt, exact whatever the size of the weights. */
function reference(weights: readonly number[], total: number, floor: number, caps: readonly number[], ceiling: boolean): number[] {
  if (sum(caps) <= total) return [...caps];
  const [b, c] = [BigInt(floor), caps.map(BigInt)];
  let u = weights.map(BigInt);
  let free = weights.map((_, i) => i);
  let left = BigInt(total);
  const n = [...c];
  for (;;) {
    if (free.every((i) => u[i] === 0n)) u = u.map(() => 1n);
    const all = free.reduce((a, i) => a + u[i], 0n);
    const variable = left - b * BigInt(free.length);
    const over = free.filter((i) => b * all + variable * u[i] >= c[i] * all);
    if (over.length === 0) {
      const rest = new Map(free.map((i) => [i, (variable * u[i]) % all]));
      for (const i of free) n[i] = b + (variable * u[i]) / all;
      if (ceiling) for (const i of free) n[i] += rest.get(i) ? 1n : 0n;
      else {
        const missing = Number(left - free.reduce((a, i) => a + n[i], 0n));
        const byRest = [...free].sort((i, j) => (rest.get(j)! > rest.get(i)! ? 1 : rest.get(j)! < rest.get(i)! ? -1 : i - j));
        for (const i of byRest.slice(0, missing)) n[i]++;
      }
      return n.map(Number);
    }
    for (const i of over) left -= c[i];
    free = free.filter((i) => !over.includes(i));
  }
}

interface Case {
  weights: number[];
  total: number;
  floor: number;
  caps: number[];
}
/** Layers 1..64, up to 131072 tokens; weights from 0 to 2^53, some equal; in a third of the cases the caps differ by layer. */
function randomCase(random: Random): Case {
  const layers = random.pick([1, 2, 3, random.int(4, 32), 64]);
  const tokens = random.pick([random.int(1, 40), random.int(41, 4096), 131072]);
  const scale = random.pick([1, 3, 1000, 131072 * 8, 2 ** 53 - 1]);
  const zeros = random.pick([0, 0, 0.5, 1]);
  const weights = Array.from({ length: layers }, () => (random.next() < zeros ? 0 : Math.floor(random.next() ** 3 * scale)));
  const average = random.int(1, tokens);
  const floor = Math.floor(average * random.pick([0, 0.1, 0.2, 0.5, 1]));
  const caps = weights.map(() => (random.next() < 0.3 ? random.int(floor, tokens) : tokens));
  return { weights, total: Math.max(average * layers, floor * layers), floor, caps: random.next() < 0.66 ? weights.map(() => tokens) : caps };
}

test('allocate: sums to the total, keeps floors and caps, and equals the exact reference, in 6000 random cases', () => {
  const random = new Random(1);
  let capped = 0;
  for (let i = 0; i < 6000; i++) {
    const { weights, total, floor, caps } = randomCase(random);
    const budgets = math.allocate(weights, total, floor, caps, false);
    const ceilings = math.allocate(weights, total, floor, caps, true);
    expect([budgets, ceilings]).toEqual([reference(weights, total, floor, caps, false), reference(weights, total, floor, caps, true)]);
    expect(sum(budgets)).toBe(Math.min(total, sum(caps)));
    if (!budgets.every((b, l) => b >= floor && b <= caps[l] && b <= ceilings[l] && ceilings[l] <= Math.min(b + 1, caps[l])))
      throw new Error(`case ${i}: ${budgets} between floor ${floor}, ceilings ${ceilings}, caps ${caps}`);
    if (budgets.some((b, l) => b === caps[l])) capped++;
  }
  expect(capped).toBeGreaterThan(1000);
});

test('allocate: shares are those of the real-valued rule to within one token, where no cap is reached', () => {
  const random = new Random(2);
  for (let i = 0; i < 2000; i++) {
    const layers = random.int(1, 64);
    const weights = Array.from({ length: layers }, () => random.int(1, 10000));
    const average = random.int(1, 2000);
    const floor = Math.floor(average * 0.2);
    const budgets = math.allocate(
      weights,
      average * layers,
      floor,
      weights.map(() => 131072),
      false,
    );
    const real = weights.map((u) => floor + ((average - floor) * layers * u) / sum(weights)); // the paper's equation 6
    expect(Math.max(...budgets.map((b, l) => Math.abs(b - real[l])))).toBeLessThan(1 + 1e-6);
  }
});

test('allocate: a larger weight never gets less, equal weights differ by at most one token', () => {
  const random = new Random(3);
  for (let i = 0; i < 3000; i++) {
    const { weights, total, floor } = randomCase(random);
    const caps = weights.map(() => Math.max(floor, random.int(1, 5000)));
    const budgets = math.allocate(weights, total, floor, caps.fill(caps[0]), false);
    for (let a = 0; a < weights.length; a++)
      for (let b = 0; b < weights.length; b++) {
        if (weights[a] > weights[b] && budgets[a] < budgets[b]) throw new Error(`case ${i}: layers ${a}, ${b}: ${budgets}`);
        if (weights[a] === weights[b] && Math.abs(budgets[a] - budgets[b]) > 1) throw new Error(`case ${i}: layers ${a}, ${b}: ${budgets}`);
      }
  }
});

test('allocate: raising one weight never lowers that layer', () => {
  const random = new Random(4);
  for (let i = 0; i < 3000; i++) {
    const { weights, total, floor, caps } = randomCase(random);
    const layer = random.int(0, weights.length - 1);
    const raised = weights.map((w, l) => (l === layer ? Math.min(w + random.int(1, 1 + w), 2 ** 53 - 1) : w));
    const [before, after] = [math.allocate(weights, total, floor, caps, false), math.allocate(raised, total, floor, caps, false)];
    expect(after[layer]).toBeGreaterThanOrEqual(before[layer]);
  }
});

test('allocate: permuting the layers permutes the budgets, up to the ties of rounding', () => {
  const random = new Random(5);
  for (let i = 0; i < 2000; i++) {
    const { weights, total, floor, caps } = randomCase(random);
    const order = weights.map((_, l) => l).sort(() => random.next() - 0.5);
    const budgets = math.allocate(weights, total, floor, caps, false);
    const permuted = math.allocate(
      order.map((l) => weights[l]),
      total,
      floor,
      order.map((l) => caps[l]),
      false,
    );
    expect(Math.max(...order.map((l, p) => Math.abs(permuted[p] - budgets[l])))).toBeLessThanOrEqual(1);
    expect(
      math.allocate(
        order.map((l) => weights[l]),
        total,
        floor,
        order.map((l) => caps[l]),
        true,
      ),
    ).toEqual(order.map((l) => math.allocate(weights, total, floor, caps, true)[l]));
  }
});

test('allocate: toy numbers', () => {
  const caps = (n: number) => [n, n, n, n];
  // LMBA 40, 20, 10, 10, average 20, floor 4: 4 + 64 * (40, 20, 10, 10) / 80
  expect(math.allocate([40, 20, 10, 10], 80, 4, caps(100), false)).toEqual([36, 20, 12, 12]);
  // a cap of 30: layer 0 is full, its 6 go to the others as 20 : 10 : 10
  expect(math.allocate([40, 20, 10, 10], 80, 4, caps(30), false)).toEqual([30, 23, 14, 13]);
  expect(math.allocate([7, 1, 1, 1], 400, 0, caps(100), false)).toEqual([100, 100, 100, 100]);
  expect(math.allocate([7, 1, 1, 1], 999, 0, caps(100), false)).toEqual([100, 100, 100, 100]);
  expect(math.allocate([0, 0, 0, 0], 10, 1, caps(100), false)).toEqual([3, 3, 2, 2]);
  expect(math.allocate([5, 0, 0, 0], 26, 0, caps(20), false)).toEqual([20, 2, 2, 2]);
  expect(math.allocate([3, 1, 1, 1], 80, 20, caps(100), false)).toEqual([20, 20, 20, 20]); // floor = average: equal budgets
  expect(math.allocate([], 0, 0, [], false)).toEqual([]);
  // largest remainder at every stage would give layer 0 nothing after two layers, and one token after three
  expect(math.allocate([1, 6], 3, 0, [3, 3], false)).toEqual([0, 3]);
  expect(math.allocate([1, 6, 1], 3, 0, [3, 3, 3], false)).toEqual([1, 2, 0]);
  expect(math.allocate([1, 6], 3, 0, [3, 3], true)).toEqual([1, 3]);
});

test('allocate: what cannot be dealt is refused', () => {
  expect(() => math.allocate([1, 1], 5, 3, [9, 9], false)).toThrow('the floors alone exceed the total');
  expect(() => math.allocate([1, 1], 8, 3, [9, 2], false)).toThrow('a cap is below the floor');
  for (const weight of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])
    expect(() => math.allocate([1, weight], 8, 3, [9, 9], false)).toThrow('weights must be non-negative integers');
  expect(() => math.allocate(Array(257).fill(1), 257, 0, Array(257).fill(9), false)).toThrow('more than 256 layers');
  expect(() => math.allocate([1, 1], 8, 3, [9], false)).toThrow('2 weights, 1 caps');
});

test('streaming equals deferred: ceilings at every stage, largest remainder at the last, in 3000 random cases', () => {
  const random = new Random(6);
  let naiveDiffers = 0;
  for (let i = 0; i < 3000; i++) {
    const layers = random.int(2, 24);
    const tokens = random.int(6, 400);
    const average = Math.floor(tokens * (1 - random.pick([0.1, 0.3, 0.5, 0.7, 0.8, 0.9])));
    const total = layers * average;
    const floor = Math.floor(random.pick([0, 0.1, 0.2, 0.5, 1]) * average);
    const spread = random.pick([0.2, 1, 2]);
    const least = random.pick([1, 1, 0]); // zero weights stream too, though LMBA never is 0
    const weights = Array.from({ length: layers }, () =>
      Math.max(least, Math.floor(tokens * Math.exp(random.normal() * spread - 1.5)) - 9 * (1 - least)),
    );
    const caps = weights.map(() => tokens);
    const final = math.allocate(weights, total, floor, caps, false);
    let held: number[] = []; // an entry that was let go of does not come back
    let naive: number[] = [];
    for (let m = 0; m < layers; m++) {
      const peak = sum(held) + tokens;
      if (peak > total + tokens + layers - 1) throw new Error(`case ${i}: ${peak} tokens at layer ${m}`);
      const stage = [weights.slice(0, m + 1), total, floor, caps.slice(0, m + 1)] as const;
      const limits = math.allocate(...stage, m < layers - 1);
      const rounded = math.allocate(...stage, false);
      held = [...held, tokens].map((n, l) => Math.min(n, limits[l]));
      naive = [...naive, tokens].map((n, l) => Math.min(n, rounded[l]));
      if (!held.every((n, l) => n >= final[l])) throw new Error(`case ${i}: layer limits ${limits} fell below ${final}`);
    }
    expect(held).toEqual(final);
    if (naive.some((n, l) => n !== final[l])) naiveDiffers++;
  }
  expect(naiveDiffers).toBeGreaterThan(20); // so the cases do tell the two apart
});

test('streaming keeps the very tokens that deferred keeps, with many ties among the scores, in 600 random cases', () => {
  const random = new Random(7);
  for (let i = 0; i < 600; i++) {
    const [layers, heads, tokens] = [random.int(2, 16), random.int(1, 3), random.int(6, 80)];
    const average = math.keptCount(tokens, random.pick([0.1, 0.3, 0.5, 0.7, 0.8]), false);
    const [total, floor] = [layers * average, Math.floor(random.pick([0, 0.2, 0.5, 1]) * average)];
    const weights = Array.from({ length: layers }, () => random.int(1, tokens * heads));
    const caps = weights.map(() => tokens);
    const ranked = weights.map(() =>
      Array.from({ length: heads }, () => {
        const scores = Array.from({ length: tokens }, () => random.int(0, 9));
        return scores.map((_, t) => t).sort((a, b) => scores[b] - scores[a] || a - b);
      }),
    );
    let kept: number[][][] = [];
    for (let m = 0; m < layers; m++) {
      const limits = math.allocate(weights.slice(0, m + 1), total, floor, caps.slice(0, m + 1), m < layers - 1);
      kept = [...kept, ranked[m]].map((layer, l) => layer.map((list) => list.slice(0, limits[l])));
    }
    const final = math.allocate(weights, total, floor, caps, false);
    expect(kept).toEqual(ranked.map((layer, l) => layer.map((list) => list.slice(0, final[l]))));
  }
});

test('keptCount: compat is trunc(N * (1 - r)) in f64, corrected is N (1 - r) rounded down', () => {
  const ratios = Array.from({ length: 100 }, (_, i) => i / 100);
  for (const n of [1, 2, 3, 5, 7, 10, 63, 64, 65, 100, 301, 999, 1000, 4096, 8192, 32768, 131072])
    for (const [i, r] of ratios.entries()) {
      expect(math.keptCount(n, r, true)).toBe(Math.trunc(n * (1 - r)));
      expect(math.keptCount(n, r, false)).toBe(Math.floor((n * (100 - i)) / 100)); // exact: n (100 - i) is an integer
    }
  expect([math.keptCount(100, 0.8, true), math.keptCount(5, 0.8, true), math.keptCount(10, 0.9, true), math.keptCount(4096, 0.9, true)]).toEqual([
    19, 0, 0, 409,
  ]);
  expect([math.keptCount(100, 0.8, false), math.keptCount(5, 0.8, false), math.keptCount(10, 0.9, false), math.keptCount(4096, 0.9, false)]).toEqual([
    20, 1, 1, 409,
  ]);
  expect(math.keptCount(131072, 0, false)).toBe(131072);
});

test('keptCount and pyramid under compat keep what kvpress keeps', () => {
  const { base, pyramidkv } = JSON.parse(readFileSync('test/golden/kvpress/counts.json', 'utf8'));
  for (const { n, ratio, kept } of base) expect(math.keptCount(n, ratio, true)).toBe(kept);
  for (const { n, ratio, window_size, beta, layers, kept } of pyramidkv)
    expect(math.pyramid(layers, n, ratio, window_size, beta, true)).toEqual(kept);
  expect([base.length, pyramidkv.length]).toEqual([72, 336]);
});

test('pyramid: sums to L times the average, falls down the layers, between window and n, and is the real line to within one token', () => {
  const random = new Random(8);
  let sloped = 0;
  for (let i = 0; i < 4000; i++) {
    const [layers, tokens, window] = [random.int(1, 64), random.pick([random.int(1, 500), random.int(500, 9000), 131072]), random.int(1, 64)];
    const [ratio, beta] = [random.pick([0, 0.1, 0.3, 0.5, 0.75, 0.8, random.next()]), random.pick([1, 2, 5, 20])];
    const average = math.keptCount(tokens, ratio, false);
    const budgets = math.pyramid(layers, tokens, ratio, window, beta, false);
    expect(sum(budgets)).toBe(layers * average);
    if (budgets.every((b) => b === average)) continue;
    sloped++;
    const low = Math.min(...budgets);
    if (low < window || budgets[0] > tokens) throw new Error(`case ${i}: ${budgets}`);
    let hi = 2 * average - average / beta;
    if (hi >= tokens - window) hi = tokens - window;
    budgets.forEach((b, l) => {
      const real = hi - (l * (2 * hi - 2 * average)) / (layers - 1);
      if (Math.abs(b - real) >= 1 + 1e-6 || (l > 0 && b > budgets[l - 1])) throw new Error(`case ${i} layer ${l}: ${budgets}`);
    });
  }
  expect(sloped).toBeGreaterThan(500);
});

test('pyramid: toy numbers', () => {
  // L 4, 100 candidates, average 20, beta 20: 39, 26.33, 13.67, 1
  expect(math.pyramid(4, 101, 1 - 20 / 101, 1, 20, false)).toEqual([39, 26, 14, 1]);
  expect(math.pyramid(1, 100, 0.5, 4, 20, false)).toEqual([50]); // one layer: no line
  expect(math.pyramid(4, 1000, 0.8, 64, 20, false)).toEqual([200, 200, 200, 200]); // lo = 10 < 64: no line
});

/** AdaKV's floor form by sorting everything: kvpress's way, with our tie rule. */
function adaReference(sorted: readonly Float32Array[], total: number, safe: number): number[] {
  const counts = sorted.map((list) => Math.min(safe, list.length));
  const rest = sorted.flatMap((list, head) => Array.from(list.subarray(counts[head]), (score) => ({ score, head })));
  rest.sort((a, b) => b.score - a.score || a.head - b.head);
  for (const { head } of rest.slice(0, total - sum(counts))) counts[head]++;
  return counts;
}
const descending = (random: Random, length: number, levels: number) =>
  Float32Array.from({ length }, () => (levels ? random.int(-levels, levels) : random.normal())).sort((a, b) => b - a);

test('adaCounts: equals sorting all scores of the layer, in 2000 random cases with and without ties', () => {
  const random = new Random(9);
  for (let i = 0; i < 2000; i++) {
    const heads = random.int(1, 8);
    const sorted = Array.from({ length: heads }, () => descending(random, random.int(0, 60), random.pick([0, 1, 3])));
    const safe = random.int(0, 20);
    const pinned = sum(sorted.map((list) => Math.min(safe, list.length)));
    const total = random.int(pinned, sum(sorted.map((list) => list.length)));
    expect(math.adaCounts(sorted, total, safe)).toEqual(adaReference(sorted, total, safe));
  }
});

test('adaCounts nests: a smaller layer budget never gives a head more, the pinned part falling with it', () => {
  const random = new Random(10);
  for (let i = 0; i < 400; i++) {
    const [heads, length] = [random.int(1, 6), random.int(1, 50)];
    const sorted = Array.from({ length: heads }, () => descending(random, length, random.pick([0, 2])));
    const alpha = random.pick([0, 0.2, 0.33, 0.5, 1]);
    let above = sorted.map(() => length);
    for (let budget = length; budget >= 0; budget--) {
      const counts = math.adaCounts(sorted, heads * budget, Math.floor(alpha * budget));
      expect(sum(counts)).toBe(heads * budget);
      if (counts.some((c, h) => c > above[h] || c < Math.floor(alpha * budget)))
        throw new Error(`case ${i} budget ${budget}: ${counts} after ${above}`);
      above = counts;
    }
  }
});

test('adaCounts: toy numbers', () => {
  const heads = [Float32Array.of(0.6, 0.2, 0.1, 0.05, 0.03, 0.02), Float32Array.of(0.2, 0.19, 0.18, 0.16, 0.14, 0.13)];
  expect(math.adaCounts(heads, 6, 1)).toEqual([2, 4]); // budget 3, alpha 1/3
  expect(math.adaCounts([Float32Array.of(1, 1), Float32Array.of(1, 1)], 3, 0)).toEqual([2, 1]); // ties to the lower head
  expect(math.adaCounts([Float32Array.of(-0, Number.NaN), Float32Array.of(0, -1)], 3, 0)).toEqual([1, 2]); // NaN last, zeros equal
  expect(() => math.adaCounts(heads, 13, 0)).toThrow('total 13 of 12 tokens');
  expect(() => math.adaCounts(heads, 3, 2)).toThrow('with 2 pinned in each');
});
