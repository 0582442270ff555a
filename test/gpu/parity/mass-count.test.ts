import { afterAll, beforeAll, expect, test } from 'vitest';
import type { MassMap, Protected } from '../../../worker/backend/backend.ts';
import { type Backends, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

const maps: readonly MassMap[] = ['identity', 'affine', 'softmax', 'shift', 'exp'];

interface Case {
  readonly rows: readonly Float32Array[];
  readonly keep: Protected;
  readonly threshold: number;
  readonly map: MassMap;
}

/** Counts of every case from every backend; all cases share their reads. */
async function counts(cases: readonly Case[]): Promise<{ gpu: number[][]; wasm: number[][]; reference: number[][] }> {
  return onEach(backends, (bench) =>
    Promise.all(
      cases.map(({ rows, keep, threshold, map }) => {
        const n = rows[0].length;
        const scores = bench.put(Float32Array.from(rows.flatMap((row) => [...row])));
        const order = bench.room(rows.length * n * 4);
        bench.backend.topK(order, scores, rows.length, n, n, keep);
        return bench.backend.massCount(scores, order, n, rows.length, keep, threshold, map);
      }),
    ),
  );
}
const everything = { first: 0, last: 0 };
const of = (row: Float32Array | readonly number[], threshold: number, map: MassMap, keep: Protected = everything): Case => ({
  rows: [Float32Array.from(row)],
  keep,
  threshold,
  map,
});

test('mass-count: WASM to within one, and equal but for one row in a hundred, over 400 random cases, all maps, thresholds up to 1', async () => {
  const random = new Random(71);
  let [rowsInAll, unequal] = [0, 0];
  for (let batch = 0; batch < 8; batch++) {
    const cases = Array.from({ length: 50 }, (): Case => {
      const n = random.pick([random.int(1, 8), random.int(9, 400), random.int(400, 3000)]);
      const first = random.pick([0, Math.min(4, n - 1)]);
      const last = random.pick([0, random.int(0, n - first - 1), n - first - 1]);
      const map = random.pick(maps);
      const power = random.pick([1, 3, 20]);
      const sign = map === 'identity' ? 1 : random.pick([1, -1]);
      const rows = Array.from({ length: random.int(1, 4) }, () => Float32Array.from({ length: n }, () => sign * random.next() ** power));
      return { rows, keep: { first, last }, threshold: random.pick([0.9, 0.5, 0.99, 1, random.next()]), map };
    });
    const { gpu, wasm } = await counts(cases);
    for (const [i, { rows, keep, threshold, map }] of cases.entries()) {
      for (const [h, count] of gpu[i].entries()) {
        rowsInAll++;
        if (count !== wasm[i][h]) unequal++;
        const off = Math.abs(count - wasm[i][h]);
        if (off > 1) throw new Error(`n ${rows[0].length} ${JSON.stringify(keep)} p ${threshold} ${map}: ${count}, not ${wasm[i][h]}`);
      }
    }
  }
  expect(unequal).toBeLessThanOrEqual(rowsInAll / 100);
  expect(backends.gpu.buffers.live).toEqual([]);
});

test('LMBA: one-hot attention counts 1, uniform attention counts ceil(p n), in every map that keeps the shape', async () => {
  const random = new Random(72);
  const cases: Case[] = [];
  const want: number[] = [];
  for (const n of [1, 2, 3, 10, 63, 64, 100, 1000, 4095])
    for (const p of [0.1, 0.5, 0.9, 0.95, 1]) {
      const hot = new Float32Array(n);
      hot[random.int(0, n - 1)] = 0.37;
      cases.push(of(hot, p, 'identity'), of(new Float32Array(n), p, 'identity'));
      want.push(1, Math.ceil(p * n)); // the second: no mass, no information
      for (const map of maps) cases.push(of(new Float32Array(n).fill(0.25), p, map));
      want.push(...maps.map(() => Math.ceil(p * n)));
    }
  const { gpu, wasm } = await counts(cases);
  expect(gpu.flat()).toEqual(want);
  expect(gpu).toEqual(wasm);
});

test('LMBA: protected tokens do not count, whatever stands at their places; scaling changes nothing under identity and softmax', async () => {
  const random = new Random(73);
  const [plain, changed]: [Case[], Case[]] = [[], []];
  for (let i = 0; i < 30; i++) {
    const scores = Float32Array.from({ length: random.int(2, 500) }, () => random.next() ** 8);
    const [first, last] = [random.int(0, 4), random.int(1, 64)];
    const fill = random.pick([0, 2, 1e30, Number.NaN]);
    const padded = [...Array(first).fill(fill), ...scores, ...Array(last).fill(fill)];
    for (const map of maps) {
      plain.push(of(scores, 0.9, map));
      changed.push(of(padded, 0.9, map, { first, last }));
    }
    const scaled = scores.map((x) => x * 2 ** -40); // a power of two: exact
    for (const map of ['identity', 'softmax'] as const) {
      plain.push(of(scores, 0.9, map));
      changed.push(of(scaled, 0.9, map));
    }
  }
  expect((await counts(changed)).gpu).toEqual((await counts(plain)).gpu);
});

test('LMBA: sums that are not finite and masses of 0 count as no information, and nothing evictable as 0', async () => {
  const bad = [Number.NaN, Number.POSITIVE_INFINITY].flatMap((x) => maps.map((map) => of([1, x, 3, 4, 5, 6, 7, 8, 9, 10], 0.9, map)));
  const { gpu, wasm } = await counts([
    ...bad,
    of([1, Number.NEGATIVE_INFINITY, 3, 4, 5], 0.9, 'softmax'),
    of([1, Number.NEGATIVE_INFINITY, 3, 4, 5], 0.9, 'shift'),
    of([1, Number.NEGATIVE_INFINITY, 3, 4, 5], 0.9, 'exp'), // 1, .368, .135, .018, 0
    of([-7, 3, -7, -6], 1, 'shift'), // 0, 10, 0, 1
    of([-1, -2, -3, -4], 0.6, 'identity'),
    of([1, Number.NEGATIVE_INFINITY, 1, 1], 1, 'identity'),
    of([1, 2, 3], 0.9, 'identity', { first: 1, last: 2 }),
    of([-0.25, 1, -1e-9, 1], 1, 'identity'),
    of([0.5, 0.3, 0.15, 0.05], 0.9, 'identity'),
    of([3e38, 3e38, 3e38, 3e38], 0.5, 'identity'), // the sum is beyond f32
    of([1e-44, 1e-44, 1e-45], 0.9, 'identity'), // subnormal
  ]);
  expect(gpu.flat()).toEqual([9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 5, 5, 3, 2, 3, 3, 0, 2, 3, 2, 2]);
  expect(gpu).toEqual(wasm);
});

test('mass-count: one dispatch', async () => {
  const { gpu } = backends;
  const block = gpu.alloc(1024, 'scores');
  gpu.write(block, new Uint32Array(256));
  const before = gpu.recorder.counts.dispatches;
  await gpu.massCount(block, block, 16, 4, everything, 0.9, 'identity');
  expect(gpu.recorder.counts.dispatches - before).toBe(1);
  gpu.free(block);
});
