// norm-scale: each head's rows times the largest L1 norm of its vectors.
//   out[h,j] = x[h,j] * max over t < count of sum over c of |v[t,h,c]|
// in   0 x [H, n] f32    1 v [>= count, H, d] f32, read as vectors of 4
// out  2 norms [H, count] f32, made by lengths, read by main    3 out [H, n] f32, not x itself
// grid lengths: ceil(count H / 64) workgroups, folded into x and y: one thread = one vector
//      main: (ceil(n / 256), H): one thread = one column; the 256 of a workgroup first find the largest norm, each of every 256th
// twin asm/norm-scale.ts; 1e-6 relative (order of sums)

struct Dims {
  xAt: u32,
  vAt: u32,
  normsAt: u32,
  outAt: u32,
  n: u32,
  count: u32,
  kvHeads: u32,
  vectors: u32, // d / 4
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> norms: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<uniform> dims: Dims;

const LANES = 256u;
var<workgroup> largest: array<f32, LANES>;

@compute @workgroup_size(64)
fn lengths(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = (group.y * groups.x + group.x) * 64u + lane;
  if (row >= dims.count * dims.kvHeads) { return; }
  var sums = vec4<f32>(0.0);
  for (var c = 0u; c < dims.vectors; c += 1u) { sums += abs(v[dims.vAt / 4u + row * dims.vectors + c]); }
  let t = row / dims.kvHeads;
  let h = row % dims.kvHeads;
  norms[dims.normsAt + h * dims.count + t] = (sums.x + sums.z) + (sums.y + sums.w);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = dims.normsAt + group.y * dims.count;
  var most = 0.0;
  for (var t = lane; t < dims.count; t += LANES) { most = max(most, norms[row + t]); }
  largest[lane] = most;
  workgroupBarrier();
  let lanes = min(LANES, dims.count); // a bound that Mesa does not know: it would unroll the loop
  most = 0.0;
  for (var i = 0u; i < lanes; i += 1u) { most = max(most, largest[i]); }
  let j = group.x * LANES + lane;
  if (j >= dims.n) { return; }
  let at = group.y * dims.n + j;
  out[dims.outAt + at] = x[dims.xAt + at] * most;
}
