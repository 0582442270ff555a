import { beforeEach, expect, test } from 'vitest';
import { dot, row } from '../support/guarded.ts';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

test('cosine-to: 2e-6 of scale (f32 sums) of float64 over 100 random shapes, vectors of zeros among them', () => {
  const random = new Random(77);
  for (let i = 0; i < 100; i++) {
    kernels.reset();
    const [n, heads, group, d] = [random.pick([1, 2, 3, 63, 65, 300]), random.int(1, 3), random.pick([1, 3]), random.pick([2, 4, 18, 32, 80])];
    const [rows, stride, scale] = [heads * group, n + random.int(0, 3), random.pick([1, 5])];
    const [x, anchors] = [random.normals(n * heads * d, random.pick([1e-3, 1, 100])), random.normals(rows * d)];
    x.fill(0, 0, d);
    const out = kernels.put(new Float32Array(rows * stride).fill(7));
    kernels.exports.cosineTo(out, stride, kernels.put(x), kernels.put(anchors), n, rows, heads, d, scale);
    for (let r = 0; r < rows; r++) {
      const g = row(anchors, r * d, d);
      for (let t = 0; t < stride; t++) {
        const got = kernels.f32(out, rows * stride)[r * stride + t];
        if (t >= n) {
          expect(got).toBe(7);
          continue;
        }
        const value = row(x, (t * heads + Math.floor(r / group)) * d, d);
        const length = Math.sqrt(dot(g, g) * dot(value, value));
        const want = length === 0 ? 0 : (scale * dot(g, value)) / length;
        if (!(Math.abs(got - want) <= 2e-6 * scale)) throw new Error(`n ${n} ${heads}x${group} d ${d} [${r},${t}]: ${got}, not ${want}`);
      }
    }
  }
});

test('cosine-to: a vector along its anchor is no more than 1', () => {
  const random = new Random(78);
  const [out, anchor] = [kernels.alloc(4), random.normals(80)];
  kernels.exports.cosineTo(out, 1, kernels.put(anchor.map((x) => 3 * x)), kernels.put(anchor), 1, 1, 1, 80, 1);
  const [cosine] = kernels.f32(out, 1);
  expect(cosine).toBeLessThanOrEqual(1);
  expect(cosine).toBeCloseTo(1, 6);
});
