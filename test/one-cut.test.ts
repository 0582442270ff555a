/** Layer budgets that make one cut through all layers, "global" and "composite", against one sort of everything. */
import { describe, expect, test } from 'vitest';
import { checkPress } from '../presses/check-press.ts';
import { parsePress } from '../presses/config.ts';
import { InputError } from '../presses/input-error.ts';
import { shareOfBest } from '../presses/layer-budgets/share-of-best.ts';
import type { Protected } from '../worker/backend/backend.ts';
import { blankLayers, givenScores, runPress, shapeOf, withScorer } from './support/press-run.ts';
import { type PressRuntime, runtimes } from './support/press-runtimes.ts';
import { Random } from './support/random.ts';
import { referenceBudgetMath } from './support/reference-budget-math.ts';

const indices = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const ascending = (lists: number[][][]): number[][][] => lists.map((heads) => heads.map((list) => [...list].sort((a, b) => a - b)));

interface Case {
  layers: number;
  heads: number;
  n: number;
  ratio: number;
  keep: Protected;
  scores: Float32Array[]; // [layer] of [heads, n], many of them equal
}

function randomCase(random: Random): Case {
  const [layers, heads, n] = [random.int(1, 8), random.int(1, 4), random.int(8, 60)];
  const keep = { first: random.int(0, 3), last: random.int(0, 3) };
  const scores = indices(layers).map((l) => Float32Array.from({ length: heads * n }, () => random.int(-3, 6) * (1 + (l % 3))));
  return { layers, heads, n, ratio: random.pick([0.1, 0.25, 0.3, 0.5, 0.7]), keep, scores };
}

const evictable = ({ n, keep }: Case): number[] => indices(n).filter((t) => t >= keep.first && t < n - keep.last);
const protectedOf = ({ n, keep }: Case): number[] => indices(n).filter((t) => t < keep.first || t >= n - keep.last);

/** [layer][head] positions: the `total` best evictable entries of all; equal scores to the lower layer, head, position. */
function bestOfAll(which: Case, total: number): number[][][] {
  const { layers, heads, n, scores } = which;
  const kept = indices(layers).map(() => indices(heads).map(() => protectedOf(which)));
  const entries = indices(layers).flatMap((l) =>
    indices(heads).flatMap((h) => evictable(which).map((t) => ({ l, h, t, score: scores[l][h * n + t] }))),
  );
  entries.sort((x, y) => y.score - x.score || x.l - y.l || x.h - y.h || x.t - y.t);
  for (const { l, h, t } of entries.slice(0, total)) kept[l][h].push(t);
  return ascending(kept);
}

/** The same for tokens of all heads together: the k-th best of every head count as one. */
function bestComposite(which: Case, total: number, aggHead: 'max' | 'mean', lowerBound: number): number[][][] {
  const { layers, heads, n, scores } = which;
  const ranked = indices(layers).map((l) =>
    indices(heads).map((h) => evictable(which).sort((t, u) => scores[l][h * n + u] - scores[l][h * n + t] || t - u)),
  );
  const P = protectedOf(which).length;
  const sure = Math.max(0, Math.min(lowerBound, n) - P);
  const counts = Array<number>(layers).fill(sure);
  const tokens = indices(layers).flatMap((l) =>
    evictable(which)
      .map((_, k) => {
        const values = indices(heads).map((h) => scores[l][h * n + ranked[l][h][k]]);
        return { l, k, score: Math.fround(aggHead === 'max' ? Math.max(...values) : sum(values) / heads) };
      })
      .slice(sure),
  );
  tokens.sort((x, y) => y.score - x.score || x.l - y.l || x.k - y.k);
  for (const { l } of tokens.slice(0, total - layers * sure)) counts[l]++;
  return ascending(indices(layers).map((l) => indices(heads).map((h) => [...protectedOf(which), ...ranked[l][h].slice(0, counts[l])])));
}

async function kept(runtime: PressRuntime, which: Case, json: Record<string, unknown>) {
  const { layers, heads, n, ratio, keep, scores } = which;
  const shape = shapeOf(heads, heads, 4);
  const request = withScorer({ compression_ratio: ratio, ...json }, givenScores(scores, keep));
  const run = await runPress(runtime, request, n, shape, blankLayers(layers, n, shape), { massWindow: 0 });
  return { ...run, kept: ascending(run.kept) };
}

/** Budgets below what is protected are refused before anything runs: another test's. */
async function orTight<T>(run: () => Promise<T>): Promise<T | null> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof InputError && /^press_(budget|prompt)/.test(error.code)) return null;
    throw error;
  }
}

describe('shareOfBest', () => {
  test('counts are those of one sort, ties to the earlier list, in 2,000 random cases', () => {
    const random = new Random(40);
    for (let i = 0; i < 2000; i++) {
      const lists = indices(random.int(1, 6)).map(() =>
        Float32Array.from({ length: random.int(0, 12) }, () => random.pick([-Infinity, -1e-40, -0, 0, 1e-40, 0.5, -2, 3, 1e30, Infinity]))
          .sort()
          .reverse(),
      );
      const all = lists.flatMap((list, l) => Array.from(list, (value) => ({ l, value })));
      all.sort((x, y) => (x.value === y.value ? x.l - y.l : y.value - x.value));
      const total = random.int(0, all.length + 2);
      const best = all.slice(0, total);
      expect(shareOfBest(lists, total)).toEqual(lists.map((_, l) => best.filter((entry) => entry.l === l).length));
    }
  });
});

describe.each(runtimes)('one cut on $name', ({ make }) => {
  test('global with adakv: streaming keeps what deferred keeps, and both what one sort of all entries keeps, in 150 random cases with many ties', async () => {
    const runtime = await make();
    const random = new Random(41);
    let ran = 0;
    for (let i = 0; i < 150; i++) {
      const which = randomCase(random);
      const { layers, heads, n, ratio } = which;
      const parts = { layer_budget: 'global', head_budget: { name: 'adakv', alpha_safeguard: 0 } };
      const streaming = await orTight(() => kept(runtime, which, parts));
      if (streaming === null) continue;
      ran++;
      const average = runtime.math.keptCount(n, ratio, false);
      const P = protectedOf(which).length;
      expect(streaming.kept).toEqual(bestOfAll(which, layers * heads * (average - P)));
      expect((await kept(runtime, which, { ...parts, mode: 'deferred' })).kept).toEqual(streaming.kept);
      expect(streaming.heldMost).toBeLessThanOrEqual(heads * layers * average);
    }
    expect(ran).toBeGreaterThan(100);
  });

  test("global under compat keeps L H N less kvpress's trunc(L H N r) entries; layerwise H N less trunc(H N r) of every layer", async () => {
    const runtime = await make();
    const random = new Random(42);
    for (let i = 0; i < 40; i++) {
      const which = { ...randomCase(random), keep: { first: 1, last: 0 } };
      const { layers, heads, n, ratio } = which;
      const head_budget = { name: 'adakv', alpha_safeguard: 0 };
      const all = await kept(runtime, which, { layer_budget: 'global', head_budget, compat: 'kvpress' });
      const entries = layers * heads * n;
      const total = entries - Math.trunc(entries * ratio);
      expect(all.kept).toEqual(bestOfAll(which, total - layers * heads));
      const even = await kept(runtime, which, { layer_budget: { name: 'global', layerwise: true }, head_budget, compat: 'kvpress' });
      for (const layer of even.kept) expect(layer.flat().length).toBe(heads * n - Math.trunc(heads * n * ratio));
    }
  });

  test('global with a safeguard: every head keeps its share of what its layer keeps, and the totals hold', async () => {
    const runtime = await make();
    const random = new Random(43);
    for (let i = 0; i < 40; i++) {
      const which = { ...randomCase(random), keep: { first: 0, last: 0 } };
      const { layers, heads, n, ratio } = which;
      const parts = { layer_budget: 'global', head_budget: { name: 'adakv', alpha_safeguard: 0.5 } };
      const { kept: lists, report } = await kept(runtime, which, parts);
      expect(lists.flat(2).length).toBe(layers * heads * runtime.math.keptCount(n, ratio, false));
      for (const [l, layer] of lists.entries()) {
        expect(layer.flat().length / heads).toBeCloseTo(report.keptPerLayer[l], 9);
        for (const list of layer) expect(list.length).toBeGreaterThanOrEqual(Math.floor(Math.floor(report.keptPerLayer[l]) * 0.5));
      }
    }
  });

  test('composite: streaming keeps what deferred keeps, and both what one sort of all composite tokens keeps, in 100 random cases with many ties', async () => {
    const runtime = await make();
    const random = new Random(44);
    let ran = 0;
    for (let i = 0; i < 100; i++) {
      const which = randomCase(random);
      const { layers, heads, n, ratio } = which;
      const average = runtime.math.keptCount(n, ratio, false);
      const agg_head = random.pick(['max', 'mean'] as const);
      const keep_token_lower_bound = random.pick([0, 0, 3, average]);
      const parts = { layer_budget: { name: 'composite', agg_head, keep_token_lower_bound } };
      const streaming = await orTight(() => kept(runtime, which, parts));
      if (streaming === null) continue;
      ran++;
      const P = protectedOf(which).length;
      expect(streaming.kept).toEqual(bestComposite(which, layers * (average - P), agg_head, keep_token_lower_bound));
      expect((await kept(runtime, which, { ...parts, mode: 'deferred' })).kept).toEqual(streaming.kept);
      expect(streaming.heldMost).toBeLessThanOrEqual(heads * layers * average);
    }
    expect(ran).toBeGreaterThan(60);
  });

  test('composite under compat: layer 0 is the longest, whatever it scores, and is stored whole until the end; not so by default', async () => {
    const runtime = await make();
    const [layers, heads, n] = [4, 2, 40];
    const random = new Random(45);
    const scores = indices(layers).map((l) => random.normals(heads * n).map((x) => x + 2 * l)); // layer 0 scores least
    const which: Case = { layers, heads, n, ratio: 0.5, keep: { first: 0, last: 0 }, scores };
    const compat = await kept(runtime, which, { layer_budget: 'composite', compat: 'kvpress' });
    expect(sum(compat.report.keptPerLayer)).toBe(Math.trunc(layers * n * 0.5));
    expect(Math.max(...compat.report.keptPerLayer)).toBe(compat.report.keptPerLayer[0]);
    expect(compat.report.keptPerLayer[0]).toBeGreaterThan(n / 2);
    expect(compat.heldMost).toBe(layers * heads * n);
    const { report } = await kept(runtime, which, { layer_budget: 'composite' });
    expect(report.keptPerLayer[0]).toBeLessThan(n / 4);
  });

  test('composite refuses a lower bound above the budget, and says which would work', async () => {
    const runtime = await make();
    const which = { ...randomCase(new Random(46)), n: 20, ratio: 0.5, keep: { first: 0, last: 0 } };
    const many = { ...which, scores: which.scores.map((list) => new Float32Array(which.heads * 20).fill(list[0])) };
    await expect(kept(runtime, many, { layer_budget: { name: 'composite', keep_token_lower_bound: 11 } })).rejects.toMatchObject({
      code: 'press_param_range',
      param: 'press.layer_budget.keep_token_lower_bound',
      message: expect.stringMatching(/keep_token_lower_bound 11 .* 10 or less would work/),
    });
  });
});

test('composite under compat, with more protected than kept, blames no lower bound; a preset names its own field', () => {
  const size = { tokens: 100, layers: 2, kvHeads: 2, math: referenceBudgetMath };
  const told = (press: unknown) => {
    try {
      checkPress(parsePress(press), size);
    } catch (error) {
      if (error instanceof InputError) return { code: error.code, param: error.param, message: error.message };
      throw error;
    }
    return null;
  };
  const composite = { name: 'composite', keep_token_lower_bound: 5 };
  expect(told({ scorer: 'streaming_llm', layer_budget: composite, compression_ratio: 0.98, compat: 'kvpress' })).toEqual({
    code: 'press_budget_tight',
    param: 'press.compression_ratio',
    message: 'layer_budget "composite" is to keep 2 tokens per layer, fewer than the 4 that are protected; a smaller compression_ratio would work',
  });
  expect(told({ preset: 'kvcompose', keep_token_lower_bound: 60 })?.param).toBe('press.keep_token_lower_bound');
  expect(told(['no_press', { preset: 'kvcompose', keep_token_lower_bound: 60 }])?.param).toBe('press[1].keep_token_lower_bound');
  expect(told({ preset: 'kvcompose', keep_token_lower_bound: 50 })).toBeNull();
});
