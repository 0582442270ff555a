/** The engine on whole models: what it generates before and after compression, and that it gives everything back. */
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { parsePress } from '../presses/config.ts';
import { InputError } from '../presses/input-error.ts';
import { presetParts } from '../presses/presets.ts';
import { entryTypes } from '../worker/backend/backend.ts';
import { Heap } from '../worker/backend/heap.ts';
import { WasmBackend } from '../worker/backend/wasm.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import type { Job } from '../worker/engine/job.ts';
import type { KvCache } from '../worker/engine/kv-cache.ts';
import { PromptReader, type ReaderParts } from '../worker/engine/read-prompt.ts';
import { type Running, Spent, Turns } from '../worker/engine/turns.ts';
import type { PromptInput, Timings } from '../worker/engine/types.ts';
import { drawsLots, ratioPresets, withArtifacts } from './support/artifacts.ts';
import { failingBackend } from './support/failing-backend.ts';
import { generation, requestOf, watchPages } from './support/generation.ts';
import { needleSamples, openGolden } from './support/golden.ts';
import { Random } from './support/random.ts';
import { ReferenceModel, type ReferenceState } from './support/reference-model.ts';

/** f32 sums in another order: the reference is off by 1e-5 on logits that span 30, and compression does not add to that. The bar is 1e-3. */
const TOLERANCE = 1e-4;

const samples = needleSamples();
const sampleOf = (task: string, length: number): number[] => samples.find((s) => s.task === task && s.context_length === length)!.prompt_token_ids;
const short = sampleOf('niah_multikey', 128);
const middle = sampleOf('niah_multikey', 256);
const long = sampleOf('niah_multikey', 512);
const prompt = (tokens: readonly number[]): PromptInput => ({ kind: 'tokens', tokens });
const names = ratioPresets;
/** A config of this preset that works on short prompts. */
const small = (name: string): Record<string, unknown> => ({
  ...withArtifacts(name),
  ...('window_size' in presetParts(name)!.scorer.params.shape && { window_size: 4 }),
  ...(name === 'lagkv' && { lag_size: 16 }),
});
/** Its parts, spelled out. */
const spelled = (name: string): Record<string, unknown> => {
  const [{ scorer, layerBudget, headBudget, selection, transforms }] = parsePress(withArtifacts(name)).presses;
  const [one, layers, heads, ranked, ...changes] = [scorer, layerBudget, headBudget, selection, ...transforms].map(({ part, params }) => ({
    name: part.name,
    ...params,
  }));
  return { scorer: one, layer_budget: layers, head_budget: heads, selection: ranked, transforms: changes };
};

function worst(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i] - b[i]));
  return most;
}

function memory(engine: EdgeEngine) {
  const { kv_used_bytes, kv_reserved_bytes, used_bytes, peak_bytes } = engine.health().memory;
  return { used: kv_used_bytes, reserved: kv_reserved_bytes, heap: used_bytes, peak: peak_bytes };
}

async function failure(run: Promise<unknown>): Promise<unknown> {
  return run.then(
    () => {
      throw new Error('it was expected to fail');
    },
    (error: unknown) => error,
  );
}

/** A press at random that the engine may still refuse; everything about it varies. */
function randomPress(random: Random, tokens: number): unknown {
  const name = random.pick(names);
  const one: Record<string, unknown> = { ...small(name) };
  if ('window_size' in one) one.window_size = random.int(1, 12);
  if (name.includes('zigzag')) one.bound_ratio = random.pick([0, 0.2, 0.5, 0.9, 0.99, 1]);
  if (name.includes('adakv')) one.alpha_safeguard = random.pick([0, 0.2, 1]);
  const shared = {
    scope: random.pick(['prompt', { protect_last: random.int(0, Math.floor(tokens / 2)) }]),
    mode: random.pick(['streaming', 'deferred']),
    entry_type: random.pick(entryTypes),
    ...(random.next() < 0.2 ? { on_tight: 'uniform' } : {}),
  };
  if (random.next() < 0.15) return { ...one, ...shared, memory_budget: random.int(40, 400) * 4096 };
  const ratio = random.pick([0.05, 0.2, 0.25, 0.5, 0.75, 0.8, 0.9]);
  if (random.next() < 0.15)
    return [
      { preset: 'knorm', compression_ratio: 0.3 },
      { preset: random.pick(['keydiff', 'zigzag_knorm']), compression_ratio: ratio, ...shared },
    ];
  return { ...one, ...shared, compression_ratio: ratio };
}

describe('needle', () => {
  let engine: EdgeEngine;
  beforeAll(async () => {
    engine = await openGolden('needle', { contextLength: 2048 });
  });
  afterAll(() => engine.close());

  describe('compression ratio 0', () => {
    const changeNothing = names.filter((name) => !presetParts(name)!.transforms.some(({ actsAlone }) => actsAlone));
    /** All with the first type of entries; the others do not change what a press is, and share them out. */
    const presetsOf = entryTypes.map((type, t) => [type, changeNothing.filter((_, i) => t === 0 || i % 3 === t)] as const);

    test.each(presetsOf)('every preset in every form is no press to the bit, with %s entries', async (entry_type, presets) => {
      const plain = { preset: 'no_press', entry_type };
      const logits = await engine.logits(prompt(short), parsePress(plain));
      const expected = await generation(engine, short, plain, { maxTokens: 6, topLogprobs: 3 });
      for (const name of presets) {
        const off = { compression_ratio: 0, entry_type };
        const forms: unknown[] = [
          { ...withArtifacts(name), ...off },
          { ...withArtifacts(name), ...off, scope: { protect_last: 10 }, mode: 'deferred' },
          { ...spelled(name), ...off },
          [
            { preset: 'knorm', ...off },
            { preset: 'keydiff', ...off },
          ],
        ];
        for (const form of forms) {
          expect(Buffer.from(await engine.logits(prompt(short), parsePress(form))).equals(Buffer.from(logits))).toBe(true);
        }
        const seen = await generation(engine, short, forms[0], { maxTokens: 6, topLogprobs: 3 });
        expect(seen).toEqual(expected); // tokens, log-probabilities, usage
      }
    });
  });

  test('prefill of a part and extending by the rest equals prefill of everything', async () => {
    const whole = await engine.logits(prompt(middle), parsePress('no_press'));
    const { tokens } = await generation(engine, middle, 'no_press', { maxTokens: 8 });
    for (const last of [1, 50, middle.length - 1]) {
      const press = { preset: 'knorm', memory_budget: '1GiB', scope: { protect_last: last } };
      expect(worst(await engine.logits(prompt(middle), parsePress(press)), whole)).toBeLessThan(TOLERANCE);
      const seen = await generation(engine, middle, press, { maxTokens: 8 });
      expect(seen.tokens).toEqual(tokens);
      expect(seen.usage).toMatchObject({ compression_ratio: 0, tokens: middle.length - last, kept_per_layer: Array(6).fill(middle.length - last) });
      expect(seen.usage.notes.join()).toMatch(/nothing was removed/);
    }
  });

  test.each([
    { entry_type: 'int8', perPage: 56, kept: 3, close: 0.5 }, // 3.5 times, less what the last pages of the lists leave empty
    { entry_type: 'f16', perPage: 32, kept: 1.8, close: 0.03 },
  ])('entries in $entry_type take over $kept times less, and logits stay close', async ({ entry_type, perPage, kept, close }) => {
    const tokens = sampleOf('niah_multikey', 1024);
    const f32 = await engine.logits(prompt(tokens), parsePress('no_press'));
    for (const press of [{ preset: 'no_press' }, { preset: 'zigzag_snapkv', compression_ratio: 0.5, scope: { protect_last: 25 } }]) {
      const full = await engine.logits(prompt(tokens), parsePress(press));
      const smaller = await engine.logits(prompt(tokens), parsePress({ ...press, entry_type }));
      // int8: rows are rounded to 1/254 of their largest value; f16: numbers to 1/2048 of themselves.
      // Prefill reads unrounded keys, so no press differs in what comes after the prompt only.
      expect(worst(smaller, full)).toBeLessThan(press.preset === 'no_press' ? 1e-9 : close);
      const a = await generation(engine, tokens, press, { maxTokens: 8, topLogprobs: 1 });
      const b = await generation(engine, tokens, { ...press, entry_type }, { maxTokens: 8, topLogprobs: 1 });
      expect(b.tokens[0]).toBe(a.tokens[0]);
      expect(a.usage.bytes_full).toBe(4096 * 12 * Math.ceil(tokens.length / 16)); // 16 f32 entries a page of 4 KiB
      expect(b.usage.bytes_full).toBe(4096 * 12 * Math.ceil(tokens.length / perPage));
      if (press.preset === 'no_press') expect([a.usage.bytes_kept, b.usage.bytes_kept]).toEqual([a.usage.bytes_full, b.usage.bytes_full]);
      expect(a.usage.bytes_kept / b.usage.bytes_kept).toBeGreaterThan(kept);
      console.log(
        `${entry_type} entries, ${press.preset}: ${a.usage.bytes_kept} -> ${b.usage.bytes_kept} bytes kept, logits differ by ${worst(smaller, full).toFixed(4)} of a span of ${(Math.max(...f32) - Math.min(...f32)).toFixed(0)}`,
      );
    }
  });

  describe('sampling', () => {
    test('the seed of a request is also that of presses which draw and have none of their own', async () => {
      const kept = async (press: unknown, seed: number | null): Promise<unknown> => {
        const request = requestOf(short, press, { maxTokens: 1, seed });
        for await (const event of engine.generate(request)) if (event.type === 'prompt') return event.kvCache.explain!.kept;
      };
      for (const press of [
        { preset: 'random', explain: true },
        { scorer: 'leverage', compression_ratio: 0.5, explain: true },
      ]) {
        expect(await kept(press, 4)).toEqual(await kept(press, 4));
        expect(await kept(press, 4)).not.toEqual(await kept(press, 5));
        expect(await kept(press, null)).not.toEqual(await kept(press, null));
      }
    });

    const drawn = { temperature: 1, maxTokens: 12, seed: 7 };

    test('the same seed draws the same tokens; another seed others; greedy needs none', async () => {
      const first = await generation(engine, short, 'no_press', drawn);
      expect((await generation(engine, short, 'no_press', drawn)).tokens).toEqual(first.tokens);
      const others = await Promise.all(
        [1, 2, 3].map((seed) => generation(engine, short.slice(0, 20), 'no_press', { ...drawn, temperature: 2, seed })),
      );
      expect(new Set(others.map(({ tokens }) => tokens.join())).size).toBe(3);
      const [a, b] = await Promise.all([1, null].map((seed) => generation(engine, short, 'no_press', { seed, maxTokens: 12 })));
      expect(a.tokens).toEqual(b.tokens);
    });

    test('max_tokens is kept to, 1 included, and counted', async () => {
      for (const maxTokens of [1, 2, 9]) {
        const seen = await generation(engine, short, 'no_press', { maxTokens });
        expect(seen).toMatchObject({ reason: 'length', completionTokens: maxTokens });
        expect(seen.tokens.length).toBe(maxTokens);
      }
    });

    test('generation stops at the end-of-text token unless told to go on, and does not show it', async () => {
      const { tokens, reason } = await generation(engine, short, 'no_press', { maxTokens: 40, ignoreEos: false });
      expect(reason).toBe('stop');
      const on = await generation(engine, short, 'no_press', { maxTokens: 40 });
      expect(on.tokens.slice(0, tokens.length)).toEqual(tokens);
      expect(on.tokens[tokens.length]).toBe(4); // <|end|>
      expect(on.reason).toBe('length');
    });

    test('a stop string that spans tokens cuts the text before it', async () => {
      const all = await generation(engine, short.slice(0, 40), 'no_press', { maxTokens: 24, topLogprobs: 0 });
      const pieces = all.logprobs.map(({ token }) => token);
      // The end of one token and the start of the next, at the first place where that text has not occurred before.
      const at = pieces.findIndex((piece, i) => i > 2 && piece.length > 1 && i + 1 < pieces.length && pieces[i + 1].length > 1);
      expect(at).toBeGreaterThan(2);
      const stop = pieces[at].slice(-1) + pieces[at + 1].slice(0, 1);
      const seen = await generation(engine, short.slice(0, 40), 'no_press', { maxTokens: 24, stop: ['never said', stop] });
      expect(seen.reason).toBe('stop');
      expect(seen.text).toBe(all.text.slice(0, all.text.indexOf(stop)));
      expect(seen.completionTokens).toBeLessThanOrEqual(at + 2);
    });

    test("log-probabilities are the log-softmax of the logits, and the likeliest tokens' sum to no more than 1", async () => {
      const logits = Float64Array.from(await engine.logits(prompt(short), parsePress('no_press')));
      const total = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
      const { logprobs, tokens } = await generation(engine, short, 'no_press', { ...drawn, topLogprobs: 20 });
      expect(logprobs.length).toBe(12);
      expect(logprobs[0].logprob).toBeCloseTo(logits[tokens[0]] - total, 5);
      for (const { top, logprob, tokenId } of logprobs) {
        expect(top.length).toBe(20);
        const sum = top.reduce((s, one) => s + Math.exp(one.logprob), 0);
        expect(sum).toBeGreaterThan(0);
        expect(sum).toBeLessThan(1 + 1e-9);
        expect(top.map((one) => one.logprob)).toEqual(top.map((one) => one.logprob).sort((x, y) => y - x));
        const same = top.find((one) => one.tokenId === tokenId);
        expect(same ? same.logprob : logprob).toBe(logprob);
      }
    });
  });

  test('requests side by side, in turn token by token, equal the same requests one by one', async () => {
    const random = new Random(11);
    const requests = Array.from({ length: 8 }, (_, i) => {
      const tokens = random.pick([short, middle, long]).slice(random.int(0, 20));
      const press =
        i % 3 === 0
          ? 'no_press'
          : { ...small(random.pick(names.filter((name) => !drawsLots(name)))), compression_ratio: 0.5, entry_type: random.pick(entryTypes) };
      return { tokens, press, sampling: { maxTokens: random.int(30, 60), temperature: i % 2, seed: i, topLogprobs: 2 } };
    });
    const alone = [];
    for (const { tokens, press, sampling } of requests) alone.push(await generation(engine, tokens, press, sampling));
    const order: number[] = [];
    const together = await Promise.all(
      requests.map(async ({ tokens, press, sampling }, i) => {
        const seen: unknown[] = [];
        for await (const event of engine.generate(requestOf(tokens, press, sampling))) {
          if (event.type === 'text') {
            order.push(i);
            seen.push(...event.tokenIds);
          }
        }
        return seen;
      }),
    );
    expect(together).toEqual(alone.map(({ tokens }) => tokens));
    const switches = order.filter((i, at) => at > 0 && i !== order[at - 1]).length;
    expect(switches).toBeGreaterThan(50); // 7 if each ran to its end before the next
    expect(memory(engine)).toMatchObject({ used: 0, reserved: 0 });
  });
});

test('the size of chunks does not matter', async () => {
  const presses = ['no_press', { preset: 'zigzag_snapkv', window_size: 20, compression_ratio: 0.6, scope: { protect_last: 30 } }];
  const seen = [];
  for (const chunkTokens of [16, 128, 300]) {
    const engine = await openGolden('needle', { contextLength: 2048, chunkTokens });
    const runs = [];
    for (const press of presses) {
      const logits = await engine.logits(prompt(long), parsePress(press));
      const { tokens, usage } = await generation(engine, long, press, { maxTokens: 16 });
      runs.push({ logits, tokens, kept: usage.kept_per_layer });
    }
    seen.push(runs);
    engine.close();
  }
  for (const runs of seen.slice(1)) {
    for (const [i, { logits, tokens, kept }] of runs.entries()) {
      expect(worst(logits, seen[0][i].logits)).toBeLessThan(TOLERANCE);
      expect(tokens).toEqual(seen[0][i].tokens);
      expect(kept).toEqual(seen[0][i].kept);
    }
  }
});

describe('generation after compression is that of a model which masks instead of removing', () => {
  interface Setting {
    model: string;
    folder: string;
    tokens: readonly number[];
    suffix: number;
    presses: Record<string, unknown>[];
  }
  const mixed = new Random(5);
  const settings: Setting[] = [
    {
      model: 'needle',
      folder: 'models/needle',
      tokens: long,
      suffix: 24,
      presses: ['zigzag_adakv_snapkv', 'zigzag_knorm', 'pyramidkv', 'keydiff'].map(small),
    },
    {
      model: 'mistral', // every layer sees 24 positions: right after the prompt most of what was kept is out of sight, and more with every token
      folder: 'test/golden/models/mistral',
      tokens: Array.from({ length: 90 }, () => mixed.int(3, 159)),
      suffix: 12,
      presses: ['zigzag_adakv_snapkv', 'knorm', 'keydiff', 'streaming_llm', 'tova'].map(small),
    },
  ];

  describe.each(settings)('$model', ({ model, folder, tokens, suffix, presses }) => {
    let engine: EdgeEngine;
    let reference: ReferenceModel;
    let read: ReferenceState;
    const context = tokens.slice(0, -suffix);
    beforeAll(async () => {
      engine = await openGolden(model, { contextLength: 512 });
      reference = new ReferenceModel(folder);
      read = reference.start();
      reference.read(read, context);
    });
    afterAll(() => engine.close());

    test.each(presses.flatMap((press) => [0.5, 0.8].map((ratio) => [press.preset as string, ratio, press] as const)))(
      '%s at %s',
      async (_, ratio, parts) => {
        const press = { ...parts, compression_ratio: ratio };
        const scoped = { ...press, scope: { protect_last: suffix } };
        const { layers } = await engine.inspect(prompt(context), parsePress(press));
        const kept = layers.map(({ heads }) => heads.map((head) => new Set(head.kept)));
        const visible = (layer: number, head: number, position: number): boolean => position >= context.length || kept[layer][head].has(position);

        const state = reference.fork(read);
        let expected = reference.read(state, tokens.slice(context.length), visible);
        expect(worst(await engine.logits(prompt(tokens), parsePress(scoped)), expected)).toBeLessThan(TOLERANCE);

        const seen = await generation(engine, tokens, scoped, { maxTokens: 9, topLogprobs: 20 });
        expect(seen.usage.kept_per_layer).toEqual(layers.map(({ budget }) => budget));
        for (const [i, { logprob, top }] of seen.logprobs.entries()) {
          const total = Math.log(expected.reduce((sum, x) => sum + Math.exp(x), 0));
          const best = expected.reduce((most, x, id) => (x > expected[most] ? id : most), 0);
          if (expected[best] - expected[seen.tokens[i]] > TOLERANCE) expect(seen.tokens[i]).toBe(best);
          expect(Math.abs(logprob - (expected[seen.tokens[i]] - total))).toBeLessThan(TOLERANCE);
          for (const one of top) expect(Math.abs(one.logprob - (expected[one.tokenId] - total))).toBeLessThan(TOLERANCE);
          expected = reference.read(state, [seen.tokens[i]], visible);
        }
        // The masks say something: without them the logits are others.
        const unmasked = reference.read(reference.fork(read), tokens.slice(context.length));
        if (ratio === 0.8) expect(worst(unmasked, await engine.logits(prompt(tokens), parsePress(scoped)))).toBeGreaterThan(10 * TOLERANCE);
      },
    );
  });
});

test('a press covers the context where there is one: white space before the question, or the template alone, is none', async () => {
  const engine = await openGolden('needle', { contextLength: 512 });
  const scopeOf = async (...messages: [role: 'system' | 'user' | 'assistant', ...parts: string[]][]) => {
    const prompt: PromptInput = { kind: 'chat', messages: messages.map(([role, ...parts]) => ({ role, parts })) };
    return (await engine.plan({ prompt, press: parsePress('knorm'), maxTokens: 1 })).scope;
  };
  const [context, question] = ['Anna lives in Oslo.\n', 'Where does Anna live?'];
  expect(await scopeOf(['user', question])).toBe('prompt');
  expect(await scopeOf(['user', ' \n', '', question])).toBe('prompt');
  expect(await scopeOf(['user', context, question])).toBe('context');
  expect(await scopeOf(['user', context + question], ['assistant', ' Oslo'], ['user', question])).toBe('context');
  expect(await scopeOf(['system', ' '], ['user', question])).toBe('prompt');
  engine.close();
});

describe('refusals', () => {
  let engine: EdgeEngine; // 1 MiB of pages: 256 of 4 KiB, 21 for each of 12 lists
  let bare: EdgeEngine; // without a tokenizer
  beforeAll(async () => {
    engine = await openGolden('needle', { contextLength: 1024, kvPoolBytes: 2 ** 20, maxWaiting: 1 });
    bare = await openGolden('mistral');
  });
  afterAll(() => {
    engine.close();
    bare.close();
  });

  const chat: PromptInput = { kind: 'chat', messages: [{ role: 'user', parts: ['Where does Anna live?'] }] };
  const cases: [code: string, of: () => EdgeEngine, prompt: PromptInput, press: unknown, maxTokens: number, message: RegExp][] = [
    ['no_tokenizer', () => bare, chat, 'no_press', 1, /give token ids/],
    ['no_tokenizer', () => bare, { kind: 'text', text: 'Anna' }, 'no_press', 1, /give token ids/],
    ['press_scope', () => engine, prompt(short), { preset: 'knorm', scope: 'context' }, 1, /protect_last/],
    [
      'press_scope',
      () => engine,
      prompt(short),
      { preset: 'knorm', scope: { protect_last: short.length } },
      1,
      /covers the whole prompt of 1\d\d tokens/,
    ],
    ['prompt_empty', () => engine, prompt([]), 'no_press', 1, /no tokens/],
    ['prompt_empty', () => engine, prompt([]), 'knorm', 1, /no tokens/],
    ['token_unknown', () => engine, prompt([0, 1536]), 'no_press', 1, /token 1536 at index 1.*vocabulary of 1536/],
    ['token_unknown', () => engine, prompt([-1]), 'no_press', 1, /token -1 at index 0/],
    ['prompt_too_long', () => engine, prompt(Array(1024).fill(5)), 'no_press', 1, /1024 tokens.*context length is 1024/],
    ['kv_budget_exceeded', () => engine, prompt(long), 'no_press', 1, /needs .* bytes\).*compression_ratio 0\.\d+ fits/],
    ['press_budget_tight', () => engine, prompt(short), { preset: 'snapkv', compression_ratio: 0.8 }, 1, /on_tight/],
  ];
  test.each(cases)('%s: %#', async (code, of, input, press, maxTokens, message) => {
    const request = requestOf([], press, { maxTokens });
    const error = await failure(
      of()
        .generate({ ...request, prompt: input })
        .next(),
    );
    expect(error).toBeInstanceOf(InputError);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
    expect(memory(of())).toMatchObject({ used: 0, reserved: 0 });
    // logits, inspect and plan refuse the same
    if (code === 'kv_budget_exceeded') expect((await of().plan({ prompt: input, press: request.press, maxTokens })).fits).toBe(false);
    else await expect(of().plan({ prompt: input, press: request.press, maxTokens })).rejects.toThrow(InputError);
    if (!(typeof press === 'object' && (press as { scope?: unknown }).scope === 'context')) {
      expect(await failure(of().logits(input, request.press))).toMatchObject({ code });
    }
  });

  test('queue_full: when as many wait as may, and the waiting are served', async () => {
    const third = short.slice(0, 100); // 12 lists of 7 pages and more: two requests with 50 tokens to come do not fit side by side
    const sampling = { maxTokens: 100 };
    const first = engine.generate(requestOf(third, 'no_press', sampling));
    await first.next();
    const second = generation(engine, third, 'no_press', sampling);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(engine.health().requests).toEqual({ running: 1, waiting: 1 });
    expect(await failure(generation(engine, third, 'no_press', sampling))).toMatchObject({ code: 'queue_full' });
    await first.return();
    expect((await second).tokens.length).toBe(100);
    expect(engine.health().requests).toEqual({ running: 0, waiting: 0 });
    expect(memory(engine)).toMatchObject({ used: 0, reserved: 0 });
  });

  test('memory_exceeded: a limit that leaves no room for pages names what is missing', async () => {
    const outcomes = [];
    for (let mebibytes = 2; mebibytes <= 14; mebibytes++) {
      const loaded = await openGolden('needle', { memoryLimitBytes: mebibytes * 2 ** 20 }).catch((error: unknown) => error);
      if (loaded instanceof Error) {
        expect(loaded, `${mebibytes} MiB`).toMatchObject({ code: 'memory_exceeded', message: expect.stringMatching(/memory limit/) });
        outcomes.push('refused');
        continue;
      }
      const small = loaded as EdgeEngine;
      expect((await generation(small, short.slice(0, 30), 'no_press', { maxTokens: 2 })).tokens.length, `${mebibytes} MiB`).toBe(2);
      small.close();
      outcomes.push('runs');
    }
    expect(outcomes).toEqual([...outcomes].sort()); // from some limit on it runs
    expect(new Set(outcomes).size).toBe(2);
    expect(await failure(openGolden('needle', { kvPoolBytes: 1000 }))).toMatchObject({ code: 'memory_exceeded' });
  });

  test('kv_budget_exceeded: a prompt whose activations do not fit is refused before compute', async () => {
    const free = engine.health().memory;
    const tight = await openGolden('needle', { contextLength: 2048, kvPoolBytes: 8 * 2 ** 20, memoryLimitBytes: free.used_bytes + 9 * 2 ** 20 });
    const tokens = Array.from({ length: 1900 }, (_, i) => 5 + (i % 1000));
    expect(await failure(generation(tight, tokens, { preset: 'knorm', compression_ratio: 0.8 }, { maxTokens: 1 }))).toMatchObject({
      code: 'kv_budget_exceeded',
      message: expect.stringMatching(/activations/),
    });
    // Prompts that are read one after the other need the memory of one.
    const alone = await generation(tight, middle, 'no_press', { maxTokens: 2 });
    const many = await Promise.all(Array.from({ length: 8 }, () => generation(tight, middle, 'no_press', { maxTokens: 2 })));
    expect(many.map(({ tokens }) => tokens)).toEqual(Array(8).fill(alone.tokens));
    tight.close();
  });

  test('kv_budget_exceeded: what a press takes while it works counts too: wide windows, presses in a row', async () => {
    const tokens = Array.from({ length: 3500 }, (_, i) => 5 + ((i * 7919) % 1000));
    const tight = await openGolden('needle', { memoryLimitBytes: 34.625 * 2 ** 20 });
    const before = tight.health().memory;
    const composed = [
      { preset: 'snapkv', compression_ratio: 0.1 },
      { preset: 'keydiff', compression_ratio: 0.3 },
    ];
    for (const press of [{ preset: 'snapkv', window_size: 2000, compression_ratio: 0.4 }, composed]) {
      const request = requestOf(tokens, press, { maxTokens: 1 });
      expect(await failure(tight.generate(request).next())).toMatchObject({
        code: 'kv_budget_exceeded',
        message: expect.stringMatching(/activations.* for the press.* perhaps one with a smaller window/),
      });
      expect(tight.health().memory).toEqual(before); // peak_bytes too: nothing was computed
      expect((await tight.plan({ ...request, maxTokens: 1 })).fits).toBe(false);
    }
    for (const press of [{ preset: 'snapkv', window_size: 64, compression_ratio: 0.4 }]) {
      expect((await generation(tight, tokens, press, { maxTokens: 1 })).tokens.length).toBe(1);
    }
    tight.close();
  });

  test('with exactly the activations that a request is said to need it is served, with 64 bytes less refused', async () => {
    const heaps = new Set<Heap>();
    const { alloc } = Heap.prototype;
    const spy = vi.spyOn(Heap.prototype, 'alloc').mockImplementation(function (this: Heap, bytes, label) {
      heaps.add(this);
      return alloc.call(this, bytes, label);
    });
    const other = await openGolden('needle', { contextLength: 2048, kvPoolBytes: 16 * 2 ** 20 });
    const [heap] = heaps;
    expect(heaps.size).toBe(1);
    spy.mockRestore();
    const atRest = heap.usedBytes;
    const free = heap.freeBytes; // nothing was computed yet: kernels hold no scratch
    const { limitBytes } = heap;
    const leave = (bytes: number): void => {
      (heap as { limitBytes: number }).limitBytes = limitBytes - free + bytes;
    };
    const wide = { preset: 'snapkv', window_size: 700, compression_ratio: 0.2 };
    const from = (lmba_from: string) => ({ name: 'zigzag', lmba_from });
    const random = new Random(61);
    const presses: unknown[] = [
      'no_press',
      wide,
      { ...wide, preset: 'zigzag_adakv_snapkv', mode: 'deferred' },
      { scorer: 'keydiff', layer_budget: from('attention'), head_budget: 'adakv' },
      { scorer: 'tova', layer_budget: from('attention'), mode: 'deferred' },
      [wide, { preset: 'keydiff', compression_ratio: 0.3 }],
      [wide, { preset: 'knorm', compression_ratio: 0.1 }, { preset: 'zigzag_knorm', compression_ratio: 0.1 }],
      [
        { preset: 'streaming_llm', compression_ratio: 0.05 },
        { scorer: 'keydiff', head_budget: 'adakv' },
      ],
      [wide, { scorer: 'knorm', compression_ratio: 0.4, transforms: [{ name: 'merge', merge_fraction: 0.5 }, 'think', 'rerotate'] }],
      { preset: 'finch_chunks', window_size: 30, segment_length: 400, compression_ratio: 0.3 },
      ...Array.from({ length: 30 }, () => randomPress(random, 400)),
    ];
    const counts = { served: 0, refused: 0 };
    let loosest = 1;
    for (const press of presses) {
      const tokens = Array.from({ length: presses.indexOf(press) < 10 ? 1500 : random.int(40, 900) }, () => random.int(5, 1000));
      const what = JSON.stringify({ press, tokens: tokens.length });
      leave(0);
      const none = (await failure(generation(other, tokens, press, { maxTokens: 2 }))) as InputError;
      expect(none, what).toBeInstanceOf(InputError);
      const needed = Number(/needs [^(]*\((\d+) bytes\) of activations/.exec(none.message)?.[1]);
      if (!(needed > 0)) {
        counts.refused++; // what the engine refuses for other reasons
        continue;
      }
      leave(Math.ceil(needed / 64) * 64 - 64);
      expect(await failure(generation(other, tokens, press, { maxTokens: 2 })), what).toMatchObject({ code: 'kv_budget_exceeded' });
      leave(needed);
      heap.peakBytes = heap.usedBytes;
      expect((await generation(other, tokens, press, { maxTokens: 2 })).tokens.length, what).toBe(2);
      counts.served++;
      loosest = Math.min(loosest, (heap.peakBytes - atRest) / needed);
    }
    expect(counts.served).toBeGreaterThan(25);
    console.log(`activations: of what is asked for, ${(loosest * 100).toFixed(0)} % at least is taken`);
    (heap as { limitBytes: number }).limitBytes = limitBytes;
    other.close();
  });

  test.each<[string, unknown, string]>([
    ['no press', 'no_press', 'press'],
    ['a press', { preset: 'knorm', compression_ratio: 0.05 }, 'press.compression_ratio'],
  ])('without max_tokens and with %s, the ratio that is said to fit leaves room for a usable answer', async (_, press, param) => {
    const error = (await failure(engine.generate(requestOf(long, press, { maxTokens: null })).next())) as InputError;
    expect(error).toMatchObject({ code: 'kv_budget_exceeded', param, message: expect.stringContaining('with room for 128 tokens of answer') });
    const ratio = Number(/compression_ratio (0\.\d+) fits/.exec(error.message)![1]);
    const { completionTokens, usage } = await generation(
      engine,
      long,
      { preset: 'knorm', compression_ratio: ratio },
      { maxTokens: null, ignoreEos: true },
    );
    expect(completionTokens).toBeGreaterThanOrEqual(128);
    expect(usage.notes).toEqual([expect.stringMatching(/^the KV pool has room for \d+ tokens of answer: .* not the default \d+$/)]);
  });

  test('where no press was asked for, the refusal shows one that fits', async () => {
    for (const maxTokens of [1, 20, 150]) {
      const error = (await failure(engine.generate(requestOf(long, 'no_press', { maxTokens })).next())) as InputError;
      const [, example] = /^.*; a press with compression_ratio 0\.\d+ fits, e\.g\. (\{.*\})$/.exec(error.message)!;
      expect(error.param).toBe('press');
      expect(await engine.plan({ ...requestOf(long, JSON.parse(example)), maxTokens })).toMatchObject({ press: 'zigzag_snapkv', fits: true });
    }
  });

  test('a max_tokens that the context length cuts is noted', async () => {
    const tokens = Array.from({ length: 1015 }, (_, i) => 5 + (i % 1000));
    const press = { preset: 'knorm', compression_ratio: 0.9 };
    const asked = await generation(engine, tokens, press, { maxTokens: 50, ignoreEos: true });
    expect(asked.completionTokens).toBe(1024 - 1015);
    expect(asked.usage.notes).toEqual(['the context length of 1024 leaves 9 tokens for the answer: max_tokens 50 was cut to that']);
    expect((await generation(engine, tokens, press, { maxTokens: 9, ignoreEos: true })).usage.notes).toEqual([]);
  });

  test('one token is generated from, whatever the press', async () => {
    const press = { scorer: 'tova', compression_ratio: 1e-12, on_tight: 'uniform' };
    const { completionTokens, usage } = await generation(engine, [5], press, { maxTokens: 1 });
    expect(completionTokens).toBe(1);
    expect(usage.kept_per_layer).toEqual(Array(6).fill(1));
  });

  test('the ratio that is said to fit fits, with the press that was asked for', async () => {
    const random = new Random(3);
    const prompts = [long, sampleOf('niah_multikey', 1024).slice(0, 900)];
    let tried = 0;
    for (let i = 0; i < 60; i++) {
      const name = random.pick(['no_press', ...names]);
      const again = presetParts(name)?.scorer.passes !== undefined;
      const tokens = again ? long.slice(0, 480) : random.pick(prompts); // what reads the prompt again must find room for it in the context
      const maxTokens = random.pick([1, 20, 150]);
      const mode = random.pick(['streaming', 'deferred']);
      const shared = { mode, entry_type: random.pick(entryTypes), scope: random.pick(['prompt', { protect_last: 20 }]) };
      const press = name === 'no_press' ? { preset: name, entry_type: shared.entry_type } : { ...small(name), compression_ratio: 0.05, ...shared };
      const request = requestOf(tokens, press, { maxTokens });
      if ((await engine.plan({ ...request, maxTokens })).fits) continue;
      const { code, message } = (await failure(engine.generate(request).next())) as InputError;
      expect(code).toBe('kv_budget_exceeded');
      const ratio = /compression_ratio (0\.\d+) fits/.exec(message);
      if (!ratio) {
        expect(message).toMatch(/no compression_ratio fits/);
        continue;
      }
      tried++;
      const works = {
        ...press,
        ...(name === 'no_press' ? { preset: 'knorm' } : {}),
        ...(/mode "streaming" with/.test(message) ? { mode: 'streaming' } : {}),
        compression_ratio: Number(ratio[1]),
      };
      expect(await engine.plan({ ...request, press: parsePress(works), maxTokens }), `${JSON.stringify(works)}: ${message}`).toMatchObject({
        fits: true,
      });
      if (tried < 6) expect((await generation(engine, tokens, works, { maxTokens })).tokens.length).toBe(Math.min(maxTokens, 1024 - tokens.length));
    }
    expect(tried).toBeGreaterThan(15);
  });
});

describe('everything is given back', () => {
  let engine: EdgeEngine;
  let cache: KvCache;
  let backend: WasmBackend;
  let before: { peak: number; free: number };
  beforeAll(async () => {
    const { trim } = WasmBackend.prototype;
    const spy = vi.spyOn(WasmBackend.prototype, 'trim').mockImplementation(function (this: WasmBackend) {
      backend = this;
      trim.call(this);
    });
    engine = await openGolden('needle', { contextLength: 1024, kvPoolBytes: 8 * 2 ** 20 });
    const watch = watchPages();
    await generation(engine, long, { preset: 'zigzag_snapkv', compression_ratio: 0.5 }, { maxTokens: 2 });
    [cache] = watch.caches;
    watch.stop();
    spy.mockRestore();
    before = { peak: memory(engine).peak, free: backend.memory.freeBytes };
  });
  afterAll(() => engine.close());
  afterEach(() => {
    vi.restoreAllMocks();
    expect(memory(engine)).toMatchObject({ used: 0, reserved: 0 });
    expect(backend.memory.freeBytes).toBe(before.free); // whatever scratch kernels keep until the next prompt
    expect(engine.health().requests).toEqual({ running: 0, waiting: 0 });
    cache.ledger.check();
  });

  const press = { preset: 'zigzag_snapkv', window_size: 16, compression_ratio: 0.5, scope: { protect_last: 20 } };
  const reason = new Error('the client is gone');

  test('aborted before it starts', async () => {
    expect(await failure(generation(engine, long, press, {}, AbortSignal.abort(reason)))).toBe(reason);
  });

  test('aborted while the prompt is read', async () => {
    for (const calls of [1, 3, 20, 60]) {
      const abort = new AbortController();
      const { rmsNorm } = WasmBackend.prototype;
      let seen = 0;
      const spy = vi.spyOn(WasmBackend.prototype, 'rmsNorm').mockImplementation(function (this: WasmBackend, ...args) {
        if (++seen === calls) abort.abort(reason);
        rmsNorm.apply(this, args);
      });
      expect(await failure(generation(engine, long, press, {}, abort.signal))).toBe(reason);
      expect(seen).toBeLessThan(calls + 13); // the piece of work that runs is finished, and no other begun; the longest norms 13 times
      spy.mockRestore();
    }
  });

  test('aborted while it decodes, and while it waits for its turn', async () => {
    const abort = new AbortController();
    const run = async (): Promise<number> => {
      let tokens = 0;
      for await (const event of engine.generate(requestOf(long, press, { maxTokens: 200 }), abort.signal)) {
        if (event.type === 'text' && ++tokens === 5) abort.abort(reason);
      }
      return tokens;
    };
    const all = await Promise.allSettled([
      run(),
      generation(engine, long, press, { maxTokens: 200 }, abort.signal),
      generation(engine, short, press, { maxTokens: 3 }),
    ]);
    expect(all.slice(0, 2).map((one) => (one as PromiseRejectedResult).reason)).toEqual([reason, reason]);
    expect((all[2] as PromiseFulfilledResult<{ tokens: number[] }>).value.tokens.length).toBe(3);
  });

  test('dropped by who iterated, at any event', async () => {
    for (const events of [1, 2, 4]) {
      let seen = 0;
      for await (const _ of engine.generate(requestOf(middle, press, { maxTokens: 50 }))) if (++seen === events) break;
      expect(memory(engine)).toMatchObject({ used: 0, reserved: 0 });
    }
    // Thrown into, and never begun.
    const thrown = engine.generate(requestOf(middle, press));
    await thrown.next();
    expect(await failure(thrown.throw(reason))).toBe(reason);
    engine.generate(requestOf(middle, press));
  });

  test('a request that nobody reads any more gives way to others', async () => {
    const left = engine.generate(requestOf(long, 'no_press', { maxTokens: 400 })); // 912 of 2,048 tokens: most of the pool
    const other = engine.generate(requestOf(long, 'no_press', { maxTokens: 400 }));
    await left.next();
    await other.next();
    const { now } = Date;
    const later = vi.spyOn(Date, 'now').mockImplementation(() => now() + 121_000);
    expect((await generation(engine, long, 'no_press', { maxTokens: 400, stop: ['a', 'e', ' ', '1'] })).completionTokens).toBeGreaterThan(0);
    later.mockRestore();
    await Promise.allSettled([left, other].map((one) => one.return()));
  });

  test('a request that waits long for its turn to be read is not taken for one that nobody reads', async () => {
    const other = await openGolden('needle', { contextLength: 1024, idleMs: 500 });
    const tokens = sampleOf('niah_multikey', 1024);
    const waiting = Array.from({ length: 12 }, () => generation(other, tokens, 'knorm', { maxTokens: 2 }));
    let read = 0;
    for (const one of waiting) void one.then(() => read++).catch(() => {});
    const started = Date.now();
    while (Date.now() - started < 800) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(read).toBeLessThan(12); // some have waited longer than idleMs
    await generation(other, short.slice(0, 20), 'no_press', { maxTokens: 1 }); // whoever comes looks for the idle
    const all = await Promise.all(waiting);
    expect(new Set(all.map((one) => one.tokens.join())).size).toBe(1);
    other.close();
  });

  test('200 requests at random, a third of them aborted', async () => {
    const random = new Random(21);
    for (const name of names) await generation(engine, middle.slice(0, 200), { ...small(name), compression_ratio: 0.5 }, { maxTokens: 1 });
    const alone = memory(engine).peak;
    const counts = { done: 0, aborted: 0, refused: 0 };
    const one = async (): Promise<void> => {
      const tokens = random.pick([short, short, middle]).slice(0, random.int(20, 200));
      const abort = new AbortController();
      const at = random.next() < 0.34 ? random.int(0, 6) : -1;
      const request = () =>
        requestOf(tokens, random.next() < 0.1 ? 'no_press' : randomPress(random, tokens.length), { maxTokens: random.int(1, 12), temperature: 1 });
      try {
        let events = 0;
        if (at === 0) queueMicrotask(() => abort.abort(reason));
        for await (const _ of engine.generate(request(), abort.signal)) if (++events === at) abort.abort(reason);
        counts.done++;
      } catch (error) {
        if (error === reason) counts.aborted++;
        else if (error instanceof InputError) counts.refused++;
        else throw error;
      }
    };
    for (let i = 0; i < 50; i++) await Promise.all([one(), one(), one(), one()]);
    expect(counts.done + counts.aborted + counts.refused).toBe(200);
    expect(counts.done).toBeGreaterThan(80);
    expect(counts.aborted).toBeGreaterThan(30);
    expect(counts.refused).toBeLessThan(60);
    // One prompt at a time has activations, whatever runs beside it: nothing above what the longest prompts took alone, under the press that takes most.
    expect(memory(engine).peak).toBeLessThanOrEqual(alone);
  });

  test('a fault anywhere in the backend', async () => {
    const tokens = short.slice(0, 40);
    const faulty = { preset: 'zigzag_adakv_snapkv', window_size: 4, compression_ratio: 0.5, scope: { protect_last: 10 } };
    const expected = await generation(engine, tokens, faulty, { maxTokens: 4 });
    const faults = failingBackend();
    const run = () => generation(engine, tokens, faulty, { maxTokens: 4 });
    expect(await faults.count(run)).toBeGreaterThan(300);
    await faults.tryAll(run, { all: 20, some: 80 }, () => {
      expect(memory(engine)).toMatchObject({ used: 0, reserved: 0 });
      cache.ledger.check();
    });
    vi.restoreAllMocks();
    expect((await generation(engine, tokens, faulty, { maxTokens: 4 })).tokens).toEqual(expected.tokens);
  });

  test('a model that is closed has given back all but what the kernels own', async () => {
    const other = await openGolden('needle', { contextLength: 512, kvPoolBytes: 2 ** 20 });
    await generation(other, short, press, { maxTokens: 2 });
    other.close();
    expect(memory(other).heap).toBe(0);
  });
});

describe('timings are of compute', () => {
  let engine: EdgeEngine;
  beforeAll(async () => {
    engine = await openGolden('needle', { contextLength: 1024 });
  });
  afterAll(() => engine.close());

  const timed = async (press: unknown, maxTokens: number, client = async () => {}): Promise<Timings> => {
    for await (const event of engine.generate(requestOf(long, press, { maxTokens }))) {
      await client();
      if (event.type === 'finish') return event.timings;
    }
    throw new Error('a generation without an end');
  };
  const sum = ({ prefillMs, pressMs, decodeMs }: Timings): number => prefillMs + pressMs + decodeMs;

  test('of requests in a crowd they add up to no more than the time that all took', async () => {
    const press = { preset: 'zigzag_snapkv', compression_ratio: 0.5 };
    await timed(press, 4);
    const started = performance.now();
    const all = await Promise.all(Array.from({ length: 6 }, () => timed(press, 20)));
    const wall = performance.now() - started;
    expect(all.reduce((total, one) => total + sum(one), 0)).toBeLessThan(wall);
    for (const one of all) for (const ms of [one.prefillMs, one.pressMs, one.decodeMs]) expect(ms).toBeGreaterThan(0);
  });

  test('a client that is slow to take its tokens does not change them, and without a press there is no time of one', async () => {
    const slept = 50;
    let events = 0;
    const started = performance.now();
    const slow = await timed('no_press', 10, async () => {
      events++;
      await new Promise((resolve) => setTimeout(resolve, slept));
    });
    expect(events).toBeGreaterThan(8);
    expect(sum(slow)).toBeLessThan(performance.now() - started - events * (slept - 1));
    expect(slow.pressMs).toBe(0);
  });
});

test('where the clock stands still while a request computes, timings go by what it shows afterwards', () => {
  const spent = new Spent();
  spent.add('prefillMs', 0, 30);
  spent.add('decodeMs', 0, 2);
  expect(spent.timings).toEqual({ prefillMs: 30, pressMs: 0, decodeMs: 2 });
  spent.add('decodeMs', 1, 3); // a clock that is only coarse
  expect(spent.timings).toEqual({ prefillMs: 0, pressMs: 0, decodeMs: 1 });
});

test('a reader that lost its turn and comes to its end late does not speak for the one that took it', async () => {
  let freeBytes = 100;
  const ends: (() => void)[] = [];
  const parts = {
    backend: {
      get memory() {
        return { freeBytes };
      },
      trim: () => {},
    },
    forward: { prefill: () => new Promise<null>((resolve) => ends.push(() => resolve(null))), chunkTokens: 1 },
    cache: { shape: { layers: 1, queryHeads: 1, kvHeads: 1, headDim: 1 }, pageBytes: 1 },
    options: { idleMs: 1000 },
  } as unknown as ReaderParts;
  const reader = new PromptReader(parts, new Turns(async () => {}));
  const job = { tokens: [1], covered: 1, checked: null, decoding: null, passes: [], added: null, notes: [], size: {}, press: {} } as unknown as Job;
  const read = (): Promise<unknown> => {
    const run = { sequence: { shrinkReservation: () => {} }, beat: 0, spent: new Spent() } as unknown as Running;
    return reader.read(job, run, null);
  };
  const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));

  const slow = read();
  await settled();
  freeBytes = 60; // what the slow one took
  expect(reader.freeBytes).toBe(100);
  const { now } = Date;
  const later = vi.spyOn(Date, 'now').mockImplementation(() => now() + 61_000);
  const next = read();
  await settled();
  freeBytes = 20;
  expect(reader.freeBytes).toBe(60);
  ends[0]();
  await slow;
  expect(reader.freeBytes).toBe(60);
  ends[1]();
  await next;
  expect(reader.freeBytes).toBe(20);
  later.mockRestore();
});

describe('what a request takes is known before', () => {
  test('layers that are equal in the end are not while they are read: the reservation knows', async () => {
    const engine = await openGolden('needle', { contextLength: 1024 });
    const watch = watchPages();
    for (const tokens of [middle.slice(0, 160), long.slice(0, 320)]) {
      for (const preset of ['zigzag_knorm', 'zigzag_keydiff']) {
        for (const bound_ratio of [0.97, 1]) {
          for (const compression_ratio of [0.5, 0.8]) {
            const press = { preset, bound_ratio, compression_ratio }; // 32 to 160 tokens a list: whole pages
            await engine.inspect(prompt(tokens), parsePress(press)); // nothing comes after: no slack
            expect(watch.uses.at(-1)!.exceeded, JSON.stringify({ ...press, tokens: tokens.length })).toBeNull();
          }
        }
      }
    }
    watch.stop();
    engine.close();
  });

  test('once the prompt is read, only what the answer may still take stays reserved', async () => {
    const engine = await openGolden('needle', { contextLength: 1024 });
    const tokens = long.slice(0, 320);
    for (const [press, left] of [
      ['no_press', 320],
      [{ preset: 'knorm', compression_ratio: 0.8, mode: 'deferred' }, 64], // all 320 are held before
      [{ preset: 'knorm', compression_ratio: 0.8, scope: { protect_last: 16 } }, 60 + 16],
    ] as const) {
      for await (const event of engine.generate(requestOf(tokens, press, { maxTokens: 20 }))) {
        const { used, reserved } = memory(engine);
        const lists = 12;
        expect((used + reserved) / 4096).toBe(lists * Math.ceil((left + 20) / 16));
        if (event.type === 'prompt') expect(used / 4096).toBe(lists * Math.ceil(left / 16));
      }
    }
    // The last token of an answer is not read: nothing follows it.
    for await (const { type } of engine.generate(requestOf(tokens, 'no_press', { maxTokens: 1 })))
      if (type === 'finish') expect(memory(engine).used / 4096).toBe(12 * 20);
    engine.close();
  });

  test('reserved pages are never exceeded, and a plan bounds bytes and budgets, whatever the press', async () => {
    const engine = await openGolden('needle', { contextLength: 1024, kvPoolBytes: 16 * 2 ** 20 });
    const watch = watchPages();
    const random = new Random(41);
    const counts = { done: 0, refused: 0 };
    for (let i = 0; i < 220; i++) {
      // Multiples of 16 leave no slack on the pages.
      const tokens = middle.slice(0, random.pick([random.int(10, 200), 32, 64, 160]));
      const press = random.next() < 0.05 ? 'no_press' : randomPress(random, tokens.length);
      const maxTokens = random.int(1, 20);
      const request = requestOf(tokens, press, { maxTokens });
      const told = await engine.plan({ ...request, maxTokens }).catch((error: unknown) => {
        expect(error).toBeInstanceOf(InputError);
        return null;
      });
      if (!told) {
        counts.refused++;
        continue;
      }
      const { usage } = await generation(engine, tokens, press, { maxTokens });
      counts.done++;
      const what = JSON.stringify({ press, tokens: tokens.length, maxTokens });
      expect(watch.uses.at(-1)!.exceeded, what).toBeNull();
      expect(usage.bytes_full, what).toBe(told.bytes_full);
      expect(usage.bytes_kept, what).toBeLessThanOrEqual(told.bytes_kept);
      expect(usage.bytes_peak, what).toBeLessThanOrEqual(told.bytes_peak);
      const ragged = request.press.presses.some(({ headBudget }) => headBudget.part.ragged); // heads of unequal length round to pages as they like
      if (told.exact && !ragged) expect(usage.bytes_kept, what).toBe(told.bytes_kept);
      for (const [l, kept] of usage.kept_per_layer.entries()) {
        expect(kept, what).toBeGreaterThanOrEqual(told.per_layer[l].min);
        expect(kept, what).toBeLessThanOrEqual(told.per_layer[l].max);
      }
      expect(usage.tokens).toBe(told.tokens);
      const budget = (press as { memory_budget?: number }).memory_budget;
      if (budget !== undefined) expect(usage.bytes_kept, what).toBeLessThanOrEqual(budget);
    }
    watch.stop();
    expect(counts.done).toBeGreaterThan(120);
    engine.close();
  });
});
