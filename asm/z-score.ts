// z-score: how many standard deviations each value is above the mean, of its row or of all rows.
//   x = (x - mean) / max(std, 1e-6), std divided by the number of values - 1; one value alone becomes 0
// in    x [rows, stride] f32, `cols` columns of each row from column `first` on; replaced in place, other columns untouched
// Sums are f64, columns ascending, then rows.

// @ts-ignore: decorator
@inline const LEAST_STD: f64 = 1e-6;

export function zScore(x: usize, rows: i32, stride: i32, first: i32, cols: i32, whole: i32): void {
  if (whole !== 0) return standardise(x, rows, stride, first, cols);
  for (let r = 0; r < rows; r++) standardise(x + ((<usize>r * stride) << 2), 1, stride, first, cols);
}

function standardise(x: usize, rows: i32, stride: i32, first: i32, cols: i32): void {
  let sum: f64 = 0;
  for (let r = 0; r < rows; r++)
    for (let j = first; j < first + cols; j++) sum += <f64>load<f32>(x + ((<usize>r * stride + j) << 2));
  const count = <f64>rows * cols;
  const mean = sum / count;
  let squares: f64 = 0;
  for (let r = 0; r < rows; r++)
    for (let j = first; j < first + cols; j++) {
      const off = <f64>load<f32>(x + ((<usize>r * stride + j) << 2)) - mean;
      squares += off * off;
    }
  const std = count > 1 ? sqrt<f64>(squares / (count - 1)) : 0;
  const inverse = 1 / max<f64>(std, LEAST_STD);
  for (let r = 0; r < rows; r++)
    for (let j = first; j < first + cols; j++) {
      const at = x + ((<usize>r * stride + j) << 2);
      store<f32>(at, <f32>((<f64>load<f32>(at) - mean) * inverse));
    }
}
