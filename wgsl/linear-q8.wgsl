// linear-q8: out = x Wᵀ (+ bias) (+ out), of up to three matrices W in 8-bit blocks, w = scale * q.
// in   0 w     records of 4 rows x 32 columns, 17 vec2<u32> each: scales f16 [4], then 4 vec2 of signed bytes a row
//              (worker/backend/layout/records.ts)    1 x [n, cols] f32    2 3 4 bias0..2 [rows] f32
// out  5 6 7 out0..2 [n, rows] f32
// grid as linear-q4
// twin asm/linear-q8.ts, which rounds x; here 5e-7 of the sum of |x w| from the exact product (f32 sums, another order)

@group(0) @binding(0) var<storage, read> w: array<vec2u>;

const LANE_QUADS = 8u;
const STEP = 1u;

fn recordAt(weights: u32, row: u32, block: u32) -> u32 {
  return weights / 2u + ((row / 4u) * (dims.cols / 32u) + block) * 17u;
}

fn scaleOf(record: u32, row: u32) -> f32 {
  let head = w[record];
  let two = unpack2x16float(select(head.x, head.y, (row & 2u) != 0u));
  return select(two.x, two.y, (row & 1u) != 0u);
}

fn codes(bytes: u32) -> vec4f {
  return vec4f(unpack4xI8(bytes));
}

fn quad(weights: u32, row: u32, q: u32) -> vec4f {
  let record = recordAt(weights, row, q / 8u);
  let eight = w[record + 1u + (row % 4u) * 4u + (q % 8u) / 2u];
  return scaleOf(record, row) * codes(select(eight.x, eight.y, (q & 1u) != 0u));
}

fn piece(weights: u32, row: u32, first: u32, step: u32) -> Piece {
  let record = recordAt(weights, row, first / 8u);
  let scale = scaleOf(record, row);
  let bytes = record + 1u + (row % 4u) * 4u;
  let a = w[bytes];
  let b = w[bytes + 1u];
  let c = w[bytes + 2u];
  let d = w[bytes + 3u];
  return Piece(
    scale * codes(a.x), scale * codes(a.y), scale * codes(b.x), scale * codes(b.y),
    scale * codes(c.x), scale * codes(c.y), scale * codes(d.x), scale * codes(d.y),
  );
}

//#include "parts/linear.wgsl"
//#include "parts/linear-decode.wgsl"
//#include "parts/linear-prefill.wgsl"
