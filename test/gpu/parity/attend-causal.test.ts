import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, Bench, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

interface Case {
  readonly n: number;
  readonly start?: number;
  readonly H?: number;
  readonly G: number;
  readonly d: number;
  readonly window?: number;
}

/** Sums of f32 products and weights in another order: 1e-5 of the largest |v|, which is about 4 among so many normal numbers. */
const CLOSE = 1e-5;

/** Runs each case on the three backends, with the entry for software adapters or the one for all others. */
async function check(software: boolean, cases: readonly Case[]): Promise<void> {
  Object.defineProperty(backends.gpu, 'software', { value: software });
  const random = new Random(1);
  for (const c of cases) {
    const { n, start = 0, H = 2, G, d, window = 0 } = c;
    const shape = { queryHeads: H * G, kvHeads: H, headDim: d, scale: 1 / Math.sqrt(d), slidingWindow: window };
    const rows = start + n;
    const [q, k, v] = [random.normals(n * H * G * d), random.normals(rows * H * d), random.normals(rows * H * d)];
    const results = await onEach(backends, async (bench) => {
      const out = bench.room(n * H * G * d * 4);
      bench.backend.attendCausal(out, bench.put(q), bench.put(k), bench.put(v), n, start, shape);
      return bench.f32(out, n * H * G * d);
    });
    const room = CLOSE * v.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    for (const want of [results.reference, results.wasm]) expectClose(JSON.stringify({ ...c, software }), results.gpu, want, () => room);
  }
}

const GROUPS = [1, 2, 3, 4, 5, 6, 7, 8];
/** Around blocks of 32 rows and tiles of 32 keys, with and without keys before. */
const LENGTHS: Case[] = [1, 2, 7, 11, 31, 32, 33, 65].flatMap((n) =>
  [0, 1, 31, 63].map((start, i) => ({ n, start, G: 1 + ((n + i) % 4), d: 80, H: 1 + (i % 2) })),
);
const WINDOWS: Case[] = [1, 2, 31, 33, 64, 1000].flatMap((window) => [0, 37, 150].map((start) => ({ n: 45, start, window, G: 2, d: 80, H: 1 })));

test('attend-causal for real GPUs: 1e-5 of the largest |v| from float64 and from WASM, head_dim 32 to 256, every group, odd lengths, windows', () =>
  check(false, [
    ...[4, 20, 32, 64, 80, 96, 128, 256].map((d) => ({ n: 37, start: 5, G: 3, d })),
    ...GROUPS.map((G) => ({ n: 21, G, d: 80, start: 3 })),
    ...LENGTHS,
    ...WINDOWS,
  ]));

test('attend-causal for software adapters: likewise', () =>
  check(true, [
    ...[4, 20, 32, 64, 80, 96, 128, 256].flatMap((d) => [1, 23].map((n) => ({ n, start: 5, G: 3, d }))),
    ...GROUPS.map((G) => ({ n: 21, G, d: 32, start: 3 })),
    ...LENGTHS,
    ...WINDOWS,
  ]));

test('attend-causal: logits of +-1e3 neither overflow nor lose the winner; one dispatch; the same inputs give the same bits', async () => {
  const random = new Random(2);
  const [n, H, G, d] = [70, 1, 2, 80];
  const shape = { queryHeads: H * G, kvHeads: H, headDim: d, scale: 1, slidingWindow: 0 };
  const [q, k, v] = [random.normals(n * H * G * d, 10), random.normals(n * H * d, 10), random.normals(n * H * d)];
  for (const software of [true, false]) {
    Object.defineProperty(backends.gpu, 'software', { value: software });
    const results = await onEach(backends, async (bench) => {
      const [a, b, ...rest] = [bench.room(q.byteLength), bench.room(q.byteLength), bench.put(q), bench.put(k), bench.put(v)];
      const before = backends.gpu.recorder.counts.dispatches;
      for (const out of [a, b]) bench.backend.attendCausal(out, rest[0], rest[1], rest[2], n, 0, shape);
      if (bench.backend === backends.gpu) expect(backends.gpu.recorder.counts.dispatches - before).toBe(2);
      const [first, second] = await Promise.all([bench.f32(a, q.length), bench.f32(b, q.length)]);
      expect(second).toEqual(first);
      return first;
    });
    // A logit of 1e3 has an f32 spacing of 6e-5, and sums of 80 products of that size are off by some of them: weights by 1e-3, values by 4 of that.
    expectClose(`large logits, software ${software}`, results.gpu, results.reference, () => 4e-3);
  }
});

test('attend-causal refuses a head_dim and places that it cannot read', () => {
  const bench = new Bench(backends.gpu);
  const x = bench.room(4096);
  const shape = { queryHeads: 1, kvHeads: 1, headDim: 260, scale: 1, slidingWindow: 0 };
  expect(() => backends.gpu.attendCausal(x, x, x, x, 1, 0, shape)).toThrow('head_dim that is a multiple of 4 up to 256, got 260');
  expect(() => backends.gpu.attendCausal({ buffer: x, offset: 8 }, x, x, x, 1, 0, { ...shape, headDim: 64 })).toThrow(
    'offset 8 is not a multiple of 16',
  );
  bench.close();
});

test('nothing stays allocated', () => {
  expect(backends.gpu.buffers.live).toEqual([]);
});
