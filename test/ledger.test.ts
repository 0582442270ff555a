import { expect, test } from 'vitest';
import type { LedgerExports } from '../worker/backend/kernel-exports.ts';
import { Ledger, type LedgerGeometry } from '../worker/engine/ledger.ts';
import { loadKernels } from './support/kernels.ts';
import { Random } from './support/random.ts';

interface Entry {
  position: number;
  score: number;
  bytes: number; // stands for the K and V rows in the pool
}
interface Model {
  lists: Entry[][];
  perPage: number;
}

const kernels = loadKernels();

/** A ledger, with an array in the place of the pool: one number for each entry's K and V. */
function setUp(geometry: LedgerGeometry) {
  kernels.reset();
  const exports = kernels.exports as LedgerExports;
  const address = kernels.alloc(Ledger.bytes(exports, geometry) + 64);
  const guard = address + Ledger.bytes(exports, geometry);
  kernels.u8(guard, 64).fill(0xa5);
  const pool = new Float64Array(geometry.pages * geometry.slotStride);
  const scratch = kernels.alloc(4096);
  let copies = 0;
  const ledger = new Ledger({ exports, memory: kernels.memory, alloc: () => scratch, free: () => {} }, address, geometry, (from, to) => {
    copies++;
    const { slotStride } = geometry;
    pool.copyWithin(to * slotStride, from * slotStride, (from + 1) * slotStride);
  });
  const tablePages = (sequence: number, list: number) =>
    kernels.u32(
      ledger.tables(sequence) + list * geometry.tableStride * 4,
      Math.ceil(ledger.length(sequence, list) / ledger.entriesPerPage(sequence)),
    );
  return {
    ledger,
    copies: () => copies,
    tablePages,
    guardHolds: () => kernels.u8(guard, 64).every((x) => x === 0xa5),
    /** Writes entries into ledger and pool, as storeEntries would. */
    write(sequence: number, list: number, from: number, entries: Entry[], ranked: boolean) {
      if (ranked) {
        const scores = new Float32Array(1 + Math.max(0, ...entries.map((e) => e.position)));
        for (const e of entries) scores[e.position] = e.score;
        ledger.writeRanked(
          sequence,
          list,
          from,
          Uint32Array.from(entries, (e) => e.position),
          scores,
        );
      } else ledger.writeRun(sequence, list, from, entries.length, entries[0]?.position ?? 0, entries[0]?.score ?? 0);
      const per = ledger.entriesPerPage(sequence);
      const pages = tablePages(sequence, list);
      entries.forEach((e, i) => {
        pool[pages[Math.floor((from + i) / per)] * geometry.slotStride + ((from + i) % per)] = e.bytes;
      });
    },
    readBytes(sequence: number, list: number): number[] {
      const per = ledger.entriesPerPage(sequence);
      const pages = tablePages(sequence, list);
      return Array.from({ length: ledger.length(sequence, list) }, (_, i) => pool[pages[Math.floor(i / per)] * geometry.slotStride + (i % per)]);
    },
    /** Everything that a refused call must leave as it was. */
    image: () => kernels.u8(address, Ledger.bytes(exports, geometry)).slice(),
  };
}

function expectSame(t: ReturnType<typeof setUp>, sequence: number, list: number, entries: Entry[]) {
  const { positions, scores } = t.ledger.read(sequence, list);
  expect([...positions]).toEqual(entries.map((e) => e.position));
  expect([...scores]).toEqual(entries.map((e) => e.score));
  expect(t.readBytes(sequence, list)).toEqual(entries.map((e) => e.bytes));
}

const histories = 2000;

/** Only where they differ: expect() is slow, and this is asked ninety thousand times. */
function expectEqual<T extends ArrayLike<number>>(seen: T, wanted: T): void {
  for (let i = 0; i < Math.max(seen.length, wanted.length); i++) if (seen[i] !== wanted[i]) expect(seen).toEqual(wanted);
}

test(`under ${histories} random histories of 10 to 80 steps nothing leaks, and every list holds what was appended to it`, () => {
  let forked = 0;
  let refused = 0;
  let copied = 0;
  let written = 0;
  let done = 0;
  for (let seed = 1; seed <= histories; seed++) {
    const random = new Random(seed);
    const geometry = {
      pages: random.int(1, 60),
      slotStride: random.int(1, 9),
      sequences: random.int(1, 5),
      lists: random.int(1, 6),
      tableStride: random.int(1, 12),
    };
    const t = setUp(geometry);
    const { ledger } = t;
    const open = new Map<number, Model>();
    const steps = random.int(10, 80);
    let stamp = 0;
    for (let step = 0; step < steps; step++, done++) {
      const what = random.next();
      const sequence = random.pick([...open.keys()]);
      const model = open.get(sequence);
      const list = random.int(0, geometry.lists - 1);
      const before = random.next() < 0.2 ? t.image() : null;
      let isRefused = false;
      if (what < 0.08 || model === undefined) {
        const perPage = random.int(1, geometry.slotStride);
        const opened = ledger.open(perPage);
        isRefused = opened === null;
        expect(isRefused).toBe(open.size === geometry.sequences);
        if (opened !== null) open.set(opened, { perPage, lists: Array.from({ length: geometry.lists }, () => []) });
      } else if (what < 0.15) {
        const fork = ledger.fork(sequence);
        isRefused = fork === null;
        expect(isRefused).toBe(open.size === geometry.sequences);
        if (fork !== null) {
          forked++;
          open.set(fork, { perPage: model.perPage, lists: model.lists.map((x) => [...x]) });
        }
      } else if (what < 0.2) {
        ledger.close(sequence);
        open.delete(sequence);
      } else if (what < 0.3) {
        isRefused = !ledger.reserve(sequence, random.int(0, Math.ceil(geometry.pages * 0.7)));
      } else if (what < 0.45) {
        const length = random.int(0, model.lists[list].length);
        ledger.truncate(sequence, list, length);
        model.lists[list].length = length;
      } else if (what < 0.6 && model.lists[list].length > 0) {
        const entries = model.lists[list];
        const from = random.int(0, entries.length - 1);
        const count = random.int(1, entries.length - from);
        const shared = new Set(t.tablePages(sequence, list).subarray(Math.floor(from / model.perPage), Math.ceil((from + count) / model.perPage)));
        for (const [s, m] of open) if (s !== sequence) for (let l = 0; l < m.lists.length; l++) for (const p of t.tablePages(s, l)) shared.delete(p);
        const alone = shared.size; // pages of these entries that nobody else holds
        const pages = Math.floor((from + count - 1) / model.perPage) - Math.floor(from / model.perPage) + 1;
        const promised = Math.max(ledger.freePages - ledger.reservedPages, 0);
        try {
          ledger.own(sequence, list, from, count);
          written++;
          const start = random.int(0, 100);
          const changed = entries.slice(from, from + count).map((_, i) => ({ position: start + i, score: Math.fround(start / 7), bytes: ++stamp }));
          t.write(sequence, list, from, changed, false);
          entries.splice(from, count, ...changed);
          const to = random.int(0, count - 1) + from; // on a page of its own by now
          ledger.move(sequence, list, random.int(0, entries.length - 1), to);
          const { positions, scores } = ledger.read(sequence, list);
          entries[to] = { position: positions[to], score: scores[to], bytes: entries[to].bytes };
        } catch (error) {
          if (!/no page is left/.test((error as Error).message)) throw error;
          isRefused = pages - alone === 1; // of several, those before it are copied
          expect(pages - alone).toBeGreaterThan(promised);
        }
      } else {
        const entries = model.lists[list];
        const room = geometry.tableStride * model.perPage - entries.length;
        const count = Math.min(random.int(0, random.pick([1, 4, 30])), room);
        const ranked = random.next() < 0.5;
        const start = random.int(0, 100);
        const common = Math.fround(random.normal());
        const added = Array.from({ length: count }, (_, i) => ({
          position: ranked ? (start + i * 7) % 200 : start + i,
          score: ranked ? Math.fround(random.normal()) : common,
          bytes: ++stamp,
        }));
        const first = ledger.append(sequence, list, count);
        isRefused = first === null;
        if (first !== null) {
          expect(first).toBe(entries.length);
          t.write(sequence, list, first, added, ranked);
          entries.push(...added);
        }
      }
      if (isRefused) {
        refused++;
        if (before) expectEqual(t.image(), before);
      }
      ledger.check();
      const distinct = new Set<number>();
      const seen: number[] = [];
      const wanted: number[] = [];
      for (const [s, m] of open) {
        m.lists.forEach((entries, l) => {
          seen.push(ledger.length(s, l));
          wanted.push(entries.length);
          for (const page of t.tablePages(s, l)) distinct.add(page);
        });
        seen.push(ledger.pagesOf(s));
        wanted.push(m.lists.reduce((sum, entries) => sum + Math.ceil(entries.length / m.perPage), 0));
      }
      const holders = new Map<number, number>();
      for (const [s, m] of open)
        for (let l = 0; l < m.lists.length; l++) for (const page of t.tablePages(s, l)) holders.set(page, (holders.get(page) ?? 0) + 1);
      for (const [s, m] of open) {
        seen.push(ledger.sharedPagesOf(s));
        wanted.push(m.lists.flatMap((_, l) => [...t.tablePages(s, l)]).filter((page) => holders.get(page)! > 1).length);
      }
      seen.push(ledger.usedPages, ledger.freePages);
      wanted.push(distinct.size, geometry.pages - distinct.size);
      expectEqual(seen, wanted);
      if (step % 15 === 14) for (const [s, m] of open) for (const [l, entries] of m.lists.entries()) expectSame(t, s, l, entries);
    }
    for (const s of open.keys()) ledger.close(s);
    ledger.check();
    expect(ledger.freePages).toBe(geometry.pages);
    expect(ledger.reservedPages).toBe(0);
    expect(t.guardHolds()).toBe(true);
    copied += t.copies();
  }
  // the histories do reach what they are for
  expect(done).toBeGreaterThan(80_000);
  expect(Math.min(forked, refused, copied, written)).toBeGreaterThan(500);
});

test('a reservation is never broken: up to it appends succeed, whatever the others do', () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = new Random(1000 + seed);
    const geometry = { pages: 40, slotStride: 4, sequences: 4, lists: 3, tableStride: 40 };
    const { ledger } = setUp(geometry);
    const sequences = Array.from({ length: 4 }, () => ledger.open(random.int(1, 4)) as number);
    const reservation = sequences.map((s) => {
      const pages = random.int(0, 16);
      return ledger.reserve(s, pages) ? pages : 0;
    });
    expect(ledger.reservedPages).toBe(reservation.reduce((a, b) => a + b, 0));
    for (let step = 0; step < 300; step++) {
      const i = random.int(0, 3);
      const list = random.int(0, 2);
      const [s, per] = [sequences[i], ledger.entriesPerPage(sequences[i])];
      const length = ledger.length(s, list);
      if (random.next() < 0.3) ledger.truncate(s, list, random.int(0, length));
      else {
        const count = random.int(1, 12);
        const after = ledger.pagesOf(s) + Math.ceil((length + count) / per) - Math.ceil(length / per);
        const done = ledger.append(s, list, count) !== null;
        if (after <= reservation[i] && !done) throw new Error(`seed ${seed} step ${step}: refused within the reservation`);
      }
      ledger.check();
      const promised = sequences.reduce((sum, q, k) => sum + Math.max(reservation[k] - ledger.pagesOf(q), 0), 0);
      expect([ledger.reservedPages, ledger.reservedPages <= ledger.freePages]).toEqual([promised, true]);
    }
  }
});

test('an append into a shared last page copies it: neither sequence sees the entries of the other', () => {
  const t = setUp({ pages: 8, slotStride: 4, sequences: 3, lists: 1, tableStride: 8 });
  const { ledger } = t;
  const entry = (position: number): Entry => ({ position, score: position / 8, bytes: position + 100 });
  const a = ledger.open(4) as number;
  ledger.append(a, 0, 6);
  t.write(a, 0, 0, [0, 1, 2, 3, 4, 5].map(entry), true);
  const b = ledger.fork(a) as number;
  expect(ledger.usedPages).toBe(2);
  expect([...t.tablePages(b, 0)]).toEqual([...t.tablePages(a, 0)]);

  expect(ledger.append(b, 0, 1)).toBe(6);
  t.write(b, 0, 6, [entry(60)], true);
  expect(t.copies()).toBe(1);
  expect(ledger.usedPages).toBe(3); // the full first page stays shared
  expect(ledger.append(a, 0, 1)).toBe(6); // now the only holder of the old page: no copy
  t.write(a, 0, 6, [entry(70)], true);
  expect(t.copies()).toBe(1);
  expectSame(t, a, 0, [0, 1, 2, 3, 4, 5, 70].map(entry));
  expectSame(t, b, 0, [0, 1, 2, 3, 4, 5, 60].map(entry));

  ledger.close(a);
  expectSame(t, b, 0, [0, 1, 2, 3, 4, 5, 60].map(entry));
  expect(ledger.usedPages).toBe(2);
  ledger.close(b);
  expect(ledger.freePages).toBe(8);
});

test('an append that starts a new page never copies, and one of 0 entries never does', () => {
  const t = setUp({ pages: 8, slotStride: 4, sequences: 2, lists: 1, tableStride: 8 });
  const a = t.ledger.open(4) as number;
  t.ledger.append(a, 0, 4);
  const b = t.ledger.fork(a) as number;
  t.ledger.append(b, 0, 1);
  t.ledger.append(a, 0, 0);
  expect(t.copies()).toBe(0);
  t.ledger.check();
});

test('the copy of a shared page needs a page: with none free the append is refused', () => {
  const { ledger } = setUp({ pages: 1, slotStride: 4, sequences: 2, lists: 1, tableStride: 8 });
  const a = ledger.open(4) as number;
  ledger.append(a, 0, 2);
  const b = ledger.fork(a) as number;
  expect(ledger.append(b, 0, 1)).toBeNull();
  ledger.close(a);
  expect(ledger.append(b, 0, 1)).toBe(2);
});

test('a write into a shared page copies it, wherever it goes; once', () => {
  const entry = (position: number): Entry => ({ position, score: position / 8, bytes: position + 100 });
  const entries = Array.from({ length: 10 }, (_, i) => entry(i));
  const writes: [name: string, pages: number, write: (t: ReturnType<typeof setUp>, s: number) => void][] = [
    ['move', 1, ({ ledger }, s) => ledger.move(s, 0, 9, 1)],
    ['writeRun', 1, ({ ledger }, s) => ledger.writeRun(s, 0, 5, 3, 70)],
    ['writeRun over a border', 2, ({ ledger }, s) => ledger.writeRun(s, 0, 3, 2, 70)],
    ['writeRanked', 3, ({ ledger }, s) => ledger.writeRanked(s, 0, 2, Uint32Array.from([5, 4, 3, 2, 1, 0, 6]), new Float32Array(7))],
    ['own', 2, ({ ledger }, s) => ledger.own(s, 0, 4, 6)],
  ];
  for (const [name, pages, write] of writes) {
    const t = setUp({ pages: 8, slotStride: 4, sequences: 2, lists: 1, tableStride: 8 });
    const a = t.ledger.open(4) as number;
    t.ledger.append(a, 0, 10);
    t.write(a, 0, 0, entries, true);
    const b = t.ledger.fork(a, pages) as number;
    expect([t.ledger.sharedPagesOf(a), t.ledger.sharedPagesOf(b), t.ledger.reservedPages]).toEqual([3, 3, pages]);
    write(t, b);
    expect([name, t.copies(), t.ledger.sharedPagesOf(b), t.ledger.reservedPages]).toEqual([name, pages, 3 - pages, 0]);
    write(t, b);
    expect(t.copies()).toBe(pages); // they are its own now
    expectSame(t, a, 0, entries);
    expect(t.readBytes(b, 0)).toEqual(entries.map(({ bytes }) => bytes)); // whole pages came along
    t.ledger.check();
    t.ledger.close(a);
    write(t, b);
    expect(t.copies()).toBe(pages);
    t.ledger.close(b);
    expect([t.ledger.freePages, t.ledger.reservedPages]).toEqual([8, 0]);
  }
});

test('what a fork may need is set aside when it is made: with too few pages, or no slot, there is none', () => {
  const t = setUp({ pages: 6, slotStride: 4, sequences: 3, lists: 2, tableStride: 8 });
  const { ledger } = t;
  const a = ledger.open(4) as number;
  ledger.append(a, 0, 6);
  ledger.append(a, 1, 3);
  expect(ledger.fork(a, 4)).toBeNull();
  expect([ledger.freePages, ledger.reservedPages, ledger.sharedPagesOf(a)]).toEqual([3, 0, 0]);
  ledger.check();
  const b = ledger.fork(a, 3) as number;
  expect(ledger.fork(a, 1)).toBeNull(); // promised to the other
  const c = ledger.fork(a) as number;
  expect(ledger.fork(a)).toBeNull(); // no slot
  expect(ledger.append(c, 0, 1)).toBeNull();
  expect(ledger.append(b, 0, 5)).toBe(6); // the copied page and one more
  expect(ledger.append(b, 1, 1)).toBe(3);
  expect(() => ledger.own(c, 0, 0, 1)).toThrow(/no page is left/);
  ledger.check();
  for (const s of [a, b, c]) ledger.close(s);
  expect([ledger.freePages, ledger.reservedPages]).toEqual([6, 0]);
});

test('forks of one sequence that never writes: each has what it reserved, in any order of writes, evictions and ends', () => {
  let evicted = 0;
  for (let seed = 1; seed <= 150; seed++) {
    const random = new Random(5000 + seed);
    const geometry = { pages: random.int(50, 110), slotStride: 5, sequences: 6, lists: 3, tableStride: 40 };
    const t = setUp(geometry);
    const { ledger } = t;
    const per = random.int(1, 5);
    const base = ledger.open(per) as number;
    const lists = Array.from({ length: 3 }, (_, list) => {
      const entries = Array.from({ length: random.int(0, 16) }, (_, i) => ({ position: i, score: i / 4, bytes: 1000 * list + i }));
      if (ledger.append(base, list, entries.length) === null) throw new Error('the pool is too small for the test');
      t.write(base, list, 0, entries, true);
      return entries;
    });
    let baseOpen = true;
    let stamp = 10_000;
    /** Most entries behind what was there, and what each list holds. */
    const forks = new Map<number, { extra: number; evicts: boolean; lists: Entry[][] }>();
    for (let step = 0; step < 120; step++) {
      const what = random.next();
      const s = random.pick([...forks.keys()]);
      const fork = forks.get(s);
      const list = random.int(0, 2);
      if (baseOpen && what < 0.15) {
        const extra = random.int(1, 12);
        const evicts = random.next() < 0.4;
        const pages = (n: number): number => Math.ceil((n + extra) / per) - (evicts ? 0 : Math.floor(n / per));
        const id = ledger.fork(
          base,
          lists.reduce((sum, { length }) => sum + pages(length), 0),
        );
        if (id !== null) forks.set(id, { extra, evicts, lists: lists.map((entries) => [...entries]) });
      } else if (what < 0.2 && fork) {
        ledger.close(s);
        forks.delete(s);
      } else if (what < 0.21 && baseOpen) {
        ledger.close(base);
        baseOpen = false;
      } else if (what < 0.35 && fork?.evicts && fork.lists[list].length > 1) {
        const entries = fork.lists[list]; // as KvSequence.retain: the last into the place of one that goes
        const to = random.int(0, entries.length - 2);
        const from = entries.length - 1;
        ledger.own(s, list, to, 1);
        ledger.move(s, list, from, to);
        t.write(s, list, to, [entries[from]], false);
        entries[to] = entries[from];
        ledger.truncate(s, list, from);
        entries.length = from;
        evicted++;
      } else if (fork && fork.lists[list].length < lists[list].length + fork.extra) {
        const entries = fork.lists[list];
        const count = random.int(1, lists[list].length + fork.extra - entries.length);
        const added = Array.from({ length: count }, (_, i) => ({ position: 50 + i, score: 1, bytes: ++stamp }));
        const first = ledger.append(s, list, count);
        if (first === null) throw new Error(`seed ${seed} step ${step}: refused within the reservation`);
        t.write(s, list, first, added, false);
        entries.push(...added);
      }
      ledger.check();
      for (const [id, { lists: held }] of forks)
        for (const [l, entries] of held.entries())
          expectEqual(
            t.readBytes(id, l),
            entries.map(({ bytes }) => bytes),
          );
    }
    if (baseOpen) for (const [l, entries] of lists.entries()) expectSame(t, base, l, entries);
    for (const id of forks.keys()) ledger.close(id);
    if (baseOpen) ledger.close(base);
    ledger.check();
    expect([ledger.freePages, ledger.reservedPages]).toEqual([geometry.pages, 0]);
  }
  expect(evicted).toBeGreaterThan(300);
});

test('what a sequence reserved it cannot lose to another; what it gives back is its own again', () => {
  const { ledger } = setUp({ pages: 10, slotStride: 1, sequences: 2, lists: 1, tableStride: 10 });
  const a = ledger.open(1) as number;
  const b = ledger.open(1) as number;
  expect(ledger.reserve(a, 7)).toBe(true);
  expect(ledger.reserve(b, 4)).toBe(false);
  expect(ledger.append(b, 0, 4)).toBeNull();
  expect(ledger.append(b, 0, 3)).toBe(0);
  expect(ledger.append(a, 0, 7)).toBe(0);
  ledger.truncate(a, 0, 2);
  expect(ledger.reservedPages).toBe(5);
  expect(ledger.append(b, 0, 1)).toBeNull();
  expect(ledger.reserve(a, 2)).toBe(true); // now it lets go of them
  expect(ledger.append(b, 0, 5)).toBe(3);
  ledger.close(a);
  expect([ledger.freePages, ledger.reservedPages]).toEqual([2, 0]);
});

test('all free pages can be reserved, and not one more', () => {
  const { ledger } = setUp({ pages: 10, slotStride: 1, sequences: 2, lists: 1, tableStride: 10 });
  const a = ledger.open(1) as number;
  const b = ledger.open(1) as number;
  expect([ledger.reserve(a, 11), ledger.reserve(a, 10), ledger.reserve(b, 1)]).toEqual([false, true, false]);
  expect(ledger.reserve(a, 4)).toBe(true);
  ledger.append(a, 0, 2);
  expect([ledger.reserve(b, 7), ledger.reserve(b, 6), ledger.reserve(a, 5), ledger.reserve(a, 4)]).toEqual([false, true, false, true]);
  expect(ledger.append(b, 0, 6)).toBe(0);
  expect([ledger.freePages, ledger.reservedPages]).toEqual([2, 2]);
});

test('mistakes of the caller throw and change nothing', () => {
  const t = setUp({ pages: 4, slotStride: 2, sequences: 2, lists: 2, tableStride: 2 });
  const { ledger } = t;
  const a = ledger.open(2) as number;
  const before = t.image();
  for (const mistake of [
    () => ledger.open(3),
    () => ledger.open(0),
    () => ledger.append(a, 2, 1),
    () => ledger.append(a, 0, -1),
    () => ledger.append(a, 0, 5),
    () => ledger.append(a + 1, 0, 1),
    () => ledger.append(-1, 0, 1),
    () => ledger.truncate(a, 0, 1),
    () => ledger.truncate(a, 0, -1),
    () => ledger.close(99),
    () => ledger.fork(1),
    () => ledger.own(1, 0, 0, 1),
    () => ledger.own(a, 0, 0, 1),
    () => ledger.sharedPagesOf(1),
    () => ledger.reserve(1, 1),
    () => ledger.writeRun(a, 0, 0, 1, 0),
    () => ledger.lengths(1),
    () => ledger.length(a, -1),
  ])
    expect(mistake).toThrow(/^ledger /);
  expect(t.image()).toEqual(before);
  ledger.check();
});

test('ledgerCheck sees a page lent twice, a page lost, a length without pages and promises that do not add up', () => {
  const t = setUp({ pages: 6, slotStride: 2, sequences: 2, lists: 2, tableStride: 4 });
  const a = t.ledger.open(2) as number;
  t.ledger.reserve(a, 4);
  t.ledger.append(a, 0, 3);
  t.ledger.append(a, 1, 2);
  const ledger = t.ledger.lengths(a) - 6 * 16 - 2 * 32 - 64; // header [64 bytes], sequences [2, 32], four arrays [pages], then lengths
  const table = t.ledger.tables(a);
  for (const [address, value, broken] of [
    [table + 4 * 4, kernels.u32(table, 1)[0], 4], // list 1 on the page of list 0
    [table, 99, 3],
    [t.ledger.lengths(a), 2, 6], // one page fewer than held
    [t.ledger.lengths(a), 9, 2],
    [ledger + 24, 3, 7], // the sum of promises
    [ledger + 64 + 2 * 32, kernels.u32(table, 1)[0], 5], // a lent page on the free stack
  ]) {
    const word = kernels.u32(address, 1);
    const before = word[0];
    word[0] = value;
    expect(() => t.ledger.check()).toThrow(`invariant ${broken} `);
    word[0] = before;
    t.ledger.check();
  }
});
