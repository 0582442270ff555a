// linear-f16.shader-f16: linear-f16 for f16 only, loaded as f16 by adapters that have it.
// in   0 w [rows, cols] f16, four in an element    the others as linear-f16
// out, grid as linear-f16, but for cols that is no multiple of 4
// twin asm/linear-f16.ts, as linear-f16

enable f16;

@group(0) @binding(0) var<storage, read> w: array<vec4<f16>>;

fn quad(weights: u32, row: u32, q: u32) -> vec4f {
  let quads = dims.cols / 4u;
  return select(vec4f(), vec4f(w[weights / 2u + row * quads + min(q, quads - 1u)]), q < quads);
}

//#include "parts/linear-quads.wgsl"
//#include "parts/linear.wgsl"
//#include "parts/linear-decode.wgsl"
//#include "parts/linear-prefill.wgsl"
