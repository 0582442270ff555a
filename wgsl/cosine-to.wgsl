// cosine-to: how much every vector of a head points where a given one does.
//   out[r,j] = scale * clamp(g_r.x_j / (max(|g_r|, 1e-12) max(|x_j|, 1e-12)), -1, 1),   x of head r / (R / H)
// in   0 x [n, H, d] f32    1 anchors g [R, d] f32, both read as vectors of 4
// out  2 out: row r at r * stride, [n] f32
// grid (ceil(n / 64), R): one thread = one vector
// twin asm/cosine-to.ts; 1e-5 of scale (order of sums)

struct Dims {
  xAt: u32,
  anchorsAt: u32,
  outAt: u32,
  n: u32,
  rows: u32,
  heads: u32,
  vectors: u32, // d / 4
  stride: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> anchors: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<uniform> dims: Dims;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let j = group.x * 64u + lane;
  let r = group.y;
  if (j >= dims.n) { return; }
  let token = dims.xAt / 4u + (j * dims.heads + r / (dims.rows / dims.heads)) * dims.vectors;
  let anchor = dims.anchorsAt / 4u + r * dims.vectors;
  var product = 0.0;
  var squares = 0.0;
  var anchorSquares = 0.0;
  for (var c = 0u; c < dims.vectors; c += 1u) {
    let value = x[token + c];
    let g = anchors[anchor + c];
    product += dot(value, g);
    squares += dot(value, value);
    anchorSquares += dot(g, g);
  }
  // one after the other: the product of two least lengths is no f32
  let cosine = product / max(sqrt(anchorSquares), 1e-12) / max(sqrt(squares), 1e-12);
  out[dims.outAt + r * dims.stride + j] = dims.scale * clamp(cosine, -1.0, 1.0);
}
