/**
 * The worker of test/worker/contexts.test.ts: contexts in a Durable Object and R2, with a clock that can be put on, and a fault at any step between the two.
 * GET /suite runs what every store must do, GET /faults what must hold when a step fails, GET /alarms what the object does by itself. For
 * test/worker/contexts-crash.test.ts /step/… is its store, and GET /found tells what is there afterwards. GET /mount/<id> has one mounted in memory,
 * GET /begin/<id> begins that and ends.
 */
import type { DurableObjectNamespace, DurableObjectState, DurableObjectStub, R2Bucket } from '@cloudflare/workers-types';
import { expect, test } from 'vitest';
import { ownerOf } from '../../worker/contexts/bounds.ts';
import type { ContextRecord } from '../../worker/contexts/contract.ts';
import { blobName, type ContextBindings, ContextIndex } from '../../worker/contexts/durable.ts';
import { DurableContexts } from '../../worker/contexts/durable-store.ts';
import { MountedContexts } from '../../worker/contexts/mounted.ts';
import { type Quota, QuotaError } from '../../worker/contexts/quota.ts';
import { blobOf, bytesOf, checkWhole, context, contextStoreSuite, DAY_MS, failureOf, type StoreUnderTest } from './context-store-suite.ts';
import { QUOTA } from './contexts-history.ts';
import { runTests } from './vitest-in-workerd.ts';

interface Env extends ContextBindings {
  readonly CONTEXTS: DurableObjectNamespace<TestedIndex>;
}

let ahead = 0;
const now = () => Date.now() + ahead;

/** Every step that can fail passes `point`; the one with number `at`, or of this name, does, and with `all` those behind it. */
const faults = { at: -1, named: '', all: false, evicts: false, steps: [] as string[] };
/** How often an object was loaded. */
let loaded = 0;

function fails(step: string): boolean {
  const n = faults.steps.push(step) - 1;
  if (step === faults.named) return true;
  return faults.at >= 0 && (faults.all ? n >= faults.at : n === faults.at);
}

function point(step: string): void {
  if (fails(step)) throw new Error(`failed: ${step}`);
}

/** What is asked of R2 may not come there, or its answer may not come back. */
function faulty(bucket: R2Bucket, who: string): R2Bucket {
  const steps = new Set(['put', 'delete']);
  return new Proxy(bucket, {
    get(real, name: keyof R2Bucket) {
      const method = (real[name] as (...args: unknown[]) => unknown).bind(real);
      if (!steps.has(name)) return method;
      return async (...args: unknown[]) => {
        point(`${who}: ${name} is asked`);
        const answer = await method(...args);
        point(`${who}: ${name} is done`);
        return answer;
      };
    },
  });
}

export class TestedIndex extends ContextIndex {
  constructor(state: DurableObjectState, env: ContextBindings) {
    super(state, { CONTEXT_BLOBS: faulty(env.CONTEXT_BLOBS, 'object') });
    loaded++;
    const { storage } = state;
    // Of the storage the object uses what is listed here.
    const faultyStorage = {
      sql: storage.sql,
      getAlarm: () => storage.getAlarm(),
      setAlarm(at: number) {
        this.check('alarm');
        return storage.setAlarm(at);
      },
      transactionSync: <R>(work: () => R): R =>
        storage.transactionSync(() => {
          faultyStorage.check('transaction begins');
          const result = work();
          faultyStorage.check('transaction ends');
          return result;
        }),
      /** Fails, or the object is thrown out of memory here. */
      check(step: string) {
        if (!fails(`object: ${step}`)) return;
        if (faults.evicts) state.abort('evicted');
        throw new Error(`failed: ${step}`);
      },
    };
    this.ctx = { id: state.id, storage: faultyStorage } as unknown as DurableObjectState;
  }

  protected override now(): number {
    return now();
  }

  ring(): Promise<void> {
    return this.alarm();
  }

  rings(): Promise<number | null> {
    return this.ctx.storage.getAlarm();
  }
}

const METHODS = ['begin', 'commit', 'abandon', 'remove'];

/** Calls of the object may not come there, or their answers may not come back. Names are this test's own. */
function faultyObjects(objects: DurableObjectNamespace<TestedIndex>, world: number): DurableObjectNamespace<TestedIndex> {
  const stubOf = (stub: DurableObjectStub<TestedIndex>) =>
    new Proxy(stub, {
      get(real, name: string) {
        const method = (...args: unknown[]) => (real as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>)[name](...args);
        if (!METHODS.includes(name)) return method;
        return async (...args: unknown[]) => {
          point(`worker: ${name} is asked`);
          const answer = await method(...args);
          point(`worker: ${name} is answered`);
          return answer;
        };
      },
    });
  return {
    idFromName: (owner: string) => objects.idFromName(`${world} ${owner}`),
    idFromString: (id: string) => objects.idFromString(id),
    get: (id: ReturnType<typeof objects.idFromName>) => stubOf(objects.get(id)),
  } as unknown as DurableObjectNamespace<TestedIndex>;
}

interface Opened extends StoreUnderTest {
  readonly index: (owner: string) => DurableObjectStub<TestedIndex>;
}

let worlds = 0;

async function opened({ CONTEXTS, CONTEXT_BLOBS }: Env, quota?: Quota): Promise<Opened> {
  for (;;) {
    const { objects } = await CONTEXT_BLOBS.list(); // of the test before
    if (objects.length === 0) break;
    await CONTEXT_BLOBS.delete(objects.map(({ key }) => key));
  }
  const objects = faultyObjects(CONTEXTS, worlds++);
  const nameOf = (owner: string, id: string) => blobName(objects.idFromName(owner).toString(), id);
  return {
    store: new DurableContexts(objects, faulty(CONTEXT_BLOBS, 'worker'), { quota, now }),
    index: (owner) => objects.get(objects.idFromName(owner)),
    advance(ms) {
      ahead += ms;
    },
    async blobs(owner) {
      const prefix = nameOf(owner, '');
      return (await CONTEXT_BLOBS.list({ prefix })).objects.map(({ key }) => key.slice(prefix.length));
    },
    plant: async (owner, id) => void (await CONTEXT_BLOBS.put(nameOf(owner, id), 'half')),
    damage: async (owner, id, bytes) => void (await (bytes ? CONTEXT_BLOBS.put(nameOf(owner, id), bytes) : CONTEXT_BLOBS.delete(nameOf(owner, id)))),
  };
}

/** One context is there; with faults a second is made and the first deleted; then all works again. */
async function history(
  env: Env,
  plan: Partial<typeof faults>,
  mend: 'collect' | 'alarm',
): Promise<{ steps: string[]; made: boolean; there: number }> {
  const under = await opened(env);
  const { store, advance, index } = under;
  const owner = await ownerOf('a');
  const first = await store.create(owner, context({ ttlMs: 30 * DAY_MS }), blobOf(bytesOf(1, 500)));
  Object.assign(faults, { at: -1, all: false, evicts: false, steps: [] }, plan);
  const second = await store.create(owner, context({ ttlMs: 30 * DAY_MS }), blobOf(bytesOf(2, 700))).catch(() => null);
  const deleted = await store.delete(owner, first.id).catch(() => null);
  const { steps } = faults;
  Object.assign(faults, { at: -1, all: false, steps: [] });
  const about = `${plan.at}: ${steps[plan.at ?? -1]}`;

  // Before anything is collected: whole or absent, and what was told holds.
  const found = await store.list(owner);
  const ids = found.records.map(({ id }) => id);
  if (second) expect(ids.includes(second.id), about).toBe(true);
  if (deleted !== null) expect([deleted, ids.includes(first.id)], about).toEqual([true, false]);
  for (const { id, bytes } of found.records) {
    let read = 0;
    for await (const chunk of (await store.read(owner, id))!.chunks) read += chunk.length;
    expect(read, about).toBe(bytes);
  }
  advance(DAY_MS);
  if (mend === 'alarm') await index(owner).ring();
  else await store.collect(owner);
  const records = await checkWhole(under, owner);
  expect(
    records.map(({ id }) => id),
    about,
  ).toEqual(ids);
  return { steps, made: second !== null, there: records.length };
}

const suites: Record<string, (env: Env) => void> = {
  suite: (env) => contextStoreSuite((quota) => opened(env, quota)),

  faults(env) {
    for (const all of [false, true])
      for (const evicts of [false, true])
        test(`${all ? 'from any step on everything' : 'any one step'} fails${evicts ? ', and the object is thrown out of memory' : ''}: contexts are whole or absent, nothing is left`, async () => {
          const { steps } = await history(env, {}, 'collect');
          expect(steps.length).toBeGreaterThanOrEqual(14);
          let refused = 0;
          const before = { loaded, worlds };
          for (let at = 0; at < steps.length; at++) {
            for (const mend of ['collect', 'alarm'] as const) {
              const seen = await history(env, { at, all, evicts }, mend);
              // The same history up to the fault, which was met.
              expect(seen.steps.slice(0, at + 1)).toEqual(steps.slice(0, at + 1));
              if (!seen.made) refused++;
            }
          }
          expect(loaded - before.loaded > worlds - before.worlds).toBe(evicts); // more often than there were objects
          expect(refused).toBeGreaterThanOrEqual(all ? 8 : 2); // else no fault was felt
        });
  },

  alarms(env) {
    test('a blob that R2 does not let go is tried again by the alarm, which is set', async () => {
      const { store, index, blobs, advance } = await opened(env);
      const owner = await ownerOf('a');
      const { id } = await store.create(owner, context({ ttlMs: 30 * DAY_MS }), blobOf(bytesOf(1, 10)));
      faults.named = 'object: delete is asked';
      expect(await store.delete(owner, id)).toBe(true);
      faults.named = '';
      expect(await store.get(owner, id)).toBe(null);
      expect(await blobs(owner)).toEqual([id]);
      expect((await index(owner).rings())! - now()).toBeLessThanOrEqual(61_000);
      advance(61_000);
      await index(owner).ring();
      expect(await blobs(owner)).toEqual([]);
    });

    test('a writer that never came back, and whose blob comes late: both are gone in the end, without anybody asking', async () => {
      const quota = { count: 1, bytes: 100 };
      const { store, index, blobs, plant, advance } = await opened(env, quota);
      const owner = await ownerOf('a');
      const id = `ctx_${'3'.repeat(32)}`;
      expect(await index(owner).begin(id, 100, now() + 60_000, quota)).toBe(null);
      expect((await store.usage(owner)).held).toEqual(quota);
      expect((await failureOf(store.create(owner, context(), blobOf(bytesOf(1, 1))))).message).toContain('holds 1 of 1 contexts');
      advance(61_000);
      await index(owner).ring();
      expect((await store.usage(owner)).held).toEqual({ count: 0, bytes: 0 });
      await plant(owner, id);
      for (let rings = 0; rings < 2; rings++) {
        const at = (await index(owner).rings())!;
        expect(at - now()).toBeLessThanOrEqual(3_600_000);
        advance(at - now());
        await index(owner).ring();
      }
      expect(await blobs(owner)).toEqual([]);
    });

    test('contexts that are over go by the alarm', async () => {
      const { store, index, blobs, advance } = await opened(env);
      const owner = await ownerOf('a');
      await store.create(owner, context({ ttlMs: 100_000 }), blobOf(bytesOf(1, 10)));
      expect((await index(owner).rings())! - now()).toBeLessThanOrEqual(100_000);
      advance(100_001);
      await index(owner).ring();
      expect(await blobs(owner)).toEqual([]);
      expect(await store.collect(owner)).toEqual({ expired: 0, blobs: 0 });
    });

    test('a step asked for twice is done once', async () => {
      const { store, index } = await opened(env);
      const owner = await ownerOf('a');
      const { id } = await store.create(owner, context(), blobOf(bytesOf(1, 10)));
      const row = (await index(owner).find(id))!;
      expect(await index(owner).commit(row)).toBe(true);
      expect((await store.usage(owner)).held).toEqual({ count: 1, bytes: 10 });
      expect(await index(owner).remove(id)).toBe(true);
      expect(await index(owner).remove(id)).toBe(false);
      expect(await index(owner).commit(row)).toBe(false); // no lease, no context
    });
  },
};

/** One step of the process that is killed, which has the store at the other end of a connection: test/worker/contexts-crash.test.ts. */
async function step({ CONTEXTS, CONTEXT_BLOBS }: Env, request: Request): Promise<Response> {
  const { pathname, searchParams } = new URL(request.url);
  const store = new DurableContexts(faultyObjects(CONTEXTS, 0), CONTEXT_BLOBS, { quota: QUOTA });
  const owner = await ownerOf('a');
  const id = searchParams.get('id') ?? '';
  switch (pathname) {
    case '/step/list':
      return Response.json(await store.list(owner, { limit: 100 }));
    case '/step/create': {
      const bytes = new Uint8Array(await request.arrayBuffer()); // read whatever comes of it: an answer before that resets the connection
      try {
        return Response.json(await store.create(owner, context(), blobOf(bytes)));
      } catch (error) {
        if (error instanceof QuotaError) return Response.json(error.held, { status: 413 });
        throw error;
      }
    }
    case '/step/delete':
      return Response.json(await store.delete(owner, id));
    case '/step/touch':
      return Response.json(await store.touch(owner, id, 10 ** 8));
    default:
      return Response.json(await store.collect());
  }
}

export interface Found {
  readonly records: ContextRecord[];
  /** Blobs that were no context's, or leases. */
  readonly leftovers: number;
}

/** When leases are over: what is there, found whole, with nothing else beside it. */
async function found({ CONTEXTS, CONTEXT_BLOBS }: Env): Promise<Found> {
  const objects = faultyObjects(CONTEXTS, 0);
  const owner = await ownerOf('a');
  const prefix = blobName(objects.idFromName(owner).toString(), '');
  const blobs = async () => (await CONTEXT_BLOBS.list({ prefix })).objects.map(({ key }) => key.slice(prefix.length));
  const store = new DurableContexts(objects, CONTEXT_BLOBS, { quota: QUOTA, now });
  const before = Math.max((await blobs()).length, (await store.usage(owner)).held.count);
  ahead = 3_600_000;
  await store.collect();
  const records = await checkWhole({ store, blobs }, owner);
  ahead = 0;
  return { records, leftovers: before - records.length };
}

/** In memory over many requests, each of which may end in the middle. */
const mounted = new MountedContexts<{ bytes: number; number: number; close(): void }>({ mostCount: 4, mostBytes: 100, staleMs: 1500 });
let mounts = 0;

/** Mounts `id`, which takes 300 ms, and tells which mount it got. */
async function mount(id: string, signal: AbortSignal): Promise<Response> {
  const lease = await mounted.acquire(
    id,
    10,
    async () => {
      const number = ++mounts;
      await new Promise((resolve) => setTimeout(resolve, 300));
      return { bytes: 10, number, close() {} };
    },
    signal,
  );
  const { number } = lease.value;
  lease.release();
  return Response.json({ number, account: mounted.account });
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname.startsWith('/mount/')) return mount(pathname.slice(7), request.signal);
    if (pathname.startsWith('/begin/')) {
      mount(pathname.slice(7), request.signal).catch(() => {});
      return Response.json(mounts); // and all that is under way in this request ends
    }
    if (pathname.startsWith('/step/')) return step(env, request);
    if (pathname === '/found') return Response.json(await found(env));
    return Response.json(await runTests(async () => suites[pathname.slice(1)](env)));
  },
};
