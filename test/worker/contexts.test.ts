/** Contexts in workerd: a Durable Object with SQLite and R2, each in its local form, as `npm start` has them. The tests themselves run there too, from test/support/contexts-worker.ts. */
import { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, test } from 'vitest';
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
