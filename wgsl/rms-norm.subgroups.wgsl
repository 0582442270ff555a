// rms-norm.subgroups: rms-norm, with lanes that add up within their subgroup by themselves; one barrier where the plain one has seven.
// in, out, grid as main of rms-norm. Lanes are expected in subgroups in the order of their numbers, as drivers lay out workgroups of one dimension.
// twin asm/rms-norm.ts, as rms-norm

enable subgroups;

// struct Dims and all the rest:
//#include "rms-norm.wgsl"

@compute @workgroup_size(64)
fn bySubgroups(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_size) size: u32,
) {
  let row = group.y * groups.x + group.x;
  if (row >= dims.rows0 + dims.rows1) { return; } // the whole workgroup
  var squares = 0.0;
  for (var c = lane; c < dims.cols; c += LANES) {
    let value = load(row, c);
    squares += value * value;
  }
  sums[lane] = subgroupAdd(squares);
  workgroupBarrier();
  var total = 0.0;
  for (var at = 0u; at < LANES; at += size) { total += sums[at]; } // the first lane of each subgroup
  let factor = 1.0 / sqrt(total / f32(dims.cols) + dims.eps);
  for (var c = lane; c < dims.cols; c += LANES) { store(row, c, load(row, c) * factor); }
}
