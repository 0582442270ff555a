// linear-q4.subgroups: linear-q4, and its decode with lanes that add up within their subgroup by themselves; one barrier where the plain one has five.
// in, out, grid as decode of linear-q4. Lanes are expected in subgroups in the order of their numbers, 4 to 128 in each, as drivers lay out
// workgroups of one dimension.
// twin asm/linear-q4.ts, as linear-q4

enable subgroups;

// struct Dims and all the rest:
//#include "linear-q4.wgsl"

/** Of all lanes of the subgroup whose numbers differ by `distance`: 4, 8, .. less than the subgroup's size. */
fn acrossSubgroup(sums: vec4f, size: u32) -> vec4f {
  var total = sums;
  total += select(vec4f(), subgroupShuffleXor(total, 4u), size > 4u);
  total += select(vec4f(), subgroupShuffleXor(total, 8u), size > 8u);
  total += select(vec4f(), subgroupShuffleXor(total, 16u), size > 16u);
  total += select(vec4f(), subgroupShuffleXor(total, 32u), size > 32u);
  total += select(vec4f(), subgroupShuffleXor(total, 64u), size > 64u);
  return total;
}

@compute @workgroup_size(LANES)
fn decodeBySubgroups(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_size) size: u32,
) {
  let rows = place(group.y * groups.x + group.x, DECODE_ROWS);
  if (rows.which == 3u) { return; } // the whole workgroup
  let token = group.z * FEW;
  let sums = laneSums(rows, token, lane);
  // Lanes of the same row are 4 apart: the first four of a subgroup hold what it has of each row.
  sums0[lane] = acrossSubgroup(sums[0], size);
  sums1[lane] = acrossSubgroup(sums[1], size);
  workgroupBarrier();
  if (lane >= 8u) { return; }
  var total = vec4f();
  for (var at = lane % 4u; at < LANES; at += size) { total += select(sums0[at], sums1[at], lane >= 4u); }
  storeTokens(rows, rows.first + lane, token, total);
}
