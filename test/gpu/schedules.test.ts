/** Presses while decoding on the device, where up to 16 tokens are sampled ahead: the steps, the entries and the tokens of WASM, and nothing stays behind. */
import { expect, test } from 'vitest';
import { parsePress } from '../../presses/config.ts';
import type { EdgeEngine } from '../../worker/engine/engine.ts';
import { generation, promptOf, requestOf, watchPages } from '../support/generation.ts';
import { needleSamples } from '../support/golden.ts';
import { all } from '../support/held.ts';
import { closeOf, needleOnBoth, worstOf } from '../support/on-both.ts';
import { watchRetained } from '../support/watch-retained.ts';

const LAYERS = 6;
const tokens = needleSamples().find((s) => s.task === 'niah_multikey' && s.context_length === 128)!.prompt_token_ids;

const both = needleOnBoth({ contextLength: 1024 });

/** What was left after every compression, and the answer. */
async function run(engine: EdgeEngine, press: unknown, maxTokens: number) {
  const watch = watchRetained(LAYERS);
  const pages = watchPages();
  try {
    const { tokens: answer, usage } = await generation(engine, tokens, press, { maxTokens, ignoreEos: true, seed: 1 });
    return { left: watch.seen, answer, decoding: usage.decoding, exceeded: pages.uses[0].exceeded };
  } finally {
    watch.stop();
    pages.stop();
  }
}

const schedule = { name: 'decoding', interval: 11, target_size: 60 }; // no divisor of what is read ahead
const presses: Record<string, unknown>[] = [
  { preset: 'streaming_llm', schedule },
  { preset: 'tova', schedule, entry_type: 'f16' },
  { preset: 'snapkv', window_size: 8, schedule: { ...schedule, name: 'prefill_and_decoding' }, compression_ratio: 0.25, scope: { protect_last: 10 } },
  { preset: 'keydiff', schedule },
  { preset: 'streaming_llm', schedule, entry_type: 'int8' },
  { preset: 'decoding_adakv_snapkv', window_size: 8, interval: 16, target_size: 60 },
  { preset: 'cam_tova', merge_budget: 4, interval: 11, target_size: 60 },
  {
    preset: 'kvzap_mlp',
    artifact: 'kvzap-mlp.safetensors',
    threshold: 0.1,
    sliding_window_size: 16,
    schedule: { name: 'prefill_and_decoding', interval: 3 },
  },
  { preset: 'duo_attention', artifact: 'duo.json', schedule: { name: 'prefill_and_decoding', interval: 7 } },
  { scorer: { name: 'fastkvzip', artifact: 'fastkvzip.safetensors' }, schedule: { ...schedule, hidden_states_buffer_size: 4 } },
];

test.each(presses.map((press) => [JSON.stringify(press), press]))('%s: as on WASM', async (_, press) => {
  const before = both.gpuMemory();
  const [got, want] = [await run(both.gpu, press, 60), await run(both.wasm, press, 60)];
  expect(got.decoding!.compressions).toBeGreaterThanOrEqual(3);
  expect(got.exceeded).toBe(null);
  expect(got.decoding).toEqual(want.decoding);
  expect(got.left).toEqual(want.left);
  if (press.entry_type !== 'int8') expect(got.answer).toEqual(want.answer);
  // Where a row's f32 sums differ in the last bit its int8 may be the next one, and near-ties of logits tip: there the logits are compared.
  const followed = { prompt: promptOf(tokens), tokens: want.answer, press: parsePress(press), seed: 1 };
  expect(worstOf(await all(both.gpu.follow(followed)), await all(both.wasm.follow(followed)))).toBeLessThan(closeOf(press.entry_type));
  expect(both.gpuMemory()).toEqual(before);
});

test('an answer that ends within what was read ahead: the entries behind its end are gone, whatever was moved before', async () => {
  const press = { preset: 'streaming_llm', schedule: { name: 'decoding', interval: 20, target_size: 40 } };
  const all = await run(both.gpu, press, 60);
  for (const length of [22, 27, 33, 41, 50]) {
    const some = await run(both.gpu, press, length);
    expect(some.answer).toEqual(all.answer.slice(0, length));
    const since = (length - 1) % 20;
    expect(some.decoding!.entries_per_layer).toEqual(Array(LAYERS).fill(40 + (since || 20)));
  }
});

test('given up in mid-generation nothing stays behind; several at once answer as one alone', async () => {
  const before = both.gpuMemory();
  const press = { preset: 'tova', schedule };
  const abort = new AbortController();
  const giveUp = (async () => {
    let seen = 0;
    for await (const event of both.gpu.generate(requestOf(tokens, press, { maxTokens: 60, ignoreEos: true }), abort.signal))
      if (event.type === 'text' && (seen += event.tokenIds.length) > 25) abort.abort();
  })();
  await expect(giveUp).rejects.toThrow();
  expect(both.gpuMemory()).toEqual(before);
  const alone = await generation(both.gpu, tokens, press, { maxTokens: 40, ignoreEos: true });
  const together = await Promise.all([0, 1, 2].map(() => generation(both.gpu, tokens, press, { maxTokens: 40, ignoreEos: true })));
  for (const one of together) expect(one.tokens).toEqual(alone.tokens);
  expect(both.gpuMemory()).toEqual(before);
});
