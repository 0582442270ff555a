/** Held contexts on the device: answers bit for bit those of one request, the tokens of WASM, not a bit of what is held changes, and a lost device takes all of it. */
import { expect, test } from 'vitest';
import { parsePress } from '../../presses/config.ts';
import { generation, promptOf } from '../support/generation.ts';
import { needleSamples } from '../support/golden.ts';
import { openOnGpu } from '../support/gpu-backends.ts';
import { all, hashOf, holdWatched, mounted } from '../support/held.ts';
import { closeOf, needleOnBoth, worstOf } from '../support/on-both.ts';

const shape = { layers: 6, kvHeads: 2 };
const tokens = needleSamples().find((s) => s.task === 'niah_multikey' && s.context_length === 128)!.prompt_token_ids;
const behind = 20;
const context = tokens.slice(0, -behind);
const forced = [7, 300, 41, 5];

const both = needleOnBoth({ contextLength: 1024 });

const schedule = { name: 'prefill_and_decoding', interval: 11, target_size: 60 }; // no divisor of what is read ahead
const presses: (Record<string, unknown> | Record<string, unknown>[])[] = [
  { preset: 'zigzag_adakv_snapkv', window_size: 8, compression_ratio: 0.5 },
  { preset: 'finch', window_size: 8, compression_ratio: 0.4, entry_type: 'f16' },
  { preset: 'streaming_llm', compression_ratio: 0.5, entry_type: 'int8' },
  { preset: 'snapkv', window_size: 8, compression_ratio: 0.25, schedule },
  [
    { preset: 'knorm', compression_ratio: 0.25 },
    { preset: 'cam_tova', merge_budget: 4, interval: 11, target_size: 60 },
  ],
  {
    scorer: { name: 'fastkvzip', artifact: 'fastkvzip.safetensors' },
    compression_ratio: 0.25,
    schedule: { ...schedule, hidden_states_buffer_size: 4 },
  },
];

test.each(presses.map((press) => [JSON.stringify(press), press]))('%s', async (_, press) => {
  const before = both.gpuMemory();
  const [first, ...others] = [press].flat();
  const scoped = [{ ...first, scope: { protect_last: behind } }, ...others];
  const { held, sequence } = await holdWatched(both.gpu, context, press);
  const hash = await hashOf(both.gpu.backend, sequence, shape);
  const one = { prompt: promptOf(tokens), tokens: forced, seed: 1 };
  expect(await all(both.gpu.follow({ ...one, held }))).toEqual(await all(both.gpu.follow({ ...one, press: parsePress(scoped) })));
  const sampling = { maxTokens: 40, seed: 1 };
  const want = await generation(both.wasm, tokens, scoped, sampling);
  const together = await Promise.all([0, 1, 2].map(() => mounted(both.gpu, held, tokens, sampling)));
  const [alone] = together;
  for (const seen of together) expect([seen.tokens, seen.usage.decoding]).toEqual([alone.tokens, alone.usage.decoding]);
  expect(alone.usage.decoding).toEqual(want.usage.decoding);
  // Where a row's f32 sums differ in the last bit its int8 may be the next one, and near-ties of logits tip: there the logits alone are compared.
  if (first.entry_type !== 'int8') expect(alone.tokens).toEqual(want.tokens);
  const onWasm = await all(both.wasm.follow({ ...one, press: parsePress(scoped) }));
  expect(worstOf(await all(both.gpu.follow({ ...one, held })), onWasm)).toBeLessThan(closeOf(first.entry_type));
  expect(await hashOf(both.gpu.backend, sequence, shape)).toBe(hash);

  const abort = new AbortController();
  const running = mounted(both.gpu, held, tokens, { ...sampling, maxTokens: 200 }, abort.signal);
  setTimeout(() => abort.abort(), 30);
  await expect(running).rejects.toThrow();
  expect(await hashOf(both.gpu.backend, sequence, shape)).toBe(hash);
  held.close();
  expect(both.gpuMemory()).toEqual(before);
});

test('a device that is lost while a context is mounted, and while one is read: all is given back, and the context is of no use any more', async () => {
  for (const lose of ['mounted', 'read']) {
    const { engine, backend } = await openOnGpu('needle', { contextLength: 1024 });
    const { held } = await holdWatched(engine, context, presses[3]);
    const running =
      lose === 'mounted'
        ? mounted(engine, held, tokens, { maxTokens: 400 })
        : engine.hold({ prompt: promptOf(tokens), press: parsePress(presses[0]) });
    setTimeout(() => backend.recorder.device.destroy(), 20);
    await expect(running).rejects.toMatchObject({ code: 'device_failed' });
    expect(engine.health().requests.running).toBe(0);
    await expect(mounted(engine, held, tokens, { maxTokens: 4 })).rejects.toMatchObject({ code: 'device_failed' });
    expect(engine.health().memory).toMatchObject({ kv_used_bytes: held.kvCache.bytes_kept, kv_reserved_bytes: 0 });
    engine.close();
    expect([backend.buffers.live, backend.memory.usedBytes, engine.health().contexts.held]).toEqual([[], 0, 0]);
    held.close();
  }
});
