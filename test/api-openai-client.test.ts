/** The official SDK as the client: what it sends is understood, what it is sent it understands. */
import OpenAI, { APIError, APIUserAbortError, AuthenticationError, BadRequestError, NotFoundError, RateLimitError } from 'openai';
import { describe, expect, test } from 'vitest';
import { InputError } from '../presses/input-error.ts';
import { createApp } from '../worker/api/app.ts';
import { fakeEngine, finish, info, kvCache, prompt, type Step, text } from './api-fake-engine.ts';

function setup(script?: readonly Step[], { apiKeys, apiKey = 'unused' }: { apiKeys?: string[]; apiKey?: string } = {}) {
  const { engine, seen } = fakeEngine(script);
  const app = createApp({ engine: async () => engine, apiKeys, log: () => {} });
  const fetch = async (url: unknown, init?: RequestInit) => {
    const response = await app.request(String(url), init);
    init?.signal?.throwIfAborted(); // as fetch does; the server's answer to nobody is a 499
    return response;
  };
  const client = new OpenAI({ baseURL: 'http://edge.example/v1', apiKey, maxRetries: 0, fetch });
  return { client, seen };
}

const messages = [{ role: 'user' as const, content: 'Hi' }];

describe('the openai package', () => {
  test('chat.completions.create', async () => {
    const { client, seen } = setup();
    const answer = await client.chat.completions.create({
      model: info.id,
      messages,
      temperature: 0,
      press: 'zigzag_snapkv',
    } as OpenAI.ChatCompletionCreateParamsNonStreaming);
    expect(answer.choices[0].message.content).toBe('Hello world');
    expect(answer.usage).toMatchObject({ prompt_tokens: 100, completion_tokens: 2, kv_cache: kvCache });
    expect(answer._request_id).toMatch(/^[0-9a-f-]{36}$/);
    expect(seen.requests[0].press.name).toBe('zigzag_snapkv');
  });

  test('an answer can be sent back as history', async () => {
    const { client } = setup();
    const answer = await client.chat.completions.create({ model: info.id, messages });
    const again = await client.chat.completions.create({ model: info.id, messages: [...messages, answer.choices[0].message, ...messages] });
    expect(again.choices[0].finish_reason).toBe('stop');
  });

  test('stream: deltas, finish_reason, usage', async () => {
    for (const include_usage of [true, undefined]) {
      const { client } = setup();
      const stream = await client.chat.completions.create({
        model: info.id,
        messages,
        stream: true,
        ...(include_usage && { stream_options: { include_usage } }),
      });
      let content = '',
        finish: string | null = null,
        usage: object | null = null;
      for await (const chunk of stream) {
        content += chunk.choices[0]?.delta.content ?? '';
        finish = chunk.choices[0]?.finish_reason ?? finish;
        usage = chunk.usage ?? usage;
      }
      expect({ content, finish, usage }).toEqual({
        content: 'Hello world',
        finish: 'stop',
        usage: expect.objectContaining({ completion_tokens: 2, kv_cache: kvCache }),
      });
    }
  });

  test('the stream helper assembles the same completion, logprobs and usage included', async () => {
    const { client } = setup();
    const helper = client.chat.completions.stream({
      model: info.id,
      messages,
      logprobs: true,
      top_logprobs: 2,
      stream_options: { include_usage: true },
    });
    const final = await helper.finalChatCompletion();
    expect(final.choices[0]).toMatchObject({ finish_reason: 'stop', message: { role: 'assistant', content: 'Hello world' } });
    expect(final.choices[0].logprobs?.content?.map((t) => t.token)).toEqual(['Hello', ' world']);
    expect(await helper.totalUsage()).toMatchObject({ prompt_tokens: 100, completion_tokens: 2, total_tokens: 102 });
  });

  test('completions.create, streamed and not', async () => {
    const { client } = setup();
    const answer = await client.completions.create({ model: info.id, prompt: 'Say', logprobs: 1 });
    expect(answer.choices[0]).toMatchObject({
      text: 'Hello world',
      finish_reason: 'stop',
      logprobs: { tokens: ['Hello', ' world'], text_offset: [0, 5] },
    });
    let streamed = '';
    for await (const chunk of await client.completions.create({ model: info.id, prompt: [1, 2], stream: true })) streamed += chunk.choices[0].text;
    expect(streamed).toBe('Hello world');
  });

  test('models.list and models.retrieve', async () => {
    const { client } = setup();
    const ids: string[] = [];
    for await (const model of client.models.list()) ids.push(model.id);
    expect(ids).toEqual([info.id]);
    expect(await client.models.retrieve(info.id)).toMatchObject({ id: info.id, object: 'model' });
  });

  test("breaking out of a stream, or aborting its controller, ends the engine's run", async () => {
    for (const leave of ['break', 'abort']) {
      const { client, seen } = setup([prompt, ...Array.from({ length: 100 }, () => text('x')), finish(100)]);
      const stream = await client.chat.completions.create({ model: info.id, messages, stream: true });
      for await (const chunk of stream) {
        if (chunk.choices[0].delta.content !== 'x') continue;
        if (leave === 'break') break;
        stream.controller.abort();
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
      expect(seen).toMatchObject({ ended: 1, completed: 0 });
      expect(seen.taken).toBeLessThan(6);
    }
  });

  test('an AbortSignal cancels an answer that is not streamed', async () => {
    const { client, seen } = setup([prompt, 'hang', finish(0)]);
    const abort = new AbortController();
    const answer = client.chat.completions.create({ model: info.id, messages }, { signal: abort.signal });
    setTimeout(() => abort.abort(), 10);
    await expect(answer).rejects.toThrow(APIUserAbortError);
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(seen).toMatchObject({ ended: 1, completed: 0 });
  });

  test("errors become the SDK's classes with code, param and request id", async () => {
    const { client } = setup();
    const wrong = await client.chat.completions.create({ model: info.id, messages, temperature: 3 }).catch((e) => e);
    expect(wrong).toBeInstanceOf(BadRequestError);
    expect(wrong).toMatchObject({
      status: 400,
      code: 'invalid_value',
      param: 'temperature',
      type: 'invalid_request_error',
      requestID: expect.any(String),
      message: '400 temperature must be a number between 0 and 2, got 3',
    });
    await expect(client.chat.completions.create({ model: 'gpt-4', messages })).rejects.toThrow(NotFoundError);
    await expect(setup([new InputError('queue_full', null, 'busy')]).client.chat.completions.create({ model: info.id, messages })).rejects.toThrow(
      RateLimitError,
    );
    await expect(setup([], { apiKeys: ['right'], apiKey: 'wrong' }).client.models.list()).rejects.toThrow(AuthenticationError);
    expect((await setup([], { apiKeys: ['right'], apiKey: 'right' }).client.models.list()).data).toHaveLength(1);
  });

  test('an error in the middle of a stream is thrown to who iterates', async () => {
    const { client } = setup([prompt, text('Hel'), new Error('x')]);
    const stream = await client.chat.completions.create({ model: info.id, messages, stream: true });
    let content = '';
    const reading = (async () => {
      for await (const chunk of stream) content += chunk.choices[0].delta.content ?? '';
    })();
    const error = await reading.catch((e) => e);
    expect(error).toBeInstanceOf(APIError);
    expect(error).toMatchObject({ code: 'internal_error', type: 'server_error' });
    expect(content).toBe('Hel');
  });

  test('the SDK retries a full queue and succeeds', async () => {
    const busy = fakeEngine([new InputError('queue_full', null, 'busy')]).engine;
    const free = fakeEngine().engine;
    let calls = 0;
    const app = createApp({ engine: async () => (calls++ === 0 ? busy : free) });
    const client = new OpenAI({
      baseURL: 'http://edge.example/v1',
      apiKey: 'unused',
      maxRetries: 1,
      fetch: async (url, init) => {
        const response = await app.request(String(url), init);
        if (response.status === 429) response.headers.set('retry-after-ms', '1'); // the test need not wait the 5 s
        return response;
      },
    });
    expect((await client.chat.completions.create({ model: info.id, messages })).choices[0].message.content).toBe('Hello world');
    expect(calls).toBe(2);
  });
});
