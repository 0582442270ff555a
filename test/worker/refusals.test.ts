/** What the worker refuses, and that it refuses before any compute, in words that help. In workerd, with a KV pool of half a MiB. */
import { once } from 'node:events';
import { Agent, request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { AuthenticationError } from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { presetParts } from '../../presses/presets.ts';
import { plainPresets } from '../support/artifacts.ts';
import { samples, twoParts } from '../support/samples.ts';
import { type Completion, removePacked, startWorker, type TestWorker, type WireError } from '../support/worker.ts';

let worker: TestWorker;
beforeAll(async () => {
  worker = await startWorker({ vars: { KV_POOL: '512KiB' } }); // 128 pages: 10 a list
});
afterAll(async () => {
  await worker?.dispose();
  await removePacked();
});

const CHAT = '/v1/chat/completions';
/** 239 tokens, 180 pages without a press. */
const sample = samples().find(({ task, context_length }) => task === 'niah_single' && context_length === 256)!;
const large = { messages: twoParts(sample), max_tokens: 16, temperature: 0 };
const small = {
  messages: [{ role: 'user', content: 'The number for busy-cart is 82.\nWhat is the number for busy-cart?' }],
  temperature: 0,
  max_tokens: 8,
};

async function refused(body: object | string, path = CHAT, headers?: Record<string, string>) {
  const { status, body: answer, headers: sent } = await worker.post<WireError>(path, body, headers);
  expect(Object.keys(answer)).toEqual(['error']);
  expect(answer.error).toEqual({ message: expect.any(String), type: expect.any(String), param: answer.error.param, code: expect.any(String) });
  return { status, ...answer.error, headers: sent };
}

describe('413 when the KV pool cannot hold a request', () => {
  /** The ratio that a refusal names. */
  async function fitting(body: object): Promise<number> {
    const before = (await worker.health()).memory;
    const { status, code, message } = await refused(body);
    expect({ status, code, message }).toMatchObject({ status: 413, code: 'kv_budget_exceeded' });
    const { memory } = await worker.health();
    expect(memory).toEqual(before); // peak_bytes too: nothing was computed
    const [, needed, pool, free] = /needs [^(]*\((\d+) bytes\).*has [^(]*\((\d+) bytes\), of which ([\d.]+ \w+) are free/.exec(message)!;
    expect(Number(needed)).toBeGreaterThan(Number(pool));
    expect(Number(pool)).toBe(memory.kv_pool_bytes);
    expect(free).toBe('512 KiB');
    const ratio = Number(/compression_ratio ([\d.]+) fits/.exec(message)?.[1]);
    expect(ratio, message).toBeGreaterThan(0);
    return ratio;
  }

  test('names the bytes needed, the bytes free and a ratio; with that ratio every preset answers', async () => {
    const ratio = await fitting(large);
    const late = plainPresets.filter((preset) => presetParts(preset)!.layerBudget.cascades === false); // they store the whole prompt first
    expect(await refused({ ...large, press: { preset: late[0], compression_ratio: ratio } })).toMatchObject({
      param: 'press',
      message: expect.stringMatching(
        /layer_budget "\w+" stores the whole prompt first; one that streams, e\.g\. "uniform", with compression_ratio 0\.\d+ fits/,
      ),
    });
    for (const preset of plainPresets.filter((preset) => !late.includes(preset))) {
      for (const scope of [undefined, 'prompt'] as const) {
        const { status, body } = await worker.post<Completion>(CHAT, { ...large, press: { preset, compression_ratio: ratio, scope } });
        expect({ preset, scope, status, body }).toMatchObject({ status: 200, body: { usage: { kv_cache: { press: preset } } } });
      }
    }
  });

  test('without max_tokens the press that it shows answers, with room for a usable answer', async () => {
    const { messages, temperature } = large;
    const { param, message } = await refused({ messages, temperature });
    expect(param).toBe('press');
    const [, room, example] = /fits, with room for (\d+) tokens of answer, e\.g\. (\{.*\});/.exec(message!)!;
    expect(Number(room)).toBeGreaterThanOrEqual(64);
    const { usage } = await worker.chat({ messages, press: JSON.parse(example), ignore_eos: true });
    expect(usage.completion_tokens).toBeGreaterThanOrEqual(Number(room));
    expect(usage.kv_cache.notes).toEqual([expect.stringContaining('not the default 512')]);
  });

  test.each([
    { preset: 'knorm' },
    { preset: 'knorm', scope: 'prompt', entry_type: 'f32' },
    { preset: 'zigzag_snapkv', window_size: 16 },
    { preset: 'zigzag_adakv_snapkv', scope: { protect_last: 40 } },
    { preset: 'adakv_snapkv', scope: 'prompt' },
    { preset: 'pyramidkv', window_size: 8 },
    { scorer: 'keydiff', layer_budget: 'zigzag', head_budget: 'adakv' },
  ])('with a press too weak, the named ratio works for that press, and one step less does not: %j', async (press) => {
    const body = (compression_ratio: number) => ({ ...large, press: { ...press, compression_ratio } });
    const ratio = await fitting(body(0.05));
    expect((await worker.post(CHAT, body(ratio))).status).toBe(200);
    expect((await refused(body(ratio - 0.01))).status).toBe(413);
  });

  test('with composed presses the ratio is the last one’s', async () => {
    const body = (compression_ratio: number) => ({
      ...large,
      press: [
        { preset: 'knorm', compression_ratio: 0.05 },
        { preset: 'streaming_llm', compression_ratio },
      ],
    });
    const { message } = await refused(body(0.05));
    const ratio = Number(/compression_ratio ([\d.]+) of the last press fits/.exec(message)![1]);
    expect((await worker.post(CHAT, body(ratio))).status).toBe(200);
  });

  test('says so when no ratio fits', async () => {
    expect(await refused({ ...large, max_tokens: 500 })).toMatchObject({
      status: 413,
      message: expect.stringContaining('no compression_ratio fits'),
    });
    const deferred = await refused({ ...large, press: { preset: 'knorm', mode: 'deferred', compression_ratio: 0.8 } });
    expect(deferred).toMatchObject({ status: 413, message: expect.stringContaining('"streaming"') });
  });

  test('int8 entries fit where f32 does not', async () => {
    expect((await refused({ ...large, press: { preset: 'knorm', compression_ratio: 0.1 } })).status).toBe(413);
    const { status } = await worker.post(CHAT, { ...large, press: { preset: 'knorm', compression_ratio: 0.1, entry_type: 'int8' } });
    expect(status).toBe(200);
  });

  test('the plan says beforehand that it does not fit', async () => {
    const { temperature: _, ...body } = large;
    expect(await worker.plan(body)).toMatchObject({ fits: false, pool_bytes: 512 * 1024 });
    expect(await worker.plan({ ...body, press: { preset: 'knorm', compression_ratio: 0.6 } })).toMatchObject({ fits: true });
  });

  test('a request without max_tokens generates what the pool holds', async () => {
    const { usage, choices } = await worker.chat({ messages: small.messages, ignore_eos: true });
    expect(choices[0].finish_reason).toBe('length');
    expect(usage.total_tokens).toBeLessThan(176);
    expect(usage.completion_tokens).toBeGreaterThan(30);
  });
});

describe('4xx in OpenAI’s envelope', () => {
  test('a prompt as long as the context, or longer', async () => {
    const word = ' horse';
    for (const count of [4096, 200_000]) {
      const answer = await refused({ messages: [{ role: 'user', content: word.repeat(count) }] });
      expect(answer).toMatchObject({ status: 400, code: 'context_length_exceeded', message: expect.stringContaining('4096') });
    }
    const tokens = Array.from({ length: 4096 }, () => 100);
    expect(await refused({ prompt: tokens }, '/v1/completions')).toMatchObject({ status: 400, code: 'context_length_exceeded' });
    expect(await refused({ tokens: 5000 }, '/v1/press/plan')).toMatchObject({ status: 400, code: 'context_length_exceeded', param: 'tokens' });
  });

  test('bad JSON, and bodies that are no object', async () => {
    expect(await refused('{"messages": [}')).toMatchObject({
      status: 400,
      code: 'invalid_json',
      message: expect.stringContaining('line 1, column 15'),
    });
    expect(await refused('')).toMatchObject({ status: 400, message: expect.stringContaining('empty') });
    for (const body of ['[]', 'null', '3', '"text"']) expect((await refused(body)).status).toBe(400);
  });

  test.each<[field: string, body: object, param: string, says: string]>([
    ['an unknown field', { temprature: 1 }, 'temprature', 'did you mean "temperature"?'],
    ['a wrong range', { temperature: 3 }, 'temperature', 'got 3'],
    ['a wrong type', { max_tokens: 'many' }, 'max_tokens', 'whole number'],
    ['no messages', { messages: [] }, 'messages', 'messages'],
    ['an empty message', { messages: [{ role: 'user', content: '' }] }, 'messages.0.content', 'empty'],
    [
      'an unsupported part',
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] },
      'messages.0.content',
      'image',
    ],
    ['an unknown press', { press: 'snapkw' }, 'press', 'did you mean "snapkv"?'],
    ['an unknown part', { press: { scorer: 'snapkv', layer_budget: { name: 'zigzg' } } }, 'press.layer_budget.name', 'did you mean "zigzag"?'],
    ['an unknown parameter', { press: { preset: 'snapkv', windowsize: 3 } }, 'press.windowsize', 'did you mean "window_size"?'],
    ['a parameter out of range', { press: { preset: 'zigzag_snapkv', bound_ratio: 1.5 } }, 'press.bound_ratio', 'got 1.5'],
    ['a ratio of 1', { press: { preset: 'snapkv', compression_ratio: 1 } }, 'press.compression_ratio', 'below 1'],
    ['a window larger than the budget', { press: { preset: 'snapkv', window_size: 64, scope: 'prompt' } }, 'press.window_size', 'would work'],
    ['scope "context" without one', { press: { preset: 'knorm', scope: 'context' } }, 'press.scope', 'before the last text part'],
    ['protect_last of everything', { press: { preset: 'knorm', scope: { protect_last: 999 } } }, 'press.scope.protect_last', 'smaller'],
    ['a press that needs all layers before another', { press: ['zigzag_knorm', 'snapkv'] }, 'press[0]', 'last'],
    ['an unknown model', { model: 'gpt' }, 'model', 'needle'],
  ])('%s', async (_, body, param, says) => {
    const answer = await refused({ ...small, ...body });
    expect([400, 404]).toContain(answer.status);
    expect(answer.type).toBe('invalid_request_error');
    expect(answer.param?.startsWith(param), `${answer.param}: ${answer.message}`).toBe(true);
    expect(answer.message).toContain(says);
  });

  test.each([
    ['[5,1.5]', 'prompt.1', 'whole number, 0 or more, got 1.5'],
    ['[5,-1]', 'prompt.1', 'whole number, 0 or more, got -1'],
    ['[5,1536]', 'prompt.1', 'between 0 and 1535, got 1536'],
    ['[5,1e30]', 'prompt.1', 'got 1e+30'],
    ['[5,1e999]', 'prompt.1', 'got Infinity'],
    ['[5,null]', 'prompt.1', 'got null'], // what JSON.stringify makes of NaN
    ['[5,"6"]', 'prompt.1', 'got "6"'],
    ['[[5,6],[7]]', 'prompt', 'one prompt a request'],
    ['[]', 'prompt', 'not empty'],
    ['""', 'prompt', 'empty'],
    ['[5,NaN]', null, 'JSON'],
  ])('a prompt of %s', async (prompt, param, says) => {
    for (const path of ['/v1/completions', '/v1/press/plan']) {
      const answer = await refused(`{"prompt": ${prompt}}`, path);
      expect(answer).toMatchObject({ status: 400, type: 'invalid_request_error', param, message: expect.stringContaining(says) });
    }
  });

  test('a body that ends in the middle with its connection disturbs nobody', async () => {
    const { hostname, port } = worker.url;
    for (let i = 0; i < 30; i++) {
      const socket = connect(Number(port), hostname);
      await once(socket, 'connect');
      socket.write(`POST ${CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{"messages": [`);
      await new Promise((resolve) => setTimeout(resolve, i));
      if (i % 2 === 0) socket.resetAndDestroy();
      else socket.destroy();
    }
    await worker.idle(); // what follows sees that none of them is logged as a failure
    expect((await worker.chat(small)).choices[0].message.content).toBe(' 82');
  });

  test('a connection lives on after a refusal that did not need the body', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const ask = (method: string, path: string, body = '') =>
      new Promise<{ status: number; reused: boolean }>((resolve, reject) => {
        const request = httpRequest(new URL(path, worker.url), { method, agent, headers: { 'content-length': body.length } }, (response) => {
          response.resume().on('end', () => resolve({ status: response.statusCode!, reused: request.reusedSocket }));
        });
        request.on('error', reject).end(body);
      });
    const body = JSON.stringify({ input: 'x'.repeat(60_000) });
    for (let i = 0; i < 20; i++) {
      expect(await ask('POST', '/v1/embeddings', body)).toEqual({ status: 404, reused: i > 0 });
      expect(await ask('GET', '/v1/models')).toEqual({ status: 200, reused: true });
    }
    agent.destroy();
  });

  test('an unknown route and a wrong method', async () => {
    expect(await refused({}, '/v1/embeddings')).toMatchObject({ status: 404, code: 'route_not_found' });
    const { status, headers } = await worker.get('/v1/chat/completions');
    expect([status, headers.get('allow')]).toEqual([405, 'POST']);
  });

  test('the model’s files are not served', async () => {
    for (const path of ['/manifest.json', '/weights-000.bin', '/tokenizer.json']) expect((await worker.get(path)).status).toBe(404);
  });

  test('after all that the pool is free and a request is answered', async () => {
    await worker.idle();
    expect((await worker.chat(small)).choices[0].message.content).toBe(' 82');
    expect(worker.log.join('')).toBe(''); // the caller's mistakes are not logged
  });
});

test('API_KEYS: /v1 wants one of them, /health is open', async () => {
  const locked = await startWorker({ vars: { API_KEYS: 'first-key, second-key' } });
  try {
    expect((await locked.get('/health')).status).not.toBe(401);
    expect((await locked.post<WireError>(CHAT, small)).status).toBe(401);
    expect(await locked.get('/v1/models')).toMatchObject({ status: 401, body: { error: { type: 'authentication_error', code: 'invalid_api_key' } } });
    await expect(locked.client('third-key').models.list()).rejects.toThrow(AuthenticationError);
    for (const key of ['first-key', 'second-key']) {
      const { data } = await locked.client(key).models.list();
      expect(data.map(({ id }) => id)).toEqual(['needle']);
    }
  } finally {
    await locked.dispose();
  }
});

test('prompts that are read one after the other need the memory of one', async () => {
  const long = twoParts(samples().find(({ task, context_length }) => task === 'niah_single' && context_length === 1024)!);
  const ample = await startWorker({ vars: { KV_POOL: '8MiB' } });
  await ample.chat({ messages: long });
  const { used_bytes: used, beside_bytes: beside } = (await ample.idle()).memory;
  await ample.dispose();
  const room = 2_200_000; // reading 995 tokens takes 1.7 MB
  const tight = await startWorker({ vars: { KV_POOL: '8MiB', MEMORY_LIMIT: String(used + beside + room) } });
  try {
    const answers = await Promise.all([0, 1, 2].map(() => tight.chat({ messages: long })));
    expect(new Set(answers.map(({ choices }) => choices[0].message.content)).size).toBe(1);
    // Two and a half times as long is too much for the memory, whoever else is there.
    const tokens = Array.from({ length: 2500 }, (_, i) => 5 + (i % 1000));
    const { status, body } = await tight.post<WireError>('/v1/completions', { prompt: tokens, max_tokens: 1, press: 'knorm' });
    expect({ status, body }).toMatchObject({
      status: 413,
      body: { error: { code: 'kv_budget_exceeded', message: expect.stringContaining('activations') } },
    });
  } finally {
    await tight.dispose();
  }
});
