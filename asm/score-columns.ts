// score-columns: what each key receives from m queries in all: columns of softmax attention, m x n never stored.
//   out[a,j] = sum or max over i of softmax_j(q[i,a].k[j,h(a)] * scale) * rowScale[i], j < columns, h(a) = a / (Hq / H);   added to, or the larger of it and, what is there
// Query i sees keys 0 .. start + i, n - 1 at most (start >= n - 1: all of them); with a sliding window only the last slidingWindow of those up to its
// position. What no query sees is 0.
//
// in    q [m, Hq, d] f32    k [n, H, d] f32    rowScale [m] f32, not negative; 0 = all 1
// out   out [Hq, stride] f32, the first `columns` of each row
// scratch scoreColumnsScratchBytes(n), 16-byte aligned: softmax-rows
// Sums are f32, 16 rows at a time.
import { addColumns, firstSeen, groupStrideOf, ROWS, weighRows, weightsBytes } from './softmax-rows';

export function scoreColumnsScratchBytes(n: i32): usize {
  return weightsBytes(n);
}

export function scoreColumns(
  out: usize, q: usize, k: usize, rowScale: usize, m: i32, n: i32, start: i32, columns: i32, stride: i32, isMax: i32, accumulate: i32,
  queryHeads: i32, kvHeads: i32, headDim: i32, scale: f32, slidingWindow: i32, scratch: usize,
): void {
  const queryStride = (<usize>queryHeads * headDim) << 2;
  const keyStride = (<usize>kvHeads * headDim) << 2;
  const groupStride = groupStrideOf(n);
  for (let a = 0; a < queryHeads; a++) {
    const head = k + ((<usize>(a / (queryHeads / kvHeads)) * headDim) << 2);
    const column = out + ((<usize>a * stride) << 2);
    if (accumulate === 0) memory.fill(column, 0, (<usize>columns) << 2);
    for (let row = 0; row < m; row += ROWS) {
      const rows = min(ROWS, m - row);
      const groups = (rows + 3) >> 2;
      const first = start + row; // position of the first row
      const from = firstSeen(first, slidingWindow);
      const to = min(n, first + rows); // keys that some row sees: from .. to-1
      const queries = q + <usize>row * queryStride + ((<usize>a * headDim) << 2);
      const scales = rowScale === 0 ? <usize>0 : rowScale + ((<usize>row) << 2);
      weighRows(scratch, queries, head, rows, first, from, to, queryStride, keyStride, n, headDim, scale, slidingWindow, scales, 1);
      if (isMax === 0) addColumns(column, scratch, groups, groupStride, from, min(to, columns));
      else maxColumns(column, scratch, groups, groupStride, from, min(to, columns));
    }
  }
}

/** column[j] = the largest of it and the weights of all rows of all groups, j in from..to-1. */
function maxColumns(column: usize, weights: usize, groups: i32, groupStride: usize, from: i32, to: i32): void {
  for (let j = from; j < to; j++) {
    let at = weights + ((<usize>j) << 4);
    let most = v128.load(at);
    for (let g = 1; g < groups; g++) {
      at += groupStride;
      most = f32x4.max(most, v128.load(at));
    }
    const to1 = column + ((<usize>j) << 2);
    const pairs = f32x4.max(most, v128.shuffle<f32>(most, most, 2, 3, 0, 1));
    store<f32>(to1, max(load<f32>(to1), max(f32x4.extract_lane(pairs, 0), f32x4.extract_lane(pairs, 1))));
  }
}
