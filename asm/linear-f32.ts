// linear-f32: out = x W^T (+ bias) (+ out), all f32, 4-byte aligned
// in   x [n, cols]; w [rows, cols]; bias [rows] or 0; any sizes
// out  out [n, rows]
// scratch  none: linearF32Scratch is 0
// Within 1e-5 of the f64 sum of |x w|: four-rows-f32.ts.
import { multiplyFourRowsF32 } from './four-rows-f32';

export function linearF32Scratch(rows: i32, cols: i32, n: i32): usize {
  return 0;
}

export function linearF32(out: usize, x: usize, w: usize, bias: usize, rows: i32, cols: i32, n: i32, accumulate: bool, scratch: usize): void {
  const rowBytes = <usize>cols * 4;
  for (let r = 0; r < rows; r += 4) {
    const at = <usize>r * 4;
    multiplyFourRowsF32(out + at, <usize>rows * 4, x, w + <usize>r * rowBytes, bias ? bias + at : 0, cols, n, min(4, rows - r), accumulate);
  }
}
