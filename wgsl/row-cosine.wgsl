// row-cosine: how alike the rows of two matrices are.
//   out[r] = x[r].y[r] / (max(|x[r]|, 1e-8) max(|y[r]|, 1e-8))
// in   0 x [rows, cols] f32    1 y [rows, cols] f32
// out  2 out [rows] f32
// grid rows workgroups, folded into x and y: one workgroup = one row; each of 64 threads has every 64th column, then one adds up the threads, ascending
// twin asm/row-cosine.ts; 1e-5 of [-1, 1] (order of sums)

struct Dims {
  xAt: u32,
  yAt: u32,
  outAt: u32,
  rows: u32,
  cols: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<uniform> dims: Dims;

const LANES = 64u;
const LEAST = 1e-8;
var<workgroup> sums: array<vec3<f32>, LANES>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let r = group.y * groups.x + group.x;
  if (r >= dims.rows) { return; } // the whole workgroup
  var sum = vec3<f32>(0.0);
  for (var c = lane; c < dims.cols; c += LANES) {
    let a = x[dims.xAt + r * dims.cols + c];
    let b = y[dims.yAt + r * dims.cols + c];
    sum += vec3<f32>(a * b, a * a, b * b);
  }
  sums[lane] = sum;
  workgroupBarrier();
  if (lane > 0u) { return; }
  let lanes = min(LANES, dims.cols); // a bound that Mesa does not know: it would unroll the loop
  var all = vec3<f32>(0.0);
  for (var i = 0u; i < lanes; i += 1u) { all += sums[i]; }
  out[dims.outAt + r] = all.x / (max(sqrt(all.y), LEAST) * max(sqrt(all.z), LEAST));
}
