import { beforeEach, expect, test } from 'vitest';
import { ropeTable } from '../../worker/backend/rope-table.ts';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

function invFreqOf(d: number): Float32Array {
  return Float32Array.from({ length: d / 2 }, (_, c) => 10000 ** ((-2 * c) / d));
}

function turnKeys(k: Float32Array, order: Uint32Array, stride: number, count: number, n: number, H: number, d: number): Float32Array {
  const [kAt, tableAt, orderAt] = [kernels.put(k), kernels.put(ropeTable(invFreqOf(d), 0, n)), kernels.put(order)];
  const scratch = kernels.alloc(n + 64);
  kernels.u8(scratch, n + 64).fill(0xa5);
  kernels.exports.turnKeys(kAt, tableAt, orderAt, stride, count, n, H, d, scratch);
  expect(kernels.u8(scratch + n, 64).every((x) => x === 0xa5)).toBe(true);
  return kernels.f32(kAt, k.length).slice();
}

/** The first `stride` of a random order of each head. */
function randomOrders(random: Random, n: number, H: number, stride: number): Uint32Array {
  const all = new Uint32Array(H * stride);
  for (let h = 0; h < H; h++) {
    const rows = random.shuffled(Array.from({ length: n }, (_, i) => i));
    all.set(rows.slice(0, stride), h * stride);
  }
  return all;
}

test('turn-keys: keys of kept rows are those of the positions 0, 1, 2, .. as if the others had never been there; the others stay', () => {
  const random = new Random(81);
  for (let i = 0; i < 120; i++) {
    kernels.reset();
    const [H, d, n] = [random.int(1, 4), random.pick([2, 6, 20, 32, 64, 80, 128]), random.pick([1, 2, 3, 63, 65, 200])];
    const count = random.int(1, n);
    const stride = random.int(count, n);
    const [plain, order] = [random.normals(n * H * d), randomOrders(random, n, H, stride)];
    // A key at position p is the plain one turned by p, in f64.
    const angle = (c: number, p: number): number => Math.fround(invFreqOf(d)[c] * p);
    const turned = (row: number, p: number): Float64Array => {
      const x = new Float64Array(d);
      for (let c = 0; c < d / 2; c++) {
        const [a, b, t] = [plain[row * d + c], plain[row * d + d / 2 + c], angle(c, p)];
        x[c] = a * Math.cos(t) - b * Math.sin(t);
        x[d / 2 + c] = b * Math.cos(t) + a * Math.sin(t);
      }
      return x;
    };
    const k = new Float32Array(n * H * d);
    for (let row = 0; row < n * H; row++) k.set(turned(row, Math.floor(row / H)), row * d);
    const out = turnKeys(k.slice(), order, stride, count, n, H, d);
    for (let h = 0; h < H; h++) {
      const kept = [...order.subarray(h * stride, h * stride + count)].sort((a, b) => a - b);
      for (let p = 0; p < n; p++) {
        const row = (p * H + h) * d;
        const j = kept.indexOf(p);
        const want = j < 0 ? k.subarray(row, row + d) : turned(p * H + h, j);
        // Angles are rounded to f32: at p = 200 that is 1.5e-5 a turn and back, of numbers up to 5.
        const room = j < 0 ? 0 : 3e-4;
        for (let c = 0; c < d; c++)
          if (!(Math.abs(out[row + c] - want[c]) <= room)) throw new Error(`n ${n} d ${d} [${h},${p},${c}]: ${out[row + c]}, not ${want[c]}`);
      }
    }
  }
});

test('turn-keys: toy numbers: the row at 2 that becomes the first is turned back by two positions', () => {
  const k = Float32Array.of(1, 0, 0, 1, 3, 4); // [3, 1, 2], one pair of channels, a turn of 1 a position
  const out = turnKeys(k, Uint32Array.of(2), 1, 1, 3, 1, 2);
  const want = [1, 0, 0, 1, 3 * Math.cos(2) + 4 * Math.sin(2), 4 * Math.cos(2) - 3 * Math.sin(2)];
  for (const [i, value] of want.entries()) expect(out[i]).toBeCloseTo(value, 5);
});
