/** Pressed contexts over HTTP in Node: made, asked about, listed, deleted; a folder keeps them, the engine is real, and nothing is left of what fails or is given up. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { parsePress } from '../presses/config.ts';
import { createApp } from '../worker/api/app.ts';
import { ownerOf } from '../worker/contexts/bounds.ts';
import { ContextDirectory } from '../worker/contexts/directory.ts';
import { DEFAULT_QUOTA, type Quota } from '../worker/contexts/quota.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { bytesOf } from '../worker/engine/pressed/write.ts';
import { filesOfBytes } from '../worker/engine/weights/source.ts';
import * as wire from '../worker/wire/answer-schema.ts';
import { failingBackend } from './support/failing-backend.ts';
import { openGolden } from './support/golden.ts';
import { Random } from './support/random.ts';
import { samples } from './support/samples.ts';

type Context = (typeof wire.context)['_output'];
type Completion = (typeof wire.chatCompletion)['_output'];

const press = { preset: 'keydiff', compression_ratio: 0.3 };
const sample = samples().find((s) => s.task === 'niah_multikey' && s.context_length === 256)!;
const other = samples().find((s) => s.task === 'niah_multikey' && s.context_length === 512)!;
const documentOf = ({ context }: typeof sample) => [{ role: 'user', content: `${context}\n` }];
const questionOf = ({ question }: typeof sample) => [{ role: 'user', content: question }];
const wholeOf = ({ context, question }: typeof sample) => [
  { role: 'user', content: [`${context}\n`, question].map((text) => ({ type: 'text', text })) },
];

let engine: EdgeEngine;
let folder: string;
beforeAll(async () => {
  engine = await openGolden('needle', { contextLength: 1024, kvPoolBytes: 3 << 20 });
});
afterAll(() => engine.close());
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'contexts-'));
});
const closers: (() => void)[] = [];
afterEach(() => {
  vi.restoreAllMocks();
  for (const close of closers.splice(0)) close();
  rmSync(folder, { recursive: true, force: true });
  const { memory, contexts, requests } = engine.health();
  expect({ used: memory.kv_used_bytes, reserved: memory.kv_reserved_bytes, ...requests, contexts: contexts.held }).toEqual({
    used: 0,
    reserved: 0,
    running: 0,
    waiting: 0,
    contexts: 0,
  });
});

interface Setting {
  readonly keys?: string[];
  readonly quota?: Quota;
  readonly on?: EdgeEngine;
  readonly shipped?: Record<string, Uint8Array>;
}

function serve({ keys = [], quota = DEFAULT_QUOTA, on = engine, shipped = {} }: Setting = {}) {
  const logged: unknown[] = [];
  const store = new ContextDirectory(folder, { quota });
  const opened = vi.spyOn(on, 'hold');
  const mounted = vi.spyOn(on, 'mount');
  // What stays in memory is closed at the test's end, as an engine does that closes.
  closers.push(() => {
    for (const { mock } of [opened, mounted]) for (const { value } of mock.settledResults) (value as { close?: () => void })?.close?.();
  });
  const app = createApp({
    engine: async () => on,
    contexts: () => store,
    shippedContexts: () => filesOfBytes(shipped),
    apiKeys: keys,
    log: (line, error) => logged.push([line, error]),
  });
  const call = async <T>(method: string, path: string, body?: unknown, key = keys[0], init: RequestInit = {}) => {
    const headers: Record<string, string> = { 'content-type': 'application/json', ...(key && { authorization: `Bearer ${key}` }) };
    const sent = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
    const response = await app.request(path, { method, headers, body: sent, ...init });
    const text = await response.text();
    const json = response.headers.get('content-type')?.includes('json') ? JSON.parse(text) : text;
    return { status: response.status, headers: response.headers, body: json as T };
  };
  const must = async <T>(method: string, path: string, body?: unknown, key?: string): Promise<T> => {
    const answer = await call<T>(method, path, body, key);
    if (answer.status !== 200) throw new Error(JSON.stringify(answer.body));
    return answer.body;
  };
  const error = async (method: string, path: string, body?: unknown, key?: string) => {
    const { status, headers, body: answer } = await call(method, path, body, key);
    return { status, ...wire.errorEnvelope.parse(answer).error, retry: headers.get('retry-after') };
  };
  return {
    store,
    opened,
    mounted,
    logged,
    call,
    error,
    make: async (body: object = { messages: documentOf(sample), press }, key?: string) =>
      wire.context.parse(await must<Context>('POST', '/v1/contexts', body, key)),
    chat: async (body: object, key?: string) =>
      wire.chatCompletion.parse(await must<Completion>('POST', '/v1/chat/completions', { temperature: 0, max_tokens: 24, ...body }, key)),
    complete: async (body: object) => wire.textCompletion.parse(await must('POST', '/v1/completions', { temperature: 0, ...body })),
    list: async (query = '', key?: string) => wire.contextList.parse(await must('GET', `/v1/contexts${query}`, undefined, key)),
  };
}

/** Contexts, what is being written, and what is being removed. */
const leftIn = (of: string) => readdirSync(of, { recursive: true }).filter((name) => String(name).includes('ctx_'));

const textOf = ({ choices }: Completion) => choices[0].message.content;
const cached = ({ usage }: { usage?: (typeof wire.chatCompletion)['_output']['usage'] | null }) => usage!.prompt_tokens_details.cached_tokens;

describe('a context is made once and asked about', () => {
  test('the answer behind it is that of the whole request, and only the question is read', async () => {
    const { make, chat, opened, mounted } = serve();
    const context = await make({ messages: documentOf(sample), press, ttl: 60, metadata: { title: 'a' } });
    expect(context).toMatchObject({
      object: 'context',
      press: 'keydiff',
      model: 'needle',
      metadata: { title: 'a' },
      entry_type: 'f32',
      scope: 'context',
    });
    expect(context.expires_at - context.created_at).toBe(60);
    expect(context.kept_per_layer).toHaveLength(6);
    expect(context.kept).toBe(Math.floor(context.tokens * 0.7));
    const one = await chat({ context: context.id, messages: questionOf(sample) });
    const whole = await chat({ messages: wholeOf(sample), press, context: false });
    expect(textOf(one)).toBe(textOf(whole));
    expect(one.context).toBe(context.id);
    expect([cached(one), cached(whole), whole.context]).toEqual([context.tokens, 0, undefined]);
    expect(one.usage.prompt_tokens).toBe(whole.usage.prompt_tokens);
    const { bytes_shared, bytes_peak: _, ...account } = one.usage.kv_cache;
    expect(bytes_shared).toBeGreaterThan(0);
    expect(bytes_shared).toBeLessThanOrEqual(context.bytes_mounted);
    const { bytes_peak: __, ...want } = whole.usage.kv_cache;
    expect(account).toEqual(want);
    expect([opened.mock.calls.length, mounted.mock.calls.length]).toEqual([1, 0]); // it stayed in memory
  });

  test('several at once, streamed or not, get what each gets alone; the stored bytes never change', async () => {
    const { make, chat, call, store } = serve();
    const { id } = await make();
    const read = async () => {
      const bytes: Uint8Array[] = [];
      for await (const chunk of (await store.read(await ownerOf(null), id))!.chunks) bytes.push(chunk.slice());
      return Buffer.concat(bytes);
    };
    const before = await read();
    const questions = ['Where does Anna live?', sample.question, 'What is it?', 'Name every city.'];
    const body = (content: string) => ({ context: id, messages: [{ role: 'user', content }], temperature: 0, max_tokens: 24 });
    const alone = [];
    for (const question of questions) alone.push(textOf(await chat(body(question))));
    const streamed = async (question: string) => {
      const { body: text, headers } = await call<string>('POST', '/v1/chat/completions', { ...body(question), stream: true });
      expect(headers.get('content-type')).toContain('text/event-stream');
      const chunks = text
        .split('\n\n')
        .flatMap((event) => (event.startsWith('data: {') ? [wire.chatCompletionChunk.parse(JSON.parse(event.slice(6)))] : []));
      expect(new Set(chunks.map(({ context }) => context))).toEqual(new Set([id]));
      expect(cached(chunks.at(-1)!)).toBeGreaterThan(0);
      return chunks.map(({ choices }) => choices[0].delta.content ?? '').join('');
    };
    const together = await Promise.all([...questions.map(async (question) => textOf(await chat(body(question)))), ...questions.map(streamed)]);
    expect(together).toEqual([...alone, ...alone]);
    expect(await read()).toEqual(before);
  });

  test('after a restart it is read from the folder, once for all who ask, and answers the same', async () => {
    const { make, chat } = serve();
    const { id } = await make();
    const want = await chat({ context: id, messages: questionOf(sample) });
    const again = serve();
    const seen = await Promise.all([1, 2, 3, 4].map(() => again.chat({ context: id, messages: questionOf(sample) })));
    for (const { choices, usage } of seen) expect([choices, usage]).toEqual([want.choices, want.usage]);
    expect(again.mounted.mock.calls.length).toBe(1);
    await again.chat({ context: id, messages: questionOf(sample) });
    expect(again.mounted.mock.calls.length).toBe(1);
  });

  test('a text is gone on behind by /v1/completions, and any context by token ids', async () => {
    const { make, complete } = serve();
    const text = 'Anna lives in Oslo. Boris lives in Rome. Clara lives in Bonn.\n';
    const { id, tokens } = await make({ text, press: { preset: 'no_press', entry_type: 'f16' } });
    const asked = { prompt: 'Where does Boris live?', max_tokens: 6 };
    const seen = await complete({ ...asked, context: id });
    const want = await complete({ ...asked, prompt: text + asked.prompt, context: false, press: { preset: 'no_press', entry_type: 'f16' } });
    expect(seen.choices).toEqual(want.choices);
    expect([cached(seen), seen.usage!.kv_cache.entry_type]).toEqual([tokens, 'f16']);
    const ids = [...engine.tokenise({ kind: 'text', text: text + asked.prompt })].slice(tokens);
    expect((await complete({ ...asked, prompt: ids, context: id })).choices).toEqual(want.choices);
    const chat = await make();
    expect(cached(await complete({ prompt: ids, context: chat.id, max_tokens: 2 }))).toBe(chat.tokens);
  });

  test('a conversation goes on behind it: questions, answers, the next question', async () => {
    const { make, chat } = serve();
    const talk = [...wholeOf(sample), { role: 'assistant', content: ' 1234' }];
    const next = { role: 'user', content: 'Where does Anna live?' };
    const { id, tokens } = await make({ messages: talk });
    const seen = await chat({ context: id, messages: [next] });
    const want = await chat({ messages: [...talk, next], context: false });
    expect([textOf(seen), cached(seen), seen.usage.prompt_tokens]).toEqual([textOf(want), tokens, want.usage.prompt_tokens]);
    const document = await make({ messages: documentOf(sample) });
    const later = [...questionOf(sample), { role: 'assistant', content: ' 1234' }, next];
    const all = [...wholeOf(sample), { role: 'assistant', content: ' 1234' }, next];
    const [one, two] = [await chat({ context: document.id, messages: later }), await chat({ messages: all, context: false })];
    expect([textOf(one), one.usage.prompt_tokens]).toEqual([textOf(two), two.usage.prompt_tokens]);
  });

  test('a press that acts while decoding goes on acting', async () => {
    const { make, chat } = serve();
    const acting = {
      preset: 'snapkv',
      window_size: 8,
      compression_ratio: 0.25,
      schedule: { name: 'prefill_and_decoding', interval: 16, target_size: 120 },
    };
    const { id } = await make({ messages: documentOf(sample), press: acting });
    const long = { max_tokens: 60, ignore_eos: true };
    const want = await chat({ messages: wholeOf(sample), press: acting, context: false, ...long });
    const again = serve(); // from the file, queries and all
    const seen = await again.chat({ context: id, messages: questionOf(sample), ...long });
    expect(want.usage.kv_cache.decoding!.compressions).toBeGreaterThan(2);
    expect([textOf(seen), seen.usage.kv_cache.decoding]).toEqual([textOf(want), want.usage.kv_cache.decoding]);
  });
});

describe('what is refused, by name', () => {
  test('another press, another model', async () => {
    const { make, error, chat, opened } = serve();
    const { id } = await make();
    const ask = (more: object) => error('POST', '/v1/chat/completions', { context: id, messages: questionOf(sample), ...more });
    expect(await ask({ press: { ...press, compression_ratio: 0.5 } })).toMatchObject({
      status: 400,
      code: 'context_press_mismatch',
      param: 'press',
      message: `context ${id}: its press is "keydiff" with compression_ratio 0.3, and "keydiff" with compression_ratio 0.5 was asked for; leave press out, or press the document anew`,
    });
    expect(await ask({ press: 'no_press' })).toMatchObject({ status: 400, code: 'context_press_mismatch' });
    expect((await ask({ press: { ...press, entry_type: 'int8' } })).message).toContain('its entries are f32, and entry_type "int8" was asked for');
    await chat({ context: id, messages: questionOf(sample), press }); // the same is no other
    const tiny = await openGolden('llama');
    try {
      const elsewhere = serve({ on: tiny });
      const refused = await elsewhere.error('POST', '/v1/chat/completions', { context: id, messages: questionOf(sample) });
      expect(refused).toMatchObject({ status: 400, code: 'context_model_mismatch', param: 'context' });
      expect(refused.message).toContain(`context ${id} is of model "needle"`);
      expect(elsewhere.mounted.mock.calls.length).toBe(0);
    } finally {
      tiny.close();
    }
    expect(opened.mock.calls.length).toBe(1);
  });

  test('what cannot go on behind it', async () => {
    const { make, error } = serve();
    const [chat, text] = [await make(), await make({ text: 'Anna lives in Oslo.' })];
    const answers = [
      await error('POST', '/v1/completions', { context: chat.id, prompt: 'and' }),
      await error('POST', '/v1/chat/completions', { context: text.id, messages: questionOf(sample) }),
      await error('POST', '/v1/chat/completions', { context: chat.id, messages: [{ role: 'system', content: 'Be brief.' }, ...questionOf(sample)] }),
    ];
    expect(answers.map(({ status, code, param }) => [status, code, param])).toEqual([
      [400, 'context_mismatch', 'context'],
      [400, 'context_mismatch', 'context'],
      [400, 'context_mismatch', 'messages.0.role'],
    ]);
    expect(answers[0].message).toContain('the context was made of messages, and a text cannot go on behind it');
  });

  test('contexts of another key, and ids that never were: the same 404, whatever is asked', async () => {
    const { make, call, chat, list } = serve({ keys: ['a', 'b'] });
    const { id } = await make(undefined, 'a');
    const never = `ctx_${'0'.repeat(32)}`;
    for (const [method, path, body] of [
      ['GET', '/v1/contexts/ID'],
      ['DELETE', '/v1/contexts/ID'],
      ['POST', '/v1/chat/completions', { context: 'ID', messages: questionOf(sample) }],
      ['POST', '/v1/completions', { context: 'ID', prompt: 'x' }],
    ] as const) {
      const asked = async (of: string) => {
        const { status, body: answer } = await call(method, path.replace('ID', of), body && JSON.stringify(body).replace('ID', of), 'b');
        return [status, JSON.stringify(answer).replaceAll(of, 'ID')];
      };
      expect(await asked(id)).toEqual(await asked(never));
      expect((await asked(id))[0]).toBe(404);
    }
    expect((await list('', 'b')).data).toEqual([]);
    expect((await list('', 'a')).data.map((one) => one.id)).toEqual([id]);
    expect((await chat({ messages: wholeOf(sample), press }, 'b')).context).toBeUndefined(); // nor does its prefix tell
    expect((await chat({ messages: wholeOf(sample), press }, 'a')).context).toBe(id);
    expect((await call('GET', '/v1/contexts', undefined, 'c')).status).toBe(401);
  });

  test('a server that keeps none says how it would, and answers as ever', async () => {
    const app = createApp({ engine: async () => engine });
    const post = (path: string, body: object) => app.request(path, { method: 'POST', body: JSON.stringify(body) });
    const refused = await post('/v1/contexts', { messages: documentOf(sample), press });
    expect([refused.status, (await refused.json()).error.code]).toEqual([404, 'contexts_unavailable']);
    const answer = await post('/v1/chat/completions', { messages: wholeOf(sample), press, temperature: 0, max_tokens: 4 });
    expect([answer.status, cached(await answer.json())]).toEqual([200, 0]);
    expect((await (await app.request('/health')).json()).contexts.per_key).toBeNull();
  });

  test.each([
    [{}, 'missing_field', null],
    [{ messages: documentOf(sample), text: 'x' }, 'invalid_value', 'text'],
    [{ text: '' }, 'invalid_value', 'text'],
    [{ text: 'x', ttl: 0 }, 'invalid_value', 'ttl'],
    [{ text: 'x', ttl: 40_000_000 }, 'invalid_value', 'ttl'],
    [{ text: 'x', metadata: { a: 1 } }, 'invalid_type', 'metadata.a'],
    [{ text: 'x', metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, ''])) }, 'invalid_value', 'metadata'],
    [{ text: 'x', pres: 'knorm' }, 'unknown_field', 'pres'],
    [{ text: 'x', press: 'knrm' }, 'press_unknown', 'press'],
    [{ text: 'x', model: 'other' }, 'model_not_found', 'model'],
    [{ text: 'word '.repeat(5000) }, 'context_length_exceeded', 'text'],
    [{ text: 'x', press: { preset: 'snapkv', scope: { protect_last: 90 } } }, 'press_scope', 'press.scope.protect_last'],
  ])('POST /v1/contexts %j: %s', async (body, code, param) => {
    const { error } = serve();
    const seen = await error('POST', '/v1/contexts', body);
    expect(seen).toMatchObject({ code, param });
    expect([400, 404]).toContain(seen.status);
    expect(await readdir(folder)).toEqual([]);
  });
});

describe('contexts that came with the server', () => {
  const messages = [{ role: 'user', parts: [`${sample.context}\n`] }];
  const written = async (entry_type: 'f32' | 'int8') => {
    const held = await engine.hold({ prompt: { kind: 'chat', messages }, press: parsePress({ ...press, entry_type }) });
    const bytes = await bytesOf(engine.writePressed(held, { entryType: entry_type }));
    held.close();
    return bytes;
  };

  test('are asked about by name, by every key, and read once', async () => {
    const { chat, mounted, list } = serve({ keys: ['a', 'b'], shipped: { 'otters-1.0.pressed.safetensors': await written('f32') } });
    const want = await chat({ messages: wholeOf(sample), press, context: false }, 'a');
    const seen = await Promise.all(['a', 'b', 'a'].map((key) => chat({ context: 'otters-1.0', messages: questionOf(sample) }, key)));
    for (const one of seen) expect([textOf(one), one.context]).toEqual([textOf(want), 'otters-1.0']);
    expect([mounted.mock.calls.length, (await list('', 'a')).data]).toEqual([1, []]);
  });

  test('another press, a name that nothing has, a damaged file', async () => {
    const file = await written('int8');
    const damaged = file.slice();
    damaged[damaged.length >> 1] ^= 1;
    const { error, logged } = serve({ shipped: { 'whole.pressed.safetensors': file, 'damaged.pressed.safetensors': damaged } });
    const ask = (context: string, more: object = {}) => error('POST', '/v1/chat/completions', { context, messages: questionOf(sample), ...more });
    expect(await ask('whole', { press: 'knorm' })).toMatchObject({ status: 400, code: 'context_press_mismatch' });
    expect(await ask('nothing')).toMatchObject({ status: 404, code: 'context_not_found', param: 'context' });
    for (const name of ['../whole', 'whole/', '', '.', 'ctx_whole'])
      expect(await ask(name)).toMatchObject({ status: 404, code: 'context_not_found' });
    expect(logged).toEqual([]);
    expect(await ask('damaged')).toMatchObject({ status: 500, code: 'context_file_invalid' });
    expect(logged.length).toBe(1);
    expect(engine.health().contexts.held).toBe(1); // the whole one
  });
});

describe('lists, deletes, quotas', () => {
  const small = (text: string) => ({ text, press: { preset: 'no_press', entry_type: 'int8' } });

  test('pages are newest first, by "next" or by the last id; what is deleted is gone, in memory too', async () => {
    const { make, list, call, error } = serve();
    const ids: string[] = [];
    for (const text of ['one', 'two', 'three', 'four', 'five']) ids.unshift((await make(small(text))).id);
    const first = await list('?limit=2');
    expect([first.data.map(({ id }) => id), first.has_more]).toEqual([ids.slice(0, 2), true]);
    for (const after of [first.next!, ids[1]]) expect((await list(`?limit=2&after=${after}`)).data.map(({ id }) => id)).toEqual(ids.slice(2, 4));
    expect(await list(`?after=${ids[3]}`)).toMatchObject({ data: [{ id: ids[4] }], has_more: false, next: null });
    expect(wire.context.parse((await call('GET', `/v1/contexts/${ids[2]}`)).body)).toEqual((await list()).data[2]);
    const held = engine.health().contexts.held;
    expect((await call('DELETE', `/v1/contexts/${ids[2]}`)).body).toEqual({ id: ids[2], object: 'context.deleted', deleted: true });
    expect(engine.health().contexts.held).toBe(held - 1);
    expect(await error('DELETE', `/v1/contexts/${ids[2]}`)).toMatchObject({ status: 404, code: 'context_not_found' });
    expect((await list()).data.map(({ id }) => id)).toEqual(ids.filter((_, i) => i !== 2));
    for (const [query, param] of [
      ['limit=0', 'limit'],
      ['limit=101', 'limit'],
      ['limit=x', 'limit'],
      ['after=x', 'after'],
      [`after=ctx_${'0'.repeat(32)}`, 'after'],
      ['before=x', 'before'],
    ])
      expect(await error('GET', `/v1/contexts?${query}`)).toMatchObject({ status: 400, param });
  });

  test('one that is over is as absent', async () => {
    const { make, error } = serve();
    const { id } = await make({ ...small('one'), ttl: 1 });
    const soon = Date.now() + 1001;
    const later = createApp({ engine: async () => engine, contexts: () => new ContextDirectory(folder, { now: () => soon }) });
    expect((await later.request(`/v1/contexts/${id}`)).status).toBe(404);
    expect((await error('GET', `/v1/contexts/ctx_x`)).status).toBe(404);
  });

  test('the quota counts contexts: one more is a 429 before it is read, with what is held and what is allowed', async () => {
    const { make, error, call, opened } = serve({ quota: { count: 2, bytes: 1 << 30 } });
    const { id } = await make(small('one'));
    await make(small('two'));
    const seen = await error('POST', '/v1/contexts', small('three'));
    expect(seen).toMatchObject({ status: 429, type: 'rate_limit_error', code: 'context_quota_exceeded' });
    expect(seen.message).toMatch(/^this key holds 2 of 2 contexts and .* of 1024 MiB: nothing more fits, deleting some makes room/);
    expect(opened.mock.calls.length).toBe(2);
    await call('DELETE', `/v1/contexts/${id}`);
    await make(small('three'));
    expect((await call<{ contexts: object }>('GET', '/health')).body.contexts).toMatchObject({ per_key: { count: 2, bytes: 1 << 30 } });
  });

  test('the quota counts bytes: 429 where deleting helps, 413 where nothing does; nothing of it stays', async () => {
    const { make, error } = serve({ quota: { count: 9, bytes: 300_000 } });
    await make({ messages: documentOf(sample), press: { ...press, entry_type: 'int8' } });
    const held = engine.health().contexts;
    const more = { messages: documentOf(sample), press: { ...press, entry_type: 'f16' } };
    expect(await error('POST', '/v1/contexts', more)).toMatchObject({ status: 429, code: 'context_quota_exceeded' });
    expect(await error('POST', '/v1/contexts', { messages: documentOf(other) })).toMatchObject({ status: 413, code: 'context_too_large' });
    expect(engine.health().contexts).toEqual(held);
  });
});

describe('a request whose prompt begins as a context does takes it, and answers the same', () => {
  const long = { logprobs: true, top_logprobs: 2, max_tokens: 30 };

  test.each([
    ['keydiff', press],
    ['zigzag, int8', { preset: 'zigzag_snapkv', window_size: 8, compression_ratio: 0.5, entry_type: 'int8' }],
    ['random, by its own seed', { preset: 'random', seed: 5, compression_ratio: 0.5 }],
    [
      'composed',
      [
        { preset: 'snapkv', window_size: 8, compression_ratio: 0.3 },
        { preset: 'knorm', compression_ratio: 0.2 },
      ],
    ],
    ['while decoding too', { preset: 'tova', compression_ratio: 0.3, schedule: { name: 'prefill_and_decoding', interval: 9, target_size: 100 } }],
  ])('%s: bit for bit', async (_, press) => {
    const { make, chat, list } = serve();
    const { id, tokens } = await make({ messages: documentOf(sample), press });
    const seen = await chat({ messages: wholeOf(sample), press, ...long });
    const want = await chat({ messages: wholeOf(sample), press, ...long, context: false });
    expect([seen.context, cached(seen), cached(want)]).toEqual([id, tokens, 0]);
    expect(seen.choices).toEqual(want.choices);
    const { bytes_shared: __, bytes_peak: ___, ...account } = seen.usage.kv_cache;
    expect({ ...account, bytes_peak: want.usage.kv_cache.bytes_peak }).toEqual(want.usage.kv_cache);
    expect((await list()).data.map((one) => one.id)).toEqual([id]); // nothing is stored that nobody asked to store
  });

  test('without a press the longest that begins it, whatever follows; the same for a text', async () => {
    const { make, chat, complete } = serve();
    const talk = [...wholeOf(sample), { role: 'assistant', content: ' 1234' }];
    const [short, longer] = [await make({ messages: documentOf(sample) }), await make({ messages: talk })];
    const next = [...talk, { role: 'user', content: 'Where does Anna live?' }];
    for (const [messages, context] of [
      [next, longer],
      [wholeOf(sample), short],
    ] as const) {
      const [seen, want] = [await chat({ messages }), await chat({ messages, context: false })];
      expect([seen.context, cached(seen), textOf(seen)]).toEqual([context.id, context.tokens, textOf(want)]);
    }
    const text = 'Anna lives in Oslo. Boris lives in Rome.\n';
    const made = await make({ text });
    const prompt = `${text}Where does Boris live?`;
    const [seen, want] = [await complete({ prompt }), await complete({ prompt, context: false })];
    expect([seen.context, seen.choices]).toEqual([made.id, want.choices]);
  });

  test('the same after a restart, streamed', async () => {
    const { id } = await serve().make();
    const { call, mounted, chat } = serve();
    const body = { messages: wholeOf(sample), press, temperature: 0, stream: true, max_tokens: 24 };
    const { body: text } = await call<string>('POST', '/v1/chat/completions', body);
    const chunks = text.split('\n\n').flatMap((event) => (event.startsWith('data: {') ? [JSON.parse(event.slice(6))] : []));
    expect([chunks[0].context, mounted.mock.calls.length]).toEqual([id, 1]);
    const answer = chunks.map(({ choices }) => choices[0].delta.content ?? '').join('');
    expect(answer).toBe(textOf(await chat({ messages: wholeOf(sample), press, context: false })));
  });

  const asked = (press: unknown) => ({ messages: wholeOf(sample), press });
  test.each([
    ['another ratio', press, asked({ ...press, compression_ratio: 0.4 })],
    ['another entry type', press, asked({ ...press, entry_type: 'int8' })],
    ['no press', press, asked(undefined)],
    ['the press covers the question too', press, asked({ ...press, scope: 'prompt' })],
    ['the press covers less', press, asked({ ...press, scope: { protect_last: 60 } })],
    [
      'what stands before the question is longer',
      press,
      { press, messages: [{ role: 'user', content: [`${sample.context}\n`, 'So. ', sample.question].map((text) => ({ type: 'text', text })) }] },
    ],
    ['the context kept its end whole', { ...press, scope: { protect_last: 9 } }, asked(press)],
    ['it draws', { preset: 'random', compression_ratio: 0.3 }, asked({ preset: 'random', compression_ratio: 0.3 })],
    ['it explains', press, asked({ ...press, explain: true })],
    ['its budget counts the answer', { preset: 'knorm', memory_budget: '200KiB' }, asked({ preset: 'knorm', memory_budget: '200KiB' })],
    ['other words', press, { press, messages: wholeOf(other) }],
    ['it says so', press, { ...asked(press), context: false }],
  ])('not where the answer could be another: %s', async (_, press, body) => {
    const { make, chat } = serve();
    await make({ messages: documentOf(sample), press });
    const seen = await chat({ ...body, max_tokens: 2 });
    expect([seen.context, cached(seen), seen.usage.kv_cache.bytes_shared]).toEqual([undefined, 0, undefined]);
  });
});

describe('memory and faults', () => {
  const big = { messages: documentOf(other), press: { preset: 'keydiff', compression_ratio: 0.05 } }; // nearly half of the pool

  test('contexts that nobody uses go for whoever wants room, the one used longest ago first, and come back when they are asked about', async () => {
    const { make, chat, mounted } = serve();
    const [a, b] = [await make(big), await make({ ...big, press: { preset: 'knorm', compression_ratio: 0.05 } })];
    const ask = (id: string) => chat({ context: id, messages: questionOf(other), max_tokens: 6 });
    const [answerA, answerB] = [await ask(a.id), await ask(b.id)];
    expect([engine.health().contexts.held, mounted.mock.calls.length]).toEqual([2, 0]);
    const alone = await chat({ messages: wholeOf(other), context: false, max_tokens: 4 });
    expect([alone.usage.kv_cache.notes, engine.health().contexts.held]).toEqual([[], 1]);
    expect(textOf(await ask(b.id))).toBe(textOf(answerB));
    expect(mounted.mock.calls.length).toBe(0);
    expect(textOf(await ask(a.id))).toBe(textOf(answerA));
    expect(mounted.mock.calls.length).toBe(1);
  });

  test('a blob that was damaged is told by name, and no reason not to answer what can be read', async () => {
    const { id } = await serve().make();
    const file = join(folder, await ownerOf(null), id, 'blob');
    const bytes = await readFile(file);
    bytes[bytes.length >> 1] ^= 1;
    await writeFile(file, bytes);
    const { error, chat, logged } = serve();
    expect(await error('POST', '/v1/chat/completions', { context: id, messages: questionOf(sample) })).toMatchObject({
      status: 500,
      code: 'context_damaged',
      param: 'context',
    });
    expect(logged.length).toBe(1);
    const seen = await chat({ messages: wholeOf(sample), press });
    expect([cached(seen), logged.length]).toEqual([0, 2]);
    expect(engine.health().contexts.held).toBe(1); // the one that made it
  });

  test('whatever call of the device fails while one is made: no context, no file, no page', async () => {
    const { call, logged } = serve();
    const faults = failingBackend();
    const body = { messages: documentOf({ ...sample, context: sample.context.slice(0, 300) }), press };
    const run = async () => {
      const { status, body: answer } = await call<Context>('POST', '/v1/contexts', body);
      if (status !== 200) throw (logged.at(-1) as unknown[])[1];
      expect((await call('DELETE', `/v1/contexts/${answer.id}`)).status).toBe(200);
    };
    await faults.tryAll(run, { all: 3, some: 12 }, () => {
      expect([engine.health().contexts.held, engine.health().memory.kv_used_bytes]).toEqual([0, 0]);
      expect(leftIn(folder)).toEqual([]);
    });
  });

  test('clients that leave while a context is made: it is there whole, or not at all', async () => {
    const { call, list, store } = serve();
    const random = new Random(6);
    let left = 0;
    for (let i = 0; i < 24; i++) {
      const abort = new AbortController();
      const timer = setTimeout(() => abort.abort(), random.int(0, 160));
      const { status } = await call<Context>('POST', '/v1/contexts', { messages: documentOf(sample), press }, undefined, { signal: abort.signal });
      clearTimeout(timer);
      if (status !== 200) left++;
      expect([200, 499]).toContain(status);
      const { data } = await list();
      expect(data.length).toBe(status === 200 ? 1 : 0);
      for (const { id } of data) await call('DELETE', `/v1/contexts/${id}`);
      expect(engine.health().contexts.held).toBe(0);
      expect(leftIn(folder)).toEqual([]);
    }
    expect(left).toBeGreaterThan(6);
    expect((await store.collect()).blobs).toBe(0);
  });

  test('clients that leave while they mount, wait or read give everything back; the others are answered', async () => {
    const { id } = await serve().make();
    const random = new Random(8);
    for (let round = 0; round < 6; round++) {
      const { call, mounted } = serve(); // nothing is in memory
      const body = { context: id, messages: questionOf(sample), temperature: 0, max_tokens: 40, ignore_eos: true };
      const statuses = await Promise.all(
        Array.from({ length: 8 }, async (_, i) => {
          const abort = new AbortController();
          const timer = i < 6 ? setTimeout(() => abort.abort(), random.int(0, 60)) : undefined;
          const { status } = await call('POST', '/v1/chat/completions', { ...body, stream: i % 2 === 0 }, undefined, { signal: abort.signal }).catch(
            () => ({ status: 499 }),
          );
          clearTimeout(timer);
          return status;
        }),
      );
      expect(statuses.slice(6)).toEqual([200, 200]);
      expect(mounted.mock.calls.length).toBe(round + 1);
      await vi.waitUntil(() => engine.health().requests.running === 0, { interval: 2 });
      expect(engine.health().memory.kv_reserved_bytes).toBe(0);
      for (const close of closers.splice(0)) close();
    }
  });

  test('500 bodies with anything in them: an answer or a 4xx, and nothing is left', async () => {
    const { make, call, list, logged } = serve();
    const { id } = await make({ text: 'Anna lives in Oslo.' });
    const random = new Random(7);
    const values = [
      null,
      true,
      false,
      0,
      -1,
      1.5,
      1e300,
      '',
      'x',
      id,
      id.toUpperCase(),
      `${id}/..`,
      '../../etc',
      'ctx_',
      [],
      [id],
      {},
      { a: 'b' },
      '\u0000',
      'é'.repeat(300),
    ];
    const fields = ['messages', 'text', 'press', 'ttl', 'metadata', 'model', 'seed', 'context', 'prompt', 'max_tokens', 'stream'];
    const starts = [
      ['POST', '/v1/contexts', { text: 'Boris lives in Rome.' }],
      ['POST', '/v1/contexts', { messages: questionOf(sample) }],
      ['POST', '/v1/completions', { prompt: 'x', max_tokens: 1, context: id }],
      ['POST', '/v1/chat/completions', { messages: questionOf(sample), max_tokens: 1, context: id }],
    ] as const;
    const seen = new Map<number, number>();
    for (let i = 0; i < 500; i++) {
      const [method, path, body] = random.pick(starts);
      const changed = { ...body, ...Object.fromEntries(Array.from({ length: random.int(0, 2) }, () => [random.pick(fields), random.pick(values)])) };
      const { status, body: answer } = await call<Context>(method, path, changed);
      expect(status, JSON.stringify(changed)).toBeLessThan(500);
      seen.set(status, (seen.get(status) ?? 0) + 1);
      if (status === 200 && path === '/v1/contexts') await call('DELETE', `/v1/contexts/${answer.id}`);
    }
    for (const path of ['..', '%2e%2e', id.toUpperCase(), `${id}%00`, `${id}.writing.1.99999999999999`, 'é'])
      for (const method of ['GET', 'DELETE']) expect((await call(method, `/v1/contexts/${path}`)).status, path).toBeGreaterThanOrEqual(400);
    expect([...seen.keys()].sort()).toEqual([200, 400, 404]);
    expect(logged).toEqual([]);
    expect((await list()).data.map((one) => one.id)).toEqual([id]);
    expect(engine.health().contexts.held).toBe(1);
  });
});
