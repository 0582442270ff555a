/** Layer budgets that deal by what layers show: worked lines, exact totals, caps, order, what they do without information, streaming as deferred. */
import { describe, expect, test } from 'vitest';
import { parsePress } from '../presses/config.ts';
import type { BudgetContext, MeasuredBudget, Signal } from '../presses/contract.ts';
import { falling as inFallingOrder } from '../presses/layer-budgets/share-of-best.ts';
import { leastChanged } from '../presses/layer-budgets/squeeze.ts';
import { layerBudgets } from '../presses/registry.ts';
import { blankLayers, givenScores, type LayerNumbers, randomLayers, runPress, shapeOf, withScorer } from './support/press-run.ts';
import { runtimes } from './support/press-runtimes.ts';
import { Random } from './support/random.ts';
import { referenceBudgetMath } from './support/reference-budget-math.ts';

const { cake, lava, dynamickv, squeeze } = layerBudgets;
const sum = (xs: readonly number[]): number => xs.reduce((a, b) => a + b, 0);
const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

interface Setting {
  layers: number;
  n: number;
  average: number;
  protectedTokens: number;
  kvHeads: number;
  caps: number[];
}

const unasked = (): never => {
  throw new Error('no budget here reads trained data');
};

function contextOf({ layers, n, average, protectedTokens, kvHeads, caps }: Setting): BudgetContext {
  const even = caps.map((cap) => Math.min(cap, Math.max(protectedTokens, 1, Math.floor((cap * average) / n))));
  const averageBudget = Math.floor(sum(even) / layers);
  const compressionRatio = 1 - average / n;
  return {
    layers,
    tokens: n,
    caps,
    even,
    averageBudget,
    protectedTokens,
    compressionRatio,
    compat: false,
    kvHeads,
    math: referenceBudgetMath,
    artifact: unasked,
  };
}

const plain = (layers: number, n: number, average: number, more: Partial<Setting> = {}): BudgetContext =>
  contextOf({ layers, n, average, protectedTokens: 0, kvHeads: 1, caps: Array(layers).fill(n), ...more });

interface Rule {
  readonly name: string;
  readonly budget: MeasuredBudget;
  /** A layer's signal, larger where `worth` (0..1) is. */
  signal(worth: number, context: BudgetContext, random: Random, layer: number): Signal;
  /** Less is worth more, and budgets are only final when all layers were seen. */
  readonly late?: boolean;
  /** Signals that say nothing of any layer. */
  readonly silent: readonly ((context: BudgetContext) => Signal)[];
}

const falling = (values: Iterable<number>): Float32Array => Float32Array.from(values).sort().reverse();
const evictable = ({ caps, kvHeads, protectedTokens }: BudgetContext, l = 0): number => kvHeads * (caps[l] - protectedTokens);

const rules: readonly Rule[] = [
  {
    name: 'cake',
    budget: cake as MeasuredBudget,
    signal: (worth) => [worth, 0.5],
    silent: [() => [0, 0.3], () => [Number.NaN, 1], () => [0.4, 0.2]],
  },
  { name: 'lava', budget: lava as MeasuredBudget, signal: (worth) => [worth], silent: [() => [0], () => [Number.NaN], () => [0.7]] },
  {
    name: 'dynamickv',
    budget: dynamickv as MeasuredBudget,
    signal: (worth, context, random, layer) => falling(range(evictable(context, layer)).map(() => Math.floor(20 * worth * random.next()))), // many ties
    silent: [(context) => new Float32Array(evictable(context)), (context) => new Float32Array(evictable(context)).fill(-Infinity)],
  },
  {
    name: 'squeeze',
    budget: squeeze as MeasuredBudget,
    signal: (worth) => [1 - Math.round(8 * worth) / 10], // some alike
    late: true,
    silent: [() => [0.9], () => [Number.NaN]],
  },
];

const defaults = ({ name }: { name: string }): never => parsePress({ scorer: 'snapkv', layer_budget: name }).presses[0].layerBudget.params as never;

describe('worked lines: 4 layers of 100 tokens, 20 on average', () => {
  const context = plain(4, 100, 20);
  test('cake: preferences 2, 1, .5, .5', () => {
    expect(
      cake.limits(
        [
          [2, 1],
          [1, 1],
          [0.5, 1],
          [1, 0.5],
        ],
        context,
        defaults(cake),
      ),
    ).toEqual([40, 20, 10, 10]);
  });
  test('cake: tau1 and tau2 are roots', () => {
    const params = { tau1: 2, tau2: 0.5, cake_window: 32 };
    expect(
      cake.limits(
        [
          [16, 1],
          [4, 1],
          [1, 1],
          [4, Math.SQRT1_2],
        ],
        context,
        params,
      ),
    ).toEqual([40, 20, 10, 10]);
  });
  test('squeeze: cosines .60, .70, .95, .97, a share of .35', () => {
    expect(squeeze.limits([[0.6], [0.7], [0.95], [0.97]], context, { squeeze_share: 0.35 })).toEqual([33, 33, 7, 7]);
  });
  test('lava: entropies in the ratios of .9, .8, .5, .3; of two layers with the same remainder the first gets the token', () => {
    expect(lava.limits([[9], [8], [5], [3]], context, {})).toEqual([29, 26, 16, 9]);
  });
  test('dynamickv: 50, 30, 15 and 5% of the best 80', () => {
    const scores = [40, 24, 12, 4].map((best) => falling(range(100).map((j) => (j < best ? 1 + j : 0.5))));
    expect(dynamickv.limits(scores, context, { max_ratio: 10 })).toEqual([40, 24, 12, 4]);
    // At most 30 of the first; the 10 places left go to the scores of .5 that others may still have, 6, 18 and 26: 1.2, 3.6 and 5.2
    expect(dynamickv.limits(scores, context, { max_ratio: 1.5 })).toEqual([30, 25, 16, 9]);
  });
});

describe.each(rules)('$name', ({ budget, signal, silent, late }) => {
  /** L 1..24, caps unequal in a third, H 1..3. */
  function randomSetting(random: Random): BudgetContext {
    const layers = random.pick([1, 2, 3, random.int(4, 24)]);
    const n = random.int(4, 120);
    const protectedTokens = random.pick([0, 0, random.int(0, Math.floor(n / 3))]);
    const average = random.int(Math.max(1, protectedTokens), n - 1);
    const least = Math.max(1, protectedTokens);
    const caps = random.next() < 0.66 ? Array<number>(layers).fill(n) : range(layers).map(() => random.int(least, n));
    return contextOf({ layers, n, average, protectedTokens, kvHeads: random.int(1, 3), caps });
  }
  const signalsOf = (context: BudgetContext, random: Random): Signal[] =>
    range(context.layers).map((l) => signal(random.next() ** 3, context, random, l));

  test('exact totals between the protected tokens, at least one, and the caps, within its bounds, in 1500 random cases', () => {
    const random = new Random(1);
    for (let i = 0; i < 1500; i++) {
      const context = randomSetting(random);
      const { caps, even, protectedTokens } = context;
      const budgets = budget.limits(signalsOf(context, random), context, defaults(budget));
      const bounds = budget.bounds(context, defaults(budget));
      expect(sum(budgets)).toBe(sum(even));
      for (const [l, b] of budgets.entries())
        if (!(Number.isInteger(b) && b >= Math.max(1, protectedTokens) && b <= caps[l] && b >= bounds[l].min && b <= bounds[l].max))
          throw new Error(`case ${i}: ${budgets}, caps ${caps}, P ${protectedTokens}, bounds ${JSON.stringify(bounds)}`);
    }
  });

  test('streaming equals deferred: limits only fall as layers come, and never below the final budgets, in 600 random cases; or it says that it does not', () => {
    expect(budget.cascades).toBe(late ? false : undefined);
    if (late) return;
    const random = new Random(2);
    for (let i = 0; i < 600; i++) {
      const context = randomSetting(random);
      const signals = signalsOf(context, random);
      const whole = budget.limits(signals, context, defaults(budget));
      const held: Signal[] = [];
      let before: number[] = [];
      for (const [m, one] of signals.entries()) {
        held.push(one);
        const limits = budget.limits(held, context, defaults(budget));
        expect(limits.length).toBe(m + 1);
        for (const [l, limit] of limits.entries())
          if (!(limit <= (before[l] ?? context.caps[l]) && limit >= whole[l]))
            throw new Error(`case ${i}, layer ${m}: ${limits} after ${before}, ${whole} at the end`);
        for (const [l, seen] of held.entries()) held[l] = budget.held?.(seen, limits[l], context) ?? seen; // no more than that is remembered
        before = limits;
      }
      expect(before).toEqual(whole);
    }
  });

  test('layers that change places change budgets, up to a token of rounding; a larger signal never gets less', () => {
    const random = new Random(3);
    for (let i = 0; i < 300; i++) {
      const context = plain(random.int(2, 12), 100, random.int(5, 60), { kvHeads: 2, protectedTokens: random.pick([0, 4]) });
      const signals = signalsOf(context, random);
      const budgets = budget.limits(signals, context, defaults(budget));
      const places = range(context.layers)
        .map((l) => ({ l, at: random.next() }))
        .sort((x, y) => x.at - y.at)
        .map(({ l }) => l);
      const moved = budget.limits(
        places.map((l) => signals[l]),
        context,
        defaults(budget),
      );
      for (const [at, l] of places.entries()) expect(Math.abs(moved[at] - budgets[l])).toBeLessThanOrEqual(1);
      if (late) {
        // Clusters move when one value does; but of two layers the one that attention changes more never gets less.
        for (const [l, b] of budgets.entries())
          for (const [m, other] of budgets.entries()) if (signals[l][0] < signals[m][0]) expect(b).toBeGreaterThanOrEqual(other - 1);
        continue;
      }
      const raised = signals.map((one, l) =>
        l === 1 ? (one instanceof Float32Array ? falling(one.map((x) => x + 3)) : Array.from(one, (x) => 1.5 * x)) : one,
      );
      expect(budget.limits(raised, context, defaults(budget))[1]).toBeGreaterThanOrEqual(budgets[1]);
    }
  });

  test('signals that say nothing leave every layer its even share, and the report says so', () => {
    const context = plain(5, 100, 20, { kvHeads: 2 });
    for (const one of silent) {
      const signals = range(5).map(() => one(context));
      expect(budget.limits(signals, context, defaults(budget))).toEqual([20, 20, 20, 20, 20]);
      expect(budget.fallback!(signals, defaults(budget))).toMatch(/every layer keeps as many/);
    }
    const random = new Random(4);
    expect(
      budget.fallback!(
        range(5).map((l) => signal(0.2 + l / 10, context, random, l)),
        defaults(budget),
      ),
    ).toBeNull();
  });
});

test('a layer whose signal is no number counts as 0, and the report names it', () => {
  const context = plain(3, 100, 20, { protectedTokens: 5 });
  expect(lava.limits([[0.5], [Number.NaN], [0.5]], context, {})).toEqual([28, 5, 27]);
  expect(lava.fallback!([[0.5], [Number.NaN], [0.5]], {})).toBe('the signal of layer 1 is no finite number and counts as 0');
});

test('squeeze: the clusters are those of least squared error of all ways to cut, equal values together, and do not depend on the order', () => {
  const random = new Random(6);
  for (let i = 0; i < 300; i++) {
    const values = range(random.int(1, 9)).map(() => random.int(0, 12) / 8);
    const error = (part: readonly number[]): number => {
      const mean = sum(part) / part.length;
      return sum(part.map((x) => (x - mean) ** 2));
    };
    const different = [...new Set(values)].sort((x, y) => x - y);
    const found = leastChanged(values);
    if (different.length === 1) {
      expect(found.size).toBe(0);
      continue;
    }
    const groups = (cuts: readonly number[]): number[][] =>
      [...cuts, Infinity].map((cut, c) => values.filter((x) => x < cut && x >= (cuts[c - 1] ?? -Infinity)));
    const ways = different.length === 2 ? [[different[1]]] : different.slice(1).flatMap((a) => different.filter((b) => b > a).map((b) => [a, b]));
    const least = Math.min(...ways.map((cuts) => sum(groups(cuts).map(error))));
    const lowest = Math.min(...[...found].map((l) => values[l]));
    expect([...found].sort((x, y) => x - y)).toEqual(range(values.length).filter((l) => values[l] >= lowest));
    const best = ways.filter((cuts) => cuts.at(-1) === lowest).map((cuts) => sum(groups(cuts).map(error)));
    expect(Math.min(...best)).toBeCloseTo(least, 10);
    expect(new Set([...leastChanged([...values].reverse())].map((l) => values.length - 1 - l))).toEqual(new Set(found));
  }
});

describe.each(runtimes)('signals on $name', ({ make }) => {
  const rows = (...list: number[][]): Float32Array => Float32Array.from(list.flatMap((row) => [...row, 0, 0, 0, 0].slice(0, 4)));
  const unscaled = { ...shapeOf(1, 1, 4), scale: 1 };
  const ln = Math.log;

  /** The signal that a press measures in its only layer. */
  async function signalOf(name: keyof typeof layerBudgets, params: object, layer: LayerNumbers, n: number, scores?: Float32Array): Promise<number[]> {
    const seen: number[][] = [];
    const part = layerBudgets[name] as MeasuredBudget;
    const spy: MeasuredBudget = {
      ...part,
      async measure(context, given) {
        const signal = await part.measure(context, given);
        seen.push(Array.from(signal));
        return signal;
      },
    };
    const request = withScorer({ layer_budget: { name, ...params }, compression_ratio: 0.2 }, givenScores([scores ?? new Float32Array(n).fill(1)]));
    const presses = request.presses.map((press) => ({ ...press, layerBudget: { ...press.layerBudget, part: spy } }));
    await runPress(await make(), { ...request, presses }, n, unscaled, [layer], { massWindow: 0 });
    return seen[0];
  }

  test('cake: entropy and variance of rows .7 .2 .1 and .5 .4 .1 are 1.745167 and .04', async () => {
    // Query 0 reads component 0, query 1 component 1; what is left for the window itself is e^-60
    const k = rows([ln(0.7), ln(0.5)], [ln(0.2), ln(0.4)], [ln(0.1), ln(0.1)], [-60, -60], [-60, -60]);
    const [spread, shift] = await signalOf('cake', { cake_window: 2 }, { k, q: rows([1], [0, 1]) }, 5);
    expect(spread * 2).toBeCloseTo(1.745167, 5); // it is measured per query
    expect(shift).toBeCloseTo(0.04, 6);
  });

  test('lava: entropy of scores .4 .3 .2 .1 is .923220 of the most', async () => {
    const [entropy] = await signalOf('lava', {}, { k: new Float32Array(16) }, 4, Float32Array.of(0.4, 0.3, 0.2, 0.1));
    expect(entropy).toBeCloseTo(0.92322, 5);
  });

  test('dynamickv: the scores of all heads, best first; what is no number last, until it is refused', async () => {
    expect(await signalOf('dynamickv', {}, { k: new Float32Array(16) }, 4, Float32Array.of(2, -Infinity, 3, 1))).toEqual([3, 2, 1, -Infinity]);
    expect([...inFallingOrder(Float32Array.of(2, Number.NaN, 3, 1))]).toEqual([3, 2, 1, -Infinity]);
  });

  test('squeeze: the mean cosine of a layer, and the budgets that follow; every layer is stored whole until then', async () => {
    const n = 40;
    const shape = shapeOf(1, 1, 4);
    const layers = [0.6, 0.7, 0.95, 0.97].map((cosine, l) => ({
      ...blankLayers(1, n, shape)[0],
      change: Float32Array.from({ length: n }, (_, j) => cosine + (j % 2 === 0 ? 0.01 : -0.01) * (l + 1)),
    }));
    const { report, heldMost } = await runPress(await make(), { preset: 'squeezeattention', compression_ratio: 0.5, n_sink: 0 }, n, shape, layers);
    expect(report.keptPerLayer).toEqual([33, 33, 7, 7]);
    expect(heldMost).toBe(4 * n);
    expect(report.notes).toEqual([expect.stringContaining('layer_budget "squeeze" decides after the last layer')]);
  });

  test('what a budget falls back to is in the report', async () => {
    const n = 40;
    const scores = range(3).map(() => new Float32Array(n).fill(0.25));
    const run = async (layer_budget: string) =>
      (await runPress(await make(), withScorer({ layer_budget }, givenScores(scores)), n, unscaled, blankLayers(3, n, unscaled))).report;
    for (const name of ['cake', 'lava', 'dynamickv']) {
      const { notes, keptPerLayer } = await run(name);
      expect(keptPerLayer).toEqual([20, 20, 20]);
      expect(notes).toEqual([expect.stringMatching(`layer_budget "${name}": .*every layer keeps as many`)]);
    }
    expect((await run('zigzag')).notes).toEqual([]);
  });

  test('layers that differ get different budgets from cake, lava and dynamickv, with the same total', async () => {
    const shape = shapeOf(4, 2, 8);
    const layers = randomLayers(new Random(5), 4, 150, shape, (l) => 0.3 + l);
    for (const preset of ['cake', 'lava', 'dynamickv']) {
      const { report, kept } = await runPress(await make(), { preset, compression_ratio: 0.6 }, 150, shape, layers);
      expect(new Set(report.keptPerLayer).size).toBeGreaterThan(1);
      expect(kept.flat(2).length).toBe(4 * 2 * 60);
    }
  });
});
