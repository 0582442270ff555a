/** In workerd itself: a client that leaves must not leave the engine's run behind, with its pages. */
import { type ClientRequest, request as httpRequest } from 'node:http';
import { build } from 'esbuild';
import { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, test } from 'vitest';

/** An engine that takes 20 ms a token, and a route that tells how its runs ended. */
const worker = `
  import { createApp } from './worker/api/app.ts';
  import { fakeEngine, finish, prompt, text } from './test/api-fake-engine.ts';
  const runs = { started: 0, tokens: 0, ended: 0 };
  const engine = { ...fakeEngine().engine, async *generate({ sampling }, signal) {
    runs.started++;
    try {
      yield prompt;
      for (let i = 0; i < sampling.maxTokens; i++) {
        signal.throwIfAborted();
        await new Promise(resolve => setTimeout(resolve, 20));
        runs.tokens++;
        yield text('word '.repeat(40));
      }
      yield finish(sampling.maxTokens, 'length');
    } finally { runs.ended++; }
  } };
  const app = createApp({ engine: async () => engine });
  app.get('/runs', c => c.json(runs));
  export default app;
`;

let workerd: Miniflare;
let url: URL;

beforeAll(async () => {
  const bundle = await build({
    stdin: { contents: worker, resolveDir: process.cwd(), loader: 'ts' },
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'neutral',
    mainFields: ['module', 'main'],
  });
  workerd = new Miniflare({
    modules: true,
    script: bundle.outputFiles[0].text,
    cf: false,
    host: '127.0.0.1',
    port: 0,
    compatibilityDate: '2026-04-26',
    compatibilityFlags: ['enable_request_signal'],
  });
  url = await workerd.ready;
});
afterAll(() => workerd?.dispose());

const runs = async () => (await (await fetch(new URL('/runs', url))).json()) as { started: number; tokens: number; ended: number };

/** Posts, and gives the bytes as they come; `leave` may end the connection. */
function post(body: object, leave: (request: ClientRequest, text: string) => void = () => {}): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const request = httpRequest(new URL('/v1/chat/completions', url), { method: 'POST' }, (response) => {
      response
        .setEncoding('utf8')
        .on('data', (piece) => leave(request, (text += piece)))
        .on('end', () => resolve(text))
        .on('error', () => resolve(text));
    });
    request.on('error', () => resolve(text));
    request.end(JSON.stringify({ messages: [{ role: 'user', content: 'Hi' }], ...body }));
    leave(request, '');
  });
}

async function untilEnded(): Promise<{ started: number; tokens: number; ended: number }> {
  for (let tries = 0; tries < 100; tries++) {
    const seen = await runs();
    if (seen.ended === seen.started) return seen;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return runs();
}

test('workerd: a stream comes piece by piece and its run ends', async () => {
  const arrivals: number[] = [];
  const text = await post({ stream: true, max_tokens: 10 }, (_, seen) => seen && arrivals.push(Date.now()));
  expect(text.endsWith('data: [DONE]\n\n')).toBe(true);
  expect(arrivals.length).toBeGreaterThan(4);
  const { started, ended } = await untilEnded();
  expect(ended).toBe(started);
});

test.each(['a closed connection', 'a reset connection'])('workerd: %s in the middle of a stream ends the run', async (how) => {
  const before = await runs();
  await post({ stream: true, max_tokens: 400 }, (request, seen) => {
    if (seen.split('\n\n').length < 5) return;
    if (how === 'a closed connection') request.destroy();
    else request.socket?.resetAndDestroy();
  });
  const after = await untilEnded();
  expect(after.started).toBe(before.started + 1);
  expect(after.ended).toBe(after.started);
  expect(after.tokens - before.tokens).toBeLessThan(200); // 8 s would be all of them
});

test('workerd: a reset connection ends a run whose answer is not streamed', async () => {
  const before = await runs();
  await post({ max_tokens: 400 }, (request, seen) => {
    if (seen === '') setTimeout(() => request.socket?.resetAndDestroy(), 200);
  });
  const after = await untilEnded();
  expect(after.ended).toBe(before.started + 1);
  expect(after.tokens - before.tokens).toBeLessThan(200);
});

test('workerd: the press schema, the OpenAPI document and errors need nothing that only Node has', async () => {
  for (const path of ['/', '/health', '/v1/models', '/v1/presses', '/openapi.json']) expect((await fetch(new URL(path, url))).status).toBe(200);
  expect(await post({ temprature: 1 })).toContain('did you mean \\"temperature\\"?');
});
