// swiglu: out = silu(gate) * up, silu(g) = g / (1 + exp(-g)); elementwise.
// in   0 gate [count] f32, not read when inPlace: then out holds it    1 up [count] f32
// out  2 out [count] f32
// grid ceil(count / 256) workgroups, folded into x and y: one thread = one element
// twin asm/swiglu.ts; 3e-6 relative (exp)

struct Dims {
  gateAt: u32,
  upAt: u32,
  outAt: u32,
  count: u32,
  inPlace: u32,
}

@group(0) @binding(0) var<storage, read> gate: array<f32>;
@group(0) @binding(1) var<storage, read> up: array<f32>;
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
  let o = dims.outAt + i;
  var g = out[o];
  if (dims.inPlace == 0u) { g = gate[dims.gateAt + i]; }
  out[o] = g / (1.0 + exp(-g)) * up[dims.upAt + i];
}
