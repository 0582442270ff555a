import { expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();

function tableOf(positions: number[], d: number): Float32Array {
  const table = new Float32Array(positions.length * d);
  positions.forEach((position, i) => {
    for (let c = 0; c < d / 2; c++) {
      const angle = position * 10000 ** ((-2 * c) / d);
      table[i * d + c] = Math.cos(angle);
      table[i * d + d / 2 + c] = Math.sin(angle);
    }
  });
  return table;
}

function rotated(x: Float32Array, table: Float32Array, n: number, heads: number, d: number): Float32Array {
  kernels.reset();
  const px = kernels.put(x);
  const pt = kernels.put(table);
  kernels.exports.rope(px, pt, n, heads, d);
  return kernels.f32(px, x.length).slice();
}

test('rope equals float64 rotation of each half pair', () => {
  const random = new Random(1);
  for (const d of [4, 12, 16, 20, 32, 64, 80, 96, 128])
    for (const [n, heads] of [
      [1, 1],
      [3, 5],
      [17, 2],
    ]) {
      const x = random.normals(n * heads * d);
      const table = tableOf(
        Array.from({ length: n }, () => random.int(0, 5000)),
        d,
      );
      const out = rotated(x, table, n, heads, d);
      for (let i = 0; i < n; i++)
        for (let h = 0; h < heads; h++)
          for (let c = 0; c < d / 2; c++) {
            const at = (i * heads + h) * d + c;
            const [a, b] = [x[at], x[at + d / 2]];
            const [cos, sin] = [table[i * d + c], table[i * d + d / 2 + c]];
            const room = 2e-7 * Math.hypot(a, b); // two products and their sum, each half an ulp (6e-8)
            expect(Math.abs(out[at] - (a * cos - b * sin))).toBeLessThanOrEqual(room);
            expect(Math.abs(out[at + d / 2] - (b * cos + a * sin))).toBeLessThanOrEqual(room);
          }
    }
});

test('rope by a quarter turn swaps the halves: (a, b) becomes (-b, a)', () => {
  const d = 8;
  const table = Float32Array.from([0, 0, 0, 0, 1, 1, 1, 1]);
  expect([...rotated(Float32Array.from([1, 2, 3, 4, 5, 6, 7, 8]), table, 1, 1, d)]).toEqual([-5, -6, -7, -8, 1, 2, 3, 4]);
});

test('rope at position 0 changes no bit', () => {
  const random = new Random(2);
  const x = random.normals(2 * 3 * 20);
  expect(rotated(x, tableOf([0, 0], 20), 2, 3, 20)).toEqual(x);
});
