/**
 * Presses that keep another number of entries in every head free what they evict: while an answer is generated, the pool's bytes in use are those of each
 * head's own entries in whole pages, and no more of them than the budgets say.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parsePress } from '../presses/config.ts';
import type { HeadBudget, LayerBudget } from '../presses/contract.ts';
import { presetParts } from '../presses/presets.ts';
import { headBudgets, layerBudgets, selections } from '../presses/registry.ts';
import { entryTypes } from '../worker/backend/backend.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { entriesPerPageOf, pageBytesOf } from '../worker/engine/kv-cache.ts';
import type { KvCacheUsage } from '../worker/engine/types.ts';
import { shownPresets, testArtifacts, withArtifacts } from './support/artifacts.ts';
import { requestOf } from './support/generation.ts';
import { needleSamples, openGolden } from './support/golden.ts';

const tokens = needleSamples()[92].prompt_token_ids; // 486 of them
const shape = { layers: 6, queryHeads: 6, kvHeads: 2, headDim: 32, hiddenSize: 192, intermediateSize: 512 };
const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** Those that count every head by itself, with what they cannot do without. */
const presses: Record<string, unknown>[] = shownPresets.flatMap((name) => {
  const parts = presetParts(name);
  if (!parts?.schedule.prefill) return [];
  const { headBudget, selection } = parts;
  return headBudget.ragged || (selection.counts !== undefined && !selection.countsInCompat) ? [withArtifacts(name)] : [];
});
const knorm = { scorer: 'knorm', selection: { name: 'threshold', threshold: -10.7, sliding_window_size: 40 } };
presses.push(knorm, { preset: 'adakv_pyramidkv', window_size: 8, compat: 'kvpress' }, { preset: 'kvzip', layerwise: true });

let engine: EdgeEngine;
beforeAll(async () => {
  engine = await openGolden('needle', { artifacts: testArtifacts(shape) });
});
afterAll(() => engine.close());

test('every part that counts heads is among them', () => {
  const names = presses.flatMap((press) =>
    parsePress(press).presses.flatMap(({ headBudget, layerBudget, selection }) => [headBudget, layerBudget, selection].map(({ part }) => part.name)),
  );
  const counting: { name: string }[] = [
    ...Object.values<HeadBudget>(headBudgets).filter(({ ragged }) => ragged),
    ...Object.values<LayerBudget>(layerBudgets).filter(({ perEntry }) => perEntry),
    selections.threshold,
  ];
  expect(names).toEqual(expect.arrayContaining(counting.map(({ name }) => name)));
});

const cases = presses.flatMap((press) => {
  const types = ['adakv_snapkv', 'kvzip', 'duo_attention'].includes(press.preset as string) ? entryTypes : (['f32'] as const);
  return types.map((entry_type) => ({ ...press, entry_type }));
});
test.each(cases.map((press) => [JSON.stringify(press), press] as const))('%s', async (_, press) => {
  const { layers, kvHeads, headDim } = shape;
  const page = entriesPerPageOf(press.entry_type, headDim);
  const pages = (entries: readonly number[]): number => sum(entries.map((count) => Math.ceil(count / page)));
  const inUse = (): number => engine.health().memory.kv_used_bytes / pageBytesOf(headDim);
  expect(inUse()).toBe(0);
  let told: KvCacheUsage | null = null;
  for await (const event of engine.generate(requestOf(tokens, { ...press, explain: true, scope: 'prompt' }, { maxTokens: 1 }))) {
    if (event.type !== 'prompt') continue;
    told = event.kvCache;
    const { explain, kept_per_layer, bytes_kept } = told;
    const counts = explain!.kept.flatMap((heads) => heads.map((list) => list.length));
    for (const [l, budget] of kept_per_layer.entries()) expect(sum(counts.slice(l * kvHeads, (l + 1) * kvHeads))).toBeCloseTo(budget * kvHeads, 6);
    expect(new Set(counts).size, 'heads differ').toBeGreaterThan(1);
    const trained = JSON.stringify(press).includes('RestoreKV') ? 8 : 0; // rows of the file, beside what is kept
    expect(inUse()).toBe(pages(counts.map((count) => count + trained)));
    expect(inUse()).toBeLessThan(((sum(kept_per_layer) + layers * trained) * kvHeads) / page + layers * kvHeads);
    expect(inUse()).toBeLessThan(pages(counts.map(() => tokens.length)));
    expect(bytes_kept).toBe(inUse() * pageBytesOf(headDim));
  }
  expect(told).not.toBeNull();
  expect(inUse()).toBe(0);
});
