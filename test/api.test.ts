import { describe, expect, test } from 'vitest';
import { InputError } from '../presses/input-error.ts';
import { type AppOptions, createApp } from '../worker/api/app.ts';
import { jsonErrorOffset } from '../worker/api/read-json.ts';
import type { Engine } from '../worker/engine/types.ts';
import * as wire from '../worker/wire/answer-schema.ts';
import { fakeEngine, finish, health, info, kvCache, plan, prompt, type Step, text } from './api-fake-engine.ts';

function setup(script?: readonly Step[], options: Partial<AppOptions> = {}) {
  const { engine, seen } = fakeEngine(script);
  const logged: { line: string; error: unknown }[] = [];
  const app = createApp({ engine: async () => engine, log: (line, error) => logged.push({ line, error }), ...options });
  const post = (path: string, body: unknown, init: RequestInit = {}) =>
    app.request(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
      ...init,
    });
  const chat = (fields: object = {}, init?: RequestInit) =>
    post('/v1/chat/completions', { messages: [{ role: 'user', content: 'Hi' }], ...fields }, init);
  return { app, engine, seen, logged, post, chat };
}

async function errorOf(response: Response | Promise<Response>) {
  const answer = await response;
  const body = wire.errorEnvelope.parse(await answer.json());
  return { status: answer.status, ...body.error };
}

describe('answers', () => {
  test('POST /v1/chat/completions answers with a chat.completion and usage.kv_cache', async () => {
    const { chat, seen } = setup();
    const response = await chat();
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('application/json');
    const body = await response.json();
    expect(body).toEqual({
      id: expect.stringMatching(/^chatcmpl-[0-9a-f]{32}$/),
      object: 'chat.completion',
      created: expect.any(Number),
      model: 'toy/needle-1M',
      system_fingerprint: 'toy/needle-1M/0123456789ab/wasm/simd',
      choices: [{ index: 0, message: { role: 'assistant', content: 'Hello world', refusal: null }, logprobs: null, finish_reason: 'stop' }],
      usage: { prompt_tokens: 100, completion_tokens: 2, total_tokens: 102, prompt_tokens_details: { cached_tokens: 0 }, kv_cache: kvCache },
      timings: { prefill_ms: 10, press_ms: 1, decode_ms: 20 },
    });
    wire.chatCompletion.parse(body);
    expect(Math.abs(body.created - Date.now() / 1000)).toBeLessThan(5);
    expect(seen).toMatchObject({ ended: 1, completed: 1, aborted: null });
  });

  test('POST /v1/completions answers with a text_completion, 16 tokens by default', async () => {
    const { post, seen } = setup([prompt, text('Hello'), finish(1, 'length')]);
    const body = await (await post('/v1/completions', { prompt: 'Say' })).json();
    wire.textCompletion.parse(body);
    expect(body).toMatchObject({
      object: 'text_completion',
      choices: [{ index: 0, text: 'Hello', logprobs: null, finish_reason: 'length' }],
      usage: { total_tokens: 101, kv_cache: kvCache },
    });
    expect(body.id).toMatch(/^cmpl-/);
    expect(seen.requests[0]).toMatchObject({ prompt: { kind: 'text', text: 'Say' }, sampling: { maxTokens: 16 } });
  });

  test.each([
    ['Say', { kind: 'text', text: 'Say' }],
    [['Say'], { kind: 'text', text: 'Say' }],
    [[1, 2, 299], { kind: 'tokens', tokens: [1, 2, 299] }],
  ])('prompt %j', async (prompt, read) => {
    const { post, seen } = setup();
    expect((await post('/v1/completions', { prompt })).status).toBe(200);
    expect(seen.requests[0].prompt).toEqual(read);
  });

  test("sampling fields arrive at the engine; what is left out or null has OpenAI's defaults", async () => {
    const { chat, seen } = setup();
    await chat({ temperature: null, stop: null, max_tokens: null, seed: null, press: null });
    const defaults = {
      maxTokens: null,
      temperature: 1,
      topK: 0,
      topP: 1,
      minP: 0,
      seed: null,
      frequencyPenalty: 0,
      presencePenalty: 0,
      stop: [],
      topLogprobs: null,
      ignoreEos: false,
    };
    expect(seen.requests[0].sampling).toEqual(defaults);
    await chat({
      temperature: 0.5,
      top_p: 0.9,
      top_k: 40,
      min_p: 0.05,
      seed: -7,
      frequency_penalty: -2,
      presence_penalty: 2,
      stop: ['a', 'b'],
      max_completion_tokens: 9,
      max_tokens: 9,
      logprobs: true,
      top_logprobs: 3,
      ignore_eos: true,
    });
    expect(seen.requests[1].sampling).toEqual({
      maxTokens: 9,
      temperature: 0.5,
      topK: 40,
      topP: 0.9,
      minP: 0.05,
      seed: -7,
      frequencyPenalty: -2,
      presencePenalty: 2,
      stop: ['a', 'b'],
      topLogprobs: 3,
      ignoreEos: true,
    });
    await chat({ stop: '\n', logprobs: true });
    expect(seen.requests[2].sampling).toMatchObject({ stop: ['\n'], topLogprobs: 0 });
  });

  test('messages keep their text parts; developer is system', async () => {
    const { chat, seen } = setup();
    await chat({
      messages: [
        { role: 'developer', content: 'Be brief.' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'document' },
            { type: 'text', text: 'question' },
          ],
          name: 'Ann',
        },
        { role: 'assistant', content: '', refusal: null, tool_calls: [], annotations: [], audio: null, function_call: null },
        { role: 'user', content: 'go on' },
      ],
    });
    expect(seen.requests[0].prompt).toEqual({
      kind: 'chat',
      messages: [
        { role: 'system', parts: ['Be brief.'] },
        { role: 'user', parts: ['document', 'question'] },
        { role: 'assistant', parts: [''] },
        { role: 'user', parts: ['go on'] },
      ],
    });
  });

  test('press goes through parsePress; none means no press', async () => {
    const { chat, seen } = setup();
    await chat();
    await chat({ press: { preset: 'zigzag_snapkv', compression_ratio: 0.8, scope: 'prompt' } });
    expect(seen.requests[0].press).toMatchObject({ name: 'no_press', presses: [] });
    expect(seen.requests[1].press).toMatchObject({ name: 'zigzag_snapkv', scope: 'prompt', presses: [{ compressionRatio: 0.8 }] });
  });

  test("fields of OpenAI's with a value that asks for nothing are accepted", async () => {
    const { chat, post } = setup();
    const everywhere = {
      n: 1,
      logit_bias: {},
      user: 'u',
      store: true,
      metadata: { a: 'b' },
      service_tier: 'auto',
      stream_options: { include_usage: true },
      safety_identifier: 's',
      prompt_cache_key: 'k',
      model: info.id,
    };
    const inChat = {
      tools: [],
      tool_choice: 'none',
      functions: [],
      response_format: { type: 'text' },
      modalities: ['text'],
      audio: null,
      prediction: null,
      parallel_tool_calls: true,
      verbosity: 'medium',
      reasoning_effort: null,
    };
    expect((await chat({ ...everywhere, ...inChat })).status).toBe(200);
    expect((await post('/v1/completions', { prompt: 'x', ...everywhere, echo: false, best_of: 1, suffix: null })).status).toBe(200);
  });

  test("logprobs: chat's format", async () => {
    const { chat } = setup([prompt, text('Hé', 'llo'), finish(2)]);
    const body = await (await chat({ logprobs: true, top_logprobs: 2 })).json();
    wire.chatCompletion.parse(body);
    expect(body.choices[0].logprobs.content[0]).toEqual({
      token: 'Hé',
      logprob: -0.5,
      bytes: [72, 195, 169],
      top_logprobs: [
        { token: 'Hé', logprob: -0.5, bytes: [72, 195, 169] },
        { token: 'x', logprob: -1.5, bytes: [120] },
      ],
    });
    expect(body.choices[0].logprobs).toMatchObject({ refusal: null, content: { length: 2 } });
  });

  test("logprobs: completions' format, offsets in characters even where tokens cut one", async () => {
    const pieces = text('a😀', 'b', 'c');
    if (pieces.type !== 'text') throw new Error();
    pieces.logprobs[1].bytes.splice(0, 9, 0xf0, 0x9f); // half of an emoji, then the rest of it
    pieces.logprobs[2].bytes.splice(0, 9, 0x98, 0x80, 0x21);
    const { post } = setup([prompt, { ...pieces, text: 'a😀😀!' }, text('d'), finish(4)]);
    const body = await (await post('/v1/completions', { prompt: 'x', logprobs: 2 })).json();
    wire.textCompletion.parse(body);
    expect(body.choices[0].logprobs).toEqual({
      tokens: ['a😀', 'b', 'c', 'd'],
      token_logprobs: [-0.5, -0.5, -0.5, -0.5],
      top_logprobs: [
        { 'a😀': -0.5, x: -1.5 },
        { b: -0.5, x: -1.5 },
        { c: -0.5, x: -1.5 },
        { d: -0.5, x: -1.5 },
      ],
      text_offset: [0, 2, 2, 4],
    });
  });
});

describe('the other routes', () => {
  test('GET / says what this is and shows a request that this very server takes', async () => {
    const { app } = setup();
    const response = await app.request('http://edge.example/');
    expect(response.headers.get('content-type')).toMatch(/^text\/plain/);
    const page = await response.text();
    expect(page).toContain('curl -s http://edge.example/v1/chat/completions');
    const body = /-d '([\s\S]*?)'/.exec(page)![1];
    expect((await app.request('/v1/chat/completions', { method: 'POST', body })).status).toBe(200);
  });

  test("GET /health is the engine's account, in the wire's names", async () => {
    const response = await setup().app.request('/health');
    const { contextLength: context_length, vocabSize: vocab_size, weightBytes: weight_bytes, fingerprint: _, ...model } = health.model;
    const answer = await response.json();
    expect([response.status, answer]).toEqual([
      200,
      { ...health, model: { ...model, context_length, vocab_size, weight_bytes }, contexts: { ...health.contexts, per_key: null } },
    ]);
    expect(wire.health.parse(answer)).toEqual(answer);
  });

  test('GET /health does not wait for a model to load, and says why it failed to', async () => {
    const answers = async (engine: () => Promise<Engine>) => {
      const response = await setup([], { engine }).app.request('/health');
      return [response.status, await response.json()];
    };
    expect(await answers(() => new Promise(() => {}))).toEqual([503, { status: 'loading' }]);
    expect(await answers(() => Promise.reject(new InputError('model_loading', null, 'wait')))).toEqual([503, { status: 'loading' }]);
    expect(await answers(() => Promise.reject(new Error('model.safetensors is missing')))).toEqual([
      503,
      { status: 'error', error: 'model.safetensors is missing' },
    ]);
  });

  test('GET /v1/models and /v1/models/:id, with the slash of a hub name written either way', async () => {
    const { app } = setup();
    const list = wire.modelList.parse(await (await app.request('/v1/models')).json());
    expect(list.data).toEqual([
      {
        id: info.id,
        object: 'model',
        created: 0,
        owned_by: 'edgepress',
        family: 'llama',
        parameters: 1_000_000,
        layers: 2,
        context_length: 512,
        vocab_size: 300,
        weight_bytes: 600_000,
      },
    ]);
    for (const path of ['/v1/models/toy/needle-1M', '/v1/models/toy%2Fneedle-1M'])
      expect(await (await app.request(path)).json()).toEqual(list.data[0]);
    expect(await errorOf(app.request('/v1/models/gpt-4'))).toMatchObject({
      status: 404,
      code: 'model_not_found',
      message: 'model "gpt-4" is not served here; this server has "toy/needle-1M"',
    });
  });

  test('GET /v1/presses lists presses and parts with their parameters', async () => {
    const body = await (await setup().app.request('/v1/presses')).json();
    expect(Object.keys(body)).toEqual(['presets', 'scorers', 'layer_budgets', 'head_budgets', 'selections', 'transforms', 'schedules']);
    expect(body.layer_budgets.find((part: { name: string }) => part.name === 'zigzag').parameters.properties.bound_ratio).toMatchObject({
      type: 'number',
    });
  });

  test.each([
    [{ messages: [{ role: 'user', content: 'Hi' }] }, { kind: 'chat', messages: [{ role: 'user', parts: ['Hi'] }] }, null],
    [{ prompt: [1, 2, 3] }, { kind: 'tokens', tokens: [1, 2, 3] }, null],
    [{ tokens: 400, max_tokens: 5 }, { kind: 'length', tokens: 400 }, 5],
    [{ tokens: 512 }, { kind: 'length', tokens: 512 }, null],
  ])('POST /v1/press/plan %j', async (body, read, maxTokens) => {
    const { post, seen } = setup();
    const response = await post('/v1/press/plan', { ...body, press: 'zigzag_snapkv' });
    expect([response.status, await response.json()]).toEqual([200, plan]);
    wire.pressPlan.parse(plan);
    expect(seen.plans).toEqual([{ prompt: read, press: expect.objectContaining({ name: 'zigzag_snapkv' }), maxTokens }]);
    expect(seen.requests).toEqual([]);
  });

  test('HEAD and a trailing slash work', async () => {
    const { app } = setup();
    expect((await app.request('/health', { method: 'HEAD' })).status).toBe(200);
    expect((await app.request('/v1/models/')).status).toBe(200);
  });

  test('an unknown path is a 404 that lists what exists, another method a 405 that says which', async () => {
    const { app } = setup();
    const missing = await errorOf(app.request('/v1/embeddings', { method: 'POST' }));
    expect(missing).toMatchObject({ status: 404, type: 'invalid_request_error', param: null, code: 'route_not_found' });
    const { paths } = await (await app.request('/openapi.json')).json();
    const documented = Object.entries<object>(paths).flatMap(([path, item]) =>
      Object.keys(item).map((method) => `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/, ':$1')}`),
    );
    const [said, list] = missing.message.split('; there are ');
    expect(said).toBe('there is no POST /v1/embeddings');
    expect(list.split(', ').sort()).toEqual(documented.sort());
    expect(list).toContain('GET /v1/models/:id');
    const wrong = await app.request('/v1/chat/completions');
    expect(wrong.headers.get('allow')).toBe('POST');
    expect(await errorOf(wrong)).toMatchObject({
      status: 405,
      code: 'method_not_allowed',
      message: '/v1/chat/completions does not take GET; use POST',
    });
    expect(await errorOf(app.request('/v1/models/x', { method: 'DELETE' }))).toMatchObject({ status: 405 });
  });

  test("every response has an x-request-id, the caller's own if there was one", async () => {
    const { app, chat } = setup();
    for (const response of [await app.request('/health'), await app.request('/nothing'), await chat({ n: 3 }), await chat({ stream: true })]) {
      expect(response.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    }
    expect((await app.request('/', { headers: { 'x-request-id': 'mine-1' } })).headers.get('x-request-id')).toBe('mine-1');
  });

  test('browsers may call from anywhere, or from the origins named', async () => {
    const preflight = {
      method: 'OPTIONS',
      headers: {
        origin: 'https://a.example',
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,x-stainless-lang',
      },
    };
    const open = await setup([], { apiKeys: ['k'] }).app.request('/v1/chat/completions', preflight);
    expect(open.status).toBe(204);
    expect(open.headers.get('access-control-allow-origin')).toBe('*');
    expect(open.headers.get('access-control-allow-headers')).toBe('authorization,x-stainless-lang');
    const { chat, app } = setup(undefined, { corsOrigins: ['https://a.example'] });
    expect((await app.request('/', { headers: { origin: 'https://a.example' } })).headers.get('access-control-allow-origin')).toBe(
      'https://a.example',
    );
    expect((await app.request('/', { headers: { origin: 'https://b.example' } })).headers.get('access-control-allow-origin')).toBe(null);
    for (const fields of [{}, { stream: true }, { n: 2 }]) {
      const response = await chat(fields, { headers: { origin: 'https://a.example' } });
      expect(response.headers.get('access-control-allow-origin')).toBe('https://a.example');
      expect(response.headers.get('access-control-expose-headers')).toBe('x-request-id,retry-after');
    }
  });
});

describe('requests that are refused', () => {
  const user = (content: unknown) => ({
    messages: [
      { role: 'user', content: 'Hi' },
      { role: 'user', content },
    ],
  });
  const cases: [string, object, string, string | null, string][] = [
    ['a misspelt field', { temprature: 1 }, 'unknown_field', 'temprature', 'unknown field "temprature"; did you mean "temperature"?'],
    [
      'a misspelt field explains the missing one',
      { messages: undefined, mesages: [] },
      'unknown_field',
      'mesages',
      'unknown field "mesages"; did you mean "messages"?',
    ],
    [
      'a misspelt field of stream_options',
      { stream_options: { include_usge: true } },
      'unknown_field',
      'stream_options.include_usge',
      'unknown field "include_usge"; did you mean "include_usage"?',
    ],
    [
      'a misspelt field of a message',
      { messages: [{ role: 'user', content: 'x', nmae: 'A' }] },
      'unknown_field',
      'messages.0.nmae',
      'unknown field "nmae"; did you mean "name"?',
    ],
    ['no messages', { messages: undefined }, 'missing_field', 'messages', 'messages must be an array, got nothing'],
    ['empty messages', { messages: [] }, 'invalid_value', 'messages', 'messages must not be empty, got []'],
    [
      'a role that is none',
      { messages: [{ role: 'tool', content: 'x' }] },
      'invalid_value',
      'messages.0.role',
      'messages.0.role must be "system", "developer", "user" or "assistant" (there are no tools to answer for), got "tool"',
    ],
    ['empty content', user(''), 'invalid_value', 'messages.1.content', 'messages.1.content of a user message must not be empty, got ""'],
    [
      'empty parts',
      user([{ type: 'text', text: '' }]),
      'invalid_value',
      'messages.1.content',
      'messages.1.content of a user message must not be empty, got [{"type":"text","text":""}]',
    ],
    ['no parts', user([]), 'invalid_value', 'messages.1.content', 'messages.1.content must not be empty, got []'],
    [
      'content null',
      user(null),
      'invalid_value',
      'messages.1.content',
      'messages.1.content must be a string or a list of {"type": "text", "text": …}, not empty, got null',
    ],
    [
      'no content',
      user(undefined),
      'missing_field',
      'messages.1.content',
      'messages.1.content must be a string or a list of {"type": "text", "text": …}, not empty, got nothing',
    ],
    [
      'an image',
      user([
        { type: 'text', text: 'what?' },
        { type: 'image_url', image_url: { url: 'data:' } },
      ]),
      'invalid_value',
      'messages.1.content.1.type',
      'messages.1.content.1.type must be "text" (images, audio and files are not supported), got "image_url"',
    ],
    [
      'text that is none',
      user([{ type: 'text', text: 7 }]),
      'invalid_type',
      'messages.1.content.0.text',
      'messages.1.content.0.text must be a string, got 7',
    ],
    [
      'tool calls of the past',
      { messages: [{ role: 'assistant', content: 'x', tool_calls: [{ id: 'a' }] }] },
      'unsupported_value',
      'messages.0.tool_calls',
      'messages.0.tool_calls is not supported: leave it out or send [], got [{"id":"a"}]',
    ],
    ['temperature above 2', { temperature: 2.5 }, 'invalid_value', 'temperature', 'temperature must be a number between 0 and 2, got 2.5'],
    ['temperature as text', { temperature: '1' }, 'invalid_type', 'temperature', 'temperature must be a number between 0 and 2, got "1"'],
    ['top_p below 0', { top_p: -0.1 }, 'invalid_value', 'top_p', 'top_p must be a number between 0 and 1, got -0.1'],
    ['top_k broken', { top_k: 1.5 }, 'invalid_type', 'top_k', 'top_k must be a whole number, 0 or more, got 1.5'],
    ['max_tokens 0', { max_tokens: 0 }, 'invalid_value', 'max_tokens', 'max_tokens must be a whole number, 1 or more, got 0'],
    [
      'two limits that differ',
      { max_tokens: 5, max_completion_tokens: 6 },
      'invalid_value',
      'max_tokens',
      'max_tokens must equal max_completion_tokens (6) or be left out, got 5',
    ],
    [
      'a seed that JSON cannot carry',
      { seed: 2 ** 60 },
      'invalid_value',
      'seed',
      'seed must be a whole number between -(2^53 - 1) and 2^53 - 1, got 1152921504606847000',
    ],
    ['penalty beyond 2', { presence_penalty: 3 }, 'invalid_value', 'presence_penalty', 'presence_penalty must be a number between -2 and 2, got 3'],
    [
      'five stops',
      { stop: ['1', '2', '3', '4', '5'] },
      'invalid_value',
      'stop',
      'stop must be a string or up to 4 strings, each of 1 to 256 characters, got ["1","2","3","4","5"]',
    ],
    ['half a surrogate pair to stop at', { stop: '\ud83d' }, 'invalid_value', 'stop', 'stop must be well-formed Unicode, got "\\ud83d"'],
    ['an empty stop', { stop: ['a', ''] }, 'invalid_value', 'stop.1', 'stop.1 must not be empty, got ""'],
    ['top_logprobs alone', { top_logprobs: 2 }, 'invalid_value', 'top_logprobs', 'top_logprobs needs "logprobs": true, got 2'],
    [
      'too many top_logprobs',
      { logprobs: true, top_logprobs: 21 },
      'invalid_value',
      'top_logprobs',
      'top_logprobs must be a whole number between 0 and 20, got 21',
    ],
    ['n', { n: 2 }, 'unsupported_value', 'n', 'n is not supported: one answer a request; leave it out or send 1, got 2'],
    [
      'tools',
      { tools: [{ type: 'function' }] },
      'unsupported_value',
      'tools',
      'tools is not supported: leave it out or send [], got [{"type":"function"}]',
    ],
    ['functions', { functions: [{}] }, 'unsupported_value', 'functions', 'functions is not supported: leave it out or send [], got [{}]'],
    [
      'response_format',
      { response_format: { type: 'json_object' } },
      'unsupported_value',
      'response_format',
      'response_format is not supported: leave it out or send {"type": "text"}, got {"type":"json_object"}',
    ],
    ['logit_bias', { logit_bias: { 5: 1 } }, 'unsupported_value', 'logit_bias', 'logit_bias is not supported: leave it out or send {}, got {"5":1}'],
    [
      'audio',
      { modalities: ['text', 'audio'] },
      'unsupported_value',
      'modalities',
      'modalities is not supported: leave it out or send ["text"], got ["text","audio"]',
    ],
    ['a stream that is no boolean', { stream: 'yes' }, 'invalid_type', 'stream', 'stream must be a boolean, got "yes"'],
    ['an unknown press', { press: 'zigzg_snapkv' }, 'press_unknown', 'press', 'unknown preset "zigzg_snapkv"; did you mean "zigzag_snapkv"?'],
    [
      'a press parameter out of range',
      { press: { preset: 'zigzag_snapkv', bound_ratio: 1.5 } },
      'press_param_range',
      'press.bound_ratio',
      'bound_ratio must be between 0 and 1, got 1.5',
    ],
  ];

  test.each(cases)('%s', async (_, fields, code, param, message) => {
    const { chat, seen, logged } = setup();
    expect(await errorOf(chat(fields))).toEqual({ status: 400, type: 'invalid_request_error', code, param, message });
    expect(seen.requests).toEqual([]); // before any compute
    expect(logged).toEqual([]);
  });

  test.each([
    [
      {},
      'missing_field',
      'prompt',
      'prompt must be a string, a list of one string, or a list of token ids, not empty (one prompt a request), got nothing',
    ],
    [{ prompt: '' }, 'invalid_value', 'prompt', 'prompt must not be empty, got ""'],
    [
      { prompt: ['a', 'b'] },
      'invalid_value',
      'prompt',
      'prompt must be a string, a list of one string, or a list of token ids, not empty (one prompt a request), got ["a","b"]',
    ],
    [{ prompt: [1, -5] }, 'invalid_value', 'prompt.1', 'prompt.1 must be a whole number, 0 or more, got -5'],
    [{ prompt: [1, 300] }, 'invalid_value', 'prompt.1', 'prompt.1 must be a token id between 0 and 299, got 300'],
    [{ prompt: 'x', echo: true }, 'unsupported_value', 'echo', 'echo is not supported: leave it out or send false, got true'],
    [{ prompt: 'x', best_of: 2 }, 'unsupported_value', 'best_of', 'best_of is not supported: leave it out or send 1, got 2'],
    [{ prompt: 'x', suffix: 'y' }, 'unsupported_value', 'suffix', 'suffix is not supported: leave it out, got "y"'],
    [
      { prompt: 'x', max_completion_tokens: 5 },
      'unknown_field',
      'max_completion_tokens',
      expect.stringMatching(/^unknown field "max_completion_tokens"/),
    ],
  ])('completions %j', async (body, code, param, message) => {
    expect(await errorOf(setup().post('/v1/completions', body))).toEqual({ status: 400, type: 'invalid_request_error', code, param, message });
  });

  test.each([
    [{}, 'missing_field', null, 'send exactly one of messages, prompt or tokens, got none'],
    [{ tokens: 5, prompt: 'x' }, 'invalid_value', 'tokens', 'send exactly one of messages, prompt or tokens, got prompt and tokens'],
    [{ tokens: 0 }, 'invalid_value', 'tokens', 'tokens must be a whole number, 1 or more, got 0'],
  ])('plan %j', async (body, code, param, message) => {
    expect(await errorOf(setup().post('/v1/press/plan', body))).toMatchObject({ status: 400, code, param, message });
  });

  const long = 'x'.repeat(4_000_000);
  test.each<[string, string, object]>([
    ['a field', '/v1/completions', { [long]: 1 }],
    ['a field of a message', '/v1/chat/completions', { messages: [{ role: 'user', content: 'a', [long]: 1 }] }],
    ['a field of a press', '/v1/completions', { prompt: 'a', press: { preset: 'knorm', [long]: 1 } }],
    ['a parameter of a part', '/v1/completions', { prompt: 'a', press: { scorer: { name: 'snapkv', [long]: 1 } } }],
    ['a parameter in the wrong place', '/v1/completions', { prompt: 'a', press: { scorer: 'snapkv', window_size: long } }],
    ['a key of the metadata', '/v1/completions', { prompt: 'a', metadata: { [long]: 1 } }],
  ])('a name of 4 MB for %s is refused at once, and not echoed', async (_, path, body) => {
    const started = performance.now();
    const response = await setup().post(path, body);
    expect(performance.now() - started).toBeLessThan(2000);
    expect(response.status).toBe(400);
    expect((await response.text()).length).toBeLessThan(2000);
  });

  test('a long path is not echoed', async () => {
    const { app } = setup();
    const response = await app.request(`/v1/${'x'.repeat(20_000)}`);
    expect(response.status).toBe(404);
    expect((await response.text()).length).toBeLessThan(1000);
  });

  test('a short name is not taken for one that shares nothing with it', async () => {
    const { message } = await errorOf(setup().post('/v1/completions', { prompt: 'a', k0: 1 }));
    expect(message).toMatch(/^unknown field "k0"; known: prompt, /);
  });

  test.each<[string, string, object, string]>([
    ['ids', '/v1/completions', { prompt: [...Array(200_000).fill(-1), 1] }, 'prompt.0'],
    ['messages', '/v1/chat/completions', { messages: Array(200_000).fill(1) }, 'messages'],
    ['stops', '/v1/completions', { prompt: 'a', stop: Array(200_000).fill('') }, 'stop'],
    [
      'metadata',
      '/v1/completions',
      { prompt: 'a', metadata: Object.fromEntries(Array.from({ length: 200_000 }, (_, i) => [`k${i}`, i])) },
      'metadata.k0',
    ],
  ])('200,000 wrong %s are a 400', async (_, path, body, param) => {
    const refused = await errorOf(setup().post(path, body));
    expect(refused).toMatchObject({ status: 400 });
    expect(refused.param?.startsWith(param), `${refused.param}`).toBe(true);
  });

  test('a body that stalls does not hold back a refusal that did not need it', async () => {
    const body = new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array(10)) });
    const started = performance.now();
    const init = { method: 'POST', body, duplex: 'half', headers: { 'content-length': '100' } } as RequestInit;
    expect((await setup().app.request('/v1/embeddings', init)).status).toBe(404);
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test('an unknown model is a 404 that names the one served', async () => {
    for (const path of ['/v1/chat/completions', '/v1/completions', '/v1/press/plan']) {
      const body = path.endsWith('/chat/completions') ? { messages: [{ role: 'user', content: 'x' }] } : { prompt: 'x' };
      expect(await errorOf(setup().post(path, { ...body, model: 'gpt-4' }))).toMatchObject({
        status: 404,
        code: 'model_not_found',
        param: 'model',
        message: 'model "gpt-4" is not served here; this server has "toy/needle-1M"',
      });
    }
  });

  test.each([
    ['', 'the request body is empty; send a JSON object'],
    ['{"a": 1,}', 'the request body is not valid JSON: line 1, column 9: got "}"'],
    ['{\n  "a": tru\n}', 'the request body is not valid JSON: line 2, column 8: got "tru\\n}"'],
    ['{"a": [1, 2', 'the request body is not valid JSON: line 1, column 12: the text ends too early'],
    ['{"a": "x', 'the request body is not valid JSON: line 1, column 7: got "\\"x"'],
    ['[]', 'the request body must be an object, got []'],
    ['null', 'the request body must be an object, got null'],
  ])('body %j', async (body, message) => {
    expect(await errorOf(setup().post('/v1/chat/completions', body))).toMatchObject({ status: 400, message });
  });

  test('a body that is not UTF-8 is refused as such', async () => {
    const { app } = setup();
    expect(await errorOf(app.request('/v1/completions', { method: 'POST', body: Uint8Array.of(0x22, 0xff, 0x22) }))).toMatchObject({
      status: 400,
      code: 'invalid_json',
      message: expect.stringContaining('not UTF-8'),
    });
  });

  test('a body nested deeper than anything that is read, wherever it is', async () => {
    const { app, chat } = setup();
    const nested = (levels: number, open: string, close: string): string => `${open.repeat(levels)}1${close.repeat(levels)}`;
    for (const [open, close] of [
      ['[', ']'],
      ['{"a":', '}'],
    ]) {
      for (const levels of [100, 20_000, 1_000_000]) {
        const deep = nested(levels, open, close);
        for (const body of [
          deep,
          `{"prompt":"x","temperature":${deep}}`,
          `{"prompt":"x","press":${deep}}`,
          `{"prompt":"x","press":{"preset":${deep}}}`,
        ])
          expect(await errorOf(app.request('/v1/completions', { method: 'POST', body }))).toMatchObject({
            status: 400,
            code: 'invalid_json',
            message: expect.stringContaining('more than 64 deep'),
          });
      }
    }
    expect(await errorOf(chat({ press: { preset: JSON.parse(nested(50, '[', ']')) } }))).toMatchObject({ status: 400, param: 'press.preset' });
  });

  test('a client that leaves while it sends its body is no failure of ours', async () => {
    const { app, logged } = setup();
    const body = new ReadableStream({
      pull: (controller) => controller.error(new Error('connection lost')),
    });
    const response = await app.request('/v1/chat/completions', { method: 'POST', body, duplex: 'half' } as RequestInit);
    expect(response.status).toBe(499);
    expect(logged).toEqual([]);
  });

  test('the content type does not matter if the body is JSON, and explains it if not', async () => {
    const form = { headers: { 'content-type': 'application/x-www-form-urlencoded' } };
    const { post } = setup();
    expect((await post('/v1/completions', { prompt: 'x' }, form)).status).toBe(200);
    expect(await errorOf(post('/v1/completions', 'prompt=x', form))).toMatchObject({
      status: 415,
      code: 'unsupported_content_type',
      message: expect.stringContaining('"application/x-www-form-urlencoded"'),
    });
  });

  test('bounds: body, messages, parts, stop length', async () => {
    const limits = { bodyBytes: 500, messages: 2, partsPerMessage: 2, stopLength: 3 };
    const { app, chat } = setup(undefined, { limits });
    const message = { role: 'user', content: 'x' };
    expect(await errorOf(chat({ messages: [message, message, message] }))).toMatchObject({
      status: 400,
      param: 'messages',
      message: 'messages must have at most 2 elements, got an array of 3',
    });
    const part = { type: 'text', text: 'x' };
    expect(await errorOf(chat({ messages: [{ role: 'user', content: [part, part, part] }] }))).toMatchObject({
      status: 400,
      param: 'messages.0.content',
    });
    expect(await errorOf(chat({ stop: 'long' }))).toMatchObject({ status: 400, param: 'stop' });
    expect((await chat({ stop: 'abc' })).status).toBe(200);
    expect(await errorOf(chat({ user: 'x'.repeat(500) }))).toMatchObject({
      status: 413,
      code: 'body_too_large',
      message: 'the request body has more than 500 bytes; at most 500 are accepted',
    });
    expect(await errorOf(app.request('/v1/completions', { method: 'POST', body: 'x', headers: { 'content-length': '501' } }))).toMatchObject({
      status: 413,
      message: 'the request body has 501 bytes; at most 500 are accepted',
    });
    let sent = 0;
    const endless = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(100).fill(++sent)) });
    expect(await errorOf(app.request('/v1/completions', { method: 'POST', body: endless, duplex: 'half' } as RequestInit))).toMatchObject({
      status: 413,
    });
    expect(sent).toBeLessThan(12);
  });

  test('where JSON ends is found as JSON.parse sees it: any cut or spoilt document', () => {
    const document = '{"a": [1, -2.5e+3, true, null, {"b": "x\\n\\u00e9"}], "c": {}, "d": [], "e": 0}';
    for (let end = 0; end < document.length; end++) expect(jsonErrorOffset(document.slice(0, end))).toBeLessThanOrEqual(end);
    for (let at = 0; at < document.length; at++) {
      const spoilt = `${document.slice(0, at)}\u0001${document.slice(at)}`;
      expect(() => JSON.parse(spoilt)).toThrow();
      expect(jsonErrorOffset(spoilt)).toBeLessThanOrEqual(at);
    }
    expect(jsonErrorOffset(`${document} x`)).toBe(document.length + 1);
    expect(jsonErrorOffset('[1 2]')).toBe(3);
    expect(jsonErrorOffset('[01]')).toBe(1);
    expect(jsonErrorOffset('{"a" 1}')).toBe(5);
    expect(jsonErrorOffset('{1: 2}')).toBe(1);
    expect(jsonErrorOffset('[1}')).toBe(2);
  });
});

describe('what the engine refuses', () => {
  test.each([
    ['kv_budget_exceeded', 413, 'kv_budget_exceeded', 'invalid_request_error', null],
    ['prompt_too_long', 400, 'context_length_exceeded', 'invalid_request_error', null],
    ['queue_full', 429, 'queue_full', 'rate_limit_error', '5'],
    ['model_not_found', 404, 'model_not_found', 'invalid_request_error', null],
    ['model_loading', 503, 'model_loading', 'server_error', '2'],
    ['press_budget_tight', 400, 'press_budget_tight', 'invalid_request_error', null],
  ])('%s is a %i, streamed or not', async (thrown, status, code, type, retryAfter) => {
    for (const stream of [false, true]) {
      const { chat, seen, logged } = setup([new InputError(thrown, 'messages', 'what is wrong, what was seen, what would work')]);
      const response = await chat({ stream });
      expect(response.headers.get('retry-after')).toBe(retryAfter);
      expect(response.headers.get('content-type')).toBe('application/json');
      expect(await errorOf(response)).toEqual({ status, code, type, param: 'messages', message: 'what is wrong, what was seen, what would work' });
      expect(seen.ended).toBe(1);
      expect(logged).toEqual([]);
    }
  });

  test("an unexpected failure is a 500 without its stack, logged with the request's id", async () => {
    for (const script of [[new Error('secret detail')], [prompt, text('Hel'), new Error('secret detail')]]) {
      const { chat, seen, logged } = setup(script);
      const response = await chat();
      const id = response.headers.get('x-request-id');
      const body = await response.text();
      expect(response.status).toBe(500);
      expect(body).not.toContain('secret');
      expect(JSON.parse(body).error).toMatchObject({ type: 'server_error', code: 'internal_error', param: null });
      expect(logged).toEqual([{ line: `${id} POST /v1/chat/completions 500`, error: expect.objectContaining({ message: 'secret detail' }) }]);
      expect(seen.ended).toBe(1);
    }
  });

  test('an engine that breaks its contract is a 500, never a half answer', async () => {
    for (const script of [[], [prompt], [text('x')], [prompt, prompt], [prompt, text('x')]] as Step[][]) {
      expect((await setup(script).chat()).status).toBe(500);
    }
  });

  test.each([new Error('model.safetensors is missing'), new InputError('model_unsupported', null, 'unknown family')])(
    'a model that failed to load is a 503 that points to /health: %s',
    async (why) => {
      const { chat, logged } = setup([], { engine: () => Promise.reject(why) });
      expect(await errorOf(chat())).toMatchObject({
        status: 503,
        type: 'server_error',
        code: 'model_unavailable',
        message: 'the model could not be loaded; GET /health says why',
      });
      expect(logged).toEqual([{ line: expect.stringContaining('503'), error: why }]);
    },
  );

  test('a failed load can be tried again', async () => {
    let tries = 0;
    const { engine } = fakeEngine();
    const { chat } = setup([], {
      engine: async () => {
        if (tries++ === 0) throw new Error('network');
        return engine;
      },
    });
    expect((await chat()).status).toBe(503);
    expect((await chat()).status).toBe(200);
  });

  test("one app serves all requests of a worker: the engine is asked for with each one's env and context", async () => {
    const { engine } = fakeEngine();
    const kept: Promise<unknown>[] = [];
    const app = createApp({ engine: async (c) => (c.env.MODEL === 'here' ? engine : Promise.reject(new Error('no MODEL'))) });
    const context = { waitUntil: (promise: Promise<unknown>) => kept.push(promise), passThroughOnException() {}, props: {} };
    const ask = () => new Request('http://edge.example/v1/completions', { method: 'POST', body: '{"prompt": "x"}' });
    expect((await app.fetch(ask(), { MODEL: 'here' }, context)).status).toBe(200);
    await Promise.all(kept); // the run's end is what the context waits for
    expect(kept).toHaveLength(1);
  });

  test('a wrong request is refused while the model is still loading', async () => {
    const { chat } = setup([], { engine: () => new Promise(() => {}) });
    expect(await errorOf(chat({ temperature: 9 }))).toMatchObject({ status: 400 });
  });
});

describe('keys', () => {
  const apiKeys = ['first-key', 'second-key'];
  const bearer = (authorization: string) => ({ headers: { authorization } });

  test('with keys, /v1/* needs one of them', async () => {
    const { app, seen, post } = setup(undefined, { apiKeys });
    const none = await app.request('/v1/models');
    expect(none.headers.get('www-authenticate')).toBe('Bearer');
    expect(await errorOf(none)).toEqual({
      status: 401,
      type: 'authentication_error',
      code: 'invalid_api_key',
      param: null,
      message: 'this server needs an API key; send it as "Authorization: Bearer <key>"',
    });
    for (const wrong of ['Bearer third-key', 'Bearer first-ke', 'Bearer first-key2', 'Bearer first-key,second-key']) {
      expect(await errorOf(app.request('/v1/models', bearer(wrong)))).toMatchObject({
        status: 401,
        code: 'invalid_api_key',
        message: expect.stringContaining('not one of'),
      });
    }
    for (const malformed of ['Basic first-key', 'first-key', 'Bearer '])
      expect((await app.request('/v1/models', bearer(malformed))).status).toBe(401);
    for (const right of ['Bearer first-key', 'bearer second-key']) expect((await app.request('/v1/models', bearer(right))).status).toBe(200);
    expect((await post('/v1/completions', { prompt: 'x' })).status).toBe(401);
    expect(seen.requests).toEqual([]);
  });

  test('with keys, what tells nothing stays open; without, everything is', async () => {
    const { app } = setup(undefined, { apiKeys });
    for (const path of ['/', '/health', '/openapi.json']) expect((await app.request(path)).status).toBe(200);
    expect((await setup().app.request('/v1/models')).status).toBe(200);
  });
});
