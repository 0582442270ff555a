// linear-f32: out = x Wᵀ (+ bias) (+ out), of up to three matrices W of f32.
// in   0 w [rows, cols] f32    1 x [n, cols] f32    2 3 4 bias0..2 [rows] f32
// out  5 6 7 out0..2 [n, rows] f32
// grid as linear-q4; ragged: one thread = one output, where cols is no multiple of 4, tokens in z
// twin asm/linear-f32.ts; 5e-7 of the sum of |x w| from the exact product (f32 sums, another order)

@group(0) @binding(0) var<storage, read> w: array<vec4f>;

fn quad(weights: u32, row: u32, q: u32) -> vec4f {
  let quads = dims.cols / 4u;
  return select(vec4f(), w[weights / 4u + row * quads + min(q, quads - 1u)], q < quads);
}

fn weight(weights: u32, i: u32) -> f32 {
  return w[(weights + i) / 4u][(weights + i) % 4u];
}

//#include "parts/linear-quads.wgsl"
//#include "parts/linear.wgsl"
//#include "parts/linear-decode.wgsl"
//#include "parts/linear-prefill.wgsl"
//#include "parts/linear-ragged.wgsl"
