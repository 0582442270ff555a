// segment-rank: the place of each value among the `width` values of its segment, from 0 for the last to (width - 1) / width for the best.
//   out[r,j] = (how many of the segment j stands before) / width: higher values stand first, equal ones by column, NaN last
//   segments begin at column `first`; columns before and after them are copied
// in   0 x   [rows, n] f32, as bits
// out  1 out [rows, n] f32, not x itself
// grid (ceil(n / 256), rows): one thread = one column, compared with every other of its segment
// twin asm/segment-rank.ts; the same counts, 3 units in the last place for the division

struct Dims {
  xAt: u32,
  outAt: u32,
  n: u32,
  first: u32,
  width: u32,
  segments: u32,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> dims: Dims;

/// The value's monotone image, -0 as +0 and NaN below all. Comparisons of f32 may be compiled as if there were no NaN.
fn keyOf(bits: u32) -> u32 {
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0u; }
  if (bits == 0x80000000u) { return 0x80000000u; }
  return select(bits ^ 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let j = id.x;
  if (j >= dims.n) { return; }
  let row = dims.xAt + id.y * dims.n;
  let to = dims.outAt + id.y * dims.n + j;
  if (j < dims.first || j >= dims.first + dims.segments * dims.width) {
    out[to] = bitcast<f32>(x[row + j]);
    return;
  }
  let own = keyOf(x[row + j]);
  let start = j - (j - dims.first) % dims.width;
  var behind = 0u;
  for (var t = start; t < start + dims.width; t += 1u) {
    let other = keyOf(x[row + t]);
    behind += u32(other < own || (other == own && t > j));
  }
  out[to] = f32(behind) / f32(dims.width);
}
