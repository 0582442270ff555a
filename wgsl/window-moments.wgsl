// window-moments: how the attention that each key receives from the last W queries is spread over those queries.
//   A_ij the softmax weights of softmax-columns;   of every column j, over the W rows i:
//   mean = sum A / W,   variance = sum (A - mean)^2 / (W - 1), 0 where W = 1,   entropy = -sum A ln(A + 1e-10)
// Query i is at position n-W+i; it sees the keys up to there, with a sliding window only the last slidingWindow of them: A of what it does not see is 0.
// in   0 q     [W, Hq, d] f32    1 k [n, H, d] f32, both read as vectors of 4
// out  2 stats [spans, Hq, W] (m, z) f32    3 out [3, Hq, n] f32: means, variances, entropies
// grid rows, combine: softmax-columns    columns: (ceil(n / 64), Hq), one thread = one key for one head, queries ascending
// 4 rows at a time; their mean and squares join those of the rows before (Chan), so that nothing cancels.
// twin asm/window-moments.ts; 1e-5 relative, of the variance 1e-5 of mean^2 + variance (order of sums), of the entropy 1e-6 of the sum beside (log)

struct Dims {
  qAt: u32,
  kAt: u32,
  statsAt: u32,
  outAt: u32,
  n: u32,
  queries: u32, // W
  queryHeads: u32,
  kvHeads: u32,
  vectors: u32, // d / 4
  start: u32, // the first key that any query sees
  span: u32,
  spans: u32,
  slidingWindow: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> stats: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<uniform> dims: Dims;

//#include "parts/softmax-columns.wgsl"

fn position(i: u32) -> u32 { return dims.n - dims.queries + i; }

/// sum = (mean, squares, entropy) of the i queries before.
fn withWeights(sum: vec4<f32>, w: vec4<f32>, i: u32, count: u32) -> vec4<f32> {
  let isRow = vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(count);
  let rows = f32(count);
  let all = f32(i + count);
  let mean = ((w.x + w.y) + (w.z + w.w)) / rows;
  let off = select(vec4<f32>(0.0), w - vec4<f32>(mean), isRow);
  let apart = mean - sum.x;
  let squares = sum.y + dot(off, off) + apart * apart * (f32(i) * rows / all);
  let logs = w * log(w + vec4<f32>(1e-10));
  return vec4<f32>(sum.x + apart * (rows / all), squares, sum.z - ((logs.x + logs.y) + (logs.z + logs.w)), 0.0);
}

@compute @workgroup_size(64)
fn columns(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let j = group.x * LANES + lane;
  let head = group.y;
  if (j >= dims.n) { return; }
  let begin = select(0u, dims.queries, j < dims.start); // nothing to add for a key that nobody sees
  let moments = columnOf(j, head, begin, dims.queries);
  let at = dims.outAt + head * dims.n + j;
  let plane = dims.queryHeads * dims.n;
  out[at] = moments.x;
  out[at + plane] = moments.y / f32(max(dims.queries, 2u) - 1u);
  out[at + 2u * plane] = moments.z;
}
