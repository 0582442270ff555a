// widen: f16 to f32, what halve wrote, exactly.
//   out[i] = x[i]; NaN stays NaN
// in   0 x [words] of two f16
// out  1 out [2 words] f32, not x
// grid ceil(words / 256) workgroups, folded into x and y: one thread = one word
// twin asm/widen.ts; equal

struct Dims {
  xAt: u32,
  outAt: u32,
  words: u32,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> dims: Dims;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i >= dims.words) { return; }
  let pair = unpack2x16float(x[dims.xAt + i]);
  let at = dims.outAt + 2u * i;
  out[at] = pair.x;
  out[at + 1u] = pair.y;
}
