// linear-f16: out = x Wᵀ (+ bias) (+ out), of up to three matrices W of f16 or bf16.
// in   0 w [rows, cols] f16 or, by dims.bf16, bf16; four in a vec2<u32>    1 x [n, cols] f32    2 3 4 bias0..2 [rows] f32
// out  5 6 7 out0..2 [n, rows] f32
// grid as linear-q4; ragged: one thread = one output, where cols is no multiple of 4, tokens in z
// twin asm/linear-f16.ts; 5e-7 of the sum of |x w| from the exact product (f32 sums, another order)

@group(0) @binding(0) var<storage, read> w: array<vec2u>;

fn values(two: u32) -> vec2f {
  if (dims.bf16 != 0u) { return bitcast<vec2f>(vec2u(two << 16u, two & 0xffff0000u)); }
  return unpack2x16float(two);
}

fn quad(weights: u32, row: u32, q: u32) -> vec4f {
  let quads = dims.cols / 4u;
  let four = w[weights / 2u + row * quads + min(q, quads - 1u)];
  return select(vec4f(), vec4f(values(four.x), values(four.y)), q < quads);
}

fn weight(weights: u32, i: u32) -> f32 {
  return values(w[weights / 2u + i / 4u][(i / 2u) % 2u])[i % 2u];
}

//#include "parts/linear-quads.wgsl"
//#include "parts/linear.wgsl"
//#include "parts/linear-decode.wgsl"
//#include "parts/linear-prefill.wgsl"
//#include "parts/linear-ragged.wgsl"
