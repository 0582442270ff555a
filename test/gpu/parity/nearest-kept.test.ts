import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

for (const software of [false, true]) {
  test(`nearest-kept: cosines within 1e-5 of float64 and of WASM, targets that have them, equal ones to the lower row (${software ? 'alone' : 'tiles'})`, async () => {
    Object.defineProperty(backends.gpu, 'software', { value: software, configurable: true });
    const before = backends.gpu.recorder.counts.dispatches;
    const random = new Random(82);
    let dispatches = 0;
    for (const d of [4, 20, 64, 80, 256]) {
      for (const [n, counts, present] of [
        [1, [1], 0],
        [2, [1, 0], 0],
        [63, [20, 50, 1], 0],
        [65, [31, 33], 60],
        [300, [129], 0],
        [300, [10, 100], 222],
      ] as const) {
        const H = counts.length;
        const k = random.normals(n * H * d);
        k.fill(0, 0, d); // a key without a direction
        for (let h = 0; h < H; h++) for (let t = 3; t < n; t += 7) k.copyWithin((t * H + h) * d, (2 * H + h) * d, (2 * H + h + 1) * d); // ties
        const orders = counts.map(() => random.shuffled(Array.from({ length: n }, (_, t) => t)).slice(0, present || n));
        const results = await onEach(backends, async (bench) => {
          const [target, similarity, norms] = [bench.room(H * n * 4), bench.room(H * n * 4), bench.room(H * n * 4)];
          const keys = bench.put(k);
          const order = { rows: bench.put(Uint32Array.from(orders.flat())), stride: present || n };
          bench.backend.keyNorm(norms, keys, n, H, d, 1);
          bench.backend.nearestKept(target, similarity, keys, norms, { order, counts }, present ? order : null, n, H, d);
          return { target: await bench.u32(target, H * n), similarity: await bench.f32(similarity, H * n) };
        });
        dispatches += Math.min(...counts) < (present || n) ? 3 : 2;
        for (const want of [results.reference, results.wasm]) {
          expectClose(`nearest-kept ${n} ${counts} ${d}`, results.gpu.similarity, want.similarity, (x) => (x === -2 ? 0 : 1e-5));
          for (const [i, row] of results.gpu.target.entries()) {
            if (row === want.target[i]) continue;
            const at = (t: number): Float32Array => k.subarray((t * H + Math.floor(i / n)) * d, (t * H + Math.floor(i / n) + 1) * d);
            const cosine = (r: number): number => dot(at(i % n), at(r)) / (norm(at(i % n)) * norm(at(r)));
            expect(Math.abs(cosine(row) - cosine(want.target[i]))).toBeLessThan(1e-5);
            expect(at(row)).not.toEqual(at(want.target[i])); // a tie goes to the lower row on all of them
          }
        }
      }
    }
    expect(backends.gpu.recorder.counts.dispatches - before).toBe(dispatches);
    expect(backends.gpu.buffers.live).toEqual([]);
  });
}

function dot(x: Float32Array, y: Float32Array): number {
  return x.reduce((sum, value, c) => sum + value * y[c], 0);
}

function norm(x: Float32Array): number {
  return Math.max(Math.sqrt(dot(x, x)), 1e-6);
}
