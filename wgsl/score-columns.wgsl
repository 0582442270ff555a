// score-columns: what each key receives from m queries in all: columns of softmax attention, m x n never stored.
//   out[a,j] = sum or max over i of w_ij rowScale[i], j < columns, w the softmax weights of softmax-columns;   added to, or the larger of it and, what is there
// Query i sees keys 0 .. first + i, n - 1 at most (first >= n - 1: all of them); with a sliding window only the last slidingWindow of those up to its
// position. What no query sees is 0.
// in   0 q     [m, Hq, d] f32    1 k [n, H, d] f32, both read as vectors of 4    2 rowScale [m] f32, not negative; unread where scaled is 0
// out  3 stats [spans, Hq, m] (m, z) f32    4 out [Hq, stride] f32, the first `columns` of each row
// grid rows, combine: softmax-columns    columns: (ceil(columns / 64), Hq), one thread = one key for one head, queries ascending
// twin asm/score-columns.ts; 1e-5 relative (order of sums)

struct Dims {
  qAt: u32,
  kAt: u32,
  rowScaleAt: u32,
  statsAt: u32,
  outAt: u32,
  n: u32,
  queries: u32, // m
  first: u32, // position of query 0
  columns: u32,
  stride: u32,
  largest: u32, // 1 = max, 0 = sum
  scaled: u32,
  accumulate: u32,
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
@group(0) @binding(2) var<storage, read> rowScale: array<f32>;
@group(0) @binding(3) var<storage, read_write> stats: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<uniform> dims: Dims;

//#include "parts/softmax-columns.wgsl"

fn position(i: u32) -> u32 { return dims.first + i; }

fn withWeights(sum: vec4<f32>, w: vec4<f32>, i: u32, count: u32) -> vec4<f32> {
  var x = w;
  if (dims.scaled == 1u) {
    let at = vec4<u32>(dims.rowScaleAt) + min(vec4<u32>(i) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(dims.queries - 1u));
    x *= vec4<f32>(rowScale[at.x], rowScale[at.y], rowScale[at.z], rowScale[at.w]);
  }
  if (dims.largest == 1u) { return max(sum, x); }
  return sum + x;
}

@compute @workgroup_size(64)
fn columns(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let j = group.x * LANES + lane;
  let head = group.y;
  if (j >= dims.columns) { return; }
  // Queries that see some key of the workgroup: begin .. end-1, in whole blocks.
  let begin = min(dims.queries, (max(group.x * LANES, dims.first) - dims.first) / BLOCK * BLOCK);
  let beyond = group.x * LANES + LANES + dims.slidingWindow;
  let end = select(dims.queries, min(dims.queries, max(beyond, dims.first) - dims.first), dims.slidingWindow > 0u);
  let x = columnOf(j, head, begin, end);
  let at = dims.outAt + head * dims.stride + j;
  let before = select(0.0, out[at], dims.accumulate == 1u);
  let all = select((x.x + x.y) + (x.z + x.w), max(max(x.x, x.y), max(x.z, x.w)), dims.largest == 1u);
  out[at] = select(before + all, max(before, all), dims.largest == 1u);
}
