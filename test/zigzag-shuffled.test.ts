/** The control of ZigZag studies: the same budgets, on layers that are drawn by lot, anew for every prompt. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { zigzag } from '../presses/layer-budgets/zigzag.ts';
import { zigzagShuffled } from '../presses/layer-budgets/zigzag-shuffled.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { generation } from './support/generation.ts';
import { needleSamples, openGolden } from './support/golden.ts';
import { Random } from './support/random.ts';
import { referenceBudgetMath as math } from './support/reference-budget-math.ts';

const params = zigzagShuffled.params.parse({});
const context = {
  layers: 6,
  tokens: 100,
  caps: Array(6).fill(100),
  even: Array(6).fill(40),
  averageBudget: 40,
  protectedTokens: 4,
  compressionRatio: 0.6,
  compat: false,
  kvHeads: 2,
  math,
  artifact: () => {
    throw new Error('none');
  },
};
const ascending = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);
const prompts = Array.from({ length: 400 }, (_, i) => {
  const random = new Random(i);
  return context.caps.map(() => [random.int(1, 90), random.int(1, 90)]);
});

describe('budgets', () => {
  test("are zigzag's, in another order, and every layer is as likely to get any of them", () => {
    const places = context.caps.map(() => context.caps.map(() => 0)); // of layer i's budget: how often in place j
    for (const signals of prompts) {
      const own = zigzag.limits(signals, context, zigzag.params.parse({}));
      const dealt = zigzagShuffled.limits(signals, context, params);
      expect(ascending(dealt).reduce((sum, b) => sum + b, 0)).toBe(240);
      const off = ascending(dealt).map((b, i) => Math.abs(b - ascending(own)[i]));
      expect(Math.max(...off)).toBeLessThanOrEqual(1); // what is left of rounding goes by place
      if (new Set(own).size === 6) for (const [i, b] of own.entries()) if (dealt.includes(b)) places[i][dealt.indexOf(b)]++;
    }
    const seen = places.flat().reduce((sum, count) => sum + count, 0) / 36;
    for (const count of places.flat()) expect(Math.abs(count - seen)).toBeLessThan(5 * Math.sqrt(seen));
  });

  test('are the same for the same prompt and seed, and others for another', () => {
    const [signals] = prompts;
    const of = (shuffle_seed: number) => zigzagShuffled.limits(signals, context, { ...params, shuffle_seed });
    expect(of(3)).toEqual(of(3));
    expect(new Set(Array.from({ length: 20 }, (_, seed) => of(seed).join(' '))).size).toBeGreaterThan(10);
  });
});

describe('on models/needle', () => {
  let engine: EdgeEngine;
  beforeAll(async () => {
    engine = await openGolden('needle');
  });
  afterAll(() => engine.close());

  test('keeps as much as zigzag does, elsewhere, and the report has the measured LMBA', async () => {
    const prompt = needleSamples()[92].prompt_token_ids.slice(0, 400);
    const press = (layer_budget: string) => ({ scorer: { name: 'snapkv', window_size: 16 }, layer_budget, compression_ratio: 0.7, scope: 'prompt' });
    const [own, other] = [await generation(engine, prompt, press('zigzag')), await generation(engine, prompt, press('zigzag_shuffled'))];
    expect(other.usage.lmba_per_layer).toEqual(own.usage.lmba_per_layer);
    expect(other.usage.kept_per_layer).not.toEqual(own.usage.kept_per_layer);
    const [a, b] = [other, own].map(({ usage }) => ascending(usage.kept_per_layer));
    for (const [i, kept] of a.entries()) expect(Math.abs(kept - b[i])).toBeLessThanOrEqual(1);
    expect(other.usage.notes.join()).toMatch(/decides after the last layer/);
  });
});
