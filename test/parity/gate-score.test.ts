import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

interface Gate {
  readonly n: number;
  readonly heads: number;
  readonly group: number;
  readonly width: number;
  readonly sinks: number;
}

function gateScore(q: Float32Array, k: Float32Array, base: Float32Array, bias: Float32Array, { n, heads, group, width, sinks }: Gate): Float32Array {
  const [qAt, kAt, baseAt, biasAt] = [q, k, base, bias].map((x) => kernels.put(x));
  const out = kernels.put(new Float32Array(heads * n + 4).fill(7));
  kernels.exports.gateScore(out, qAt, kAt, baseAt, biasAt, n, heads, group, width, sinks);
  expect([...kernels.f32(out + heads * n * 4, 4)]).toEqual([7, 7, 7, 7]);
  return kernels.f32(out, heads * n).slice();
}

test('gate-score: 1e-6 (1 + the largest difference of logits) relative of float64 over 120 random shapes', () => {
  const random = new Random(71);
  for (let i = 0; i < 120; i++) {
    kernels.reset();
    const gate = {
      n: random.pick([1, 2, 63, 65, 300]),
      heads: random.int(1, 4),
      group: random.pick([1, 3]),
      width: random.pick([4, 6, 16, 32]),
      sinks: random.pick([1, 3, 16]),
    };
    const { n, heads, group, width, sinks } = gate;
    const spread = random.pick([0.1, 1, 4]);
    const [q, k] = [random.normals(n * heads * group * width, spread), random.normals(n * heads * width)];
    const [base, bias] = [random.normals(heads * sinks * width), random.normals(heads * group)];
    const out = gateScore(q, k, base, bias, gate);
    const dot = (x: Float32Array, from: number, y: Float32Array, start: number) => {
      let sum = 0;
      for (let c = 0; c < width; c++) sum += x[from + c] * y[start + c];
      return sum / Math.sqrt(width);
    };
    for (let h = 0; h < heads; h++)
      for (let t = 0; t < n; t++) {
        let [want, most] = [0, 0];
        for (let g = 0; g < group; g++) {
          const query = ((t * heads + h) * group + g) * width;
          const z = dot(q, query, k, (t * heads + h) * width) + bias[h * group + g];
          const others = Array.from({ length: sinks }, (_, s) => dot(q, query, base, (h * sinks + s) * width) - z);
          want += 1 / (1 + others.reduce((sum, x) => sum + Math.exp(x), 0)) / group;
          most = Math.max(most, ...others.map(Math.abs));
        }
        if (!(Math.abs(out[h * n + t] - want) <= 1e-6 * (1 + most) * want))
          throw new Error(`${JSON.stringify(gate)} [${h},${t}]: ${out[h * n + t]}, not ${want}`);
      }
  }
});

test('gate-score: toy numbers', () => {
  // e = 4, so products are halved. z = (2 * 3) / 2 + 1 = 4; the bases give 3 and 4: 1 / (1 + 1/e + 1) = .4223. Group 2 sees nothing: z = 0, 1 / (1 + 1 + 1).
  const q = Float32Array.of(2, 0, 0, 0, 0, 0, 0, 0);
  const k = Float32Array.of(3, 0, 0, 0);
  const base = Float32Array.of(3, 0, 0, 0, 4, 0, 0, 0);
  const [score] = gateScore(q, k, base, Float32Array.of(1, 0), { n: 1, heads: 1, group: 2, width: 4, sinks: 2 });
  expect(score).toBeCloseTo((1 / (2 + Math.exp(-1)) + 1 / 3) / 2, 6);
});

test('gate-score: bases that are far above the token give 0, far below give 1, never NaN', () => {
  const [q, zeros] = [Float32Array.of(1000, 0, 0, 0), new Float32Array(4)];
  const shape = { n: 1, heads: 1, group: 1, width: 4, sinks: 1 };
  const none = Float32Array.of(0);
  expect(gateScore(q, zeros, Float32Array.of(1000, 0, 0, 0), none, shape)[0]).toBeLessThan(1e-30);
  expect(gateScore(q, Float32Array.of(1000, 0, 0, 0), zeros, none, shape)[0]).toBe(1);
});
