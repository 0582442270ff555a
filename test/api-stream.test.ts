import { describe, expect, test } from 'vitest';
import { InputError } from '../presses/input-error.ts';
import { createApp } from '../worker/api/app.ts';
import * as wire from '../worker/wire/answer-schema.ts';
import { fakeEngine, finish, kvCache, prompt, type Step, text } from './api-fake-engine.ts';

function setup(script?: readonly Step[]) {
  const { engine, seen } = fakeEngine(script);
  const logged: unknown[] = [];
  const app = createApp({ engine: async () => engine, log: (_, error) => logged.push(error) });
  const stream = (fields: object = {}, init: RequestInit = {}, path = '/v1/chat/completions') =>
    app.request(path, {
      method: 'POST',
      body: JSON.stringify({
        stream: true,
        ...(path.endsWith('chat/completions') ? { messages: [{ role: 'user', content: 'Hi' }] } : { prompt: 'Hi' }),
        ...fields,
      }),
      ...init,
    });
  return { stream, seen, logged };
}

/** Lets everything run that can run without anybody reading. */
const settle = () => new Promise((resolve) => setTimeout(resolve, 5));

const usage = { prompt_tokens: 100, completion_tokens: 2, total_tokens: 102, prompt_tokens_details: { cached_tokens: 0 }, kv_cache: kvCache };
const timings = { prefill_ms: 10, press_ms: 1, decode_ms: 20 };

function eventsOf(body: string): unknown[] {
  return body
    .split('\n\n')
    .filter((line) => line !== 'data: [DONE]' && line !== '')
    .map((line) => JSON.parse(line.slice('data: '.length)));
}

describe('server-sent events', () => {
  test('byte by byte: role, deltas, finish_reason with usage, [DONE]', async () => {
    const { stream, seen } = setup();
    const response = await stream();
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(response.headers.get('cache-control')).toBe('no-cache');
    expect(response.headers.get('x-accel-buffering')).toBe('no');
    const body = await response.text();
    const { id, created } = eventsOf(body)[0] as { id: string; created: number };
    const start = `data: {"id":"${id}","created":${created},"model":"toy/needle-1M","system_fingerprint":"toy/needle-1M/0123456789ab/wasm/simd","object":"chat.completion.chunk","choices":[{"index":0,"delta":`;
    expect(body).toBe(
      `${start}{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]}\n\n` +
        `${start}{"content":"Hello"},"logprobs":null,"finish_reason":null}]}\n\n` +
        `${start}{"content":" world"},"logprobs":null,"finish_reason":null}]}\n\n` +
        `${start}{},"logprobs":null,"finish_reason":"stop"}],"usage":${JSON.stringify(usage)},"timings":${JSON.stringify(timings)}}\n\n` +
        'data: [DONE]\n\n',
    );
    expect(seen).toMatchObject({ ended: 1, completed: 1, aborted: null });
  });

  test('include_usage true: null on every chunk, then a chunk of its own with empty choices', async () => {
    const events = eventsOf(await (await setup().stream({ stream_options: { include_usage: true } })).text()).map((e) =>
      wire.chatCompletionChunk.parse(e),
    );
    expect(events.map((e) => e.usage)).toEqual([null, null, null, null, usage]);
    expect(events.map((e) => e.choices.length)).toEqual([1, 1, 1, 1, 0]);
    expect(events[3].choices[0].finish_reason).toBe('stop');
    expect(events[4].timings).toEqual(timings);
  });

  test('include_usage false: no usage anywhere', async () => {
    const events = eventsOf(await (await setup().stream({ stream_options: { include_usage: false } })).text());
    expect(events).toHaveLength(4);
    for (const event of events) expect(event).not.toHaveProperty('usage');
  });

  test('text_completion: the same object piece by piece', async () => {
    for (const [stream_options, last] of [
      [undefined, { usage }],
      [{ include_usage: true }, { choices: [], usage }],
    ] as const) {
      const response = await setup([prompt, text('Hello'), text(' world'), finish(2, 'length')]).stream(
        { stream_options, logprobs: 0 },
        {},
        '/v1/completions',
      );
      const body = await response.text();
      expect(body.endsWith('\n\ndata: [DONE]\n\n')).toBe(true);
      const events = eventsOf(body).map((e) => wire.textCompletion.parse(e));
      expect(events.flatMap((e) => e.choices.map((c) => c.text)).join('')).toBe('Hello world');
      expect(events.flatMap((e) => e.choices.map((c) => c.logprobs?.text_offset))).toEqual([[0], [5], undefined]);
      expect(events.flatMap((e) => e.choices.map((c) => c.finish_reason))).toEqual([null, null, 'length']);
      expect(events.at(-1)).toMatchObject(last);
    }
  });

  test('logprobs travel with their text, and alone when the text is still held back', async () => {
    const held = { ...text('wo'), text: '' } as Step;
    const events = (body: string) => eventsOf(body).map((e) => wire.chatCompletionChunk.parse(e).choices[0]);
    const withThem = events(await (await setup([prompt, held, text('rld'), finish(2)]).stream({ logprobs: true })).text());
    expect(withThem.map((c) => c.delta.content)).toEqual(['', '', 'rld', undefined]);
    expect(withThem.map((c) => c.logprobs?.content.map((t) => t.token))).toEqual([undefined, ['wo'], ['rld'], undefined]);
    const without = events(await (await setup([prompt, held, text('rld'), finish(2)]).stream()).text());
    expect(without.map((c) => c.delta.content)).toEqual(['', 'rld', undefined]);
  });

  test('text that JSON or SSE could trip over arrives whole', async () => {
    const awkward = 'a\n\ndata: [DONE]\r\n\u2028"\\\u0000 😀';
    const body = await (await setup([prompt, text(awkward), finish(1)]).stream()).text();
    expect(wire.chatCompletionChunk.parse(eventsOf(body)[1]).choices[0].delta.content).toBe(awkward);
  });
});

describe('backpressure', () => {
  test('the engine is asked for the next event only when the client has taken the last', async () => {
    const { stream, seen } = setup([prompt, text('a'), text('b'), text('c'), finish(3)]);
    const response = await stream();
    await settle();
    expect(seen.taken).toBe(1); // the prompt, before the status
    const reader = response.body!.getReader();
    const taken: number[] = [];
    for (;;) {
      const { done } = await reader.read();
      await settle();
      if (done) break;
      taken.push(seen.taken);
    }
    expect(taken).toEqual([1, 2, 3, 4, 5]); // role, a, b, c, finish
    expect(seen.ended).toBe(1);
  });

  test('a client that stops reading stops the engine', async () => {
    const { stream, seen } = setup([prompt, ...Array.from({ length: 1000 }, () => text('x')), finish(1000)]);
    const reader = (await stream()).body!.getReader();
    for (let i = 0; i < 5; i++) await reader.read();
    await settle();
    expect(seen.taken).toBe(5);
    await reader.cancel();
    expect(seen.ended).toBe(1);
  });
});

describe('the client goes away', () => {
  test("cancelling the stream ends the engine's iteration", async () => {
    const { stream, seen, logged } = setup([prompt, text('a'), text('b'), finish(2)]);
    const reader = (await stream()).body!.getReader();
    await reader.read();
    await reader.read();
    await reader.cancel('enough');
    expect(seen).toMatchObject({ taken: 2, ended: 1, completed: 0, aborted: 'enough' });
    expect(logged).toEqual([]);
  });

  test('cancelling before the first read does too', async () => {
    const { stream, seen } = setup();
    await (await stream()).body!.cancel();
    expect(seen).toMatchObject({ taken: 1, ended: 1, completed: 0 });
  });

  test('cancelling in the middle of a step ends the step', async () => {
    const { stream, seen, logged } = setup([prompt, 'hang', finish(0)]);
    const reader = (await stream()).body!.getReader();
    await reader.read();
    const waiting = reader.read();
    await settle();
    expect(seen).toMatchObject({ taken: 2, ended: 0 });
    await reader.cancel();
    expect((await waiting).done).toBe(true);
    expect(seen).toMatchObject({ ended: 1, completed: 0 });
    expect(logged).toEqual([]);
  });

  test.each([
    ['between two events', [prompt, text('a'), text('b'), finish(2)] as Step[]],
    ['in the middle of a step', [prompt, text('a'), 'hang', finish(2)] as Step[]],
  ])('request.signal %s: the iteration ends, the stream fails with the reason', async (_, script) => {
    const { stream, seen, logged } = setup(script);
    const client = new AbortController();
    const reader = (await stream({}, { signal: client.signal })).body!.getReader();
    await reader.read();
    await reader.read();
    const waiting = script[2] === 'hang' ? reader.read() : null;
    waiting?.catch(() => {});
    await settle();
    client.abort(new Error('gone'));
    await settle();
    await expect(waiting ?? reader.read()).rejects.toThrow('gone');
    expect(seen).toMatchObject({ ended: 1, completed: 0, aborted: expect.objectContaining({ message: 'gone' }) });
    expect(logged).toEqual([]);
  });

  test.each([true, false])('request.signal while the prompt is read (stream %s)', async (streamed) => {
    const { stream, seen, logged } = setup(['hang', finish(0)]);
    const client = new AbortController();
    const answer = stream({ stream: streamed }, { signal: client.signal });
    await settle();
    expect(seen).toMatchObject({ taken: 1, ended: 0 });
    client.abort();
    expect((await answer).status).toBe(499);
    expect(seen).toMatchObject({ ended: 1 });
    expect(logged).toEqual([]);
  });

  test('request.signal while an answer that is not streamed is made', async () => {
    for (const script of [
      [prompt, text('a'), 'hang', finish(2)],
      [prompt, text('a'), text('b'), 'hang'],
    ] as Step[][]) {
      const { stream, seen } = setup(script);
      const client = new AbortController();
      const answer = stream({ stream: false }, { signal: client.signal });
      await settle();
      client.abort();
      expect((await answer).status).toBe(499);
      expect(seen).toMatchObject({ ended: 1 });
    }
  });

  test('a signal that fired before the request came: nothing is computed', async () => {
    const { stream, seen } = setup();
    expect((await stream({}, { signal: AbortSignal.abort() })).status).toBe(499);
    expect(seen).toMatchObject({ taken: 0, ended: 1 });
  });

  test('a signal that fires after the answer is complete does nothing', async () => {
    const { stream, seen, logged } = setup();
    const client = new AbortController();
    await (await stream({}, { signal: client.signal })).text();
    client.abort();
    await settle();
    expect(seen).toMatchObject({ ended: 1, completed: 1, aborted: null });
    expect(logged).toEqual([]);
  });
});

describe('errors after the status is sent', () => {
  test('the last event is the error, and there is no [DONE]', async () => {
    const { stream, seen, logged } = setup([prompt, text('Hel'), new Error('secret detail')]);
    const response = await stream();
    expect(response.status).toBe(200);
    const events = (await response.text()).split('\n\n');
    expect(events).toHaveLength(4);
    expect(events[2]).toBe(
      `data: ${JSON.stringify({ error: { message: 'the server failed while it answered; the x-request-id header of this response finds the cause in its log', type: 'server_error', param: null, code: 'internal_error' } })}`,
    );
    expect(events[3]).toBe('');
    expect(logged).toEqual([expect.objectContaining({ message: 'secret detail' })]);
    expect(seen.ended).toBe(1);
  });

  test('an InputError keeps its code and is not logged', async () => {
    const { stream, logged } = setup([prompt, new InputError('kv_budget_exceeded', null, 'no page is free')]);
    expect(eventsOf(await (await stream()).text())[1]).toEqual({
      error: { message: 'no page is free', type: 'invalid_request_error', param: null, code: 'kv_budget_exceeded' },
    });
    expect(logged).toEqual([]);
  });

  test('an engine that ends without a finish event is an error, not a short answer', async () => {
    const body = await (await setup([prompt, text('Hel')]).stream()).text();
    expect(body).not.toContain('[DONE]');
    expect(eventsOf(body).at(-1)).toHaveProperty('error.code', 'internal_error');
  });
});
