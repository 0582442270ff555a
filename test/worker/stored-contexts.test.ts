/** Pressed contexts over HTTP in workerd, a Durable Object and R2 behind them: made, asked about by many at once, taken by prompts that begin alike, refused, given up. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { type ClientRequest, request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parsePress } from '../../presses/config.ts';
import { bytesOf } from '../../worker/engine/pressed/write.ts';
import * as wire from '../../worker/wire/answer-schema.ts';
import { openGolden } from '../support/golden.ts';
import { Random } from '../support/random.ts';
import { samples, twoParts } from '../support/samples.ts';
import { type Completion, OWN_CONNECTION, packedInShards, removePacked, startWorker, type TestWorker, type WireError } from '../support/worker.ts';

type Context = (typeof wire.context)['_output'];

const CONTEXTS = '/v1/contexts';
const CHAT = '/v1/chat/completions';
const press = { preset: 'keydiff', compression_ratio: 0.3 };
const texts = samples().filter(({ task, context_length }) => task === 'niah_multikey' && context_length <= 512);
const documentOf = ({ context }: (typeof texts)[number]) => [{ role: 'user', content: `${context}\n` }];
const questionOf = ({ question }: (typeof texts)[number]) => [{ role: 'user', content: question }];
const textOf = ({ choices }: Completion) => choices[0].message.content;
const cached = ({ usage }: Completion) => usage.prompt_tokens_details.cached_tokens;

let worker: TestWorker;
beforeAll(async () => {
  worker = await startWorker({ vars: { CONTEXTS_PER_KEY: '40', CONTEXT_BYTES_PER_KEY: '64MiB' } });
});
afterAll(async () => {
  await worker?.dispose();
  await removePacked();
});

async function make(of = texts[0], body: object = { press }): Promise<Context> {
  const { status, body: answer } = await worker.post<Context>(CONTEXTS, { messages: documentOf(of), ...body });
  if (status !== 200) throw new Error(JSON.stringify(answer));
  return wire.context.parse(answer);
}

async function remove(id: string): Promise<number> {
  const { status } = await fetch(new URL(`${CONTEXTS}/${id}`, worker.url), { method: 'DELETE', headers: OWN_CONNECTION });
  return status;
}

async function ids(): Promise<string[]> {
  return wire.contextList.parse((await worker.get(CONTEXTS)).body).data.map(({ id }) => id);
}

async function removeAll(): Promise<void> {
  for (const id of await ids()) expect(await remove(id)).toBe(200);
}

describe('a key of everybody', () => {
  test('one is made, asked about by the openai package, listed, deleted', async () => {
    const made = await make(texts[0], { press, metadata: { title: 'a' }, ttl: 3600 });
    expect(made).toMatchObject({ object: 'context', model: 'needle', press: 'keydiff', metadata: { title: 'a' } });
    const whole = await worker.chat({ messages: twoParts(texts[0]), press, context: false });
    const answer = await worker.client().chat.completions.create({
      model: 'needle',
      messages: questionOf(texts[0]) as OpenAI.ChatCompletionMessageParam[],
      temperature: 0,
      // @ts-expect-error our extension
      context: made.id,
    });
    expect(answer.choices[0].message.content).toBe(textOf(whole));
    expect(answer.usage!.prompt_tokens_details!.cached_tokens).toBe(made.tokens);
    expect(await ids()).toEqual([made.id]);
    expect((await worker.get(`${CONTEXTS}/${made.id}`)).body).toMatchObject({ id: made.id, tokens: made.tokens });
    expect((await worker.health()).contexts).toMatchObject({ held: 1, per_key: { count: 40, bytes: 64 * 2 ** 20 } });
    expect(await remove(made.id)).toBe(200);
    expect([await ids(), await remove(made.id)]).toEqual([[], 404]);
    expect((await worker.post(CHAT, { context: made.id, messages: questionOf(texts[0]) })).status).toBe(404);
    await worker.idle(); // nor is anything in memory
  });

  test('the lines of the README work as printed, and answer what it says', async () => {
    const block = /\n## Contexts\n[\s\S]*?```sh\n([\s\S]*?)```/.exec(readFileSync('README.md', 'utf8'))![1];
    const script = block.replaceAll('http://127.0.0.1:8787', worker.url.origin);
    const { stdout } = await promisify(execFile)('sh', ['-c', `${script}\necho "$id"`], { encoding: 'utf8', timeout: 60_000 });
    const lines = stdout.trim().split('\n');
    const id = lines.pop();
    const [otter, lamp, list, one, deleted] = lines.map((line) => JSON.parse(line));
    expect([otter, lamp].map(textOf)).toEqual([' 4821', ' 7306']);
    expect([otter, lamp].map(cached)).toEqual([104, 104]);
    expect(list).toMatchObject({ data: [{ id }] });
    expect(one).toMatchObject({ id, kept: 52, kept_per_layer: [60, 40, 63, 55, 35, 59], metadata: { title: 'animals' } });
    expect(deleted).toEqual({ id, object: 'context.deleted', deleted: true });
  });

  test('24 requests at once behind four contexts, streamed or not: each gets its own answer, and each context is one', async () => {
    const made = await Promise.all(texts.slice(0, 4).map((text) => make(text)));
    const want = await Promise.all(made.map(async ({ id }, i) => textOf(await worker.chat({ context: id, messages: questionOf(texts[i]) }))));
    expect(new Set(want).size).toBe(4);
    const together = await Promise.all(
      Array.from({ length: 24 }, async (_, i) => {
        const body = { context: made[i % 4].id, messages: questionOf(texts[i % 4]), temperature: 0 };
        if (i % 3 > 0) return textOf(await worker.chat(body));
        const { body: events } = await worker.post<string>(CHAT, { ...body, stream: true });
        const chunks = events.split('\n\n').flatMap((event) => (event.startsWith('data: {') ? [JSON.parse(event.slice(6))] : []));
        return chunks.map(({ choices }) => choices[0].delta.content ?? '').join('');
      }),
    );
    expect(together).toEqual(Array.from({ length: 24 }, (_, i) => want[i % 4]));
    expect((await worker.health()).contexts.held).toBe(4);
    await removeAll();
    await worker.idle();
  });

  test('a prompt that begins as one does takes it, and answers the same', async () => {
    const { id, tokens } = await make();
    const [seen, want] = [
      await worker.chat({ messages: twoParts(texts[0]), press }),
      await worker.chat({ messages: twoParts(texts[0]), press, context: false }),
    ];
    expect([seen.context, cached(seen), cached(want)]).toEqual([id, tokens, 0]);
    expect(seen.choices).toEqual(want.choices);
    await removeAll();
  });

  test('what does not fit beside the others is made room for, and comes back from R2', async () => {
    const small = await startWorker({ vars: { KV_POOL: '3MiB' } });
    try {
      const made: Context[] = [];
      const big = texts.find(({ context_length }) => context_length === 512)!;
      for (const ratio of [0.05, 0.06, 0.07]) {
        const { body } = await small.post<Context>(CONTEXTS, { messages: documentOf(big), press: { preset: 'keydiff', compression_ratio: ratio } });
        made.push(wire.context.parse(body));
      }
      expect((await small.health()).contexts.held).toBeLessThan(3);
      const answers: string[] = [];
      for (const { id } of [...made, ...made]) answers.push(textOf(await small.chat({ context: id, messages: questionOf(big) })));
      expect(answers.slice(3)).toEqual(answers.slice(0, 3));
      // Several at once want the one that is not there.
      const again = await Promise.all([0, 1, 2, 3].map(() => small.chat({ context: made[0].id, messages: questionOf(big) })));
      expect(again.map(textOf)).toEqual(again.map(() => answers[0]));
      expect(small.log.join('')).toBe('');
    } finally {
      await small.dispose();
    }
  });

  test('clients that leave at any moment, while one is made or asked about, leave nothing behind', async () => {
    const random = new Random(12);
    const kept = await make(texts[1]);
    const want = textOf(await worker.chat({ context: kept.id, messages: questionOf(texts[1]) }));
    let left = 0;
    for (let wave = 0; wave < 5; wave++) {
      const ended = await Promise.all(
        Array.from({ length: 8 }, (_, i) => {
          const asking = { context: kept.id, messages: questionOf(texts[1]), stream: i % 4 === 1, max_tokens: 120, ignore_eos: true };
          const making = { messages: documentOf(texts[i % texts.length]), press, ttl: 3600 };
          return leaves(i % 2 ? CHAT : CONTEXTS, i % 2 ? asking : making, random.int(0, 300), random.next() < 0.7 ? 'reset' : 'close');
        }),
      );
      left += ended.filter((one) => one === 'left').length;
    }
    expect(left).toBeGreaterThan(10);
    await until(async () => (await worker.health()).requests.running + (await worker.health()).requests.waiting === 0);
    expect(textOf(await worker.chat({ context: kept.id, messages: questionOf(texts[1]) }))).toBe(want);
    // Whatever is there is whole.
    for (const id of await ids()) {
      const answer = await worker.chat({ context: id, messages: [{ role: 'user', content: 'What?' }], max_tokens: 1 });
      expect(answer.context).toBe(id);
    }
    await removeAll();
    const { memory } = await worker.idle();
    expect([memory.kv_used_bytes, memory.kv_reserved_bytes]).toEqual([0, 0]);
    expect(worker.log.join('')).toBe('');
  });
});

test('keys: another one is told what nobody is; quotas are for each', async () => {
  const keyed = await startWorker({ vars: { API_KEYS: 'a, b', CONTEXTS_PER_KEY: '1' } });
  const call = async (method: string, path: string, key: string, body?: object) => {
    const headers = { ...OWN_CONNECTION, authorization: `Bearer ${key}` };
    const response = await fetch(new URL(path, keyed.url), { method, headers, body: body && JSON.stringify(body) });
    return { status: response.status, body: (await response.json()) as Context & WireError };
  };
  try {
    const body = { text: 'Anna lives in Oslo.' };
    const { id } = (await call('POST', CONTEXTS, 'a', body)).body;
    const never = `ctx_${'0'.repeat(32)}`;
    const seen = [await call('GET', `${CONTEXTS}/${id}`, 'b'), await call('GET', `${CONTEXTS}/${never}`, 'b')];
    expect(seen[0].status).toBe(404);
    expect(JSON.stringify(seen[0]).replaceAll(id, never)).toBe(JSON.stringify(seen[1]));
    expect((await call('DELETE', `${CONTEXTS}/${id}`, 'b')).status).toBe(404);
    expect((await call('POST', '/v1/completions', 'b', { context: id, prompt: 'x' })).status).toBe(404);
    expect((await call('POST', CONTEXTS, 'b', body)).status).toBe(200);
    const full = await call('POST', CONTEXTS, 'a', body);
    expect([full.status, full.body.error.code]).toEqual([429, 'context_quota_exceeded']);
    expect((await call('POST', '/v1/completions', 'a', { context: id, prompt: ' Where?', max_tokens: 1 })).status).toBe(200);
    expect((await keyed.get(CONTEXTS)).status).toBe(401);
  } finally {
    await keyed.dispose();
  }
});

test('a document that was pressed elsewhere, as a file among the assets, is asked about by its name', async () => {
  const assets = await packedInShards();
  const engine = await openGolden('needle');
  const parts = [`${texts[0].context}\n`];
  const held = await engine.hold({ prompt: { kind: 'chat', messages: [{ role: 'user', parts }] }, press: parsePress(press) });
  await mkdir(join(assets, 'contexts'));
  await writeFile(join(assets, 'contexts', 'otters.pressed.safetensors'), await bytesOf(engine.writePressed(held, { entryType: 'int8' })));
  engine.close();
  const shipped = await startWorker({ assets });
  try {
    const want = await shipped.chat({ messages: twoParts(texts[0]), press: { ...press, entry_type: 'int8' } });
    const seen = await Promise.all([1, 2, 3].map(() => shipped.chat({ context: 'otters', messages: questionOf(texts[0]) })));
    for (const one of seen) expect([textOf(one), one.context, one.usage.kv_cache.entry_type]).toEqual([textOf(want), 'otters', 'int8']);
    expect((await shipped.post(CHAT, { context: 'others', messages: questionOf(texts[0]) })).status).toBe(404);
    expect((await shipped.get('/contexts/otters.pressed.safetensors')).status).toBe(404); // only the worker reads it
    expect((await shipped.health()).contexts.held).toBe(1);
  } finally {
    await shipped.dispose();
  }
});

async function until(is: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await is()); tries++) {
    if (tries > 500) throw new Error('it never was');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Posts and ends the connection after `ms`; 'left' unless the whole answer had come by then. */
function leaves(path: string, body: object, ms: number, how: 'close' | 'reset'): Promise<'left' | 'answered'> {
  return new Promise((resolve) => {
    let answered = false;
    const request: ClientRequest = httpRequest(new URL(path, worker.url), { method: 'POST', agent: false }, (response) => {
      response
        .on('data', () => {})
        .on('end', () => {
          answered = true;
        })
        .on('error', () => {});
    });
    request.on('error', () => {}).on('close', () => resolve(answered ? 'answered' : 'left'));
    request.end(JSON.stringify(body));
    setTimeout(() => {
      if (how !== 'close') request.socket?.resetAndDestroy();
      request.destroy();
    }, ms);
  });
}
