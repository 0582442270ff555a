// row-softmax: softmax over the columns of every row, in place; or the same before it is divided: the largest becomes 1.
//   x[r,j] = exp(x[r,j] - max over j of x[r,j]) / total,   total = the sum over j of the exponentials, or 1 where `peak`
// in, out  x: row r at x + r * stride, [cols] f32
// The sum is f64, j ascending.
import { exp1, exp4 } from './exp';

export function rowSoftmax(x: usize, rows: i32, cols: i32, stride: i32, peak: bool): void {
  for (let r = 0; r < rows; r++) {
    const row = x + ((<usize>r * stride) << 2);
    const vectorEnd = row + ((<usize>(cols & ~3)) << 2);
    const end = row + ((<usize>cols) << 2);
    let highest: f32 = -Infinity;
    let at = row;
    if (vectorEnd > row) {
      let four = v128.load(row);
      for (at = row + 16; at < vectorEnd; at += 16) four = f32x4.max(four, v128.load(at)); // NaN stays
      highest = max(
        max(f32x4.extract_lane(four, 0), f32x4.extract_lane(four, 1)),
        max(f32x4.extract_lane(four, 2), f32x4.extract_lane(four, 3)),
      );
    }
    for (; at < end; at += 4) highest = max(highest, load<f32>(at));
    const most = f32x4.splat(highest);
    let total: f64 = 0;
    for (at = row; at < vectorEnd; at += 16) {
      const e = exp4(f32x4.sub(v128.load(at), most));
      v128.store(at, e);
      total += <f64>f32x4.extract_lane(e, 0);
      total += <f64>f32x4.extract_lane(e, 1);
      total += <f64>f32x4.extract_lane(e, 2);
      total += <f64>f32x4.extract_lane(e, 3);
    }
    for (; at < end; at += 4) {
      const e = exp1(load<f32>(at) - highest);
      store<f32>(at, e);
      total += <f64>e;
    }
    if (peak) continue;
    const factor = <f32>(1 / total);
    const factors = f32x4.splat(factor);
    for (at = row; at < vectorEnd; at += 16) v128.store(at, f32x4.mul(v128.load(at), factors));
    for (; at < end; at += 4) store<f32>(at, load<f32>(at) * factor);
  }
}
