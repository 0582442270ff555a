// row-softmax: softmax over the columns of every row, in place; or the same before it is divided: the largest becomes 1.
//   x[r,j] = exp(x[r,j] - max over j of x[r,j]) / total,   total = the sum over j of the exponentials, or 1 where `peak`
// in, out  0 x: row r at r * stride, [cols] f32
// grid R workgroups, folded into x and y: one workgroup = one row; each of 256 threads takes every 256th column, then all of them the threads' results
// Sums in fixed order: columns of a thread ascending, threads ascending.
// twin asm/row-softmax.ts; 1e-5 relative (exp, f32 sums)

struct Dims {
  xAt: u32,
  rows: u32,
  cols: u32,
  stride: u32,
  peak: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<uniform> dims: Dims;

const LANES = 256u;
const LOWEST = -3e38;
var<workgroup> most: array<f32, LANES>;
var<workgroup> sums: array<f32, LANES>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let r = group.y * groups.x + group.x;
  if (r >= dims.rows) { return; } // the whole workgroup
  let row = dims.xAt + r * dims.stride;
  var highest = LOWEST;
  for (var j = lane; j < dims.cols; j += LANES) { highest = max(highest, x[row + j]); }
  most[lane] = highest;
  workgroupBarrier();
  let lanes = min(LANES, dims.cols); // a bound that Mesa does not know: it would unroll the loop
  highest = LOWEST;
  for (var i = 0u; i < lanes; i += 1u) { highest = max(highest, most[i]); }
  var sum = 0.0;
  for (var j = lane; j < dims.cols; j += LANES) {
    let e = exp(x[row + j] - highest);
    x[row + j] = e;
    sum += e;
  }
  if (dims.peak == 1u) { return; } // the whole workgroup
  sums[lane] = sum;
  workgroupBarrier();
  var total = 0.0;
  for (var i = 0u; i < lanes; i += 1u) { total += sums[i]; }
  for (var j = lane; j < dims.cols; j += LANES) { x[row + j] = x[row + j] / total; }
}
