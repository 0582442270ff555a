/** Held contexts: a prompt is read and pressed once, and whoever goes on behind it answers as one request would have; what is held never changes. */
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { parsePress } from '../presses/config.ts';
import { entryTypes } from '../worker/backend/backend.ts';
import { WasmBackend } from '../worker/backend/wasm.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { KvSequence } from '../worker/engine/kv-cache.ts';
import type { Held, PromptInput } from '../worker/engine/types.ts';
import { ratioPresets, withArtifacts } from './support/artifacts.ts';
import { failingBackend } from './support/failing-backend.ts';
import { generation, promptOf, requestOf, watchPages } from './support/generation.ts';
import { needleSamples, openGolden } from './support/golden.ts';
import { all, hashOf, holdWatched, mounted } from './support/held.ts';
import { Random } from './support/random.ts';
import { watchRetained } from './support/watch-retained.ts';

const shape = { layers: 6, kvHeads: 2 };
const sampleOf = (length: number): number[] =>
  needleSamples().find((s) => s.task === 'niah_multikey' && s.context_length === length)!.prompt_token_ids;
const tokens = sampleOf(128);
const behind = 20; // tokens of the question
const context = tokens.slice(0, -behind);
const forced = [7, 300, 41, 5, 1200, 88];
const reason = new Error('the client is gone');

let engine: EdgeEngine;
beforeAll(async () => {
  engine = await openGolden('needle', { contextLength: 1024 });
});
afterAll(() => engine.close());

const memory = (of = engine) => {
  const { kv_used_bytes: used, kv_reserved_bytes: reserved } = of.health().memory;
  return { used, reserved, running: of.health().requests.running, contexts: of.health().contexts.held };
};
const nothing = { used: 0, reserved: 0, running: 0, contexts: 0 };
const opened: Held[] = [];
const hold = async (...args: Parameters<typeof holdWatched> extends [unknown, ...infer Rest] ? Rest : never) => {
  const seen = await holdWatched(engine, ...args);
  opened.push(seen.held);
  return seen;
};
afterEach(() => {
  vi.restoreAllMocks();
  for (const held of opened.splice(0)) held.close();
  expect(memory()).toEqual(nothing);
});

async function failure(run: Promise<unknown>): Promise<unknown> {
  return run.then(
    () => {
      throw new Error('it was expected to fail');
    },
    (error: unknown) => error,
  );
}

/** A config of this preset that works on short prompts. */
const small = (name: string): Record<string, unknown> => {
  const config = withArtifacts(name) as Record<string, unknown>;
  const { shape } = parsePress(config).presses[0].scorer.part.params;
  return { ...config, ...('window_size' in shape && { window_size: 4 }), ...(name === 'lagkv' && { lag_size: 16 }) };
};
const scoped = (press: object): object => ({ ...press, scope: { protect_last: behind } });
const sampling = { maxTokens: 10, seed: 1, topLogprobs: 3 };

describe('an answer behind a held context is, bit for bit, that of one request whose scope ends there', () => {
  test.each(entryTypes.map((type, t) => [type, ratioPresets.filter((_, i) => i % 3 === t)] as const))(
    '%s entries, every third preset',
    async (entry_type, names) => {
      for (const name of names) {
        const press = { ...small(name), compression_ratio: 0.5, entry_type };
        const { held, sequence } = await hold(context, press);
        const before = await hashOf(engine.backend, sequence, shape);
        const one = { prompt: promptOf(tokens), tokens: forced, seed: 1 };
        expect(await all(engine.follow({ ...one, held })), name).toEqual(await all(engine.follow({ ...one, press: parsePress(scoped(press)) })));
        const [seen, want] = [await mounted(engine, held, tokens, sampling), await generation(engine, tokens, scoped(press), sampling)];
        expect([seen.tokens, seen.logprobs, seen.text]).toEqual([want.tokens, want.logprobs, want.text]);
        const { bytes_shared, bytes_peak, ...usage } = seen.usage;
        expect({ ...usage, scope: { protect_last: behind } }, name).toEqual({ ...want.usage, bytes_peak: undefined, notes: usage.notes });
        expect(bytes_shared! % 4096).toBe(0);
        expect(bytes_shared).toBeLessThanOrEqual(held.kvCache.bytes_kept);
        expect(bytes_peak).toBeLessThanOrEqual(want.usage.bytes_peak); // equal where whole pages of what follows come on top
        expect(await hashOf(engine.backend, sequence, shape), name).toBe(before);
        held.close();
      }
    },
  );

  test.each([
    { preset: 'knorm', memory_budget: '1GiB' },
    { preset: 'knorm', compression_ratio: 0.5, scope: { protect_last: 7 } },
  ])('%j', async (press) => {
    const { held } = await hold(context, press);
    const want = await all(
      engine.follow({
        prompt: promptOf(tokens),
        press: parsePress({ ...press, scope: { protect_last: behind + ((press.scope as { protect_last: number } | undefined)?.protect_last ?? 0) } }),
        tokens: forced,
      }),
    );
    const seen = await all(engine.follow({ prompt: promptOf(tokens), held, tokens: forced }));
    for (const [i, logits] of seen.entries()) {
      // What the press left of the context is read in other pieces: sums in another order, on logits that span 30.
      const worst = logits.reduce((most, x, id) => Math.max(most, Math.abs(x - want[i][id])), 0);
      expect(worst).toBeLessThan(press.scope ? 1e-4 : 1e-9);
    }
    held.close();
  });

  test('without a press too, but for the order of sums: all of one request is read at once', async () => {
    const { held } = await hold(context, 'no_press');
    const want = await all(engine.follow({ prompt: promptOf(tokens), press: parsePress('no_press'), tokens: forced }));
    const seen = await all(engine.follow({ prompt: promptOf(tokens), held, tokens: forced }));
    for (const [i, logits] of seen.entries()) expect(logits.reduce((most, x, id) => Math.max(most, Math.abs(x - want[i][id])), 0)).toBeLessThan(1e-4);
    expect((await mounted(engine, held, tokens, sampling)).tokens).toEqual((await generation(engine, tokens, 'no_press', sampling)).tokens);
    held.close();
  });
});

const schedule = { name: 'decoding', interval: 11, target_size: 60 };
const acting: Record<string, unknown>[] = [
  { preset: 'streaming_llm', schedule },
  { preset: 'tova', schedule, entry_type: 'f16' },
  { preset: 'snapkv', window_size: 8, schedule: { ...schedule, name: 'prefill_and_decoding' }, compression_ratio: 0.25 },
  { preset: 'keydiff', schedule: { ...schedule, name: 'prefill_and_decoding' }, compression_ratio: 0.2, entry_type: 'int8' },
  { preset: 'decoding_adakv_snapkv', window_size: 8, interval: 16, target_size: 60 },
  // A window that reaches back into the context.
  { preset: 'snapkv', window_size: 40, schedule: { name: 'prefill_and_decoding', interval: 8, target_size: 60 }, compression_ratio: 0.25 },
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
  { preset: 'decoding_knorm', interval: 11, target_size: 60, compat: 'kvpress' },
];

describe('a press that acts while decoding evicts in copies of its own', () => {
  test.each(acting.map((press) => [JSON.stringify(press), press]))('%s', async (_, press) => {
    const watch = watchPages();
    const { held, sequence } = await hold(context, press);
    const before = await hashOf(engine.backend, sequence, shape);
    const run = async (answer: () => ReturnType<typeof mounted>) => {
      const left = watchRetained(shape.layers);
      const seen = await answer();
      left.stop();
      const logprobs = seen.logprobs.map(({ logprob }) => logprob);
      return { tokens: seen.tokens, logprobs, decoding: seen.usage.decoding, left: left.seen };
    };
    const more = { ...sampling, maxTokens: 50 };
    const want = await run(() => generation(engine, tokens, scoped(press), more));
    const seen = await run(() => mounted(engine, held, tokens, more));
    expect(want.decoding!.compressions).toBeGreaterThanOrEqual(2);
    // Without a press on the prompt one request reads all of it at once: the same but for the order of sums, and keys that are not rounded yet.
    const exact = 'compat' in press || (press.schedule as { name?: string } | undefined)?.name === 'prefill_and_decoding';
    const tolerance = exact ? 1e-12 : press.entry_type === 'f16' ? 0.03 : 1e-4;
    for (const [i, logprob] of seen.logprobs.entries()) expect(Math.abs(logprob - want.logprobs[i])).toBeLessThan(tolerance);
    expect({ ...seen, logprobs: null }).toEqual({ ...want, logprobs: null });
    const together = await Promise.all([0, 1, 2].map(() => mounted(engine, held, tokens, more)));
    for (const one of together) expect([one.tokens, one.usage.decoding]).toEqual([want.tokens, want.decoding]);
    expect(await hashOf(engine.backend, sequence, shape)).toBe(before);
    for (const { exceeded } of watch.uses) expect(exceeded).toBeNull();
    held.close();
    watch.stop();
  });

  test('hidden states of what was held behind the scope are scored before anybody goes on', async () => {
    const pressed = (last: number) => [
      { preset: 'knorm', compression_ratio: 0.2, scope: { protect_last: last } },
      { scorer: { name: 'fastkvzip', artifact: 'fastkvzip.safetensors' }, schedule: { ...schedule, hidden_states_buffer_size: 8 } },
    ];
    const heap = (): number => {
      engine.backend.trim();
      return engine.health().memory.used_bytes;
    };
    const free = heap();
    const { held, sequence } = await hold(context, pressed(6));
    expect(heap()).toBe(free); // they are not kept, and pages lie in the pool
    const before = await hashOf(engine.backend, sequence, shape);
    const watch = watchPages();
    await mounted(engine, held, tokens, { maxTokens: 3 }); // too few for the press to act: nothing is reserved for copies
    const left = async (answer: () => Promise<unknown>) => {
      const retained = watchRetained(shape.layers);
      await answer();
      retained.stop();
      return retained.seen;
    };
    const seen = await left(() => mounted(engine, held, tokens, { maxTokens: 30, seed: 1 }));
    expect(seen.length).toBeGreaterThanOrEqual(2);
    expect(seen).toEqual(await left(() => generation(engine, tokens, pressed(behind + 6), { maxTokens: 30, seed: 1 })));
    for (const { exceeded } of watch.uses) expect(exceeded).toBeNull();
    expect(await hashOf(engine.backend, sequence, shape)).toBe(before);
    held.close();
  });
});

describe('many at once', () => {
  const press = { preset: 'zigzag_adakv_snapkv', window_size: 8, compression_ratio: 0.5 };
  const question = (i: number): number[] => [...context, ...Array.from({ length: 3 + 5 * i }, (_, t) => 20 + ((t * 37 + i * 101) % 1000))];

  test('each answers as it would alone, in turn token by token; shared pages count once, and not a bit of them changes', async () => {
    const { held, sequence } = await hold(context, press);
    const before = await hashOf(engine.backend, sequence, shape);
    const sampled = (i: number) => ({ maxTokens: 25, seed: i, temperature: i % 2 });
    const alone: number[][] = [];
    for (let i = 0; i < 6; i++) alone.push((await mounted(engine, held, question(i), sampled(i))).tokens);
    const watch = watchPages();
    const order: number[] = [];
    let most = 0;
    const together = await Promise.all(
      alone.map(async (_, i) => {
        const seen: number[] = [];
        const { sampling } = requestOf([], 'no_press', sampled(i));
        for await (const event of engine.generate({ prompt: promptOf(question(i)), held, sampling })) {
          if (event.type !== 'text') continue;
          most = Math.max(most, memory().used);
          order.push(i);
          seen.push(...event.tokenIds);
        }
        return seen;
      }),
    );
    expect(together).toEqual(alone);
    expect(order.filter((i, at) => at > 0 && i !== order[at - 1]).length).toBeGreaterThan(40); // 5 if each ran to its end before the next
    const own = watch.uses.reduce((sum, use) => sum + use.most, 0) * 4096;
    expect(most).toBeLessThanOrEqual(held.bytes + own);
    for (const { exceeded, reserved, most } of watch.uses) expect([exceeded, most <= reserved]).toEqual([null, true]);
    expect(await hashOf(engine.backend, sequence, shape)).toBe(before);
    expect(memory()).toEqual({ used: held.bytes, reserved: 0, running: 0, contexts: 1 });
  });

  test('what a request reserves is what it may append, and a copy of every last page that is not full', async () => {
    for (const entry_type of entryTypes) {
      const { held, sequence } = await hold(context, { ...press, entry_type });
      const perPage = sequence.layer(0).entriesPerPage;
      const lengths = [...sequence.lengths];
      const watch = watchPages();
      const { usage } = await mounted(engine, held, [...context, ...forced, 1, 2, 3], { maxTokens: 12 });
      const [{ exceeded }] = watch.uses;
      watch.stop();
      const spied = vi.spyOn(KvSequence.prototype, 'fork');
      await mounted(engine, held, [...context, ...forced, 1, 2, 3], { maxTokens: 12 });
      const pages = lengths.reduce((sum, n) => sum + Math.ceil((n + 9 + 12) / perPage) - Math.floor(n / perPage), 0);
      expect(spied.mock.calls).toEqual([[pages]]);
      spied.mockRestore();
      expect(exceeded).toBeNull();
      expect(usage.bytes_shared! / 4096).toBe(lengths.reduce((sum, n) => sum + Math.floor(n / perPage), 0)); // every list has grown
      held.close();
    }
  });

  test('a question does not wait until another prompt is read', async () => {
    const { held } = await hold(context, press);
    const order: string[] = [];
    const long = generation(engine, sampleOf(512), 'knorm', { maxTokens: 1 }).then(() => order.push('the long prompt'));
    await vi.waitUntil(() => engine.health().requests.running === 1, { interval: 1 });
    await mounted(engine, held, question(0), { maxTokens: 2 }).then(() => order.push('the question'));
    await long;
    expect(order).toEqual(['the question', 'the long prompt']);
  });

  test('a context that is closed while it is mounted stays until the last answer is there, and no longer', async () => {
    const { held } = await hold(context, press);
    const want = await mounted(engine, held, tokens, { maxTokens: 20 });
    const seen: number[] = [];
    const { sampling } = requestOf([], 'no_press', { maxTokens: 20 });
    for await (const event of engine.generate({ prompt: promptOf(tokens), held, sampling })) {
      if (event.type === 'prompt') held.close();
      if (event.type === 'text') seen.push(...event.tokenIds);
      if (seen.length === 5) expect(memory()).toMatchObject({ contexts: 0, running: 1 });
    }
    expect(seen).toEqual(want.tokens);
    expect(memory()).toEqual(nothing);
    expect(await failure(mounted(engine, held, tokens))).toMatchObject({ code: 'context_closed' });
    held.close();
  });
});

describe('prompts', () => {
  const document = 'Anna lives in Oslo. Boris lives in Rome.\n';
  const chat = (...messages: [role: string, ...parts: string[]][]): PromptInput => ({
    kind: 'chat',
    messages: messages.map(([role, ...parts]) => ({ role, parts })),
  });
  const [boris, anna] = ['Where does Boris live?', 'Where does Anna live?'];
  const before: [role: string, ...parts: string[]][] = [
    ['user', `${document}${boris}`],
    ['assistant', ' Rome'],
  ];
  const cases: [name: string, held: PromptInput, asked: PromptInput][] = [
    ['a part of a message', chat(['user', document]), chat(['user', document, anna])],
    ['messages before the question', chat(...before), chat(...before, ['user', anna])],
    ['a text', { kind: 'text', text: document }, { kind: 'text', text: document + anna }],
    [
      'a question about a context',
      { kind: 'question', context: document, question: '', answerPrefix: '' },
      { kind: 'question', context: document, question: anna, answerPrefix: ' In' },
    ],
  ];
  const knorm = { preset: 'knorm', compression_ratio: 0.3 };

  test.each(cases)('%s is held, and asked about in full', async (_, given, asked) => {
    const { held } = await hold(given, knorm);
    const ids = engine.tokenise(asked);
    expect(held.tokens).toEqual(ids.slice(0, held.tokens.length));
    expect(held.tokens.length).toBeGreaterThan(12);
    const scope = { protect_last: ids.length - held.tokens.length };
    const want = await generation(engine, ids, { ...knorm, scope }, { maxTokens: 6, topLogprobs: 0 });
    const seen = await mounted(engine, held, asked, { maxTokens: 6, topLogprobs: 0 });
    expect([seen.tokens, seen.logprobs, seen.usage.notes]).toEqual([want.tokens, want.logprobs, want.usage.notes]);
  });

  test('of a chat the same is held that scope "context" covers of one request', async () => {
    const [, given, asked] = cases[0];
    const { held } = await hold(given, knorm);
    const want = await generation(engine, asked, knorm, { maxTokens: 6 });
    const { bytes_shared: _, bytes_peak, ...usage } = (await mounted(engine, held, asked, { maxTokens: 6 })).usage;
    expect({ ...usage, bytes_peak: want.usage.bytes_peak }).toEqual(want.usage);
    expect(usage.scope).toBe('context');
    expect(bytes_peak).toBeLessThanOrEqual(want.usage.bytes_peak);
  });

  test('words that a tokenizer would join across the seam are tokenised in two pieces, and the usage says so', async () => {
    const text = (words: string): PromptInput => ({ kind: 'text', text: words });
    const words = document + anna;
    const all = engine.tokenise(text(words));
    const joined = (cut: number): boolean => engine.tokenise(text(words.slice(0, cut))).some((token, i) => token !== all[i]);
    const cut = Array.from(words, (_, i) => i).findIndex((i) => i > 20 && joined(i));
    const [start, rest] = [words.slice(0, cut), words.slice(cut)];
    const { held } = await hold(text(start), 'no_press');
    const whole = engine.tokenise(text(start + rest));
    expect(held.tokens).not.toEqual(whole.slice(0, held.tokens.length));
    const { usage, tokens } = await mounted(engine, held, text(start + rest), { maxTokens: 4 });
    expect(usage.notes).toEqual([expect.stringMatching(/made in two pieces/)]);
    const pieces = [...held.tokens, ...engine.tokenise(text(rest))];
    expect((await mounted(engine, held, pieces, { maxTokens: 4 })).tokens).toEqual(tokens);
  });
});

describe('refusals', () => {
  test('a prompt that does not go on behind the context', async () => {
    const { held } = await hold(context, 'knorm');
    for (const [prompt, message] of [
      [context, /ends where the context does, after \d+ tokens/],
      [context.slice(0, 9), /token 9 is missing, not \d+/],
      [[...context.slice(0, 5), 7, ...context.slice(6), 8], /token 5 is 7, not \d+/],
    ] as const) {
      const refused = { code: 'context_mismatch', param: 'prompt', message: expect.stringMatching(message) };
      expect(await failure(mounted(engine, held, prompt))).toMatchObject(refused);
    }
    expect(await failure(mounted(engine, held, { kind: 'text', text: 'Anna' }))).toMatchObject({ code: 'context_mismatch' });
    expect(await failure(mounted(engine, held, [...context, 1536]))).toMatchObject({ code: 'token_unknown' });
    expect(await failure(mounted(engine, held, [...context, ...Array(1000).fill(5)]))).toMatchObject({ code: 'prompt_too_long' });
  });

  test('what cannot be held', async () => {
    expect(await failure(hold([], 'no_press'))).toMatchObject({ code: 'prompt_empty' });
    expect(await failure(hold(Array(1024).fill(5), 'no_press'))).toMatchObject({ code: 'prompt_too_long' });
    expect(await failure(hold(context.slice(0, 20), { preset: 'snapkv', compression_ratio: 0.8 }))).toMatchObject({ code: 'press_prompt_short' });
    expect(await failure(hold({ kind: 'text', text: '' }, 'no_press'))).toMatchObject({ code: 'prompt_empty' });
  });

  test('as many contexts as half of the sequences, those that are being read among them', async () => {
    const { most } = engine.health().contexts;
    expect(most).toBe(8);
    const watched = await Promise.allSettled(
      Array.from({ length: most + 2 }, (_, i) => engine.hold({ prompt: promptOf([5, 6, 7 + i]), press: parsePress('no_press') })),
    );
    for (const one of watched) if (one.status === 'fulfilled') opened.push(one.value);
    expect(opened.length).toBe(most);
    for (const one of watched) if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'contexts_full' });
    expect(await failure(hold([5, 6, 7], 'no_press'))).toMatchObject({ code: 'contexts_full' });
    await generation(engine, tokens, 'no_press', { maxTokens: 1 });
    opened[3].close();
    await hold([5, 6, 7], 'no_press');
  });

  test('the context of another engine', async () => {
    const other = await openGolden('needle', { contextLength: 512 });
    const { held } = await hold(context, 'no_press');
    expect(await failure(mounted(other, held, tokens))).toMatchObject({ code: 'context_closed' });
    other.close();
  });

  describe('a pool that contexts fill', () => {
    let little: EdgeEngine; // 256 pages of 16 f32 entries, 21 for each of 12 lists
    beforeAll(async () => {
      little = await openGolden('needle', { contextLength: 1024, kvPoolBytes: 2 ** 20 });
    });
    afterAll(() => little.close());
    const document = sampleOf(256).slice(0, 230); // 15 pages a list

    test('what never fits beside them is refused with what they take; without a length an answer has what is left', async () => {
      const { held } = await holdWatched(little, document, 'no_press');
      expect(memory(little)).toEqual({ used: held.bytes, reserved: 0, running: 0, contexts: 1 });
      const refused = await failure(generation(little, document, 'no_press', { maxTokens: 4 }));
      const taken = String.raw`\(${held.bytes} bytes\) of them taken by held contexts`;
      expect(refused).toMatchObject({ code: 'kv_budget_exceeded', message: expect.stringMatching(taken) });
      expect((refused as Error).message).toMatch(/compression_ratio 0\.\d+ fits.*; so would closing contexts/);
      expect((await little.plan({ prompt: promptOf(document), press: parsePress('no_press'), maxTokens: 4 })).fits).toBe(false);
      const tooMuch = { code: 'kv_budget_exceeded', message: expect.stringMatching(/beside its context.*fewer tokens/) };
      expect(await failure(mounted(little, held, [...document, 5], { maxTokens: 200 }))).toMatchObject(tooMuch);
      const open = await mounted(little, held, [...document, 5], { maxTokens: null });
      expect(open.usage.notes.join()).toMatch(/the KV pool has room for \d+ tokens/);
      expect(open.tokens.length).toBeGreaterThan(20);
      held.close();
      await generation(little, document, 'no_press', { maxTokens: 4 });
      expect(memory(little)).toEqual(nothing);
    });

    test('who waits for pages that a context then takes for good is told; so is who waits for one that is closed', async () => {
      const { sampling } = requestOf([], 'no_press', { maxTokens: 20 });
      const first = little.generate(requestOf(document, 'no_press', { maxTokens: 20 }));
      await first.next(); // 16 of 21 pages a list
      const holding = holdWatched(little, document.slice(0, 150), 'no_press');
      const waiting = failure(generation(little, document, 'no_press', sampling)); // fits an empty pool, and not one with that context
      await vi.waitUntil(() => little.health().requests.waiting === 2, { interval: 1 });
      await first.return();
      const { held } = await holding;
      expect(await waiting).toMatchObject({ code: 'kv_budget_exceeded', message: expect.stringMatching(/taken by held contexts/) });

      const second = little.generate(requestOf(document.slice(0, 130), 'no_press', { maxTokens: 20 }));
      await second.next(); // with the context all but one or two pages a list
      const mount = failure(mounted(little, held, [...document.slice(0, 150), 5], { maxTokens: 40 }));
      await vi.waitUntil(() => little.health().requests.waiting === 1, { interval: 1 });
      held.close();
      expect(await mount).toMatchObject({ code: 'context_closed' });
      await second.return();
      expect(memory(little)).toEqual(nothing);
    });
  });
});

describe('everything is given back', () => {
  const press = { preset: 'zigzag_adakv_snapkv', window_size: 4, compression_ratio: 0.5 };
  const evicting = [press, { preset: 'tova', schedule: { name: 'decoding', interval: 5, target_size: 40 } }];

  test.each([
    ['a press on the prompt', press],
    ['a press that acts while decoding', evicting],
  ])('aborted or left at any event: %s', async (_, press) => {
    const { held, sequence } = await hold(context, press);
    engine.backend.trim();
    const left = { ...memory(), heap: engine.health().memory.used_bytes };
    const now = () => {
      engine.backend.trim();
      return { ...memory(), heap: engine.health().memory.used_bytes };
    };
    const before = await hashOf(engine.backend, sequence, shape);
    const request = { prompt: promptOf(tokens), held, sampling: requestOf([], 'no_press', { maxTokens: 30 }).sampling };
    for (const at of [0, 1, 2, 5, 9, 14]) {
      const abort = new AbortController();
      let events = 0;
      if (at === 0) queueMicrotask(() => abort.abort(reason));
      const run = async (): Promise<void> => {
        for await (const _ of engine.generate(request, abort.signal)) if (++events === at) abort.abort(reason);
      };
      expect(await failure(run())).toBe(reason);
      expect(now()).toEqual(left);
      for await (const _ of engine.generate(request)) if (--events <= 0) break;
      expect(now()).toEqual(left);
    }
    for (const calls of [0, 1, 3, 9]) {
      const abort = new AbortController();
      const { rmsNorm } = WasmBackend.prototype;
      let seen = 0;
      const spy = vi.spyOn(WasmBackend.prototype, 'rmsNorm').mockImplementation(function (this: WasmBackend, ...args) {
        if (++seen === calls) abort.abort(reason);
        rmsNorm.apply(this, args);
      });
      if (calls === 0) abort.abort(reason);
      expect(await failure(engine.hold({ prompt: promptOf(context), press: parsePress(press) }, abort.signal))).toBe(reason);
      spy.mockRestore();
      expect(now()).toEqual(left);
    }
    expect(await hashOf(engine.backend, sequence, shape)).toBe(before);
  });

  test('a fault anywhere in the backend, while a context is read, and while it is mounted', async () => {
    const part = context.slice(0, 60);
    const question = [...part, 9, 8, 7];
    const asked = { maxTokens: 12, seed: 1 };
    const { held, sequence } = await hold(part, evicting);
    const before = await hashOf(engine.backend, sequence, shape);
    const expected = await mounted(engine, held, question, asked);
    expect(expected.usage.decoding!.compressions).toBeGreaterThan(0);
    const runs: [name: string, run: () => Promise<unknown>][] = [
      ['hold', async () => (await engine.hold({ prompt: promptOf(part), press: parsePress(evicting), seed: 1 })).close()],
      ['mount', () => mounted(engine, held, question, asked)],
    ];
    const left = memory();
    const faults = failingBackend();
    for (const [name, run] of runs) {
      expect(await faults.count(run), name).toBeGreaterThan(200);
      await faults.tryAll(run, { all: 25, some: 35 }, () => expect(memory(), name).toEqual(left));
    }
    vi.restoreAllMocks();
    expect((await mounted(engine, held, question, asked)).tokens).toEqual(expected.tokens);
    expect(await hashOf(engine.backend, sequence, shape)).toBe(before);
  });

  test('an engine that is closed takes contexts, and those who have them mounted, with it', async () => {
    const other = await openGolden('needle', { contextLength: 512, kvPoolBytes: 2 ** 20 });
    const { held } = await holdWatched(other, context, evicting);
    const running = [0, 1].map(() => failure(mounted(other, held, tokens, { maxTokens: 200 })));
    const reading = failure(other.hold({ prompt: promptOf(context), press: parsePress(press) }));
    await new Promise((resolve) => setTimeout(resolve, 10));
    other.close();
    for (const one of await Promise.all([...running, reading])) expect(one).toMatchObject({ code: 'model_closed' });
    expect([other.health().memory.used_bytes, other.health().contexts]).toEqual([0, { held: 0, most: 8, bytes: 0 }]);
    held.close();
    expect(await failure(mounted(other, held, tokens))).toMatchObject({ code: 'model_closed' });
    expect(await failure(other.hold({ prompt: promptOf(context), press: parsePress('no_press') }))).toMatchObject({ code: 'model_closed' });
  });

  test('150 steps at random: contexts come and go, requests mount them, some are aborted; nothing stays, and no answer is another', async () => {
    const random = new Random(77);
    const watch = watchPages();
    const presses = [press, 'no_press', evicting, { preset: 'finch', window_size: 4, compression_ratio: 0.4, entry_type: 'int8' }];
    const contexts: { held: Held; sequence: KvSequence; hash: string; answers: Map<number, string> }[] = [];
    const counts = { held: 0, answered: 0, aborted: 0, closed: 0 };
    const running = new Set<Promise<void>>();
    const ask = async ({ held, answers }: (typeof contexts)[number]): Promise<void> => {
      const which = random.int(0, 3);
      const question = [...held.tokens, ...Array.from({ length: 2 + 3 * which }, (_, i) => 40 + which * 100 + i)];
      const abort = new AbortController();
      const at = random.next() < 0.25 ? random.int(0, 6) : -1;
      let seen = '';
      let events = 0;
      if (at === 0) queueMicrotask(() => abort.abort(reason));
      const { sampling } = requestOf([], 'no_press', { maxTokens: 14, seed: which });
      try {
        for await (const event of engine.generate({ prompt: promptOf(question), held, sampling }, abort.signal)) {
          if (event.type === 'text') seen += `${event.tokenIds} `;
          if (++events === at) abort.abort(reason);
        }
      } catch (error) {
        if (error === reason) counts.aborted++;
        else if ((error as { code?: string }).code !== 'context_closed') throw error;
        return;
      }
      expect(seen).toBe(answers.get(which) ?? seen);
      answers.set(which, seen);
      counts.answered++;
    };
    for (let step = 0; step < 150; step++) {
      const what = random.next();
      if (contexts.length === 0 || (what < 0.15 && contexts.length < 5)) {
        const { held, sequence } = await hold(tokens.slice(0, random.int(30, 90)), random.pick(presses));
        contexts.push({ held, sequence, hash: await hashOf(engine.backend, sequence, shape), answers: new Map() });
        counts.held++;
      } else if (what < 0.25) {
        const [{ held, sequence, hash }] = contexts.splice(random.int(0, contexts.length - 1), 1);
        expect(await hashOf(engine.backend, sequence, shape)).toBe(hash);
        held.close();
        counts.closed++;
      } else {
        const run = ask(random.pick(contexts)).finally(() => running.delete(run));
        running.add(run);
        if (running.size > 6 || random.next() < 0.2) await Promise.race(running);
      }
    }
    await Promise.all(running);
    for (const { sequence, hash } of contexts) expect(await hashOf(engine.backend, sequence, shape)).toBe(hash);
    expect(watch.caches.size).toBe(1);
    for (const cache of watch.caches) cache.ledger.check();
    expect(counts.answered).toBeGreaterThan(60);
    expect(Math.min(counts.aborted, counts.closed, counts.held)).toBeGreaterThan(8);
  });
});
