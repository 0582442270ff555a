import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

const NONE = 0xffffffff;

function mergeValues(
  v: Float32Array,
  target: Uint32Array,
  similarity: Float32Array,
  threshold: Float32Array,
  n: number,
  H: number,
  d: number,
): Float32Array {
  const norms = new Float32Array(H * n);
  for (let h = 0; h < H; h++)
    for (let t = 0; t < n; t++) norms[h * n + t] = Math.sqrt(v.subarray((t * H + h) * d, (t * H + h + 1) * d).reduce((sum, x) => sum + x * x, 0));
  const scratchBytes = kernels.exports.mergeValuesScratchBytes(n);
  const views = [v, target, similarity, norms, threshold].map((data) => kernels.put(data));
  const scratch = kernels.alloc(scratchBytes + 64);
  kernels.u8(scratch, scratchBytes + 64).fill(0xa5);
  kernels.exports.mergeValues(...views, n, H, d, scratch);
  expect(kernels.u8(scratch + scratchBytes, 64).every((x) => x === 0xa5)).toBe(true);
  return kernels.f32(views[0], v.length).slice();
}

test('merge-values: 2e-6 of the largest |v| from float64 over 150 random shapes; rows that nobody goes to keep every bit', () => {
  const random = new Random(83);
  for (let i = 0; i < 150; i++) {
    kernels.reset();
    const [H, d, n] = [random.int(1, 3), random.pick([2, 5, 16, 18, 64, 80]), random.pick([1, 2, 63, 65, 150])];
    const v = random.normals(n * H * d, random.pick([1e-3, 1, 100]));
    if (random.next() < 0.3) v.fill(0, 0, d);
    const threshold = Float32Array.from({ length: H }, () => random.pick([-1, 0, 0.3]));
    const [target, similarity] = [new Uint32Array(H * n).fill(NONE), new Float32Array(H * n).fill(-2)];
    for (let h = 0; h < H; h++) {
      const kept = Array.from({ length: n }, (_, t) => t).filter(() => random.next() < 0.4);
      for (let e = 0; e < n; e++) {
        if (kept.length === 0 || kept.includes(e)) continue;
        target[h * n + e] = random.pick(kept);
        similarity[h * n + e] = random.next() * 2 - 1;
      }
    }
    const out = mergeValues(v.slice(), target, similarity, threshold, n, H, d);
    const most = v.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
    for (let h = 0; h < H; h++) {
      const row = (t: number): Float32Array => v.subarray((t * H + h) * d, (t * H + h + 1) * d);
      const norm = (t: number): number => Math.sqrt(row(t).reduce((sum, x) => sum + x * x, 0));
      for (let r = 0; r < n; r++) {
        const sum = Float64Array.from(row(r));
        let total = 0;
        for (let e = 0; e < n; e++) {
          const s = similarity[h * n + e];
          if (target[h * n + e] !== r || s < threshold[h]) continue;
          const w = (Math.max(s, 0) * norm(e)) / (norm(e) + norm(r) + 1e-6);
          for (let c = 0; c < d; c++) sum[c] += w * row(e)[c];
          total += w;
        }
        for (let c = 0; c < d; c++) {
          const got = out[(r * H + h) * d + c];
          const want = sum[c] / (1 + total);
          if (!(Math.abs(got - want) <= (total === 0 ? 0 : 2e-6 * most))) throw new Error(`n ${n} d ${d} [${h},${r},${c}]: ${got}, not ${want}`);
        }
      }
    }
  }
});

test('merge-values: toy numbers: an equally long value of the same direction comes in with half its weight', () => {
  const v = Float32Array.of(1, 0, 0, 1); // rows 0 and 1; row 1 goes to row 0 with cosine 1: w = 1 / 2
  const out = mergeValues(v, Uint32Array.of(NONE, 0), Float32Array.of(-2, 1), Float32Array.of(0), 2, 1, 2);
  for (const [i, want] of [2 / 3, 1 / 3, 0, 1].entries()) expect(out[i]).toBeCloseTo(want, 5);
});
