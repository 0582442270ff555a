// attend-merge: attention over all keys from the parts that each split of them gave.
//   out[r] = sum over s of e^(m_s - m) sum_s / sum over s of e^(m_s - m) total_s,   m = max m_s over the splits with total_s > 0
// in   0 parts [splits, rows, d / 4 + 1] vec4f: the sums of row r, then (m_s, total_s, 0, 0), from attend-paged; sums with a total of 0 are not read
// out  1 out [rows, d] f32, at a multiple of 16 bytes; zeros for a row that sees nothing
// grid ceil(rows d / 4 / 64) workgroups, folded into x and y: one thread = one vec4; splits in ascending order
// twin none: asm/attend-paged.ts goes through a list at once

struct Dims {
  partsAt: u32,
  outAt: u32,
  rows: u32,
  vecs: u32, // d / 4
  splits: u32,
}

@group(0) @binding(0) var<storage, read> parts: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4f>;
@group(0) @binding(2) var<uniform> dims: Dims;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= dims.rows * dims.vecs) { return; }
  let row = i / dims.vecs;
  let width = dims.vecs + 1u;
  var most = -3.0e38;
  for (var s = 0u; s < dims.splits; s += 1u) {
    let part = parts[dims.partsAt / 4u + (s * dims.rows + row) * width + dims.vecs];
    most = select(most, max(most, part.x), part.y != 0.0);
  }
  var sum = vec4f(0.0);
  var total = 0.0;
  for (var s = 0u; s < dims.splits; s += 1u) {
    let at = dims.partsAt / 4u + (s * dims.rows + row) * width;
    let part = parts[at + dims.vecs];
    if (part.y == 0.0) { continue; }
    let weight = exp(part.x - most);
    total += weight * part.y;
    sum += weight * parts[at + i % dims.vecs];
  }
  out[dims.outAt / 4u + i] = sum / select(total, 1.0, total == 0.0);
}
