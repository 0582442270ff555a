// halve: f32 to f16, two to a word.
//   out[i] = x[i] to nearest, ties to even; beyond +-65504 that; NaN stays NaN: half-bits
// in   0 x [2 words] f32, as bits
// out  1 out [words] of two f16, not x
// grid ceil(words / 256) workgroups, folded into x and y: one thread = one word
// twin asm/halve.ts; equal

struct Dims {
  xAt: u32,
  outAt: u32,
  words: u32,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@group(0) @binding(2) var<uniform> dims: Dims;

//#include "parts/half-bits.wgsl"

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i >= dims.words) { return; }
  let at = dims.xAt + 2u * i;
  out[dims.outAt + i] = halfPair(vec2u(x[at], x[at + 1u]));
}
