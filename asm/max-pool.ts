// max-pool: the largest of neighbouring columns, stride 1; beyond the edges there is nothing.
//   out[r,j] = max of x[r,t], |t - j| <= kernelSize / 2, 0 <= t < cols;  kernelSize odd
// in    x [rows, stride] f32, first `cols` columns of each row      out  the same shape, other columns untouched; not x itself

export function maxPool(out: usize, x: usize, rows: i32, cols: i32, stride: i32, kernelSize: i32): void {
  const half = kernelSize >> 1;
  for (let r = 0; r < rows; r++) {
    const from = x + ((<usize>r * stride) << 2);
    const to = out + ((<usize>r * stride) << 2);
    let j = 0;
    for (; j < min(half, cols); j++) edge(to, from, j, cols, half);
    for (; j + 4 + half <= cols; j += 4) {
      let most = v128.load(from + ((<usize>(j - half)) << 2));
      for (let t = j - half + 1; t <= j + half; t++) most = f32x4.max(most, v128.load(from + ((<usize>t) << 2)));
      v128.store(to + ((<usize>j) << 2), most);
    }
    for (; j < cols; j++) edge(to, from, j, cols, half);
  }
}

function edge(to: usize, from: usize, j: i32, cols: i32, half: i32): void {
  let most: f32 = -Infinity;
  for (let t = max(j - half, 0); t <= min(j + half, cols - 1); t++) most = max(most, load<f32>(from + ((<usize>t) << 2)));
  store<f32>(to + ((<usize>j) << 2), most);
}
