// max-pool: the largest of neighbouring columns, stride 1; beyond the edges there is nothing.
//   out[r,j] = max of x[r,t], |t - j| <= kernelSize / 2, 0 <= t < cols;  kernelSize odd
// in   0 x   [rows, stride] f32, first `cols` columns of each row
// out  1 out [rows, stride] f32, other columns untouched; not x itself
// grid (ceil(cols / 256), rows): one thread = one column
// twin asm/max-pool.ts; equal, NaN apart

struct Dims {
  xAt: u32,
  outAt: u32,
  cols: u32,
  stride: u32,
  kernelSize: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> dims: Dims;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let j = id.x;
  if (j >= dims.cols) { return; }
  let half = dims.kernelSize / 2u;
  let row = id.y * dims.stride;
  let end = min(j + half + 1u, dims.cols);
  let begin = max(j, half) - half;
  var most = x[dims.xAt + row + begin];
  for (var t = begin + 1u; t < end; t += 1u) { most = max(most, x[dims.xAt + row + t]); }
  out[dims.outAt + row + j] = most;
}
