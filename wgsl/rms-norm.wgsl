// rms-norm: out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight, of one array of rows or of two with a weight each (head norms of q and k).
// in   0 x0 [rows0, cols] f32    1 weight0 [cols] f32    3 x1 [rows1, cols] f32    4 weight1 [cols] f32; x is not read when inPlace: out holds it
// out  2 out0 [rows0, cols] f32    5 out1 [rows1, cols] f32
// grid main: rows0 + rows1 workgroups, folded into x and y; 64 lanes stride over the columns, then add up pairwise (32, 16, ..)
//      alone: ceil((rows0 + rows1) / 64) workgroups; one thread = one row, for adapters on which barriers are slow
// twin asm/rms-norm.ts; 2e-6 relative (f32 sums, another order)

struct Dims {
  x0At: u32,
  weight0At: u32,
  out0At: u32,
  x1At: u32,
  weight1At: u32,
  out1At: u32,
  rows0: u32,
  rows1: u32,
  cols: u32,
  inPlace: u32,
  eps: f32,
}

@group(0) @binding(0) var<storage, read> x0: array<f32>;
@group(0) @binding(1) var<storage, read> weight0: array<f32>;
@group(0) @binding(2) var<storage, read_write> out0: array<f32>;
@group(0) @binding(3) var<storage, read> x1: array<f32>;
@group(0) @binding(4) var<storage, read> weight1: array<f32>;
@group(0) @binding(5) var<storage, read_write> out1: array<f32>;
@group(0) @binding(6) var<uniform> dims: Dims;

const LANES = 64u;
var<workgroup> sums: array<f32, LANES>;

fn load(row: u32, c: u32) -> f32 {
  if (row < dims.rows0) {
    let i = row * dims.cols + c;
    if (dims.inPlace != 0u) { return out0[dims.out0At + i]; }
    return x0[dims.x0At + i];
  }
  let i = (row - dims.rows0) * dims.cols + c;
  if (dims.inPlace != 0u) { return out1[dims.out1At + i]; }
  return x1[dims.x1At + i];
}

fn store(row: u32, c: u32, normed: f32) {
  if (row < dims.rows0) {
    out0[dims.out0At + row * dims.cols + c] = normed * weight0[dims.weight0At + c];
  } else {
    out1[dims.out1At + (row - dims.rows0) * dims.cols + c] = normed * weight1[dims.weight1At + c];
  }
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = group.y * groups.x + group.x;
  if (row >= dims.rows0 + dims.rows1) { return; } // the whole workgroup
  var squares = 0.0;
  for (var c = lane; c < dims.cols; c += LANES) {
    let value = load(row, c);
    squares += value * value;
  }
  sums[lane] = squares;
  for (var width = LANES / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) { sums[lane] += sums[lane + width]; }
  }
  workgroupBarrier();
  let factor = 1.0 / sqrt(sums[0] / f32(dims.cols) + dims.eps);
  for (var c = lane; c < dims.cols; c += LANES) { store(row, c, load(row, c) * factor); }
}

@compute @workgroup_size(64)
fn alone(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (group.y * groups.x + group.x) * LANES + lane;
  if (row >= dims.rows0 + dims.rows1) { return; }
  var squares = 0.0;
  for (var c = 0u; c < dims.cols; c += 1u) {
    let value = load(row, c);
    squares += value * value;
  }
  let factor = 1.0 / sqrt(squares / f32(dims.cols) + dims.eps);
  for (var c = 0u; c < dims.cols; c += 1u) { store(row, c, load(row, c) * factor); }
}
