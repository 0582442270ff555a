// score-window: attention that each cached key receives from the last W queries.
//   out[a,j] = mean over i of w_ij, the softmax weights of softmax-columns
// Query i is at position n-W+i; it sees the keys up to there, with a sliding window only the last slidingWindow of them. What no query sees
// is 0.
// in   0 q     [W, Hq, d] f32    1 k [n, H, d] f32, both read as vectors of 4
// out  2 stats [spans, Hq, W] (m, z) f32    3 out [Hq, n] f32
// grid rows, combine: softmax-columns    columns: (ceil(n / 64), Hq), one thread = one key for one head, queries ascending
// twin asm/score-window.ts; 1e-5 relative (order of sums)

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
fn withWeights(sum: vec4<f32>, w: vec4<f32>, i: u32, count: u32) -> vec4<f32> { return vec4<f32>(sum.x + ((w.x + w.y) + (w.z + w.w)), 0.0, 0.0, 0.0); }

@compute @workgroup_size(64)
fn columns(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let j = group.x * LANES + lane;
  let head = group.y;
  if (j >= dims.n) { return; }
  let begin = select(0u, dims.queries, j < dims.start); // nothing to add for a key that nobody sees
  out[dims.outAt + head * dims.n + j] = columnOf(j, head, begin, dims.queries).x / f32(dims.queries);
}
