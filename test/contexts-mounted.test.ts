/** Contexts in memory: random histories against what must hold at every moment, and what happens when a mount fails, is late or never ends. */
import { expect, test, vi } from 'vitest';
import { type Lease, MountedContexts } from '../worker/contexts/mounted.ts';
import { Random } from './support/random.ts';

class Value {
  readonly id: string;
  readonly bytes: number;
  closed = 0;
  constructor(id: string, bytes: number) {
    this.id = id;
    this.bytes = bytes;
  }
  close(): void {
    this.closed++;
  }
}

function promised<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: Error) => void } {
  let resolve = (_: T): void => {};
  let reject = (_: Error): void => {};
  const promise = new Promise<T>((done, failed) => {
    resolve = done;
    reject = failed;
  });
  return { promise, resolve, reject };
}

test('the least recently used goes first, and nothing that is in use', async () => {
  const cache = new MountedContexts<Value>({ mostCount: 3, mostBytes: 100 });
  const values: Value[] = [];
  const acquire = (id: string, bytes: number) =>
    cache.acquire(id, bytes, async () => {
      const value = new Value(id, bytes);
      values.push(value);
      return value;
    });
  const closed = () => values.filter((value) => value.closed).map(({ id }) => id);
  for (const id of ['a', 'b', 'c']) (await acquire(id, 30)).release();
  (await acquire('a', 30)).release(); // from the cache: b is now the oldest
  expect(values.length).toBe(3);
  const d = await acquire('d', 30); // by count
  expect(closed()).toEqual(['b']);
  const a = await acquire('a', 30);
  expect(cache.account).toEqual({ count: 3, bytes: 90, inUse: 2 });
  (await acquire('e', 40)).release(); // by bytes: c goes, a and d stay
  expect(closed()).toEqual(['b', 'c']);
  const e = await acquire('e', 40);
  await expect(acquire('f', 1)).rejects.toMatchObject({
    code: 'contexts_busy',
    message: expect.stringContaining('3 of 3 contexts with 100 of 100 bytes are in use'),
  });
  await expect(acquire('f', 101)).rejects.toMatchObject({
    code: 'context_too_large',
    message: expect.stringContaining('takes 101 bytes of memory, 100 are there'),
  });
  expect(closed()).toEqual(['b', 'c']); // a refusal evicts nothing
  for (const lease of [a, d, e, e]) lease.release(); // twice does nothing
  expect(cache.account).toEqual({ count: 3, bytes: 100, inUse: 0 });
  expect(cache.evict(35)).toBe(60); // d and a, the oldest
  expect(closed().sort()).toEqual(['a', 'b', 'c', 'd']);
  cache.close();
  expect(values.every((value) => value.closed === 1)).toBe(true);
  await expect(acquire('a', 1)).rejects.toMatchObject({ code: 'contexts_closed' });
});

test('one mount in flight for an id, shared by all who wait; a failure is theirs, and the next one tries again', async () => {
  const cache = new MountedContexts<Value>({ mostCount: 2, mostBytes: 100 });
  const mounts: ReturnType<typeof promised<Value>>[] = [];
  const mount = () => {
    const one = promised<Value>();
    mounts.push(one);
    return one.promise;
  };
  const first = Array.from({ length: 5 }, () => cache.acquire('a', 10, mount));
  const outcomes = Promise.allSettled(first);
  expect(mounts.length).toBe(1);
  mounts[0].reject(new Error('no blob'));
  expect((await outcomes).map((one) => one.status === 'rejected' && one.reason.message)).toEqual(Array(5).fill('no blob'));
  expect(cache.account).toEqual({ count: 0, bytes: 0, inUse: 0 });
  const second = Array.from({ length: 5 }, () => cache.acquire('a', 10, mount));
  expect(mounts.length).toBe(2);
  expect(cache.account).toEqual({ count: 1, bytes: 10, inUse: 1 });
  const value = new Value('a', 12);
  mounts[1].resolve(value);
  const leases = await Promise.all(second);
  expect(leases.every((lease) => lease.value === value)).toBe(true);
  expect(cache.account).toEqual({ count: 1, bytes: 12, inUse: 1 }); // what it takes, not what was announced
  for (const lease of leases) lease.release();
  expect(cache.account.inUse).toBe(0);
  expect(value.closed).toBe(0);
});

test('a client that leaves ends its own wait and nobody else’s mount', async () => {
  const cache = new MountedContexts<Value>({ mostCount: 2, mostBytes: 100 });
  const { promise, resolve } = promised<Value>();
  const leaving = new AbortController();
  const [gone, stays] = [cache.acquire('a', 10, () => promise, leaving.signal), cache.acquire('a', 10, () => promise)];
  leaving.abort(new Error('left'));
  await expect(gone).rejects.toThrow('left');
  const value = new Value('a', 10);
  resolve(value);
  (await stays).release();
  // All leave: it is mounted all the same, idle, and closed with the cache.
  const all = new AbortController();
  const late = promised<Value>();
  const alone = cache.acquire('b', 10, () => late.promise, all.signal);
  all.abort(new Error('left'));
  await expect(alone).rejects.toThrow('left');
  expect(cache.account).toEqual({ count: 2, bytes: 20, inUse: 0 });
  const b = new Value('b', 10);
  late.resolve(b);
  await late.promise;
  cache.close();
  expect([value.closed, b.closed]).toEqual([1, 1]);
});

test('what was dropped, or the cache closed, goes with its last user, also in mid-mount', async () => {
  const cache = new MountedContexts<Value>({ mostCount: 3, mostBytes: 100 });
  const old = new Value('a', 10);
  const lease = await cache.acquire('a', 10, async () => old);
  cache.drop('a');
  expect(old.closed).toBe(0);
  expect(cache.account).toEqual({ count: 1, bytes: 10, inUse: 1 }); // it takes its memory still
  const anew = await cache.acquire('a', 10, async () => new Value('a', 10));
  expect(anew.value).not.toBe(old);
  lease.release();
  expect(old.closed).toBe(1);
  const [mounting, never] = [promised<Value>(), promised<Value>()];
  const waits = cache.acquire('b', 10, () => mounting.promise);
  cache.drop('b');
  const nobody = new AbortController();
  const left = cache.acquire('c', 10, () => never.promise, nobody.signal);
  nobody.abort(new Error('left'));
  await expect(left).rejects.toThrow('left');
  cache.drop('c');
  expect(cache.account).toEqual({ count: 3, bytes: 30, inUse: 2 }); // what is mounted for nobody takes memory too
  const b = new Value('b', 10);
  mounting.resolve(b);
  const got = await waits;
  expect([got.value, b.closed]).toEqual([b, 0]);
  got.release();
  expect(b.closed).toBe(1);
  const c = new Value('c', 10);
  never.resolve(c);
  await vi.waitFor(() => expect(c.closed).toBe(1));
  const last = promised<Value>();
  const ending = cache.acquire('d', 10, () => last.promise);
  cache.close();
  const d = new Value('d', 10);
  last.resolve(d);
  await expect(ending).rejects.toMatchObject({ code: 'contexts_closed' });
  expect(d.closed).toBe(1);
  anew.release();
  expect([anew.value.closed, cache.account.count]).toEqual([1, 0]);
});

test('whoever ended in the middle without a word is taken for dead: its mount is begun anew, what it used is idle; nobody who lives is', async () => {
  vi.useFakeTimers();
  try {
    const cache = new MountedContexts<Value>({ mostCount: 1, mostBytes: 10, staleMs: 1000 });
    /** As in workerd: with the request its timers end, and all that it waits for. */
    const dying = <T>(work: () => T): T => {
      const spies = [vi.spyOn(globalThis, 'setInterval'), vi.spyOn(globalThis, 'setTimeout')];
      for (const spy of spies) spy.mockReturnValue(0 as never);
      try {
        return work();
      } finally {
        for (const spy of spies) spy.mockRestore();
      }
    };
    const slow = promised<Value>();
    dying(() => cache.acquire('a', 10, () => new Promise(() => {}))).catch(() => {});
    const waits = cache.acquire('a', 10, () => slow.promise);
    await vi.advanceTimersByTimeAsync(900);
    await expect(cache.acquire('b', 10, async () => new Value('b', 10))).rejects.toMatchObject({ code: 'contexts_busy' });
    await vi.advanceTimersByTimeAsync(10_000); // the first is given up after one second; the second is slow and lives
    const value = new Value('a', 10);
    slow.resolve(value);
    await vi.advanceTimersByTimeAsync(1);
    const lease = await waits;
    expect([lease.value, cache.account]).toEqual([value, { count: 1, bytes: 10, inUse: 1 }]);
    // A user that lives is never passed over, however long it takes.
    await vi.advanceTimersByTimeAsync(100_000);
    await expect(cache.acquire('b', 10, async () => new Value('b', 10))).rejects.toMatchObject({ code: 'contexts_busy' });
    lease.release();
    const died = await dying(() => cache.acquire('a', 10, async () => new Value('a', 10)));
    await vi.advanceTimersByTimeAsync(900);
    expect(cache.evict(10)).toBe(0);
    await vi.advanceTimersByTimeAsync(200);
    (await cache.acquire('b', 10, async () => new Value('b', 10))).release();
    expect(died.value.closed).toBe(1);
    died.release(); // should it live after all, it has nothing to give back
    expect(cache.account).toEqual({ count: 1, bytes: 10, inUse: 0 });
    expect(vi.getTimerCount()).toBe(0);
  } finally {
    vi.useRealTimers();
  }
});

test('random histories: bounds hold, users keep what they have, everything is closed once', async () => {
  const seen = { hits: 0, mounts: 0, refused: 0, failed: 0 };
  for (let seed = 0; seed < 40; seed++) {
    const random = new Random(seed);
    const most = { mostCount: random.int(1, 5), mostBytes: random.int(20, 120) };
    const cache = new MountedContexts<Value>(most);
    const sizes = new Map(Array.from({ length: 9 }, (_, i) => [`c${i}`, random.int(1, 40)]));
    const values: Value[] = [];
    const pending: { id: string; mount: ReturnType<typeof promised<Value>> }[] = [];
    const leases: { id: string; lease: Lease<Value> }[] = [];
    const waiting = new Set<Promise<unknown>>();
    const strange: Error[] = [];
    let closing = false;
    const settled = () => new Promise((resolve) => setImmediate(resolve));
    for (let step = 0; step < 150; step++) {
      const what = random.next();
      if (what < 0.45) {
        const id = random.pick([...sizes.keys()]);
        let mounts = 0;
        const acquiring = cache
          .acquire(id, sizes.get(id)!, () => {
            mounts++;
            const mount = promised<Value>();
            pending.push({ id, mount });
            return mount.promise;
          })
          .then(
            (lease) => {
              leases.push({ id, lease });
              if (mounts === 0) seen.hits++;
            },
            (error: Error & { code?: string }) => {
              if (error.message === 'mount failed') seen.failed++;
              else if (error.code === 'contexts_busy' || error.code === 'context_too_large') seen.refused++;
              else if (!closing || error.code !== 'contexts_closed') strange.push(error);
            },
          );
        waiting.add(acquiring);
        acquiring.finally(() => waiting.delete(acquiring));
        seen.mounts += mounts;
      } else if (what < 0.7 && pending.length > 0) {
        const [{ id, mount }] = pending.splice(random.int(0, pending.length - 1), 1);
        if (random.next() < 0.2) mount.reject(new Error('mount failed'));
        else {
          const value = new Value(id, sizes.get(id)!);
          values.push(value);
          mount.resolve(value);
        }
      } else if (what < 0.9 && leases.length > 0) leases.splice(random.int(0, leases.length - 1), 1)[0].lease.release();
      else if (what < 0.95) cache.drop(random.pick([...sizes.keys()]));
      else cache.evict(random.int(1, 50));
      await settled();
      const { count, bytes } = cache.account;
      expect(count, `seed ${seed}, step ${step}`).toBeLessThanOrEqual(most.mostCount);
      expect(bytes).toBeLessThanOrEqual(most.mostBytes);
      for (const { id, lease } of leases) expect([lease.value.id, lease.value.closed]).toEqual([id, 0]);
      const open = values.filter((value) => value.closed === 0);
      expect(open.reduce((sum, value) => sum + value.bytes, 0)).toBeLessThanOrEqual(bytes);
    }
    closing = true;
    cache.close();
    for (const { mount, id } of pending) {
      const value = new Value(id, 1);
      values.push(value);
      mount.resolve(value);
    }
    for (const { lease } of leases) lease.release();
    await Promise.all(waiting);
    await settled();
    expect(strange).toEqual([]);
    expect(values.map(({ closed }) => closed)).toEqual(values.map(() => 1));
    expect(cache.account).toEqual({ count: 0, bytes: 0, inUse: 0 });
  }
  expect(Math.min(...Object.values(seen))).toBeGreaterThan(100); // of each
});
