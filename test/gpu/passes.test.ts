/** Presses that read the prompt again, on WebGPU beside WASM: the same scores, the same entries but for ties. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parsePress } from '../../presses/config.ts';
import type { EdgeEngine } from '../../worker/engine/engine.ts';
import type { Inspection } from '../../worker/engine/inspection.ts';
import { needleSamples, openGolden } from '../support/golden.ts';

/** Of the largest score of a layer: f32 sums in another order, through the model and its second reading. */
const CLOSE = 1e-4;

const tokens = needleSamples()
  .find((s) => s.task === 'niah_multikey' && s.context_length === 256)!
  .prompt_token_ids.slice(0, 140);
let onWasm: EdgeEngine;
let onGpu: EdgeEngine;
beforeAll(async () => {
  onWasm = await openGolden('needle', { contextLength: 512 });
  onGpu = await openGolden('needle', { contextLength: 512, backend: 'webgpu' });
});
afterAll(() => {
  onWasm.close();
  onGpu.close();
});

const ALL = 1e-9; // so little is removed that every entry's score is told
const words = { repeat_prompt: [301, 302, 303], repeat_next_prompt: [311, 312], repeat_answer_start: [321] };

test.each<[string, Record<string, unknown>]>([
  ['kvzip', words],
  ['kvzip', { ...words, chunk_size: 64, prefix_tokens: 2 }],
  ['kvzip_plus', { ...words, chunk_size: 64, prefix_tokens: 7 }],
  ['kvcompose', { agg_task: 'mean', add_v_norm: true }],
  ['kvcompose_unstructured', { agg_group: 'max' }],
])('%s %j', async (preset, params) => {
  const inspect = (engine: EdgeEngine, ratio: number): Promise<Inspection> =>
    engine.inspect({ kind: 'tokens', tokens }, parsePress({ preset, ...params, compression_ratio: ratio }));
  const used = onGpu.backend.memory.usedBytes;
  const scores = ({ layers }: Inspection): Map<string, number> =>
    new Map(layers.flatMap(({ heads }, l) => heads.flatMap(({ kept, scores }, h) => kept.map((t, i) => [`${l}.${h}.${t}`, scores[i] ?? Infinity]))));
  const [want, seen] = [scores(await inspect(onWasm, ALL)), scores(await inspect(onGpu, ALL))];
  const largest = (l: string): number =>
    Math.max(...[...want].filter(([key, score]) => key.startsWith(`${l}.`) && score < Infinity).map(([, score]) => score));
  const most = new Map(Array.from({ length: 6 }, (_, l) => [String(l), largest(String(l))]));
  for (const [key, score] of want) {
    const other = seen.get(key);
    if (other === undefined) continue; // the one entry that a ratio above 0 removes
    if (score === Infinity) expect(other).toBe(Infinity);
    else expect(Math.abs(other - score) / most.get(key.split('.')[0])!, key).toBeLessThan(CLOSE);
  }
  const [here, there] = [scores(await inspect(onWasm, 0.6)), scores(await inspect(onGpu, 0.6))];
  expect(there.size).toBe(here.size);
  const differ = [...there.keys()].filter((key) => !here.has(key));
  expect(differ.length, differ.join(' ')).toBeLessThanOrEqual(2); // ties
  onGpu.backend.trim();
  expect(onGpu.backend.memory.usedBytes).toBeLessThanOrEqual(used);
});
