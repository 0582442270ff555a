/** One reading for many presses: every answer is what it would have been after a reading of its own, to the last bit. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parsePress } from '../presses/config.ts';
import { KnownScores } from '../presses/known-scores.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import type { Reading } from '../worker/engine/reading.ts';
import type { PromptInput } from '../worker/engine/types.ts';
import { ratioPresets, withArtifacts } from './support/artifacts.ts';
import { requestOf } from './support/generation.ts';
import { needleSamples, openGolden } from './support/golden.ts';

const sample = needleSamples().find(({ task, context_length }) => task === 'niah_multikey' && context_length === 256)!;
const prompt: PromptInput = { kind: 'tokens', tokens: sample.prompt_token_ids };
const behind = sample.prompt_token_ids.length - 20; // what a scope of all but 20 tokens covers
const passes = (name: string): boolean => parsePress(withArtifacts(name)).presses[0]?.scorer.part.passes !== undefined;
const presets = ratioPresets.map((name) => withArtifacts(name));
const scoped = (press: object) => ({ ...press, scope: { protect_last: 20 } });
const others = [
  { preset: 'decoding_knorm', interval: 4, target_size: 100 },
  { preset: 'snapkv', window_size: 4, schedule: { name: 'decoding', interval: 4, target_size: 100 } },
];
let engine: EdgeEngine;

beforeAll(async () => {
  engine = await openGolden('needle');
});
afterAll(() => engine.close());

async function answer(press: unknown, reading?: Reading) {
  const tokens: number[] = [];
  for await (const event of engine.generate({ ...requestOf(prompt, press, { maxTokens: 12, seed: 3, ignoreEos: true, topLogprobs: 0 }), reading })) {
    if (event.type === 'text') tokens.push(...event.tokenIds, ...event.logprobs.map(({ logprob }) => logprob));
    if (event.type === 'finish') return { tokens, usage: event.usage.kvCache };
  }
  throw new Error('no end');
}

function readOnce(presses: readonly unknown[]): Promise<Reading> {
  return engine.readOnce(
    prompt,
    presses.map((press) => parsePress(press)),
  );
}

describe('answers after one reading equal answers after readings of their own', () => {
  test.each([
    ['all of the prompt', presets],
    ['its beginning', presets.map(scoped)],
    ['presses that act while decoding', others],
  ])('%s', async (_, presses) => {
    const reading = await readOnce(presses);
    expect(reading.tokens.length).toBe(presses === presets || presses === others ? prompt.tokens.length : behind);
    let served = 0;
    for (const press of presses) {
      expect(await answer(press, reading), JSON.stringify(press)).toEqual(await answer(press));
      if (!('preset' in press && passes(press.preset as string))) served++;
    }
    expect(reading.served).toBe(served);
    const { used_bytes } = engine.health().memory;
    await readOnce(presses);
    expect(engine.health().memory).toMatchObject({ kv_used_bytes: 0, kv_reserved_bytes: 0, used_bytes });
  });
});

test('without a press the prompt may go on behind a reading', async () => {
  const reading = await readOnce([scoped({ preset: 'knorm' })]);
  const after = await answer('no_press', reading);
  const alone = await answer('no_press');
  expect(reading.served).toBe(1);
  expect(after.usage).toMatchObject({ tokens: alone.usage.tokens, kept_per_layer: alone.usage.kept_per_layer });
  // The rest is read by way of the cache: the same sums in another order.
  for (const [i, value] of after.tokens.entries()) expect(Math.abs(value - alone.tokens[i])).toBeLessThan(1e-3);
});

test('a reading that holds too little, or of another prompt, is not used', async () => {
  const little = await readOnce(['knorm']);
  expect(await answer('observed_attention', little)).toEqual(await answer('observed_attention'));
  const other = await engine.readOnce({ kind: 'tokens', tokens: sample.prompt_token_ids.slice(1) }, [parsePress('knorm')]);
  expect(await answer('knorm', other)).toEqual(await answer('knorm'));
  expect([little.served, other.served]).toEqual([0, 0]);
});

test('presses of different scope share no reading', async () => {
  await expect(readOnce(['knorm', scoped({ preset: 'knorm' })])).rejects.toThrow(/have one scope/);
});

test('its size is what it holds', async () => {
  const reading = await readOnce([{ preset: 'snapkv', window_size: 16 }]);
  const n = prompt.tokens.length;
  const window = reading.reads.queries;
  expect(window).toBeGreaterThanOrEqual(16);
  expect(reading.bytes).toBe(4 * (6 * (2 * n * 2 * 32 + window * 6 * 32) + 1536));
});

describe('follow', () => {
  const forced = [5, 6, 7, 400, 401, 402, 10, 11];
  const follow = async (press: unknown, reading?: Reading): Promise<number[][]> => {
    const all: number[][] = [];
    for await (const logits of engine.follow({ prompt, press: parsePress(press), tokens: forced, reading })) all.push([...logits]);
    return all;
  };

  test('gives the logits after the prompt and after every token that goes on', async () => {
    const all = await follow('no_press');
    expect(all.length).toBe(forced.length + 1);
    for (const count of [0, 3, forced.length]) {
      const tokens = [...prompt.tokens, ...forced.slice(0, count)];
      const logits = await engine.logits({ kind: 'tokens', tokens }, parsePress('no_press'));
      for (const [i, value] of logits.entries()) expect(Math.abs(value - all[count][i])).toBeLessThan(1e-3);
    }
  });

  test.each([{ preset: 'snapkv', window_size: 8 }, others[0]])('the same after a reading: $preset', async (press) => {
    const reading = await readOnce([press]);
    const pressed = await follow(press, reading);
    expect(pressed).toEqual(await follow(press));
    expect(pressed).not.toEqual(await follow('no_press'));
    expect(engine.health().memory).toMatchObject({ kv_used_bytes: 0, kv_reserved_bytes: 0 });
  });

  test.each(['knorm', 'key_rerotation_knorm', { preset: 'snapkv', window_size: 8, entry_type: 'int8' }])(
    'before an answer, from the same cache: %j',
    async (press) => {
      const reading = await readOnce([press]);
      const sampling = { maxTokens: 12, seed: 3, ignoreEos: true, topLogprobs: 0 };
      const taken: number[][] = [];
      const tokens: number[] = [];
      const along = { tokens: forced, take: (logits: Float32Array) => void taken.push([...logits]) };
      for await (const event of engine.generate({ ...requestOf(prompt, press, sampling), reading, along }))
        if (event.type === 'text') tokens.push(...event.tokenIds, ...event.logprobs.map(({ logprob }) => logprob));
      expect(taken).toEqual(await follow(press, reading));
      expect(tokens).toEqual((await answer(press, reading)).tokens);
      expect(engine.health().memory).toMatchObject({ kv_used_bytes: 0, kv_reserved_bytes: 0 });
    },
  );

  test('before an answer: not more than the answer has room for, and not where a press evicts meanwhile', async () => {
    const first = async (press: unknown, tokens: number[], maxTokens: number) => {
      for await (const event of engine.generate({ ...requestOf(prompt, press, { maxTokens }), along: { tokens, take() {} } })) return event;
      return null;
    };
    await expect(first('knorm', forced, 4)).rejects.toThrow('no room for 8 others');
    await expect(first(others[0], forced, 12)).rejects.toThrow('does not come back');
    await expect(first('knorm', [-1], 12)).rejects.toThrow('not in the vocabulary');
    expect((await first('knorm', [], 1))?.type).toBe('prompt');
    expect(engine.health().memory).toMatchObject({ kv_used_bytes: 0, kv_reserved_bytes: 0 });
  });

  test('gives everything back when it is left early', async () => {
    for await (const _ of engine.follow({ prompt, press: parsePress('knorm'), tokens: forced })) break;
    expect(engine.health().memory).toMatchObject({ kv_used_bytes: 0, kv_reserved_bytes: 0 });
    await expect(async () => {
      for await (const _ of engine.follow({ prompt, press: parsePress('knorm'), tokens: [1536] }));
    }).rejects.toThrow(/not in the vocabulary/);
  });
});

describe('scores are made once for the presses of a reading', () => {
  const params = (name: string): object => (name === 'snapkv' ? { window_size: 16 } : {});
  const press = (name: string, more: object = {}) => ({ scorer: { name, ...params(name) }, compression_ratio: 0.5, ...more });

  test('of every scorer and ratio the ones it would have made', async () => {
    const asked = ['knorm', 'snapkv', 'observed_attention', 'compactor', 'random', 'lagkv', 'cur'].flatMap((name) => [
      press(name),
      press(name, { compression_ratio: 0.7 }), // compactor blends by it
      press(name, { layer_budget: 'pyramid' }),
      press(name, { compat: 'kvpress' }),
    ]);
    const reading = await readOnce(asked);
    for (const each of asked) expect(await answer(each, reading), JSON.stringify(each)).toEqual(await answer(each));
  });

  test('one set a layer, whatever the ratio and the budgets', async () => {
    const reading = await readOnce([press('observed_attention')]);
    const bytes: number[] = [];
    for (const more of [{}, { compression_ratio: 0.7 }, { layer_budget: 'zigzag' }, { selection: 'chunks' }]) {
      await answer(press('observed_attention', more), reading);
      bytes.push(reading.known.bytes);
    }
    const [{ k }] = reading.layers; // [n, 2, 32]
    expect(new Set(bytes)).toEqual(new Set([(reading.layers.length * k.byteLength) / 32]));
  });

  test('a random press draws anew for another seed', async () => {
    const reading = await readOnce([press('random')]);
    const drawn: object[] = [];
    for (const seed of [1, 2]) drawn.push(await answer(press('random', { scorer: { name: 'random', seed } }), reading));
    expect(drawn[0]).not.toEqual(drawn[1]);
  });

  test('what was asked for longest ago is forgotten first', () => {
    const known = new KnownScores(16);
    const one = { scores: new Float32Array(2), notes: [] };
    for (const key of ['a', 'b', 'a']) known.set(key, one);
    expect(known.get('a')).toBe(one);
    known.set('c', one);
    expect([known.get('a'), known.get('b'), known.get('c')]).toEqual([one, null, one]);
    expect(known.bytes).toBe(16);
    known.set('large', { scores: new Float32Array(9), notes: [] });
    expect(known.bytes).toBe(0);
  });
});
