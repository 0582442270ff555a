// group-mean: the mean over the query heads of each KV head.
//   out[g,j] = sum of x[g * size + i, j], i = 0 .. size-1, / size
// in   0 x   [groups * size, n] f32
// out  1 out [groups, n] f32, not x itself
// grid (ceil(n / 256), groups): one thread = one column of one group; sums run over i ascending
// twin asm/group-mean.ts; same order of sums, 3 units in the last place for the division

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
  var sum = x[first];
  for (var i = 1u; i < dims.size; i += 1u) { sum += x[first + i * dims.n]; }
  out[dims.outAt + id.y * dims.n + id.x] = sum / f32(dims.size);
}
