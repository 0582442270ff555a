// reciprocal: out[i] = 1 / x[i], elementwise.
// in   0 x [count] f32, not 0
// out  1 out [count] f32, not x itself
// grid ceil(count / 256) workgroups, folded into x and y: one thread = one element
// twin asm/reciprocal.ts; 3 units in the last place (division)

struct Dims {
  xAt: u32,
  outAt: u32,
  count: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> dims: Dims;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i >= dims.count) { return; }
  out[dims.outAt + i] = 1.0 / x[dims.xAt + i];
}
