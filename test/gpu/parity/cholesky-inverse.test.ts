import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

/** [rows, d, d]: sums of squares over so many tokens. */
function grams(random: Random, rows: number, d: number, tokens: number): Float32Array {
  const matrices = new Float32Array(rows * d * d);
  for (let r = 0; r < rows; r++) {
    const x = random.normals(tokens * d);
    for (let i = 0; i < d; i++) {
      for (let j = 0; j <= i; j++) {
        let sum = 0;
        for (let t = 0; t < tokens; t++) sum += x[t * d + i] * x[t * d + j];
        matrices[(r * d + i) * d + j] = sum;
        matrices[(r * d + j) * d + i] = sum;
      }
    }
  }
  return matrices;
}

const adapters = [
  ['software adapters', true],
  ['all others', false],
] as const;

test.each(adapters)(
  'cholesky-inverse for %s: 1e-5 of the largest element of float64 and of WASM (order of sums), one dispatch',
  async (_, software) => {
    Object.defineProperty(backends.gpu, 'software', { value: software, configurable: true });
    const before = backends.gpu.recorder.counts.dispatches;
    const random = new Random(74);
    const shapes = [
      [1, 4],
      [3, 16],
      [2, 48],
      [1, 80],
      [70, 12],
    ];
    for (const [rows, d] of shapes) {
      const matrices = grams(random, rows, d, 4 * d);
      const results = await onEach(backends, async (bench) => {
        const [out, tries] = [bench.room(rows * d * d * 4), bench.room(rows * 4)];
        bench.backend.choleskyInverse(out, tries, bench.put(matrices), rows, d, 0.01, 5);
        return { out: await bench.f32(out, rows * d * d), tries: [...(await bench.u32(tries, rows))] };
      });
      const largest = results.reference.out.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      for (const want of [results.reference, results.wasm]) {
        expectClose(`cholesky-inverse ${rows} x ${d}`, results.gpu.out, want.out, () => 1e-5 * largest);
        expect(results.gpu.tries).toEqual(want.tries);
      }
      for (let at = 0; at < results.gpu.out.length; at++) if (at % d > Math.floor(at / d) % d) expect(results.gpu.out[at]).toBe(0);
    }
    expect(backends.gpu.recorder.counts.dispatches - before).toBe(shapes.length);
    expect(backends.gpu.buffers.live).toEqual([]);
  },
);

test.each(adapters)('cholesky-inverse for %s: ten times the ridge after each failure, zeros after the last one', async (_, software) => {
  Object.defineProperty(backends.gpu, 'software', { value: software, configurable: true });
  const d = 4;
  const matrix = (corner: number) => Array.from({ length: d * d }, (_, i) => (i === 0 ? corner : Number(i % (d + 1) === 0)));
  const matrices = Float32Array.from([-0.5, -200, 1].flatMap(matrix));
  const results = await onEach(backends, async (bench) => {
    const [out, tries] = [bench.room(3 * d * d * 4), bench.room(12)];
    bench.backend.choleskyInverse(out, tries, bench.put(matrices), 3, d, 0.01, 5);
    return { out: await bench.f32(out, 3 * d * d), tries: [...(await bench.u32(tries, 3))] };
  });
  for (const { out, tries } of Object.values(results)) {
    expect(tries).toEqual([3, 0, 1]);
    expect([...out.subarray(d * d, 2 * d * d)]).toEqual(Array(d * d).fill(0));
  }
  expectClose('cholesky-inverse after failures', results.gpu.out, results.reference.out, () => 1e-6);
});
