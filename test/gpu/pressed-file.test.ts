/** Contexts as files on the device: round trips, and files of one backend on the other. */
import { expect, test } from 'vitest';
import { parsePress } from '../../presses/config.ts';
import type { EdgeEngine } from '../../worker/engine/engine.ts';
import { bytesOf } from '../../worker/engine/pressed/write.ts';
import type { Held } from '../../worker/engine/types.ts';
import { promptOf } from '../support/generation.ts';
import { needleSamples } from '../support/golden.ts';
import { openOnGpu } from '../support/gpu-backends.ts';
import { all, mounted } from '../support/held.ts';
import { needleOnBoth } from '../support/on-both.ts';
import { numbers, plainRead } from '../support/pressed.ts';

const d = 32;
const tokens = needleSamples().find((s) => s.task === 'niah_multikey' && s.context_length === 128)!.prompt_token_ids;
const context = tokens.slice(0, -20);
const forced = [7, 300, 41, 5];

const both = needleOnBoth({ contextLength: 1024 });

const used = (engine: EdgeEngine) => {
  engine.backend.trim();
  const { kv_used_bytes, kv_reserved_bytes, used_bytes } = engine.health().memory;
  return { kv_used_bytes, kv_reserved_bytes, used_bytes, contexts: engine.health().contexts.held };
};
const hold = (engine: EdgeEngine, press: unknown): Promise<Held> => engine.hold({ prompt: promptOf(context), press: parsePress(press), seed: 1 });
const follow = (engine: EdgeEngine, held: Held) => all(engine.follow({ prompt: promptOf(tokens), held, tokens: forced, seed: 1 }));

const schedule = { name: 'prefill_and_decoding', interval: 11, target_size: 60 };
test.each(
  [
    { preset: 'zigzag_adakv_snapkv', window_size: 8, compression_ratio: 0.5 },
    { preset: 'finch', window_size: 8, compression_ratio: 0.4, entry_type: 'f16' },
    { preset: 'knorm', compression_ratio: 0.5, entry_type: 'int8', scope: { protect_last: 7 } },
    { preset: 'snapkv', window_size: 8, compression_ratio: 0.25, schedule },
    {
      scorer: { name: 'fastkvzip', artifact: 'fastkvzip.safetensors' },
      compression_ratio: 0.25,
      schedule: { ...schedule, hidden_states_buffer_size: 4 },
    },
  ].map((press) => [JSON.stringify(press), press]),
)('%s: written and mounted it answers bit for bit the same, and a file of the device the same tokens on WASM', async (_, press) => {
  const { gpu, wasm } = both;
  const before = [used(gpu), used(wasm)];
  const one = await hold(gpu, press);
  const file = await bytesOf(gpu.writePressed(one, { entryType: one.entryType }));
  const other = await gpu.mount(file, { press: parsePress(press) });
  expect(other.kvCache).toEqual(one.kvCache);
  expect(await follow(gpu, other)).toEqual(await follow(gpu, one));
  const sampling = { maxTokens: 40, seed: 1 };
  const seen = await mounted(gpu, other, tokens, sampling);
  expect([seen.tokens, seen.usage]).toEqual(await mounted(gpu, one, tokens, sampling).then(({ tokens, usage }) => [tokens, usage]));
  expect(Buffer.compare(await bytesOf(gpu.writePressed(other, { entryType: other.entryType })), file)).toBe(0);

  const there = await wasm.mount(file);
  const want = await follow(gpu, one);
  // Sums in another order, on logits that span 30; and what follows the context is rounded by each, where a step more or less may come of that.
  const tolerance = { f32: 1e-3, f16: 1e-2, int8: 5e-2 }[one.entryType];
  for (const [i, logits] of (await follow(wasm, there)).entries()) {
    expect(logits.reduce((most, x, id) => Math.max(most, Math.abs(x - want[i][id])), 0)).toBeLessThan(tolerance);
  }
  expect((await mounted(wasm, there, tokens, sampling)).tokens).toEqual(seen.tokens);
  const back = await gpu.mount(await bytesOf(wasm.writePressed(there, { entryType: there.entryType })));
  expect(await follow(gpu, back)).toEqual(want);
  for (const held of [one, other, there, back]) held.close();
  expect([used(gpu), used(wasm)]).toEqual(before);
});

test('int8 rows of an f32 cache are off by at most half a scale a component', async () => {
  const { gpu } = both;
  const held = await hold(gpu, { preset: 'knorm', compression_ratio: 0.5 });
  const [exact, int8] = [plainRead(await bytesOf(gpu.writePressed(held, { entryType: 'f32' }))), plainRead(await bytesOf(gpu.writePressed(held)))];
  for (const name of ['layers.0.k', 'layers.5.v']) {
    const [x, q, scale] = [exact.tensors[name], int8.tensors[name], int8.tensors[`${name}_scale`]].map(numbers);
    for (const [i, value] of x.entries()) {
      const s = scale[Math.floor(i / d)];
      expect(Math.abs(value - q[i] * s)).toBeLessThanOrEqual(s * (0.5 + 1e-5));
    }
  }
  held.close();
});

test('a device that is lost while a context is mounted, and while one is written: nothing is held of it', async () => {
  const { gpu } = both;
  const held = await hold(gpu, { preset: 'knorm', compression_ratio: 0.5 });
  const file = await bytesOf(gpu.writePressed(held));
  held.close();
  for (const lose of ['mounted', 'written']) {
    const { engine, backend } = await openOnGpu('needle', { contextLength: 1024 });
    const first = await engine.mount(file);
    const source = engine.writePressed(first);
    await source.chunks.next();
    backend.recorder.device.destroy();
    const running: Promise<unknown> = lose === 'mounted' ? engine.mount(file) : bytesOf(source);
    await expect(running).rejects.toMatchObject({ code: 'device_failed' });
    expect(engine.health().contexts.held).toBe(1);
    engine.close();
    expect([backend.buffers.live, backend.memory.usedBytes, engine.health().contexts.held]).toEqual([[], 0, 0]);
  }
});
