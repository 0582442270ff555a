// z-score: how many standard deviations each value is above the mean, of its row or of all rows.
//   x = (x - mean) / max(std, 1e-6), std divided by the number of values - 1; one value alone becomes 0
// out  0 x [rows, stride] f32, `cols` columns of each row from column `first` on; replaced in place, other columns untouched
// grid one workgroup for each mean: rows of them, or 1; 256 threads, each has every 256th value
// Sums in fixed order: values of a thread ascending, threads ascending. The mean is corrected by the mean of what is left above it.
// twin asm/z-score.ts; 1e-5 (1 + |z|) (f32 sums)

struct Dims {
  xAt: u32,
  rows: u32, // of one mean
  stride: u32,
  first: u32,
  cols: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<uniform> dims: Dims;

const LANES = 256u;
const LEAST_STD = 1e-6;
var<workgroup> sums: array<f32, LANES>;
var<workgroup> result: f32;

fn place(i: u32, firstRow: u32) -> u32 {
  return dims.xAt + (firstRow + i / dims.cols) * dims.stride + dims.first + i % dims.cols;
}

/// The sum over the threads, in every one of them.
fn total(sum: f32, lane: u32, lanes: u32) -> f32 {
  sums[lane] = sum;
  workgroupBarrier();
  if (lane == 0u) {
    var all = 0.0;
    for (var i = 0u; i < lanes; i += 1u) { all += sums[i]; }
    result = all;
  }
  workgroupBarrier();
  let all = result;
  workgroupBarrier(); // before it is written again
  return all;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let firstRow = group.x * dims.rows;
  let count = dims.rows * dims.cols;
  let lanes = min(LANES, count); // a bound that Mesa does not know: it would unroll the loop
  var sum = 0.0;
  for (var i = lane; i < count; i += LANES) { sum += x[place(i, firstRow)]; }
  let rough = total(sum, lane, lanes) / f32(count);
  sum = 0.0;
  for (var i = lane; i < count; i += LANES) { sum += x[place(i, firstRow)] - rough; }
  let mean = rough + total(sum, lane, lanes) / f32(count);
  sum = 0.0;
  for (var i = lane; i < count; i += LANES) {
    let off = x[place(i, firstRow)] - mean;
    sum += off * off;
  }
  let squares = total(sum, lane, lanes);
  let deviation = sqrt(squares / f32(max(count, 2u) - 1u));
  for (var i = lane; i < count; i += LANES) {
    let at = place(i, firstRow);
    x[at] = (x[at] - mean) / max(deviation, LEAST_STD);
  }
}
