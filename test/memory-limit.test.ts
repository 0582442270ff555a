/** The memory limit: how it is dealt out, what of a prompt fits, what is told; hidden states as f16. */
import { expect, test } from 'vitest';
import { parsePress } from '../presses/config.ts';
import { InputError } from '../presses/input-error.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import type { LoadOptions } from '../worker/node.ts';
import { generation } from './support/generation.ts';
import { needleSamples, openGolden } from './support/golden.ts';

const MiB = 2 ** 20;
const HIDDEN_SIZE = 192;
const CHUNK = 128;
/** The pool is too small for a prompt as it is: a press must make it fit. */
const tight = { contextLength: 1024, memoryLimitBytes: 9.5 * MiB, besideBytes: MiB, sequences: 4, longestPrompt: 900 };
const ample = { contextLength: 1024 };
const tokens = Array.from({ length: 1000 }, (_, i) => 5 + ((i * 7919) % 900));
const pressed = (ratio: number) => ({ preset: 'zigzag_snapkv', compression_ratio: ratio, entry_type: 'int8' });

async function within<T>(options: LoadOptions, work: (engine: EdgeEngine) => Promise<T>): Promise<T> {
  const engine = await openGolden('needle', options);
  try {
    return await work(engine);
  } finally {
    engine.close();
  }
}

async function refusal(work: Promise<unknown>): Promise<string> {
  const seen = await work.catch((error: unknown) => error);
  expect(seen).toBeInstanceOf(InputError);
  expect((seen as InputError).code).toBe('kv_budget_exceeded');
  return (seen as InputError).message;
}

test.each(['f32', 'f16'] as const)(
  'hidden states %s: all of the limit is dealt out, and a prompt of the planned length runs within it',
  async (hiddenType) => {
    await within({ ...tight, hiddenType }, async (engine) => {
      const { memory } = engine.health();
      const { beside_bytes, weights_bytes, fixed_bytes, kv_pool_bytes, ledger_bytes, reading_bytes } = memory;
      const page = 128 * 32;
      expect(beside_bytes + weights_bytes + fixed_bytes + kv_pool_bytes + ledger_bytes + reading_bytes!).toBe(tight.memoryLimitBytes);
      expect(memory).toMatchObject({ limit_bytes: tight.memoryLimitBytes, beside_bytes: MiB, hidden_type: hiddenType });
      expect(memory.longest_prompt).toBeGreaterThanOrEqual(900);
      expect(memory.longest_prompt).toBeLessThan(900 + (2 * page) / (2 * HIDDEN_SIZE)); // what is over is less than a page and its ledger

      await generation(engine, tokens.slice(0, 900), pressed(0.8), { maxTokens: 4 });
      const after = engine.health().memory;
      expect(after.peak_bytes).toBeLessThanOrEqual(tight.memoryLimitBytes - MiB);
      expect(after.peak_bytes).toBeGreaterThan(memory.used_bytes + 0.8 * reading_bytes!); // not planned much too carefully either
      expect([after.kv_used_bytes, after.kv_reserved_bytes]).toEqual([0, 0]);
    });
  },
);

test('hidden states as f16 leave the KV pool what they save', async () => {
  const pool = (hiddenType: 'f32' | 'f16') =>
    within({ ...tight, hiddenType }, async (engine) => {
      const { kv_pool_bytes, ledger_bytes } = engine.health().memory;
      return kv_pool_bytes + ledger_bytes;
    });
  const saved = (await pool('f16')) - (await pool('f32'));
  expect(Math.abs(saved - (900 * 2 - CHUNK * 4) * HIDDEN_SIZE)).toBeLessThan(8192); // two bytes a number, and a chunk widened; whole pages
});

test('413 without a press carries the sum, and names a ratio that then fits', async () => {
  await within({ ...tight, hiddenType: 'f16' }, async (engine) => {
    const message = await refusal(generation(engine, tokens.slice(0, 900), 'no_press', { maxTokens: 4 }));
    expect(message).toMatch(
      /needs .* of KV pages .*; the pool has .*; the memory limit of 9\.50 MiB is .* of weights \+ .* of KV pool \+ .* for its ledger/,
    );
    const ratio = Number(/compression_ratio (0\.\d+)/.exec(message)![1]);
    const { usage } = await generation(engine, tokens.slice(0, 900), { preset: 'knorm', compression_ratio: ratio }, { maxTokens: 4 });
    expect(usage.bytes_kept).toBeLessThanOrEqual(engine.health().memory.kv_pool_bytes);
  });
});

test('413 for a prompt that is longer than can be read says how long one may be, and that f16 would help; that long a one runs', async () => {
  await within({ ...tight, longestPrompt: 700 }, async (engine) => {
    const { longest_prompt } = engine.health().memory;
    const message = await refusal(generation(engine, tokens, pressed(0.9), { maxTokens: 4 }));
    expect(message).toMatch(/reading 1000 tokens at once needs .* of activations/);
    expect(message).toContain(`a shorter prompt (${longest_prompt} tokens with a usual press)`);
    expect(message).toContain('hidden states as f16');
    expect(message).toContain('the memory limit of 9.50 MiB is ');
    await generation(engine, tokens.slice(0, longest_prompt), pressed(0.9), { maxTokens: 4 });
    const plan = (length: number) =>
      engine.plan({ prompt: { kind: 'length', tokens: length }, press: parsePress({ ...pressed(0.9), scope: 'prompt' }), maxTokens: 4 });
    expect([(await plan(longest_prompt)).fits, (await plan(longest_prompt + 1)).fits]).toEqual([true, false]);
  });
});

test('hidden states as f16: log-probabilities within 0.05 of f32, the answers the same', async () => {
  const asked = needleSamples()
    .filter(({ context_length }) => context_length === 256)
    .slice(0, 4);
  const answers = (hiddenType: 'f32' | 'f16') =>
    within({ ...ample, hiddenType }, (engine) =>
      Promise.all(asked.map(({ prompt_token_ids: ids }) => generation(engine, ids, 'no_press', { maxTokens: 6, topLogprobs: 3 }))),
    );
  const [f32, f16] = [await answers('f32'), await answers('f16')];
  let differ = 0;
  for (const [i, { tokens: ids, logprobs }] of f32.entries()) {
    expect(f16[i].tokens).toEqual(ids);
    for (const [j, { logprob }] of logprobs.entries()) {
      expect(Math.abs(f16[i].logprobs[j].logprob - logprob)).toBeLessThan(0.05);
      if (f16[i].logprobs[j].logprob !== logprob) differ++;
    }
  }
  expect(differ).toBeGreaterThan(0); // it is f16 indeed
});

test.each([
  { preset: 'kvzip', compression_ratio: 0.5 },
  { preset: 'cake', compression_ratio: 0.5 },
  { preset: 'expected_attention', compression_ratio: 0.5 },
])('hidden states as f16 under $preset: most of what f32 keeps is kept, and no more memory is taken than was planned', async (press) => {
  const prompt = { kind: 'tokens', tokens: tokens.slice(0, 300) } as const;
  const kept = (hiddenType: 'f32' | 'f16') =>
    within({ ...ample, hiddenType }, async (engine) => {
      const before = engine.health().memory.used_bytes;
      const { layers } = await engine.inspect(prompt, parsePress(press));
      const { bytes_press } = await engine.plan({ prompt, press: parsePress(press), maxTokens: 1 });
      expect(engine.health().memory.used_bytes).toBeLessThanOrEqual(before + bytes_press);
      return layers.flatMap(({ heads }, layer) => heads.flatMap((head, h) => head.kept.map((position) => `${layer} ${h} ${position}`)));
    });
  const [f32, f16] = [new Set(await kept('f32')), await kept('f16')];
  expect(f16.filter((entry) => f32.has(entry)).length).toBeGreaterThan(0.95 * f32.size);
});

test.each([
  [{ hiddenType: 'f8' }, 'hiddenType must be one of f32, f16, got "f8"'],
  [{ sequences: 1 }, 'sequences must be between 2 and 256, got 1'],
  [{ longestPrompt: 0 }, 'longestPrompt must be a whole number, 1 or more, got 0'],
])('%o is refused', async (options, says) => {
  await expect(openGolden('needle', options as LoadOptions)).rejects.toThrow(says);
});
