// blend: two tensors, weighted and added.
//   out[i] = a * x[i] + b * y[i]
// in   0 x [count] f32    1 y [count] f32
// out  2 out [count] f32, neither x nor y
// grid ceil(count / 256) workgroups, folded into x and y: one thread = one element
// twin asm/blend.ts; 3e-7 of |a x| + |b y| (FMA)

struct Dims {
  xAt: u32,
  yAt: u32,
  outAt: u32,
  count: u32,
  a: f32,
  b: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<uniform> dims: Dims;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i >= dims.count) { return; }
  out[dims.outAt + i] = dims.a * x[dims.xAt + i] + dims.b * y[dims.yAt + i];
}
