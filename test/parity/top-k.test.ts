import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';
import { randomScores } from '../support/random-scores.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

function topK(scores: Float32Array, count: number, first: number, last: number): number[] {
  const n = scores.length;
  const scratchBytes = kernels.exports.topKScratchBytes(n);
  const [scoresAt, orderAt, scratch] = [kernels.put(scores), kernels.put(new Uint32Array(count + 4).fill(999999)), kernels.alloc(scratchBytes + 64)];
  kernels.u8(scratch, scratchBytes + 64).fill(0xa5);
  kernels.exports.topK(orderAt, scoresAt, n, count, first, last, scratch);
  expect([...kernels.u32(orderAt + count * 4, 4)]).toEqual([999999, 999999, 999999, 999999]);
  expect(kernels.u8(scratch + scratchBytes, 64).every((x) => x === 0xa5)).toBe(true);
  return Array.from(kernels.u32(orderAt, count));
}

function reference(scores: Float32Array, count: number, first: number, last: number): number[] {
  const n = scores.length;
  const all = Array.from({ length: n }, (_, j) => j);
  const [kept, others] = [all.filter((j) => j < first || j >= n - last), all.filter((j) => j >= first && j < n - last)];
  const value = (j: number) => (Number.isNaN(scores[j]) ? Number.NEGATIVE_INFINITY : scores[j]);
  const nan = (j: number) => Number(Number.isNaN(scores[j])); // after -infinity
  others.sort((a, b) => nan(a) - nan(b) || (value(a) === value(b) ? 0 : value(b) - value(a)) || a - b);
  return [...kept, ...others].slice(0, count);
}

test('top-k: equals a stable sort over 1500 random cases with ties, NaN, infinities and zeros of both signs', () => {
  const random = new Random(61);
  for (let i = 0; i < 1500; i++) {
    kernels.reset();
    const n = random.pick([1, 2, 3, 7, 64, 65, random.int(1, 500), random.int(1, 5000)]);
    const first = random.pick([0, 0, 4, random.int(0, n)]);
    const last = random.pick([0, 1, 64, random.int(0, n), n - first - 1]); // the last: all but one protected
    const keep = { first: Math.min(first, n), last: Math.max(0, Math.min(last, n - Math.min(first, n))) };
    const count = random.pick([n, keep.first + keep.last, random.int(keep.first + keep.last, n)]);
    const scores = randomScores(random, n);
    expect(topK(scores, count, keep.first, keep.last)).toEqual(reference(scores, count, keep.first, keep.last));
  }
});

test('top-k: orders nest: a smaller count is a prefix of a larger one', () => {
  const random = new Random(62);
  for (let i = 0; i < 200; i++) {
    kernels.reset();
    const n = random.int(10, 600);
    const scores = randomScores(random, n);
    const all = topK(scores, n, 2, 5);
    const count = random.int(7, n);
    expect(topK(scores, count, 2, 5)).toEqual(all.slice(0, count));
    expect([...all].sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, j) => j));
  }
});

test('top-k: toy numbers', () => {
  expect(topK(Float32Array.of(9, 1, 3, 3, Number.NaN, 2, 0), 7, 1, 1)).toEqual([0, 6, 2, 3, 5, 1, 4]);
  expect(topK(Float32Array.of(-0, 0, -0), 3, 0, 0)).toEqual([0, 1, 2]);
});
