import { expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();

function run(gate: Float32Array, up: Float32Array): Float32Array {
  kernels.reset();
  const [pg, pu, out] = [kernels.put(gate), kernels.put(up), kernels.alloc((gate.length + 4) * 4)];
  kernels.f32(out, gate.length + 4).fill(777);
  kernels.exports.swiglu(out, pg, pu, gate.length);
  const result = kernels.f32(out, gate.length).slice();
  expect([...kernels.f32(out + gate.length * 4, 4)]).toEqual([777, 777, 777, 777]);
  kernels.exports.swiglu(pg, pg, pu, gate.length);
  expect(kernels.f32(pg, gate.length), 'in place').toEqual(result);
  return result;
}

test('swiglu equals float64 silu(gate) * up for every tail length and over the whole range of exp', () => {
  const random = new Random(1);
  const gates = [...random.normals(1000), ...random.normals(1000, 20), ...Array.from({ length: 4001 }, (_, i) => (i - 2000) / 20)];
  for (const count of [1, 2, 3, 4, 5, 7, 8, 63, gates.length]) {
    const gate = Float32Array.from(gates.slice(gates.length - count));
    const up = random.normals(count, 3);
    const out = run(gate, up);
    for (let i = 0; i < count; i++) {
      const wanted = (gate[i] / (1 + Math.exp(-gate[i]))) * up[i];
      // exp within 1 ulp (1.2e-7), then a sum, a quotient and a product at half an ulp each. Below e^-87.3 exp stops: gate / 2e38.
      expect(Math.abs(out[i] - wanted), `gate ${gate[i]}`).toBeLessThanOrEqual(3.1e-7 * Math.abs(wanted) + 1e-35);
    }
  }
});

test('swiglu of Infinity, NaN, zeros and large gates', () => {
  const out = run(Float32Array.from([Infinity, NaN, 0, -0, 1e38, -1000, 30, -30]), new Float32Array(8).fill(1));
  expect(out[0]).toBe(Infinity);
  expect(out[1]).toBeNaN();
  expect(out[2] + out[3]).toBe(0);
  expect(out[4]).toBe(Math.fround(1e38));
  expect(Math.abs(out[5])).toBeLessThan(1e-34); // exp stops at 2.4e38
  expect(out[6]).toBeCloseTo(30, 5);
  expect(out[7]).toBeCloseTo(-30 * Math.exp(-30), 18);
});
