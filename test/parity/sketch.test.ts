import { beforeEach, expect, test } from 'vitest';
import { dot, guarded, row } from '../support/guarded.ts';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

test('sketch: 2e-6 of the sum of sizes (f32 sums) of float64 over 40 random shapes', () => {
  const random = new Random(75);
  for (let i = 0; i < 40; i++) {
    kernels.reset();
    const [n, heads, d, width] = [random.pick([1, 2, 3, 63, 65, 300]), random.int(1, 3), random.pick([2, 4, 18, 32, 80]), random.pick([4, 8, 48])];
    const [x, centres, phi] = [random.normals(n * heads * d), random.normals(heads * d, 10), random.normals(heads * d * width)];
    const [out, scratch] = [guarded(kernels, n * heads * width * 4), guarded(kernels, kernels.exports.sketchScratchBytes(d))];
    kernels.exports.sketch(out.address, kernels.put(x), kernels.put(centres), kernels.put(phi), n, heads, d, width, scratch.address);
    for (const block of [out, scratch]) block.check();
    const got = kernels.f32(out.address, n * heads * width);
    for (let t = 0; t < n; t++) {
      for (let h = 0; h < heads; h++) {
        const value = row(x, (t * heads + h) * d, d, centres.subarray(h * d, (h + 1) * d));
        for (let j = 0; j < width; j++) {
          const column = value.map((_, c) => phi[(h * d + c) * width + j]);
          const room = 2e-6 * dot(value.map(Math.abs), column.map(Math.abs));
          const y = got[(t * heads + h) * width + j];
          if (!(Math.abs(y - dot(value, column)) <= room)) throw new Error(`n ${n} heads ${heads} d ${d} by ${width} [${t},${h},${j}]: ${y}`);
        }
      }
    }
  }
});

test('sketch: toy numbers; each head by its own matrix', () => {
  const out = kernels.alloc(2 * 4 * 4);
  const scratch = kernels.alloc(kernels.exports.sketchScratchBytes(2));
  const [x, centres] = [kernels.put(Float32Array.of(2, 3, 5, 7)), kernels.put(Float32Array.of(1, 1, 0, 0))];
  const phi = kernels.put(Float32Array.of(1, 0, 1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 0, 1, 0, -1));
  kernels.exports.sketch(out, x, centres, phi, 1, 2, 2, 4, scratch);
  expect([...kernels.f32(out, 8)]).toEqual([1, 2, 3, 0, 5, 7, 0, -2]);
});
