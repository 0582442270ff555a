// group-max: the largest over the query heads of each KV head.
//   out[g,j] = max of x[g * size + i, j], i = 0 .. size-1
// in   0 x   [groups * size, n] f32
// out  1 out [groups, n] f32, not x itself
// grid (ceil(n / 256), groups): one thread = one column of one group
// twin asm/group-max.ts; equal, NaN apart

struct Dims {
  xAt: u32,
  outAt: u32,
  n: u32,
  size: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> dims: Dims;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= dims.n) { return; }
  let first = dims.xAt + id.y * dims.size * dims.n + id.x;
  var most = x[first];
  for (var i = 1u; i < dims.size; i += 1u) { most = max(most, x[first + i * dims.n]); }
  out[dims.outAt + id.y * dims.n + id.x] = most;
}
