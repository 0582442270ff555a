import { afterAll, beforeAll, expect, test } from 'vitest';
import { at } from '../../../worker/backend/backend.ts';
import { scoringScratchBytes } from '../../../worker/backend/webgpu/scoring.ts';
import { type Backends, Bench, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';
import { randomScores } from '../../support/random-scores.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

/** With entries for adapters on which barriers are slow, or without. */
function setSoftware(software: boolean): void {
  Object.defineProperty(backends.gpu, 'software', { value: software, configurable: true });
}

for (const software of [false, true]) {
  test(`top-k: the order of WASM and of a stable sort, with ties, NaN, infinities and zeros of both signs (${software ? 'alone' : 'tiles'})`, async () => {
    setSoftware(software);
    const random = new Random(61);
    for (const n of [1, 2, 3, 7, 64, 65, 200, 255, 256, 257, 1000, 2047, 2048, 2049, 4097, 5000]) {
      // Several settings in one read: readbacks are slow on wgpu.
      const settings = Array.from({ length: 6 }, () => {
        const first = random.pick([0, 0, Math.min(4, n), random.int(0, n)]);
        const last = random.pick([0, Math.min(1, n - first), random.int(0, n - first), Math.max(0, n - first - 1)]);
        const rows = random.int(1, 4);
        const scores = Array.from({ length: rows }, () => [...randomScores(random, n)]).flat();
        return { keep: { first, last }, rows, scores: Float32Array.from(scores), count: random.pick([n, first + last, random.int(first + last, n)]) };
      });
      const results = await onEach(backends, async (bench) => {
        const orders = settings.map(({ keep, rows, scores, count }) => {
          const order = bench.put(new Uint32Array(rows * count + 5).fill(999_999));
          bench.backend.topK(at(order, 4), bench.put(scores), rows, n, count, keep);
          return bench.u32(order, rows * count + 5);
        });
        return Promise.all(orders);
      });
      for (const [i, order] of results.gpu.entries()) {
        expect(order, `n ${n} count ${settings[i].count}`).toEqual(results.wasm[i]);
        expect(order).toEqual(results.reference[i]);
      }
    }
    expect(backends.gpu.buffers.live).toEqual([]);
  });

  test(`top-k: 20,000 tokens, and protected ones that are more than there are (${software ? 'alone' : 'tiles'})`, async () => {
    setSoftware(software);
    const random = new Random(62);
    const [n, few] = [20_000, 10];
    const [scores, short] = [random.normals(2 * n).map((x, i) => (i % 3 ? x : Math.round(x))), random.normals(few)];
    const { gpu, wasm } = await onEach(backends, async (bench) => {
      const [long, brief] = [bench.room(2 * n * 4), bench.room(few * 4)];
      bench.backend.topK(long, bench.put(scores), 2, n, n, { first: 4, last: 64 });
      bench.backend.topK(brief, bench.put(short), 1, few, few, { first: 4, last: 64 });
      return Promise.all([bench.u32(long, 2 * n), bench.u32(brief, few)]);
    });
    expect(gpu).toEqual(wasm);
    expect([...gpu[1]]).toEqual(Array.from({ length: few }, (_, j) => j));
  });

  test(`top-k: ${software ? 'one dispatch' : 'two dispatches'}, within its scratch; fewer than the protected are refused`, () => {
    setSoftware(software);
    const { gpu } = backends;
    const bench = new Bench(gpu);
    const [n, rows] = [3000, 8];
    const [scores, order] = [bench.put(new Float32Array(rows * n)), bench.room(rows * n * 4)];
    gpu.buffers.trim();
    const [before, used] = [gpu.recorder.counts.dispatches, gpu.buffers.usedBytes];
    gpu.buffers.peakBytes = used;
    gpu.topK(order, scores, rows, n, n, { first: 0, last: 0 });
    expect(gpu.recorder.counts.dispatches - before).toBe(software ? 1 : 2);
    expect(gpu.buffers.peakBytes - used).toBeLessThanOrEqual(scoringScratchBytes(n, 1, { queryHeads: rows, kvHeads: 2, headDim: 4 }));
    expect(() => gpu.topK(order, scores, rows, n, 3, { first: 2, last: 2 })).toThrow('topK: 3 of 3000 tokens, 4 protected');
    bench.close();
  });
}
