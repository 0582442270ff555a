/** What every store of contexts must do: test/contexts-directory.test.ts runs it on a folder, test/worker/contexts.test.ts in workerd on a Durable Object and R2. */
import { expect, test } from 'vitest';
import { MOST_META_BYTES, MOST_TTL_MS, ownerOf } from '../../worker/contexts/bounds.ts';
import { type BlobSource, ContextDamaged, type ContextRecord, type ContextStore, type NewContext } from '../../worker/contexts/contract.ts';
import { BLOCK } from '../../worker/contexts/prefix.ts';
import { type Quota, QuotaError } from '../../worker/contexts/quota.ts';
import { Random } from './random.ts';

/** An empty store, and what lies in it behind its back. */
export interface StoreUnderTest {
  readonly store: ContextStore;
  /** The store's clock goes on. */
  advance(ms: number): void;
  /** Ids of the owner's blobs that take room, whole or in part. */
  blobs(owner: string): Promise<string[]>;
  /** A blob that is no context's. */
  plant(owner: string, id: string): Promise<void>;
  /** The blob of this context is other bytes now; null: none. */
  damage(owner: string, id: string, bytes: Uint8Array | null): Promise<void>;
}

export const DAY_MS = 86_400_000;

export function context(parts: Partial<NewContext> = {}): NewContext {
  return { model: 'needle@1', press: '{"preset":"snapkv"}', tokens: tokensOf(1, 300), ttlMs: DAY_MS, meta: { title: 'a document' }, ...parts };
}

export function tokensOf(seed: number, length: number): number[] {
  const random = new Random(seed);
  return Array.from({ length }, () => random.int(0, 49_151));
}

export function bytesOf(seed: number, length: number): Uint8Array {
  const random = new Random(seed);
  return Uint8Array.from({ length }, () => random.int(0, 255));
}

/** In pieces of uneven length, as they come from an engine; the buffer of one is used for the next. */
export function blobOf(bytes: Uint8Array): BlobSource {
  async function* chunks() {
    const buffer = new Uint8Array(100_000);
    for (let at = 0, length = 1; at < bytes.length; at += length, length = Math.min(buffer.length, length * 3)) {
      const piece = bytes.subarray(at, at + length);
      buffer.set(piece);
      await Promise.resolve();
      yield buffer.subarray(0, piece.length);
    }
  }
  return { bytes: bytes.length, chunks: chunks() };
}

/** All bytes of a context, checked; null where it is not there. */
export async function readAll(store: ContextStore, owner: string, id: string): Promise<Uint8Array | null> {
  const blob = await store.read(owner, id);
  if (!blob) return null;
  const all = new Uint8Array(blob.record.bytes);
  let at = 0;
  for await (const chunk of blob.chunks) {
    if (at + chunk.length <= all.length) all.set(chunk, at); // else ContextDamaged follows
    at += chunk.length;
  }
  return all;
}

/** Of long arrays, which expect().toEqual takes seconds for. */
const same = (a: Uint8Array | null, b: Uint8Array): boolean => a !== null && a.length === b.length && a.every((byte, i) => byte === b[i]);

export async function failureOf(work: Promise<unknown>): Promise<Error> {
  try {
    await work;
  } catch (error) {
    return error as Error;
  }
  throw new Error('it should have failed');
}

/** Every context of the owner whole, none half there, nothing else in the way; sums are those of what is there. */
export async function checkWhole({ store, blobs }: Pick<StoreUnderTest, 'store' | 'blobs'>, owner: string): Promise<ContextRecord[]> {
  const records: ContextRecord[] = [];
  for (let after: string | undefined; ; ) {
    const page = await store.list(owner, { limit: 100, after });
    records.push(...page.records);
    if (page.next === null) break;
    after = page.next;
  }
  for (const record of records) {
    const bytes = await readAll(store, owner, record.id);
    expect(bytes?.length, record.id).toBe(record.bytes);
    expect(await store.get(owner, record.id)).toEqual(record);
  }
  expect((await blobs(owner)).sort()).toEqual(records.map(({ id }) => id).sort());
  const { held } = await store.usage(owner);
  expect(held).toEqual({ count: records.length, bytes: records.reduce((sum, { bytes }) => sum + bytes, 0) });
  return records;
}

export function contextStoreSuite(open: (quota?: Quota) => Promise<StoreUnderTest>): void {
  test('a context comes back as it went in, from its blob to the last of its metadata', async () => {
    const { store } = await open();
    const owner = await ownerOf('a');
    for (const length of [0, 1, 5000, 300_000]) {
      const bytes = bytesOf(length, length);
      const given = context({ meta: { title: 'ünïcode \u{1f600}', deep: { list: [1, null, true] } } });
      const before = Date.now();
      const record = await store.create(owner, given, blobOf(bytes));
      expect(/^ctx_[0-9a-f]{32}$/.test(record.id)).toBe(true);
      const sha256 = Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>)), (byte) =>
        byte.toString(16).padStart(2, '0'),
      ).join('');
      const { model, press, meta } = given;
      const { id, createdAt } = record;
      expect(createdAt).toBeGreaterThanOrEqual(before);
      expect(record).toEqual({ id, model, press, tokens: 300, bytes: length, sha256, createdAt, expiresAt: createdAt + DAY_MS, meta });
      expect(await store.get(owner, record.id)).toEqual(record);
      expect(same(await readAll(store, owner, record.id), bytes)).toBe(true);
    }
  });

  test('another owner sees nothing of it, and cannot touch or delete it', async () => {
    const { store } = await open();
    const [mine, other] = [await ownerOf('a'), await ownerOf('b')];
    expect((await ownerOf(null)) === (await ownerOf('null'))).toBe(false);
    const { id } = await store.create(mine, context(), blobOf(bytesOf(1, 10)));
    expect(await store.get(other, id)).toBe(null);
    expect(await store.read(other, id)).toBe(null);
    expect(await store.touch(other, id, 1000)).toBe(null);
    expect(await store.delete(other, id)).toBe(false);
    expect((await store.list(other)).records).toEqual([]);
    expect(await store.longestPrefix(other, context())).toBe(null);
    expect((await store.usage(other)).held).toEqual({ count: 0, bytes: 0 });
    expect((await store.get(mine, id))?.id).toBe(id);
  });

  test('names that nobody was given are as absent, whatever they look like', async () => {
    const { store } = await open();
    const owner = await ownerOf('a');
    await store.create(owner, context(), blobOf(bytesOf(1, 10)));
    for (const id of [
      '',
      '.',
      '..',
      '../..',
      'ctx_',
      `ctx_${'0'.repeat(32)}`,
      `ctx_${'A'.repeat(32)}`,
      `ctx_${'0'.repeat(32)}/../x`,
      `ctx_${'0'.repeat(33)}`,
      "' OR 1=1 --",
      'x'.repeat(10_000),
    ]) {
      expect(await store.get(owner, id), id).toBe(null);
      expect(await store.read(owner, id), id).toBe(null);
      expect(await store.touch(owner, id, 1000), id).toBe(null);
      expect(await store.delete(owner, id), id).toBe(false);
    }
    expect((await failureOf(store.get('../../etc', `ctx_${'0'.repeat(32)}`))).message).toContain('ownerOf');
    expect((await store.usage(owner)).held.count).toBe(1);
  });

  test('deleted is absent at once, and its blob goes', async () => {
    const under = await open();
    const { store, blobs } = under;
    const owner = await ownerOf('a');
    const first = await store.create(owner, context(), blobOf(bytesOf(1, 10)));
    const second = await store.create(owner, context(), blobOf(bytesOf(2, 20)));
    expect(await store.delete(owner, first.id)).toBe(true);
    expect(await store.get(owner, first.id)).toBe(null);
    expect(await store.read(owner, first.id)).toBe(null);
    expect(await store.delete(owner, first.id)).toBe(false);
    expect(await blobs(owner)).toEqual([second.id]);
    await checkWhole(under, owner);
  });

  test('pages: newest first, each once, whatever comes and goes meanwhile', async () => {
    const { store, advance } = await open();
    const owner = await ownerOf('a');
    const ids: string[] = [];
    for (let i = 0; i < 13; i++) {
      ids.unshift((await store.create(owner, context({ meta: { i } }), blobOf(bytesOf(i, 3)))).id);
      if (i % 3 === 0) advance(1); // the others are of one millisecond, or of several
    }
    const seen: string[] = [];
    let pages = 0;
    for (let after: string | undefined; ; ) {
      const { records, next } = await store.list(owner, { limit: 4, after });
      seen.push(...records.map(({ id }) => id));
      if (++pages === 2) {
        await store.delete(owner, records.at(-1)!.id); // the one at which the next page begins
        await store.create(owner, context(), blobOf(bytesOf(99, 3)));
      }
      if (next === null) break;
      after = next;
    }
    expect(pages).toBe(4);
    expect([...seen].sort()).toEqual([...ids].sort());
    const createdAt = await Promise.all(seen.map(async (id) => (await store.get(owner, id))?.createdAt ?? null));
    const times = createdAt.filter((at) => at !== null) as number[];
    expect(times).toEqual([...times].sort((a, b) => b - a));
    expect(times.length).toBe(12);
    expect((await store.list(owner)).records.length).toBe(13);
    for (const limit of [0, 101, 1.5, Number.NaN])
      expect((await failureOf(store.list(owner, { limit }))).message).toContain('limit must be a whole number from 1 to 100');
    for (const after of ['', 'x', ids[0], '0'.repeat(48)])
      expect((await failureOf(store.list(owner, { after }))).message).toContain('an earlier page gave as its next');
  });

  test('a context that is over is as absent, frees its quota, and is collected', async () => {
    const under = await open({ count: 2, bytes: 1000 });
    const { store, advance, blobs } = under;
    const owner = await ownerOf('a');
    const short = await store.create(owner, context({ ttlMs: 5000 }), blobOf(bytesOf(1, 400)));
    const long = await store.create(owner, context({ ttlMs: 50_000 }), blobOf(bytesOf(2, 400)));
    advance(4000);
    expect((await store.get(owner, short.id))?.id).toBe(short.id);
    advance(1500);
    expect(await store.get(owner, short.id)).toBe(null);
    expect(await store.read(owner, short.id)).toBe(null);
    expect(await store.touch(owner, short.id, 1000)).toBe(null);
    expect(await store.delete(owner, short.id)).toBe(false);
    expect((await store.list(owner)).records).toEqual([long]);
    expect((await store.longestPrefix(owner, context()))?.id).toBe(long.id);
    expect((await store.usage(owner)).held).toEqual({ count: 1, bytes: 400 });
    expect((await blobs(owner)).length).toBe(2);
    expect(await store.collect(owner)).toEqual({ expired: 1, blobs: 1 });
    expect(await store.collect(owner)).toEqual({ expired: 0, blobs: 0 });
    await checkWhole(under, owner);
    // Without a collection too.
    advance(50_000);
    await store.create(owner, context(), blobOf(bytesOf(3, 900)));
    await store.collect();
    expect((await checkWhole(under, owner)).length).toBe(1);
  });

  test('touch: longer, never shorter', async () => {
    const { store, advance } = await open();
    const owner = await ownerOf('a');
    const record = await store.create(owner, context({ ttlMs: 10_000 }), blobOf(bytesOf(1, 5)));
    advance(8000);
    const touched = await store.touch(owner, record.id, 10_000);
    expect(touched!.expiresAt).toBeGreaterThanOrEqual(record.expiresAt + 8000);
    expect(touched).toEqual({ ...record, expiresAt: touched!.expiresAt });
    expect(await store.touch(owner, record.id, 1)).toEqual(touched);
    advance(9000);
    expect(await store.get(owner, record.id)).toEqual(touched);
    expect((await store.list(owner)).records).toEqual([touched!]);
    expect((await store.usage(owner)).held.count).toBe(1);
    expect(await store.collect()).toEqual({ expired: 0, blobs: 0 });
    expect(await readAll(store, owner, record.id)).toEqual(bytesOf(1, 5));
    advance(2000);
    expect(await store.get(owner, record.id)).toBe(null);
    for (const ttlMs of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, MOST_TTL_MS + 1])
      expect((await failureOf(store.touch(owner, record.id, ttlMs))).message).toContain('ttl must be above 0');
  });

  test('quotas: refused with what is held, what was asked and what would fit, and that fits', async () => {
    const { store } = await open({ count: 3, bytes: 1000 });
    const owner = await ownerOf('a');
    await store.create(owner, context(), blobOf(bytesOf(1, 700)));
    let read = 0;
    const counted: BlobSource = {
      bytes: 301,
      chunks: (function* () {
        read++;
        yield new Uint8Array(301);
      })(),
    };
    const large = (await failureOf(store.create(owner, context(), counted))) as QuotaError;
    expect(large instanceof QuotaError).toBe(true);
    expect([large.code, large.held, large.asked, large.fits]).toEqual([
      'context_quota_exceeded',
      { count: 1, bytes: 700 },
      301,
      { count: 2, bytes: 300 },
    ]);
    expect(large.message).toContain('holds 1 of 3 contexts and 700 bytes of 1000 bytes; this one takes 301 bytes: one of 300 bytes would fit');
    expect(read).toBe(0);
    await store.create(owner, context(), blobOf(bytesOf(1, large.fits.bytes)));
    await store.create(owner, context(), blobOf(bytesOf(1, 0)));
    const many = (await failureOf(store.create(owner, context(), blobOf(bytesOf(1, 0))))) as QuotaError;
    expect(many.message).toContain('holds 3 of 3 contexts');
    expect(many.message).toContain('nothing more fits, deleting some makes room');
    await store.create(await ownerOf('b'), context(), blobOf(bytesOf(1, 1000))); // each key has its own
    expect(await store.usage(owner)).toEqual({ held: { count: 3, bytes: 1000 }, most: { count: 3, bytes: 1000 } });
  });

  test('quotas: of many who come at once as many get in as fit, and never more', async () => {
    const under = await open({ count: 7, bytes: 1000 });
    const { store } = under;
    const owner = await ownerOf('a');
    const results = await Promise.allSettled(Array.from({ length: 24 }, (_, i) => store.create(owner, context(), blobOf(bytesOf(i, 160)))));
    const refused = results.filter((one) => one.status === 'rejected');
    expect(refused.every(({ reason }) => reason instanceof QuotaError)).toBe(true);
    expect(results.length - refused.length).toBe(6);
    expect((await checkWhole(under, owner)).length).toBe(6);
  });

  test('a blob that ends early, goes on too long or fails on the way leaves nothing', async () => {
    const under = await open({ count: 1, bytes: 1000 });
    const { store } = under;
    const owner = await ownerOf('a');
    let closed = 0;
    async function* broken(pieces: number, error: Error | null) {
      try {
        for (let i = 0; i < pieces; i++) yield new Uint8Array(100).fill(i);
        if (error) throw error;
      } finally {
        closed++;
      }
    }
    for (const [pieces, error, says] of [
      [3, null, 'the blob has 300 bytes, 500 were announced'],
      [6, null, 'the blob has more than the 500 bytes that were announced'],
      [4, new Error('the engine failed'), 'the engine failed'],
      [0, new Error('at once'), 'at once'],
    ] as const) {
      expect((await failureOf(store.create(owner, context(), { bytes: 500, chunks: broken(pieces, error) }))).message).toBe(says);
      expect(await checkWhole(under, owner)).toEqual([]); // its quota too is free again
    }
    expect(closed).toBe(4);
    await store.create(owner, context(), blobOf(bytesOf(1, 1000)));
  });

  test('bounds: what is too large is refused by its name before anything is written', async () => {
    const under = await open();
    const { store } = under;
    const owner = await ownerOf('a');
    const empty = blobOf(new Uint8Array());
    for (const [given, blob, says] of [
      [{ meta: { text: 'x'.repeat(MOST_META_BYTES) } }, empty, `metadata must be at most ${MOST_META_BYTES} bytes of JSON`],
      [{ meta: { text: '\u{1f600}'.repeat(MOST_META_BYTES / 4) } }, empty, 'metadata must be at most'],
      [{ model: 'm'.repeat(513) }, empty, 'model must be at most 512 characters'],
      [{ press: 'p'.repeat(40_000) }, empty, 'press must be at most'],
      [{ tokens: [] }, empty, 'a context is of 1 to'],
      [{ tokens: { length: 2 ** 20 + 1 } }, empty, 'a context is of 1 to'],
      [{ ttlMs: 0 }, empty, 'ttl must be above 0'],
      [{ ttlMs: MOST_TTL_MS + 1 }, empty, 'ttl must be above 0'],
      [{}, { bytes: 2 ** 40, chunks: [] }, 'a context takes 0 to'],
      [{}, { bytes: -1, chunks: [] }, 'a context takes 0 to'],
      [{}, { bytes: 1.5, chunks: [] }, 'a context takes 0 to'],
    ] as [Partial<NewContext>, BlobSource, string][])
      expect((await failureOf(store.create(owner, context(given), blob))).message).toContain(says);
    expect(await checkWhole(under, owner)).toEqual([]);
    const meta = { text: 'x'.repeat(MOST_META_BYTES - 11) };
    const record = await store.create(owner, context({ meta, model: 'm'.repeat(512), press: 'p'.repeat(32_768) }), empty);
    expect((await store.get(owner, record.id))?.meta).toEqual(meta);
  });

  test('a blob that was changed, cut or lost is damaged, not read; and can be deleted', async () => {
    const { store, damage, blobs } = await open();
    const owner = await ownerOf('a');
    const bytes = bytesOf(1, 100_000);
    const flipped = bytes.slice();
    flipped[77_777] ^= 1;
    for (const [now, says] of [
      [flipped, "its blob's SHA-256 is"],
      [bytes.slice(0, 99_999), 'its blob has 99999 bytes, its record says 100000'],
      [bytesOf(1, 100_001), 'bytes, its record says 100000'],
      [null, 'context ctx_'],
    ] as const) {
      const { id } = await store.create(owner, context(), blobOf(bytes));
      await damage(owner, id, now);
      const failure = await failureOf(readAll(store, owner, id));
      expect(failure instanceof ContextDamaged).toBe(true);
      expect(failure.message).toContain(says);
      expect(failure.message).toContain('delete it and press its text again');
      expect(await store.delete(owner, id)).toBe(true);
    }
    expect(await blobs(owner)).toEqual([]);
  });

  test('whoever stops reading early leaves nothing open, and the next one reads all', async () => {
    const { store } = await open();
    const owner = await ownerOf('a');
    const bytes = new Uint8Array(3 * 2 ** 20).map((_, i) => i % 251);
    const { id } = await store.create(owner, context(), blobOf(bytes));
    for (let i = 0; i < 20; i++) for await (const _ of (await store.read(owner, id))!.chunks) break;
    await Promise.all(Array.from({ length: 4 }, async () => expect((await readAll(store, owner, id))!.length).toBe(bytes.length)));
    const late = (await store.read(owner, id))!;
    await store.delete(owner, id);
    const failure = await failureOf(
      (async () => {
        for await (const _ of late.chunks) break;
      })(),
    );
    expect(failure.message).toContain('was deleted, or is over, since it was asked for');
  });

  test('collect: blobs of nobody go, contexts and what is being written stay', async () => {
    const under = await open();
    const { store, plant, blobs } = under;
    const [owner, other] = [await ownerOf('a'), await ownerOf('b')];
    const kept = await store.create(owner, context(), blobOf(bytesOf(1, 10)));
    const stray = `ctx_${'1'.repeat(32)}`;
    await plant(owner, stray);
    await plant(other, stray);
    let go = () => {};
    const waiting = new Promise<void>((resolve) => {
      go = resolve;
    });
    let begun = () => {};
    const hasBegun = new Promise<void>((resolve) => {
      begun = resolve;
    });
    async function* slow() {
      yield new Uint8Array(10);
      begun();
      await waiting;
      yield new Uint8Array(10);
    }
    const writing = store.create(owner, context(), { bytes: 20, chunks: slow() });
    await hasBegun;
    expect((await store.usage(owner)).held).toEqual({ count: 2, bytes: 30 });
    expect(await store.collect()).toEqual({ expired: 0, blobs: 2 });
    go();
    const written = await writing;
    expect((await checkWhole(under, owner)).map(({ id }) => id).sort()).toEqual([kept.id, written.id].sort());
    expect(await blobs(other)).toEqual([]);
  });

  test('a writer that outlives its lease is told so, whether it was collected or not, and leaves nothing', async () => {
    for (const collected of [true, false]) {
      const under = await open();
      const { store, advance } = under;
      const owner = await ownerOf('a');
      async function* slow() {
        yield new Uint8Array(10);
        advance(DAY_MS);
        if (collected) await store.collect();
        yield new Uint8Array(10);
      }
      const failure = await failureOf(store.create(owner, context({ ttlMs: 10 * DAY_MS }), { bytes: 20, chunks: slow() }));
      expect(failure.message).toContain('took longer to write than its lease');
      await store.collect();
      expect(await checkWhole(under, owner)).toEqual([]);
    }
  });

  test('the longest prefix is the longest: against a plain search, lengths around the blocks', async () => {
    const { store } = await open();
    const owner = await ownerOf('a');
    const random = new Random(7);
    const text = tokensOf(5, 4 * BLOCK);
    const near = [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 1, 3 * BLOCK];
    const stored: { id: string; model: string; press: string; tokens: number[] }[] = [];
    const models = ['m1', 'm2'];
    const presses = ['p1', 'p2'];
    for (let i = 0; i < 60; i++) {
      const length = random.next() < 0.6 ? random.pick(near) : random.int(1, text.length);
      const tokens = text.slice(0, length);
      if (random.next() < 0.4) tokens[random.int(0, length - 1)] ^= 1;
      const [model, press] = [random.pick(models), random.pick(presses)];
      const { id } = await store.create(owner, context({ model, press, tokens }), blobOf(bytesOf(i, 1)));
      stored.push({ id, model, press, tokens });
    }
    let hits = 0;
    const lengths = new Set<number>();
    for (let i = 0; i < 60; i++) {
      const tokens = text.slice(0, random.next() < 0.5 ? random.pick(near) : random.int(1, text.length));
      if (random.next() < 0.3) tokens[random.int(0, tokens.length - 1)] ^= 1;
      const [model, press] = [random.pick(models), random.pick(presses)];
      const fitting = stored.filter(
        (one) =>
          one.model === model && one.press === press && one.tokens.length <= tokens.length && one.tokens.every((token, at) => token === tokens[at]),
      );
      const longest = Math.max(0, ...fitting.map((one) => one.tokens.length));
      const found = await store.longestPrefix(owner, { model, press, tokens });
      expect(found?.tokens ?? 0).toBe(longest);
      if (!found) continue;
      expect(fitting.some(({ id, tokens }) => id === found.id && tokens.length === longest)).toBe(true);
      hits++;
      lengths.add(longest);
    }
    expect(hits).toBeGreaterThanOrEqual(30); // else the search has found little
    expect(lengths.size).toBeGreaterThanOrEqual(8);
  });

  test('random histories of many owners: what is there is what a list of it says', async () => {
    const under = await open({ count: 6, bytes: 5000 });
    const { store, advance } = under;
    const random = new Random(11);
    const owners = await Promise.all(['a', 'b', 'c'].map(ownerOf));
    const known = new Map(owners.map((owner) => [owner, new Map<string, { bytes: Uint8Array; expiresAt: number }>()]));
    const seen = { created: 0, refused: 0, deleted: 0, over: 0 };
    let now = 0; // of the list, behind the store's by what the test takes
    for (let step = 0; step < 150; step++) {
      const owner = random.pick(owners);
      const mine = known.get(owner)!;
      const id = mine.size > 0 ? random.pick([...mine.keys()]) : null;
      const what = random.next();
      if (what < 0.5) {
        const bytes = bytesOf(step, random.int(0, 2000));
        const ttlMs = random.int(1, 6) * 1_000_000;
        const held = [...mine.values()].reduce((sum, one) => sum + one.bytes.length, 0);
        const fits = mine.size < 6 && held + bytes.length <= 5000;
        try {
          const record = await store.create(owner, context({ ttlMs, meta: { step } }), blobOf(bytes));
          expect(fits).toBe(true);
          mine.set(record.id, { bytes, expiresAt: now + ttlMs });
          seen.created++;
        } catch (error) {
          expect(error instanceof QuotaError && !fits, String(error)).toBe(true);
          seen.refused++;
        }
      } else if (what < 0.65 && id) {
        expect(await store.delete(owner, id)).toBe(true);
        mine.delete(id);
        seen.deleted++;
      } else if (what < 0.75 && id) {
        await store.touch(owner, id, 4_000_000);
        const one = mine.get(id)!;
        one.expiresAt = Math.max(one.expiresAt, now + 4_000_000);
      } else if (what < 0.9) {
        advance(1_000_000);
        now += 1_000_000;
        for (const all of known.values()) for (const [name, { expiresAt }] of all) if (expiresAt <= now && all.delete(name)) seen.over++;
      } else if (what < 0.95) await store.collect(random.next() < 0.5 ? owner : undefined);
      else if (id) expect(same(await readAll(store, owner, id), mine.get(id)!.bytes)).toBe(true);
      expect((await store.usage(owner)).held.count, `step ${step}`).toBe(mine.size);
    }
    for (const count of Object.values(seen)) expect(count).toBeGreaterThanOrEqual(5);
    await store.collect();
    for (const owner of owners) {
      const records = await checkWhole(under, owner);
      expect(records.map(({ id }) => id).sort()).toEqual([...known.get(owner)!.keys()].sort());
    }
  });
}
