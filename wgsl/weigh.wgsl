// weigh: each row times a row of weights, which several rows may share.
//   out[r,j] = (x[r,j] + epsilon) * w[floor(r * wRows / rows), j]
// in   0 x   [rows, n] f32    1 w [wRows, n] f32, rows a multiple of wRows
// out  2 out [rows, n] f32, not x itself
// grid (ceil(n / 256), rows): one thread = one column of one row
// twin asm/weigh.ts; 3e-7 of |x w| + |epsilon w| (FMA)

struct Dims {
  xAt: u32,
  wAt: u32,
  outAt: u32,
  n: u32,
  rowsOfOne: u32, // rows / wRows
  epsilon: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<uniform> dims: Dims;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= dims.n) { return; }
  let at = id.y * dims.n + id.x;
  let weight = w[dims.wAt + id.y / dims.rowsOfOne * dims.n + id.x];
  out[dims.outAt + at] = (x[dims.xAt + at] + dims.epsilon) * weight;
}
