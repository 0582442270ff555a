// linear-q4: out = x Wᵀ (+ bias) (+ out), of up to three matrices W in 4-bit blocks, w = scale * q + min.
// in   0 w     records of 4 rows x 32 columns, 5 vec4<u32> each: (scales f16 [4], mins f16 [4]), then one vec4 of nibbles a row
//              (worker/backend/layout/records.ts)    1 x [n, cols] f32    2 3 4 bias0..2 [rows] f32
// out  5 6 7 out0..2 [n, rows] f32
// grid (groups of rows of all matrices, folded into x and y; groups of tokens in z)
//      decode: 8 rows x 4 tokens a workgroup of 128; lanes add up pairwise (64, 32, .. 4)
//      prefill: 64 rows x 64 tokens a workgroup of 256, by way of tiles in workgroup memory
//      alone: one thread = one row x 4 tokens, for adapters on which barriers are slow
// twin asm/linear-q4.ts, which rounds x; here 5e-7 of the sum of |x w| from the exact product (f32 sums, another order)

@group(0) @binding(0) var<storage, read> w: array<vec4u>;

const LANE_QUADS = 8u;
const STEP = 1u;

fn recordAt(weights: u32, row: u32, block: u32) -> u32 {
  return weights / 4u + ((row / 4u) * (dims.cols / 32u) + block) * 5u;
}

/** (a, b) with w = a * (1 + q/16) + b: codes come as 1 + q/16, which takes no conversion from integer to float. */
fn slope(record: u32, row: u32) -> vec2f {
  let head = w[record];
  let pairs = select(head.xz, head.yw, (row & 2u) != 0u);
  let scales = unpack2x16float(pairs.x);
  let mins = unpack2x16float(pairs.y);
  let chosen = select(vec2f(scales.x, mins.x), vec2f(scales.y, mins.y), (row & 1u) != 0u);
  return vec2f(16.0 * chosen.x, chosen.y - 16.0 * chosen.x);
}

/** Four u16 lanes of nibbles, each in the upper half of its u32. */
fn upper(two: vec2u) -> vec4u {
  return vec4u(two.x << 16u, two.x, two.y << 16u, two.y);
}

/** 1 + q/16: the bits 19..22 of each become the first of a float's fraction. */
fn code(bits: vec4u) -> vec4f {
  return bitcast<vec4f>((bits & vec4u(0x00780000u)) | vec4u(0x3f800000u));
}

fn quad(weights: u32, row: u32, q: u32) -> vec4f {
  let record = recordAt(weights, row, q / 8u);
  let ab = slope(record, row);
  let nibbles = w[record + 1u + row % 4u];
  let lanes = upper(select(nibbles.xy, nibbles.zw, (q & 1u) != 0u));
  return ab.x * code((lanes >> vec4u(2u * (q & 6u))) << vec4u(3u)) + ab.y;
}

fn piece(weights: u32, row: u32, first: u32, step: u32) -> Piece {
  let record = recordAt(weights, row, first / 8u);
  let ab = slope(record, row);
  let nibbles = w[record + 1u + row % 4u];
  let even = upper(nibbles.xy);
  let odd = upper(nibbles.zw);
  return Piece(
    ab.x * code(even << vec4u(3u)) + ab.y, ab.x * code(odd << vec4u(3u)) + ab.y,
    ab.x * code(even >> vec4u(1u)) + ab.y, ab.x * code(odd >> vec4u(1u)) + ab.y,
    ab.x * code(even >> vec4u(5u)) + ab.y, ab.x * code(odd >> vec4u(5u)) + ab.y,
    ab.x * code(even >> vec4u(9u)) + ab.y, ab.x * code(odd >> vec4u(9u)) + ab.y,
  );
}

//#include "parts/linear.wgsl"
//#include "parts/linear-decode.wgsl"
//#include "parts/linear-prefill.wgsl"
