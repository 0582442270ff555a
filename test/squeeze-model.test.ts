/** What attention changes of the hidden states, in a model: measured only where a press asks, and nothing else is different. */
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { parsePress } from '../presses/config.ts';
import { layerBudgets } from '../presses/registry.ts';
import { WasmBackend } from '../worker/backend/wasm.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { generation } from './support/generation.ts';
import { goldenPath, needleSamples, openGolden } from './support/golden.ts';
import { ReferenceModel } from './support/reference-model.ts';

const tokens = needleSamples().find((s) => s.task === 'niah_multikey' && s.context_length === 256)!.prompt_token_ids;
const squeezed = { preset: 'squeezeattention', compression_ratio: 0.5, squeeze_share: 0.5 };
let engine: EdgeEngine;
beforeAll(async () => {
  engine = await openGolden('needle', { contextLength: 1024, chunkTokens: 100 }); // a prompt of three pieces
});
afterAll(() => engine.close());
afterEach(() => vi.restoreAllMocks());

test('squeeze: cosines of all layers, the last one too, are those of the formula in float64', async () => {
  const measured: Promise<ArrayLike<number>>[] = [];
  const { measure } = layerBudgets.squeeze;
  vi.spyOn(layerBudgets.squeeze, 'measure').mockImplementation((context, params) => {
    const signal = measure(context, params);
    measured.push(signal);
    return signal;
  });
  const { usage } = await generation(engine, tokens, squeezed, { maxTokens: 2 });
  const reference = new ReferenceModel(goldenPath('needle'));
  const state = reference.start();
  reference.read(state, tokens);
  const want = state.layers.map(({ change }) => change.reduce((sum, x) => sum + x, 0) / change.length);
  const got = (await Promise.all(measured)).map((signal) => signal[0]);
  expect(got.length).toBe(want.length);
  for (const [l, x] of got.entries()) expect(Math.abs(x - want[l])).toBeLessThan(1e-5);
  expect(Math.max(...usage.kept_per_layer) - Math.min(...usage.kept_per_layer)).toBeGreaterThan(20); // two levels, and tokens of rounding
  expect(usage.kept_per_layer.reduce((sum, kept) => sum + kept, 0)).toBe(Math.floor(tokens.length / 2) * want.length);
});

test('measuring it changes no logits, and is not done for other presses', async () => {
  const cosines = vi.spyOn(WasmBackend.prototype, 'rowCosine');
  const first = async (press: object) => (await generation(engine, tokens, press, { maxTokens: 1, topLogprobs: 3 })).logprobs;
  const plain = await first({ preset: 'streaming_llm', compression_ratio: 0.5 });
  expect(cosines).not.toHaveBeenCalled();
  expect(await first(squeezed)).toEqual(plain);
  expect(cosines).toHaveBeenCalledTimes(6 * Math.ceil(tokens.length / 100));
  const plan = await engine.plan({ prompt: { kind: 'tokens', tokens }, press: parsePress(squeezed), maxTokens: 1 });
  expect(plan.fits).toBe(true);
});
