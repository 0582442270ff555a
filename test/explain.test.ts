/** "explain": true: what other layer budgets would have dealt is what they do deal; which positions are kept is what inspect tells; the pictures of both. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { heatMap, heatMapSvg, heatMapText } from '../cli/heat-map.ts';
import { parsePress } from '../presses/config.ts';
import { layerBudgets } from '../presses/registry.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import type { Inspection } from '../worker/engine/inspection.ts';
import type { KvCacheUsage, PromptInput } from '../worker/engine/types.ts';
import { requestOf } from './support/generation.ts';
import { needleSamples, openGolden } from './support/golden.ts';

const prompt: PromptInput = { kind: 'tokens', tokens: needleSamples()[92].prompt_token_ids.slice(0, 400) };

describe('explain', () => {
  let engine: EdgeEngine;
  beforeAll(async () => {
    engine = await openGolden('needle');
  });
  afterAll(() => engine.close());

  async function usage(press: unknown): Promise<KvCacheUsage> {
    for await (const event of engine.generate(requestOf(prompt, press, { maxTokens: 1 }))) if (event.type === 'prompt') return event.kvCache;
    throw new Error('no prompt event');
  }
  const dealt = ({ explain }: KvCacheUsage, name: string) => explain?.other_layer_budgets.find(({ layer_budget }) => layer_budget === name);

  const scored = { scorer: { name: 'snapkv', window_size: 16 }, compression_ratio: 0.7 };

  test('is absent unless asked for, and where nothing is removed', async () => {
    expect(await usage(scored)).not.toHaveProperty('explain');
    for (const press of [{ preset: 'knorm', compression_ratio: 0 }, { preset: 'decoding_knorm' }]) {
      const explained = await usage({ ...press, explain: true });
      expect(explained).not.toHaveProperty('explain');
      expect(explained.notes).toContainEqual(expect.stringMatching(/^explain: nothing was removed/));
    }
  });

  test('every other layer budget is there, with what it deals when it is asked for itself', async () => {
    const explained = await usage({ ...scored, explain: true });
    const others = explained.explain!.other_layer_budgets;
    expect(others.map(({ layer_budget }) => layer_budget).sort()).toEqual(
      Object.keys(layerBudgets)
        .filter((name) => name !== 'uniform' && name !== 'zigzag_shuffled')
        .sort(),
    );
    const compared: string[] = [];
    for (const { layer_budget, budgets, why } of others) {
      if (budgets === null) {
        expect(why).toMatch(/./);
        continue;
      }
      expect(why).toBeNull();
      const own = 'decidesTotal' in layerBudgets[layer_budget as keyof typeof layerBudgets] ? { scorer: scored.scorer } : scored;
      expect(budgets, layer_budget).toEqual((await usage({ ...own, layer_budget })).kept_per_layer);
      compared.push(layer_budget);
    }
    // "global" wants heads that share by score, and others a file or parameters.
    expect(compared.sort()).toEqual(['cake', 'composite', 'dynamickv', 'lava', 'lazy', 'pyramid', 'squeeze', 'zigzag']);
    expect(dealt(explained, 'per_layer')).toMatchObject({ budgets: null, why: expect.stringContaining('one ratio per layer') });
  });

  test('looking on changes nothing: the same positions, the same budgets', async () => {
    for (const layer_budget of ['zigzag', 'pyramid', 'uniform']) {
      const press = { ...scored, layer_budget };
      const explained = await usage({ ...press, explain: true });
      const { explain, ...rest } = explained;
      const { bytes_peak: _, ...plain } = await usage(press);
      expect(rest).toMatchObject(plain);
      const { layers } = await engine.inspect(prompt, parsePress(press));
      expect(explain!.kept).toEqual(layers.map(({ heads }) => heads.map(({ kept }) => kept)));
    }
  });

  test('what cannot stand in the place says why, in the words of the refusal', async () => {
    const explained = await usage({ scorer: 'streaming_llm', compression_ratio: 0.5, explain: true });
    expect(dealt(explained, 'zigzag')).toMatchObject({ budgets: null, why: expect.stringContaining('streaming_llm') });
  });

  test('composed presses: the last one is explained', async () => {
    const explained = await usage([
      { preset: 'knorm', compression_ratio: 0.3 },
      { preset: 'keydiff', compression_ratio: 0.5, explain: true },
    ]);
    expect(dealt(explained, 'zigzag')!.budgets!.reduce((sum, b) => sum + b, 0)).toBe(explained.kept_per_layer.reduce((sum, b) => sum + b, 0));
  });

  test('gives back what it took', async () => {
    await usage({ ...scored, explain: true });
    const before = engine.health().memory;
    await usage({ ...scored, explain: true });
    expect(engine.health().memory).toMatchObject({ used_bytes: before.used_bytes, kv_used_bytes: 0, kv_reserved_bytes: 0 });
  });

  test('a heat map of a run: every kept entry is in it, on the terminal and in the picture', async () => {
    const inspection = await engine.inspect(prompt, parsePress({ preset: 'zigzag_adakv_snapkv', window_size: 16, explain: true }));
    const { rows, columns } = heatMap(inspection, 80);
    expect(rows).toHaveLength(12);
    for (const { layer, head, shares } of rows) {
      const kept = shares.reduce((sum, share) => sum + share * (400 / columns), 0);
      expect(kept).toBeCloseTo(inspection.layers[layer].heads[head!].kept.length, 6);
    }
    const text = heatMapText(inspection, 100);
    expect(text).toMatch(/layer 5\.1 .*\d+/);
    expect(text).toMatch(/pyramid( +\d+){6}/);
    for (const line of text.split('\n').slice(0, 13)) expect(line.length).toBeLessThanOrEqual(100);
    const svg = heatMapSvg(inspection, 'a < b & "c"');
    expect(svg).toContain('a &lt; b &amp; &quot;c&quot;');
    expect(svg.match(/<polyline/g)!.length).toBe(1 + inspection.other_layer_budgets!.filter(({ budgets }) => budgets).length);
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
  });
});

test('columns of a heat map hold their own tokens, also where they do not divide the prompt', () => {
  const inspection: Inspection = {
    tokens: 7,
    layers: [
      { budget: 2, lmba: null, retained_mass: null, heads: [0, 6].map((t) => ({ kept: [t, 3], scores: [null, null] })) },
      { budget: 7, lmba: null, retained_mass: 1, heads: [0, 1].map(() => ({ kept: [0, 1, 2, 3, 4, 5, 6], scores: [] })) },
    ],
  };
  const { rows, columns } = heatMap(inspection, 3);
  expect(columns).toBe(3);
  expect(rows.map(({ shares }) => shares)).toEqual([
    [0.5, 1 / 3, 0],
    [0, 1 / 3, 0.5],
    [1, 1, 1],
    [1, 1, 1],
  ]);
  expect(heatMap(inspection, 100).columns).toBe(7);
  const together = heatMap(inspection, 7, 2).rows;
  expect(together.map(({ layer, head }) => [layer, head])).toEqual([
    [0, null],
    [1, null],
  ]);
  expect(together[0].shares).toEqual([0.5, 0, 0, 1, 0, 0, 0.5]);
});
