// avg-pool: average over neighbouring columns, stride 1, zero padding, divided by the kernel size at the edges too.
//   out[r,j] = sum of x[r,t], |t - j| <= kernelSize / 2, 0 <= t < cols, / kernelSize;  kernelSize odd
// in   0 x   [rows, stride] f32, first `cols` columns of each row
// out  1 out [rows, stride] f32, other columns untouched; not x itself
// grid (ceil(cols / 256), rows): one thread = one column; sums run over t ascending
// twin asm/avg-pool.ts; same order of sums, 3 units in the last place for the division

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
  var sum = 0.0;
  for (var t = max(j, half) - half; t < end; t += 1u) { sum += x[dims.xAt + row + t]; }
  out[dims.outAt + row + j] = sum / f32(dims.kernelSize);
}
