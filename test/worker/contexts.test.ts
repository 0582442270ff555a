/** Contexts in workerd: a Durable Object with SQLite and R2, each in its local form, as `npm start` has them. The tests themselves run there too, from test/support/contexts-worker.ts. */
import { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { contextsWorker } from '../support/contexts-bundle.ts';
import type { Result } from '../support/vitest-in-workerd.ts';
import { OWN_CONNECTION } from '../support/worker.ts';

let workerd: Miniflare;
let url: URL;
beforeAll(async () => {
  workerd = new Miniflare({
    modules: true,
    script: await contextsWorker(),
    compatibilityDate: '2026-04-26',
    compatibilityFlags: ['enable_request_signal'],
    durableObjects: { CONTEXTS: { className: 'TestedIndex', useSQLite: true } },
    r2Buckets: ['CONTEXT_BLOBS'],
    cf: false,
    host: '127.0.0.1',
    port: 0,
  });
  url = await workerd.ready;
});
afterAll(() => workerd?.dispose());

test.each([
  ['suite', 'what every store does', 16],
  ['faults', 'whatever step fails, contexts are whole or absent and nothing is left', 4],
  ['alarms', 'what the object does by itself', 4],
])('%s: %s', async (name, _, least) => {
  const response = await fetch(new URL(`/${name}`, url), { headers: OWN_CONNECTION });
  if (!response.ok) throw new Error(await response.text());
  const results = (await response.json()) as Result[];
  expect(results.filter(({ error }) => error !== null)).toEqual([]);
  expect(results.length).toBeGreaterThanOrEqual(least);
});

interface Mounted {
  readonly number: number;
  readonly account: { readonly count: number; readonly bytes: number; readonly inUse: number };
}

test('in memory: requests share one mount; where the one that began it ends in the middle, the others have it in the end', async () => {
  const mount = async (id: string, signal?: AbortSignal) =>
    (await (await fetch(new URL(`/mount/${id}`, url), { headers: OWN_CONNECTION, signal })).json()) as Mounted;
  const first = await Promise.all(Array.from({ length: 8 }, () => mount('a')));
  expect(new Set(first.map(({ number }) => number)).size).toBe(1);
  expect((await mount('a')).number).toBe(first[0].number);
  for (let i = 0; i < 5; i++) {
    const leaving = new AbortController();
    const gone = mount(`b${i}`, leaving.signal).catch((error: Error) => error.name);
    await new Promise((resolve) => setTimeout(resolve, 100));
    const stay = Array.from({ length: 3 }, () => mount(`b${i}`));
    leaving.abort();
    expect(await gone).toBe('AbortError');
    const got = await Promise.all(stay);
    expect(new Set(got.map(({ number }) => number)).size).toBe(1);
  }
  const begun = (await (await fetch(new URL('/begin/c', url), { headers: OWN_CONNECTION })).json()) as number;
  const got = await Promise.all(Array.from({ length: 3 }, () => mount('c')));
  expect(got.map(({ number }) => number)).toEqual(Array(3).fill(begun + 1)); // the first mount died with its request
  // Six went through: the oldest of them made room. What a dead request used is idle after a while.
  await vi.waitFor(async () => expect((await mount('a')).account).toEqual({ count: 4, bytes: 40, inUse: 0 }), { timeout: 10_000, interval: 200 });
});
