// score-window: attention that each cached key receives from the last W queries.
//   out[a,j] = mean over i of softmax_j(q[i,a].k[j,h(a)] * scale), h(a) = a / (Hq / H)
// Query i is at position n-W+i; it sees the keys up to there, with a sliding window only the last slidingWindow of them. What no
// query sees is 0. All n columns are written; nothing is renormalised.
//
// in    q [W, Hq, d] f32    k [n, H, d] f32    W <= n
// out   out [Hq, n] f32
// scratch scoreWindowScratchBytes(...), 16-byte aligned: softmax-rows
import { addColumns, firstSeen, groupStrideOf, ROWS, weighRows, weightsBytes } from './softmax-rows';

export function scoreWindowScratchBytes(window: i32, n: i32, queryHeads: i32, kvHeads: i32, headDim: i32): usize {
  return weightsBytes(n);
}

export function scoreWindow(
  out: usize, q: usize, k: usize, window: i32, n: i32, queryHeads: i32, kvHeads: i32, headDim: i32, scale: f32, slidingWindow: i32, scratch: usize,
): void {
  const queryStride = (<usize>queryHeads * headDim) << 2;
  const keyStride = (<usize>kvHeads * headDim) << 2;
  memory.fill(out, 0, (<usize>queryHeads * n) << 2);
  for (let a = 0; a < queryHeads; a++) {
    const head = k + ((<usize>(a / (queryHeads / kvHeads)) * headDim) << 2);
    const column = out + ((<usize>a * n) << 2);
    for (let row = 0; row < window; row += ROWS) {
      const rows = min(ROWS, window - row);
      const first = n - window + row; // position of the first row
      const from = firstSeen(first, slidingWindow);
      const to = first + rows; // keys that some row sees: from .. to-1
      const queries = q + <usize>row * queryStride + ((<usize>a * headDim) << 2);
      weighRows(scratch, queries, head, rows, first, from, to, queryStride, keyStride, n, headDim, scale, slidingWindow, 0, 1 / <f32>window);
      addColumns(column, scratch, (rows + 3) >> 2, groupStrideOf(n), from, to);
    }
  }
}
