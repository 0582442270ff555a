import { beforeEach, expect, test } from 'vitest';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

function segmentRank(x: Float32Array, rows: number, n: number, first: number, width: number, segments: number): Float32Array {
  const [xAt, outAt] = [kernels.put(x), kernels.put(new Float32Array(rows * n + 4).fill(7))];
  kernels.exports.segmentRank(outAt, xAt, rows, n, first, width, segments);
  expect([...kernels.f32(outAt + rows * n * 4, 4)]).toEqual([7, 7, 7, 7]);
  return kernels.f32(outAt, rows * n).slice();
}

test('segment-rank: the places of a sort, over 300 random shapes with ties, NaN and infinities', () => {
  const random = new Random(71);
  for (let i = 0; i < 300; i++) {
    kernels.reset();
    const [rows, first, width, segments] = [random.int(1, 3), random.int(0, 5), random.pick([1, 2, 3, 4, 5, 9, 32, 130]), random.int(0, 4)];
    const n = first + width * segments + random.int(1, 6);
    const x = Float32Array.from({ length: rows * n }, () => random.pick([NaN, Infinity, -Infinity, 0, -0, random.int(0, 5), random.normal()]));
    const out = segmentRank(x, rows, n, first, width, segments);
    const want = x.slice();
    for (let r = 0; r < rows; r++)
      for (let start = first; start < first + segments * width; start += width) {
        const bestFirst = Array.from({ length: width }, (_, j) => r * n + start + j).sort((a, b) => {
          const [nanA, nanB] = [Number.isNaN(x[a]), Number.isNaN(x[b])];
          if (nanA || nanB) return nanA === nanB ? a - b : Number(nanA) - Number(nanB);
          return x[a] === x[b] ? a - b : x[a] < x[b] ? 1 : -1;
        });
        for (const [place, j] of bestFirst.entries()) want[j] = (width - 1 - place) / width;
      }
    expect(out).toEqual(want);
  }
});

test('segment-rank: toy numbers', () => {
  expect([...segmentRank(Float32Array.of(9, 0.5, 3, 3, 1, NaN, 2, 8), 1, 8, 1, 3, 2)]).toEqual([
    9,
    ...[0, 2, 1, 1, 0, 2].map((x) => Math.fround(x / 3)),
    8,
  ]);
});
