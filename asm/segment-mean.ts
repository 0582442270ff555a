// segment-mean: every value becomes the mean of its segment.
//   out[r,j] = mean of x[r,t] over first <= t < end, floor(t / width) = floor(j / width);   columns outside first .. end-1 are copied
// in    x [rows, n] f32      out  [rows, n] f32, not x itself
// Segments of `width` columns begin at column 0; sums are f64, t ascending.

export function segmentMean(out: usize, x: usize, rows: i32, n: i32, first: i32, end: i32, width: i32): void {
  for (let r = 0; r < rows; r++) {
    const from = x + ((<usize>r * n) << 2);
    const to = out + ((<usize>r * n) << 2);
    memory.copy(to, from, (<usize>n) << 2);
    for (let start = first; start < end; ) {
      const stop = min(end, start - (start % width) + width);
      let sum: f64 = 0;
      for (let t = start; t < stop; t++) sum += <f64>load<f32>(from + ((<usize>t) << 2));
      const mean = <f32>(sum / <f64>(stop - start));
      for (let t = start; t < stop; t++) store<f32>(to + ((<usize>t) << 2), mean);
      start = stop;
    }
  }
}
