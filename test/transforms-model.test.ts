/** What a model makes of transformed caches: distances that stay, answers that change, bytes that do not. test/golden-library.test.ts has kvpress's continuations. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { entryTypes } from '../worker/backend/backend.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { generation } from './support/generation.ts';
import { needleSamples, openGolden } from './support/golden.ts';

describe('transforms in a model', () => {
  const tokens = needleSamples().find((s) => s.task === 'niah_multikey' && s.context_length === 256)!.prompt_token_ids;
  const scope = { protect_last: 20 };
  let engine: EdgeEngine;
  beforeAll(async () => {
    engine = await openGolden('needle', { contextLength: 1024 });
  });
  afterAll(() => engine.close());

  /** Log-probabilities of the first tokens of the greedy answer. */
  const told = async (press: unknown) => {
    const { tokens: ids, logprobs, usage } = await generation(engine, tokens, press, { maxTokens: 6, topLogprobs: 3, ignoreEos: true });
    return { ids, logprobs: logprobs.map(({ logprob }) => logprob), usage };
  };

  test('rerotate: what all moves together keeps its distances, so that the question and the answer see the same; sinks come nearer', async () => {
    const streaming = (n_sink: number, transforms: string[]) => ({
      scorer: { name: 'streaming_llm', n_sink },
      compression_ratio: 0.5,
      transforms,
      scope,
    });
    const [still, moved] = [await told(streaming(0, [])), await told(streaming(0, ['rerotate']))];
    expect(moved.ids).toEqual(still.ids);
    // Angles are rounded to f32 at other positions: 1e-5 a turn.
    for (const [i, x] of moved.logprobs.entries()) expect(Math.abs(x - still.logprobs[i])).toBeLessThan(2e-3);
    const [sinks, nearer] = [await told(streaming(30, [])), await told(streaming(30, ['rerotate']))];
    const most = Math.max(...nearer.logprobs.map((x, i) => Math.abs(x - sinks.logprobs[i])));
    expect(nearer.ids.join() !== sinks.ids.join() || most > 5e-3).toBe(true); // more than rounding does
    expect(nearer.usage.kept_per_layer).toEqual(sinks.usage.kept_per_layer);
    expect(nearer.usage.bytes_kept).toBe(sinks.usage.bytes_kept);
  });

  test('rerotate, then a press while decoding that takes the rotation out of keys: it knows where they stand', async () => {
    const rerotated = async (transforms: string[]) => {
      const first = { scorer: { name: 'streaming_llm', n_sink: 0 }, compression_ratio: 0.5, transforms, scope };
      const then = { scorer: { name: 'leverage', seed: 5 }, schedule: { name: 'decoding', interval: 8, target_size: 60 } };
      return generation(engine, tokens, [first, then], { maxTokens: 16, topLogprobs: 1, ignoreEos: true });
    };
    // All keys move alike, so that before RoPE they are what they were: the same ones stay, and the same is said.
    // Up to the second compression: rounded angles may settle ties among its scores in another way.
    const [still, moved] = [await rerotated([]), await rerotated(['rerotate'])];
    expect(moved.tokens).toEqual(still.tokens);
    for (const [i, { logprob }] of moved.logprobs.entries()) expect(Math.abs(logprob - still.logprobs[i].logprob)).toBeLessThan(5e-3);
  });

  test('kvpress row 24: think frees nothing, and says so; reported is what was removed, no token', async () => {
    const { usage } = await told({ preset: 'think', scope });
    expect(usage).toMatchObject({ compression_ratio: 0, bytes_kept: usage.bytes_full });
    expect(usage.notes.join()).toMatch(/^16 of 32 key channels of every head were set to zero: .* frees no memory$/);
    const [plain, snap] = [await told({ preset: 'snapkv', window_size: 8, scope }), await told({ preset: 'snap_think', window_size: 8, scope })];
    expect(snap.usage).toMatchObject({ compression_ratio: plain.usage.compression_ratio, bytes_kept: plain.usage.bytes_kept });
  });

  test.each(entryTypes)('with %s entries every transform is answered, near to what f32 entries say', async (entry_type) => {
    for (const transforms of [['rerotate'], ['merge'], ['think'], ['merge', 'think', 'rerotate']]) {
      const press = { scorer: { name: 'snapkv', window_size: 8 }, compression_ratio: 0.4, transforms, scope };
      const [exact, stored] = [await told(press), await told({ ...press, entry_type })];
      expect(Math.abs(stored.logprobs[0] - exact.logprobs[0])).toBeLessThan({ f32: 1e-12, f16: 2e-2, int8: 0.3 }[entry_type]);
      expect(engine.health().memory.kv_used_bytes).toBe(0);
    }
  });

  test('merge: values that were merged change the answer, not what is kept', async () => {
    const press = { scorer: { name: 'snapkv', window_size: 8 }, compression_ratio: 0.6, scope };
    const [plain, merging] = [await told(press), await told({ ...press, transforms: ['merge'] })];
    expect(merging.usage.kept_per_layer).toEqual(plain.usage.kept_per_layer);
    expect(merging.usage.bytes_kept).toBe(plain.usage.bytes_kept);
    expect(Math.abs(merging.logprobs[0] - plain.logprobs[0])).toBeGreaterThan(1e-4);
  });
});
