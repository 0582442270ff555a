// window-moments: how the attention that each key receives from the last W queries is spread over those queries.
//   A_ij = softmax_j(q[i,a].k[j,h(a)] * scale) as in score-window;   of every column j, over the W rows i:
//   mean = sum A / W,   variance = sum (A - mean)^2 / (W - 1), 0 where W = 1,   entropy = -sum A ln(A + 1e-10)
// Query i is at position n-W+i; it sees the keys up to there, with a sliding window only the last slidingWindow of them: A of what it does not see is 0.
//
// in    q [W, Hq, d] f32    k [n, H, d] f32    W <= n
// out   out [3, Hq, n] f32: means, variances, entropies
// scratch windowMomentsScratchBytes(n), 16-byte aligned: softmax-rows
// 16 rows at a time; their mean and squares join those of the rows before (Chan), so that nothing cancels.
import { ln4 } from './ln';
import { firstSeen, groupStrideOf, ROWS, weighRows, weightsBytes } from './softmax-rows';

// @ts-ignore: decorator
@inline const EPSILON: f32 = 1e-10;

export function windowMomentsScratchBytes(n: i32): usize {
  return weightsBytes(n);
}

export function windowMoments(
  out: usize, q: usize, k: usize, window: i32, n: i32, queryHeads: i32, kvHeads: i32, headDim: i32, scale: f32, slidingWindow: i32, scratch: usize,
): void {
  const queryStride = (<usize>queryHeads * headDim) << 2;
  const keyStride = (<usize>kvHeads * headDim) << 2;
  const plane = (<usize>queryHeads * n) << 2;
  memory.fill(out, 0, 3 * plane);
  for (let a = 0; a < queryHeads; a++) {
    const head = k + ((<usize>(a / (queryHeads / kvHeads)) * headDim) << 2);
    const means = out + ((<usize>a * n) << 2);
    for (let row = 0; row < window; row += ROWS) {
      const rows = min(ROWS, window - row);
      const first = n - window + row; // position of the first row
      const from = firstSeen(first, slidingWindow);
      const to = first + rows; // keys that some row sees: from .. to-1; those from `to` on were never seen before
      const queries = q + <usize>row * queryStride + ((<usize>a * headDim) << 2);
      weighRows(scratch, queries, head, rows, first, from, to, queryStride, keyStride, n, headDim, scale, slidingWindow, 0, 1);
      for (let j = 0; j < from; j++) join(means + ((<usize>j) << 2), plane, row, rows, 0, 0);
      addMoments(means, plane, scratch, groupStrideOf(n), row, rows, from, to);
    }
    const factor: f32 = window > 1 ? 1 / <f32>(window - 1) : 0;
    for (let j = 0; j < n; j++) {
      const at = means + ((<usize>j) << 2);
      store<f32>(at + plane, load<f32>(at + plane) * factor);
    }
  }
}

/** Mean, squares and entropy of columns from..to-1 with `rows` more rows, after `before` of them. */
function addMoments(means: usize, plane: usize, weights: usize, groupStride: usize, before: i32, rows: i32, from: i32, to: i32): void {
  const groups = (rows + 3) >> 2;
  const lanes = i32x4(0, 1, 2, 3);
  for (let j = from; j < to; j++) {
    const column = weights + ((<usize>j) << 4);
    let sums = f32x4.splat(0);
    let logs = f32x4.splat(0);
    for (let g = 0; g < groups; g++) {
      const a = v128.load(column + <usize>g * groupStride); // lanes that are no rows weigh 0
      sums = f32x4.add(sums, a);
      logs = f32x4.sub(logs, f32x4.mul(a, ln4(f32x4.add(a, f32x4.splat(EPSILON)))));
    }
    const mean = addLanes(sums) / <f32>rows;
    let squares = f32x4.splat(0);
    for (let g = 0; g < groups; g++) {
      const off = f32x4.sub(v128.load(column + <usize>g * groupStride), f32x4.splat(mean));
      const isRow = i32x4.lt_s(lanes, i32x4.splat(rows - (g << 2)));
      squares = f32x4.add(squares, v128.and(f32x4.mul(off, off), isRow));
    }
    const at = means + ((<usize>j) << 2);
    join(at, plane, before, rows, mean, addLanes(squares));
    store<f32>(at + 2 * plane, load<f32>(at + 2 * plane) + addLanes(logs));
  }
}

/** Mean and squares of `before` rows and of `rows` others become those of all. */
// @ts-ignore: decorator
@inline
function join(at: usize, plane: usize, before: i32, rows: i32, mean: f32, squares: f32): void {
  const all = <f32>(before + rows);
  const apart = mean - load<f32>(at);
  store<f32>(at, load<f32>(at) + apart * (<f32>rows / all));
  store<f32>(at + plane, load<f32>(at + plane) + squares + apart * apart * (<f32>before * <f32>rows / all));
}

// @ts-ignore: decorator
@inline function addLanes(x: v128): f32 {
  return f32x4.extract_lane(x, 0) + f32x4.extract_lane(x, 2) + (f32x4.extract_lane(x, 1) + f32x4.extract_lane(x, 3));
}
