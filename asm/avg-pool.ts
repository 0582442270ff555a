// avg-pool: average over neighbouring columns, stride 1, zero padding, divided by the kernel size at the edges too.
//   out[r,j] = sum of x[r,t], |t - j| <= kernelSize / 2, 0 <= t < cols, / kernelSize;  kernelSize odd
// in    x [rows, stride] f32, first `cols` columns of each row      out  the same shape, other columns untouched; not x itself
// Sums run over t ascending.

export function avgPool(out: usize, x: usize, rows: i32, cols: i32, stride: i32, kernelSize: i32): void {
  const half = kernelSize >> 1;
  for (let r = 0; r < rows; r++) {
    const from = x + ((<usize>r * stride) << 2);
    const to = out + ((<usize>r * stride) << 2);
    let j = 0;
    for (; j < min(half, cols); j++) edge(to, from, j, cols, half, kernelSize);
    for (; j + 4 + half <= cols; j += 4) {
      let sum = f32x4.splat(0);
      for (let t = j - half; t <= j + half; t++) sum = f32x4.add(sum, v128.load(from + ((<usize>t) << 2)));
      v128.store(to + ((<usize>j) << 2), f32x4.div(sum, f32x4.splat(<f32>kernelSize)));
    }
    for (; j < cols; j++) edge(to, from, j, cols, half, kernelSize);
  }
}

function edge(to: usize, from: usize, j: i32, cols: i32, half: i32, kernelSize: i32): void {
  let sum: f32 = 0;
  for (let t = max(j - half, 0); t <= min(j + half, cols - 1); t++) sum += load<f32>(from + ((<usize>t) << 2));
  store<f32>(to + ((<usize>j) << 2), sum / <f32>kernelSize);
}
