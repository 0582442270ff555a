// key-norm: the length of each key, with a sign.
//   out[h,j] = sign * |k[j,h]|
// in   0 k   [n, H, d] f32, read as vectors of 4
// out  1 out [H, n] f32
// grid ceil(n H / 64) workgroups, folded into x and y: one thread = one key
// twin asm/key-norm.ts; 1e-6 relative (order of sums)

struct Dims {
  kAt: u32,
  outAt: u32,
  n: u32,
  kvHeads: u32,
  vectors: u32, // d / 4
  sign: f32,
}

@group(0) @binding(0) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> dims: Dims;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let key = (group.y * groups.x + group.x) * 64u + lane;
  if (key >= dims.n * dims.kvHeads) { return; }
  let first = dims.kAt / 4u + key * dims.vectors;
  var squares = 0.0;
  for (var c = 0u; c < dims.vectors; c += 1u) {
    let x = k[first + c];
    squares += dot(x, x);
  }
  let j = key / dims.kvHeads;
  let h = key % dims.kvHeads;
  out[dims.outAt + h * dims.n + j] = dims.sign * sqrt(squares);
}
