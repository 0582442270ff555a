// embed: out[i] = table[tokens[i]], a row of a matrix of any weight type as f32. Tokens outside the rows that are there are left alone: a table in
// several buffers takes a dispatch for each.
// in   0 table, as worker/backend/layout/records.ts tells, from row firstRow on    1 tokens [n] u32
// out  2 out [n, cols] f32, as bits
// grid ceil(n cols / 256) workgroups, folded into x and y: one thread = one value
// twin asm/embed.ts; equal: scale * q is exact, the sum with min is rounded once

struct Dims {
  tableAt: u32,
  tokensAt: u32,
  outAt: u32,
  kind: u32, // one of the constants below
  firstRow: u32,
  rows: u32,
  cols: u32,
  n: u32,
}

@group(0) @binding(0) var<storage, read> table: array<u32>;
@group(0) @binding(1) var<storage, read> tokens: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
@group(0) @binding(3) var<uniform> dims: Dims;

const F32 = 0u;
const F16 = 1u;
const BF16 = 2u;
const Q8 = 3u;
const Q4 = 4u;

/** The i-th of the 16-bit values that begin at element `at`. */
fn bits16(at: u32, i: u32) -> u32 {
  return (table[at + i / 2u] >> (16u * (i & 1u))) & 0xffffu;
}

fn half(at: u32, i: u32) -> f32 {
  return unpack2x16float(bits16(at, i)).x;
}

fn value(row: u32, c: u32) -> u32 {
  let i = row * dims.cols + c;
  let record = (row / 4u) * (dims.cols / 32u) + c / 32u;
  let inGroup = row % 4u;
  switch dims.kind {
    case F32: { return table[dims.tableAt + i]; }
    case F16: { return bitcast<u32>(half(dims.tableAt, i)); }
    case BF16: { return bits16(dims.tableAt, i) << 16u; }
    case Q8: {
      let at = dims.tableAt + record * 34u;
      let q = unpack4xI8(table[at + 2u + inGroup * 8u + (c % 32u) / 4u])[c % 4u];
      return bitcast<u32>(half(at, inGroup) * f32(q));
    }
    default: {
      let at = dims.tableAt + record * 20u;
      let q = (bits16(at + 4u + inGroup * 4u, c % 8u) >> ((c & 24u) / 2u)) & 15u;
      return bitcast<u32>(half(at, inGroup) * f32(q) + half(at, 4u + inGroup));
    }
  }
}

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i >= dims.n * dims.cols) { return; }
  let row = tokens[dims.tokensAt + i / dims.cols] - dims.firstRow; // wraps below firstRow, and is then too large
  if (row < dims.rows) { out[dims.outAt + i] = value(row, i % dims.cols); }
}
