import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, Bench, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('lag-score: 1e-6 (1 + the largest sigma) relative of float64 and of WASM (order of sums, exp), one dispatch', async () => {
  const random = new Random(61);
  let cases = 0;
  for (const d of [16, 32, 64, 80, 96, 128, 1024]) {
    for (const [n, first, lag, heads] of [
      [3, 4, 2, 1], // no token after the sinks
      [20, 4, 9, 2], // no partition has a next one
      [70, 0, 8, 3],
      [333, 5, 64, 2],
      [530, 3, 257, 1], // more tokens than a workgroup has threads
    ]) {
      cases++;
      const [k, v] = [random.normals(n * heads * d, random.pick([1e-3, 1, 100])), random.normals(n * heads * d)];
      for (let at = 0; at < v.length; at += d) v[at] = 3; // a channel without a range
      const results = await onEach(backends, async (bench) => {
        const out = bench.room(heads * n * 4);
        bench.backend.lagScore(out, bench.put(k), bench.put(v), n, first, lag, heads, d);
        return bench.f32(out, heads * n);
      });
      // normal numbers in ranges of 8 or more others: sigma stays below 4
      for (const want of [results.reference, results.wasm])
        expectClose(`lag-score ${n} x ${heads} x ${d}, ${lag} from ${first}`, results.gpu, want, (value) => 5e-6 * value);
    }
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});

test('lag-score: equal tokens of a partition have equal scores; the same bits again', async () => {
  const random = new Random(62);
  const [token, next] = [random.normals(80), random.normals(300 * 80)];
  const k = Float32Array.from({ length: 600 * 80 }, (_, i) => (i < 300 * 80 ? token[i % 80] : next[i - 300 * 80]));
  const bench = new Bench(backends.gpu);
  const [keys, values, ties, first, second] = [bench.put(k), bench.put(next), bench.room(2400), bench.room(1200), bench.room(1200)];
  backends.gpu.lagScore(ties, keys, keys, 600, 0, 300, 1, 80);
  for (const out of [first, second]) backends.gpu.lagScore(out, values, values, 300, 4, 37, 1, 80);
  const [equal, one, other] = await Promise.all([bench.f32(ties, 300), bench.u32(first, 300), bench.u32(second, 300)]);
  expect(new Set(equal).size).toBe(1);
  expect(one).toEqual(other);
  bench.close();
});
