/** Many clients at once in workerd: each gets its own answer, in its turn, and whatever ends early leaves nothing behind. */
import { type ClientRequest, request as httpRequest } from 'node:http';
import { RateLimitError } from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Random } from '../support/random.ts';
import { samples, twoParts } from '../support/samples.ts';
import { removePacked, startWorker, type TestWorker } from '../support/worker.ts';

const CHAT = '/v1/chat/completions';
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

afterAll(removePacked);

/** A context with a number of its own. */
function ask(number: number) {
  const filler = ['The horse slept near the valley.', 'We ate dates and drank lemonade.', 'It was a snowy evening.'][number % 3].repeat(
    (number % 5) + 1,
  );
  const context = `One of the special magic numbers for brave otter is: ${number}. ${filler}\n`;
  return twoParts({ context, question: 'What is the special magic number for brave otter mentioned in the provided text?' });
}

describe('with room for many', () => {
  let worker: TestWorker;
  beforeAll(async () => {
    worker = await startWorker();
  });
  afterAll(() => worker?.dispose());

  test('12 requests in parallel, each with its own number, get the answers, budgets and bytes that each gets alone', async () => {
    const random = new Random(4);
    const numbers = Array.from({ length: 12 }, () => random.int(1000, 9999));
    const presses = [
      undefined,
      { preset: 'knorm', compression_ratio: 0.1 },
      { preset: 'snapkv', window_size: 16, compression_ratio: 0.1, scope: 'prompt', entry_type: 'int8' },
      { preset: 'zigzag_snapkv', window_size: 4, compression_ratio: 0.3, scope: 'prompt' },
    ];
    const alone = [];
    for (const [i, number] of numbers.entries()) alone.push(await worker.chat({ messages: ask(number), press: presses[i % 4] }));
    for (const [i, { choices }] of alone.entries()) if (i % 4 === 0) expect(choices[0].message.content).toBe(` ${numbers[i]}`);

    const together = await Promise.all(numbers.map((number, i) => worker.chat({ messages: ask(number), press: presses[i % 4] })));
    expect(together.map(({ choices }) => choices)).toEqual(alone.map(({ choices }) => choices));
    expect(together.map(({ usage }) => usage)).toEqual(alone.map(({ usage }) => usage));
    await worker.idle();
  });

  test('a short request does not wait for a long answer to end', async () => {
    const order: string[] = [];
    const long = worker.chat({ messages: ask(1111), max_tokens: 600, temperature: 1, seed: 1, ignore_eos: true }).then(() => order.push('long'));
    while ((await worker.health()).requests.running === 0) await pause(5);
    await worker.chat({ messages: ask(2222) }).then(() => order.push('short'));
    await long;
    expect(order).toEqual(['short', 'long']);
  });

  test('150 requests that leave at random moments leave no page, no byte and no place in the queue behind', async () => {
    const random = new Random(150);
    const texts = samples().filter(({ context_length }) => context_length <= 512);
    const presses = [undefined, 'knorm', { preset: 'zigzag_snapkv', window_size: 16 }, { preset: 'adakv_snapkv', window_size: 16, mode: 'deferred' }];
    const body = () => ({
      messages: twoParts(random.pick(texts)),
      press: random.pick(presses),
      stream: random.next() < 0.6,
      max_tokens: random.int(1, 200),
      temperature: 1,
      ignore_eos: true,
    });
    // Buffers that only ever grow have their size after the longest prompt, read with every press.
    for (const press of presses) await worker.chat({ messages: twoParts(texts.find(({ context_length }) => context_length === 512)!), press });
    const before = (await worker.idle()).memory;

    let left = 0;
    const waves = Array.from({ length: 10 }, (_, wave) => wave);
    for (const _ of waves) {
      const wave = Array.from({ length: 15 }, () => leaves(worker.url, body(), random.int(0, 250), random.next() < 0.7 ? 'reset' : 'close'));
      left += (await Promise.all(wave)).filter((ended) => ended === 'left').length;
    }
    expect(left).toBeGreaterThan(75); // most were still at work
    const after = (await worker.idle()).memory;
    expect(after.kv_used_bytes).toBe(0);
    expect(after.kv_reserved_bytes).toBe(0);
    expect(after.used_bytes - before.used_bytes).toBeLessThan(64 * 1024); // scratch of the kernels grows with the longest prompt
    const again = await worker.chat({ messages: ask(4821) });
    expect(again.choices[0].message.content).toBe(' 4821');
    expect(worker.log.join('')).toBe('');
  });
});

describe('with room for one, and for two to wait', () => {
  let worker: TestWorker;
  beforeAll(async () => {
    worker = await startWorker({ vars: { KV_POOL: '2MiB', MAX_WAITING: '2' } });
  });
  afterAll(() => worker?.dispose());

  /** Takes 468 of the 512 pages, for some hundred milliseconds. */
  const most = { max_tokens: 600, temperature: 1, seed: 1, ignore_eos: true };
  const slow = (number: number) => ({ ...most, prompt: Array.from({ length: 20 }, (_, i) => 5 + ((number + i) % 1000)) });
  const post = (number: number) => worker.post('/v1/completions', slow(number));
  async function until(waiting: number): Promise<void> {
    for (let tries = 0; ; tries++) {
      const { requests } = await worker.health();
      if (requests.running === 1 && requests.waiting === waiting) return;
      if (tries > 1000) throw new Error(`never ${waiting} waiting: ${JSON.stringify(requests)}`);
      await pause(2);
    }
  }

  test('who came first is served first', async () => {
    const order: number[] = [];
    const served = [];
    for (let i = 0; i < 3; i++) {
      served.push(post(i).then(({ status }) => order.push(status === 200 ? i : -1)));
      await until(i);
    }
    await Promise.all(served);
    expect(order).toEqual([0, 1, 2]);
    await worker.idle();
  });

  test('one more is told 429 at once, and has lost nobody’s place', async () => {
    const running = [];
    for (let i = 0; i < 3; i++) {
      running.push(post(i));
      await until(i);
    }
    const { status, headers, body } = await post(3);
    expect({ status, body }).toMatchObject({ status: 429, body: { error: { code: 'queue_full', type: 'rate_limit_error' } } });
    expect(headers.get('retry-after')).toBe('5');
    const { prompt } = slow(4);
    await expect(worker.client().completions.create({ model: 'needle', prompt, ...most })).rejects.toThrow(RateLimitError);
    expect((await Promise.all(running)).map(({ status }) => status)).toEqual([200, 200, 200]);
    await worker.idle();
  });

  test('who leaves the queue makes room in it', async () => {
    const first = post(0);
    await until(0);
    const abort = new AbortController();
    const second = fetch(new URL('/v1/completions', worker.url), { method: 'POST', body: JSON.stringify(slow(1)), signal: abort.signal }).catch(
      () => 'left',
    );
    await until(1);
    const third = post(2);
    await until(2);
    abort.abort();
    expect(await second).toBe('left');
    await until(1);
    const fourth = post(3);
    expect((await Promise.all([first, third, fourth])).map(({ status }) => status)).toEqual([200, 200, 200]);
    await worker.idle();
  });

  test('who fits beside the others does not wait', async () => {
    let first = false;
    const large = post(0).then(({ status }) => {
      first = true;
      return status;
    });
    await until(0);
    const { status } = await worker.post('/v1/completions', { prompt: [5, 6, 7], max_tokens: 10 });
    expect([status, first]).toEqual([200, false]);
    expect(await large).toBe(200);
    await worker.idle();
  });
});

/** Posts and ends the connection after `ms`; 'left' unless the whole answer had come by then. */
function leaves(url: URL, body: object, ms: number, how: 'close' | 'reset'): Promise<'left' | 'answered'> {
  return new Promise((resolve) => {
    let answered = false;
    const request: ClientRequest = httpRequest(new URL(CHAT, url), { method: 'POST', agent: false }, (response) => {
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
