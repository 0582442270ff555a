/** Presses while decoding whose scorers read hidden states: every token keeps the score that it got while its hidden state was there. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { ArtifactOf } from '../presses/artifacts.ts';
import { checkSchedules } from '../presses/check-schedule.ts';
import { parsePress } from '../presses/config.ts';
import { type DeviceBuffer, OutOfDeviceMemory } from '../worker/backend/backend.ts';
import { Artifacts } from '../worker/engine/artifacts.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { KvSequence } from '../worker/engine/kv-cache.ts';
import { openFolder } from '../worker/engine/weights/node-files.ts';
import { erfc } from './support/erfc.ts';
import { dot, EvictingReference, type ScoreRows } from './support/evicting-reference.ts';
import { type Generation, generation, requestOf, watchPages } from './support/generation.ts';
import { needleSamples, openGolden } from './support/golden.ts';
import { ReferenceModel } from './support/reference-model.ts';
import { watchRetained } from './support/watch-retained.ts';

/** Log-probabilities of f32 sums, tokens on; engine.test.ts, with shorter answers, has 1e-4. */
const TOLERANCE = 3e-4;
const prompt = needleSamples()
  .find((s) => s.task === 'niah_multikey' && s.context_length === 128)!
  .prompt_token_ids.slice(0, 100);

const kvzap = (which: 'linear' | 'mlp') => ({ name: 'kvzap', artifact: `kvzap-${which}.safetensors` });

let engine: EdgeEngine;
let model: ReferenceModel;
let artifact: ArtifactOf;
beforeAll(async () => {
  engine = await openGolden('needle', { contextLength: 1024 });
  model = new ReferenceModel('models/needle');
  const { layers, queryHeads, kvHeads, headDim } = model;
  const source = { files: openFolder('test/golden/library/artifacts/needle'), where: 'here' };
  const shape = { layers, queryHeads, kvHeads, headDim, hiddenSize: model.hiddenSize, intermediateSize: 512 };
  const artifacts = new Artifacts(source, shape);
  const [linear, mlp] = await Promise.all((['linear', 'mlp'] as const).map((which) => artifacts.of(parsePress({ scorer: kvzap(which) }))));
  artifact = (name) => (name === 'kvzap-mlp.safetensors' ? mlp : linear)(name);
});
afterAll(() => engine.close());

/** KVzap in float64. */
function zap(which: 'linear' | 'mlp', layer: number, head: number, x: ArrayLike<number>): number {
  const tensor = (part: string): Float32Array => artifact(`kvzap-${which}.safetensors`).tensors.get(`layers.${layer}.${part}`)!.values;
  if (which === 'linear') return tensor('bias')[head] + dot(tensor('weight'), head * x.length, x, 0, x.length);
  const inner = Array.from(tensor('up.bias'), (bias, i) => {
    const z = bias + dot(tensor('up.weight'), i * x.length, x, 0, x.length);
    return (z * erfc(-z / Math.SQRT2)) / 2;
  });
  return tensor('down.bias')[head] + dot(tensor('down.weight'), head * inner.length, inner, 0, inner.length);
}

const zapped =
  (which: 'linear' | 'mlp'): ScoreRows =>
  (rows, layer, head, { layers }) =>
    rows.map((position) => zap(which, layer, head, layers[layer].x[position]));

const memory = (of = engine) => {
  of.backend.trim(); // what kernels keep from call to call
  const { kv_used_bytes, kv_reserved_bytes, used_bytes } = of.health().memory;
  return { kv_used_bytes, kv_reserved_bytes, used_bytes };
};

/** Logits of the answer are those of the reference, which `act` shortens when so many tokens of the answer were read. */
function follow(told: Generation, reference: EvictingReference, logits: Float64Array, act: (read: number) => void): void {
  let expected = logits;
  for (const [i, token] of told.tokens.entries()) {
    const total = Math.log(expected.reduce((sum, x) => sum + Math.exp(x), 0));
    const best = expected.reduce((most, x, id) => (x > expected[most] ? id : most), 0);
    if (expected[best] - expected[token] > TOLERANCE) expect(token, `token ${i}`).toBe(best);
    for (const one of told.logprobs[i].top) expect(Math.abs(one.logprob - (expected[one.tokenId] - total)), `token ${i}`).toBeLessThan(TOLERANCE);
    act(i);
    expected = reference.read(token);
  }
}

describe('generation is that of a model which masks what the formula evicts, scored by the hidden states of its own tokens', () => {
  const [interval, T] = [12, 60];
  const cases: [name: string, which: 'linear' | 'mlp', schedule: Record<string, unknown>][] = [
    ['a linear map', 'linear', {}],
    ['an MLP', 'mlp', {}],
    ['scored a few at a time: fewer hidden states are remembered than tokens come', 'mlp', { hidden_states_buffer_size: 5 }],
    ['scored one by one', 'linear', { hidden_states_buffer_size: 1 }],
  ];
  test.each(cases)('a target: %s', async (_, which, more) => {
    const press = { scorer: kvzap(which), schedule: { name: 'decoding', interval, target_size: T, ...more } };
    const steps = 3 * interval + 5;
    const watch = watchRetained(model.layers);
    const told = await generation(engine, prompt, press, { maxTokens: steps, topLogprobs: 5, ignoreEos: true });
    watch.stop();
    const state = model.start();
    const logits = model.read(state, prompt);
    const reference = new EvictingReference(model, state);
    let compressions = 0;
    follow(told, reference, logits, (read) => {
      if (read > 0 && read % interval === 0) reference.compress(T, zapped(which), watch.seen[compressions++]);
    });
    expect([compressions, watch.seen.length]).toEqual([3, 3]);
    expect(told.usage.decoding).toMatchObject({
      compressions: 3,
      entries_per_layer: Array(model.layers).fill(T + ((steps - 1) % interval)),
      notes: [],
    });
  });

  test('after another press: the prompt has the scores of its own hidden states, read before that press let any go', async () => {
    const press = [
      { preset: 'snapkv', window_size: 8, compression_ratio: 0.25, explain: true },
      { scorer: kvzap('linear'), schedule: { name: 'decoding', interval, target_size: T } },
    ];
    const watch = watchRetained(model.layers);
    const told = await generation(engine, prompt, press, { maxTokens: interval + 4, topLogprobs: 5, ignoreEos: true });
    watch.stop();
    const state = model.start();
    const logits = model.read(state, prompt);
    const reference = new EvictingReference(model, state);
    for (const [l, heads] of told.usage.explain!.kept.entries()) reference.left[l] = heads.map((list) => [...list].sort((a, b) => a - b));
    let compressions = 0;
    follow(told, reference, logits, (read) => {
      if (read === interval) reference.compress(T, zapped('linear'), watch.seen[compressions++]);
    });
    expect(compressions).toBe(1);
  });

  const dms: [interval: number, window: number, buffer: number, question: number][] = [
    [1, 16, 256, 0],
    [1, 16, 3, 0],
    [7, 10, 256, 0],
    [1, 16, 8, 20],
  ];
  test.each(dms)('DMS: interval %i, window %i, %i remembered, %i tokens of question', async (interval, window, buffer, question) => {
    const threshold = 0.1;
    const press = {
      scorer: kvzap('mlp'),
      selection: { name: 'threshold', threshold, sliding_window_size: window },
      schedule: { name: 'prefill_and_decoding', interval, hidden_states_buffer_size: buffer },
      ...(question > 0 && { scope: { protect_last: question } }),
    };
    const steps = 30;
    const told = await generation(engine, prompt, press, { maxTokens: steps, topLogprobs: 5, ignoreEos: true });
    const state = model.start();
    const covered = prompt.length - question;
    let logits = model.read(state, prompt.slice(0, covered));
    const reference = new EvictingReference(model, state);
    const judge = (): void => {
      for (const [layer, heads] of reference.left.entries())
        for (const [head, rows] of heads.entries())
          heads[head] = rows.filter((position) => {
            if (position >= state.tokens - window) return true;
            const score = zap('mlp', layer, head, state.layers[layer].x[position]);
            expect(Math.abs(score - threshold), 'a tie tells nothing').toBeGreaterThan(1e-5);
            return score > threshold;
          });
    };
    judge();
    for (const token of prompt.slice(covered)) logits = reference.read(token);
    follow(told, reference, logits, (read) => {
      if (read > 0 && read < steps - 1 && read % interval === 0) judge(); // nobody reads on after the last token
    });
    const means = reference.left.map((heads) => heads.reduce((sum, { length }) => sum + length, 0) / heads.length);
    const { decoding } = told.usage;
    expect(decoding!.entries_per_layer).toEqual(means.map((mean) => mean - 1));
    expect(Math.min(...means)).toBeLessThan(0.85 * (prompt.length + steps - 1));
  });
});

test('fastkvzip: a token of an answer has the score that it has as one of a prompt', async () => {
  const scorer = { name: 'fastkvzip', artifact: 'fastkvzip.safetensors', n_sink: 0, window_ratio: 0 };
  const spy = vi.spyOn(KvSequence.prototype, 'score');
  const never = { name: 'decoding', interval: 6, target_size: 1000, hidden_states_buffer_size: 4 };
  const { tokens } = await generation(engine, prompt, { scorer, schedule: never }, { maxTokens: 14, ignoreEos: true });
  const calls = spy.mock.calls.map(([layer, head, from, scores]) => ({ layer, head, from, scores: [...scores] }));
  spy.mockRestore();
  const whole = [...prompt, ...tokens];
  const told = await engine.inspect({ kind: 'tokens', tokens: whole }, parsePress({ scorer, compression_ratio: 0.001 }));
  let [ofPrompt, ofAnswer] = [0, 0];
  for (const { layer, head, from, scores } of calls) {
    const { kept, scores: want } = told.layers[layer].heads[head];
    for (const [i, score] of scores.entries()) {
      const rank = kept.indexOf(from + i);
      if (rank < 0) continue; // the worst one
      expect(Math.abs(score - want[rank]!)).toBeLessThan(2e-5);
      if (from + i < prompt.length) ofPrompt++;
      else ofAnswer++;
    }
  }
  const lists = model.layers * model.kvHeads;
  expect(ofPrompt).toBeGreaterThanOrEqual(lists * (prompt.length - 1));
  expect(ofAnswer).toBeGreaterThan(10 * lists);
});

describe('memory', () => {
  const small = { name: 'decoding', interval: 32, target_size: 96 };
  const presses: Record<string, unknown>[] = [
    { scorer: kvzap('mlp'), schedule: small },
    { scorer: kvzap('linear'), head_budget: 'adakv', schedule: { ...small, name: 'prefill_and_decoding' }, entry_type: 'f16' },
    { scorer: { name: 'fastkvzip', artifact: 'fastkvzip.safetensors' }, schedule: small, entry_type: 'int8' },
    { scorer: kvzap('linear'), transforms: [{ name: 'cam', merge_budget: 4 }], schedule: small },
    {
      preset: 'kvzap_mlp',
      artifact: 'kvzap-mlp.safetensors',
      threshold: 0.3,
      sliding_window_size: 16,
      schedule: { name: 'prefill_and_decoding', interval: 8 },
    },
  ];

  test.each(presses.map((press) => [JSON.stringify(press), press]))('%s: no more pages than promised, and all is given back', async (_, press) => {
    const before = memory();
    const watch = watchPages();
    const told = await generation(engine, prompt, press, { maxTokens: 200, ignoreEos: true });
    watch.stop();
    const [use] = watch.uses;
    expect(use.exceeded).toBe(null);
    expect(told.usage.decoding!.compressions).toBeGreaterThanOrEqual(5);
    expect(Math.min(...told.usage.decoding!.entries_per_layer)).toBeLessThan(0.75 * (prompt.length + 200));
    expect(memory()).toEqual(before);
  });

  test('what is remembered is known before: as many hidden states as can wait, whatever the buffer could hold', async () => {
    const bytes = async (press: Record<string, unknown>): Promise<number> => {
      const { bytes_press } = await engine.plan({ prompt: { kind: 'tokens', tokens: prompt }, press: parsePress(press), maxTokens: 200 });
      return bytes_press;
    };
    const row = model.layers * model.hiddenSize * 4;
    const dms = (sliding_window_size: number, schedule: object) => ({
      scorer: kvzap('linear'),
      selection: { name: 'threshold', threshold: 0, sliding_window_size },
      schedule: { name: 'prefill_and_decoding', ...schedule },
    });
    const few = await bytes(dms(16, { interval: 8 }));
    expect((await bytes(dms(48, { interval: 8 }))) - few).toBe(32 * row);
    expect((await bytes(dms(16, { interval: 48 }))) - few).toBeGreaterThanOrEqual(32 * row);
    expect((await bytes(dms(16, { interval: 8, hidden_states_buffer_size: 6 }))) - few).toBe(-10 * row);
  });

  test('too much is refused before any compute, and told as what it is', async () => {
    const tight = await openGolden('needle', { contextLength: 1024, memoryLimitBytes: 30 * 2 ** 20 });
    const { peak_bytes } = tight.health().memory;
    const schedule = { name: 'decoding', interval: 65536, target_size: 8000, hidden_states_buffer_size: 65536 };
    const press = { scorer: kvzap('linear'), schedule };
    await expect(tight.generate(requestOf(prompt, press, { maxTokens: 600 })).next()).rejects.toMatchObject({ code: 'kv_budget_exceeded' });
    expect(tight.health().memory.peak_bytes).toBe(peak_bytes);
    tight.close();
  });

  test('given up in mid-generation, whenever that is, or stopped by a device that is full: nothing stays behind', async () => {
    const before = memory();
    const press = {
      scorer: kvzap('mlp'),
      transforms: ['cam'],
      schedule: { name: 'decoding', interval: 8, target_size: 40, hidden_states_buffer_size: 3 },
    };
    const run = async (after: number): Promise<void> => {
      const abort = new AbortController();
      let seen = 0;
      for await (const event of engine.generate(requestOf(prompt, press, { maxTokens: 40, ignoreEos: true }), abort.signal))
        if (event.type !== 'text' || (seen += event.tokenIds.length) > after) abort.abort();
    };
    for (const after of [0, 1, 3, 4, 8, 9, 17]) await expect(run(after)).rejects.toThrow();
    expect(memory()).toEqual(before);
    for (const full of ['last hidden states', 'kvzap hidden layer', 'remembered scores']) {
      const { backend } = engine;
      const { alloc } = backend;
      const spy = vi.spyOn(backend, 'alloc').mockImplementation(function (this: typeof backend, bytes: number, label: string): DeviceBuffer {
        if (label === full) throw new OutOfDeviceMemory(`no room for ${label}`, bytes, 0);
        return alloc.call(this, bytes, label);
      });
      await expect(generation(engine, prompt, press, { maxTokens: 40, ignoreEos: true }), full).rejects.toThrow(/no room for/);
      spy.mockRestore();
      expect(memory(), full).toEqual(before);
    }
  });

  test('several at once, and one alone: the same tokens', async () => {
    const before = memory();
    const alone: number[][] = [];
    for (const press of presses) alone.push((await generation(engine, prompt, press, { maxTokens: 50, ignoreEos: true, seed: 3 })).tokens);
    const together = await Promise.all(presses.map((press) => generation(engine, prompt, press, { maxTokens: 50, ignoreEos: true, seed: 3 })));
    expect(together.map(({ tokens }) => tokens)).toEqual(alone);
    expect(memory()).toEqual(before);
  });
});

describe('refused', () => {
  const press = { scorer: kvzap('linear'), schedule: { name: 'decoding', interval: 8, target_size: 40 } };

  test('a scorer of hidden states that looks at more than one token', () => {
    const [parsed] = parsePress(press).presses;
    const { part, params } = parsed.scorer;
    const together = { ...parsed, scorer: { part: { ...part, perToken: false }, params } };
    expect(() => checkSchedules([together])).toThrow(
      /scorer "kvzap" reads what all tokens were before their layer.*; use one that scores each token alone/,
    );
    expect(() => checkSchedules([parsed])).not.toThrow();
  });

  test('a buffer of nothing; a press on the prompt after one that let tokens go', () => {
    const none = { ...press, schedule: { ...press.schedule, hidden_states_buffer_size: 0 } };
    expect(() => parsePress(none)).toThrow(/hidden_states_buffer_size 0 remembers no hidden states, and kvzap reads them; 1 or more would work/);
    const both = { ...press, compression_ratio: 0.5, schedule: { ...press.schedule, name: 'prefill_and_decoding' } };
    expect(() => parsePress([{ preset: 'knorm', compression_ratio: 0.5 }, both])).toThrow(/kvzap/);
  });
});
