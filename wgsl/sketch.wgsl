// sketch: every head's vectors, less their centre, times a matrix of its own.
//   out[t,h] = (x[t,h] - m_h) Phi_h
// in   0 x [n, H, d] f32    1 centre m [H, d] f32    2 phi [H, d, k] f32, all read as vectors of 4; k a multiple of 4
// out  3 out [n, H, k] f32
// grid ceil(n H k / 4 / 64) workgroups, folded into x and y: one thread = one vector of out, channels ascending
// twin asm/sketch.ts; 1e-5 of |x - m| |column of Phi| (order of sums)

struct Dims {
  xAt: u32,
  centreAt: u32,
  phiAt: u32,
  outAt: u32,
  n: u32,
  heads: u32,
  vectors: u32, // d / 4
  columns: u32, // k / 4
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> centre: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> phi: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> dims: Dims;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let index = (group.y * groups.x + group.x) * 64u + lane;
  if (index >= dims.n * dims.heads * dims.columns) { return; }
  let column = index % dims.columns;
  let row = index / dims.columns; // token and head
  let h = row % dims.heads;
  var sum = vec4<f32>(0.0);
  for (var c = 0u; c < dims.vectors; c += 1u) {
    let value = x[dims.xAt / 4u + row * dims.vectors + c] - centre[dims.centreAt / 4u + h * dims.vectors + c];
    let at = dims.phiAt / 4u + (h * dims.vectors + c) * 4u * dims.columns + column;
    sum += value.x * phi[at];
    sum += value.y * phi[at + dims.columns];
    sum += value.z * phi[at + 2u * dims.columns];
    sum += value.w * phi[at + 3u * dims.columns];
  }
  out[dims.outAt / 4u + index] = sum;
}
