// output-norm: how large each value is once attention's output has gone through W_o, one query head at a time.
//   out[a,t] = |y|_p,  y[r] = v[t,h(a)] . w[r, a's columns],  r = 0 .. rows-1;  p = 1 or 2
//   accumulate: the norm of y and of what out[a,t] was taken of before, so that the rows of W_o may come in slabs
// in    v [n, H, d] f32      w [rows, Hq * d] f32, rows of W_o
// out   [Hq, n] f32
// Four tokens lie in the lanes of a vector; products and sums are f32, rows ascending.
import { madd } from './exp';
import { load4, store4 } from './four-rows-f32';
import { sumLanes } from './sum-lanes';

export function outputNorm(
  out: usize,
  v: usize,
  w: usize,
  n: i32,
  rows: i32,
  queryHeads: i32,
  kvHeads: i32,
  headDim: i32,
  p: i32,
  accumulate: bool,
): void {
  const group = queryHeads / kvHeads;
  const valueBytes = (<usize>kvHeads * headDim) << 2;
  const rowBytes = (<usize>queryHeads * headDim) << 2;
  for (let a = 0; a < queryHeads; a++) {
    const values = v + ((<usize>(a / group) * headDim) << 2);
    const block = w + ((<usize>a * headDim) << 2);
    for (let t = 0; t < n; t += 4) {
      const count = min(4, n - t);
      const at = out + ((<usize>a * n + t) << 2);
      const before = accumulate ? load4(at, count) : f32x4.splat(0);
      const sums = addRows(p == 2 ? f32x4.mul(before, before) : before, values + <usize>t * valueBytes, valueBytes, count, block, rowBytes, rows, headDim, p);
      store4(at, p == 2 ? f32x4.sqrt(sums) : sums, count);
    }
  }
}

/** sums + |y[r]|^p over the rows, two at a time. Where there are only `count` < 4 tokens, the last lanes repeat the last one. */
function addRows(sums: v128, v0: usize, valueBytes: usize, count: i32, w: usize, rowBytes: usize, rows: i32, headDim: i32, p: i32): v128 {
  const v1 = v0 + <usize>min(1, count - 1) * valueBytes;
  const v2 = v0 + <usize>min(2, count - 1) * valueBytes;
  const v3 = v0 + <usize>min(3, count - 1) * valueBytes;
  const vectorEnd = (<usize>(headDim & ~3)) << 2;
  const allEnd = (<usize>headDim) << 2;
  for (let r = 0; r < rows; r += 2, w += rowBytes << 1) {
    const both = r + 1 < rows;
    const w1 = both ? w + rowBytes : w;
    let a0 = f32x4.splat(0), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
    let i: usize = 0;
    for (; i < vectorEnd; i += 16) {
      const a = v128.load(w + i);
      const b = v128.load(w1 + i);
      let x = v128.load(v0 + i);
      a0 = madd(x, a, a0);
      b0 = madd(x, b, b0);
      x = v128.load(v1 + i);
      a1 = madd(x, a, a1);
      b1 = madd(x, b, b1);
      x = v128.load(v2 + i);
      a2 = madd(x, a, a2);
      b2 = madd(x, b, b2);
      x = v128.load(v3 + i);
      a3 = madd(x, a, a3);
      b3 = madd(x, b, b3);
    }
    let first = sumLanes(a0, a1, a2, a3);
    let second = sumLanes(b0, b1, b2, b3);
    for (; i < allEnd; i += 4) {
      const x = f32x4(load<f32>(v0 + i), load<f32>(v1 + i), load<f32>(v2 + i), load<f32>(v3 + i));
      first = madd(x, v128.load32_splat(w + i), first);
      second = madd(x, v128.load32_splat(w1 + i), second);
    }
    sums = f32x4.add(sums, p == 2 ? f32x4.mul(first, first) : f32x4.abs(first));
    if (both) sums = f32x4.add(sums, p == 2 ? f32x4.mul(second, second) : f32x4.abs(second));
  }
  return sums;
}
