// lag-score: how far each token spreads over the range of the next `lag` tokens, as a share of its own `lag` (LagKV).
//   partition p = tokens first + p lag ..;  lo_c, hi_c = least and most of channel c in partition p + 1
//   sigma_i = std over channels c, divided by d - 1, of (y[i,c] - lo_c) / (hi_c - lo_c); 0 where hi_c - lo_c is no normal number
//   out[h,i] = (softmax over partition p of sigma of k + the same of v) / 2;  1 before the first, in the last and after it
// in   0 k   [n, H, d] f32, read as vectors of 4; d <= 1024    1 v   the same
// out  2 out [H, n] f32
// grid (scored + 1) H workgroups, folded into x and y: one workgroup = one partition of one head, the last of a head writes its ones.
//      One thread first has one vector of every few tokens of the next partition, then every 256th token of its own
// Sums in fixed order: tokens of a thread ascending, threads ascending.
// twin asm/lag-score.ts; 1e-6 (1 + the largest sigma) relative (order of sums, exp)

struct Dims {
  kAt: u32,
  vAt: u32,
  outAt: u32,
  n: u32,
  kvHeads: u32,
  vectors: u32, // d / 4
  first: u32,
  lag: u32,
  scored: u32, // partitions that have a next one
}

@group(0) @binding(0) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<uniform> dims: Dims;

const LANES = 256u;
const SMALLEST = vec4<f32>(1.17549435e-38); // normal number
var<workgroup> lows: array<vec4<f32>, LANES>;
var<workgroup> highs: array<vec4<f32>, LANES>; // then 1 / (hi - lo)
var<workgroup> most: array<f32, LANES>;
var<workgroup> sums: array<f32, LANES>;

fn element(tensor: u32, token: u32, h: u32, c: u32) -> vec4<f32> {
  let at = (token * dims.kvHeads + h) * dims.vectors + c;
  if (tensor == 0u) { return k[dims.kAt / 4u + at]; }
  return v[dims.vAt / 4u + at];
}

fn spread(tensor: u32, token: u32, h: u32) -> f32 {
  var sum = vec4<f32>(0.0);
  for (var c = 0u; c < dims.vectors; c += 1u) { sum += (element(tensor, token, h, c) - lows[c]) * highs[c]; }
  let channels = f32(4u * dims.vectors);
  let mean = (sum.x + sum.z + (sum.y + sum.w)) / channels;
  var squares = 0.0;
  for (var c = 0u; c < dims.vectors; c += 1u) {
    let x = (element(tensor, token, h, c) - lows[c]) * highs[c] - mean;
    squares += dot(x, x);
  }
  return sqrt(squares / (channels - 1.0));
}

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let index = group.y * groups.x + group.x;
  let p = index / dims.kvHeads;
  let h = index % dims.kvHeads;
  if (p > dims.scored) { return; }
  let to = dims.outAt + h * dims.n;
  if (p == dims.scored) {
    for (var j = lane; j < min(dims.first, dims.n); j += LANES) { out[to + j] = 1.0; }
    for (var j = dims.first + dims.scored * dims.lag + lane; j < dims.n; j += LANES) { out[to + j] = 1.0; }
    return; // the whole workgroup
  }
  let start = dims.first + p * dims.lag;
  let next = start + dims.lag;
  let turns = min(LANES / dims.vectors, dims.lag); // lanes that share a vector
  let busy = min(LANES, dims.lag); // lanes that have tokens
  for (var tensor = 0u; tensor < 2u; tensor += 1u) {
    let c = lane % dims.vectors;
    let turn = lane / dims.vectors;
    if (turn < turns) {
      var low = element(tensor, next + turn, h, c);
      var high = low;
      for (var t = turn + turns; t < dims.lag; t += turns) {
        let x = element(tensor, next + t, h, c);
        low = min(low, x);
        high = max(high, x);
      }
      lows[lane] = low;
      highs[lane] = high;
    }
    workgroupBarrier();
    if (lane < dims.vectors) {
      var low = lows[lane];
      var high = highs[lane];
      for (var t = 1u; t < turns; t += 1u) {
        low = min(low, lows[t * dims.vectors + lane]);
        high = max(high, highs[t * dims.vectors + lane]);
      }
      let range = high - low;
      lows[lane] = low;
      highs[lane] = select(1.0 / max(range, SMALLEST), vec4<f32>(0.0), range < SMALLEST);
    }
    workgroupBarrier();

    var sigma = 0.0; // of this thread's last token
    var highest = 0.0; // no sigma is below
    var sum = 0.0; // of exp(sigma - highest)
    for (var i = lane; i < dims.lag; i += LANES) {
      sigma = spread(tensor, start + i, h);
      let before = highest;
      highest = max(highest, sigma);
      sum = sum * exp(before - highest) + exp(sigma - highest);
    }
    most[lane] = highest;
    sums[lane] = sum;
    workgroupBarrier();
    highest = 0.0;
    for (var i = 0u; i < busy; i += 1u) { highest = max(highest, most[i]); }
    sum = 0.0;
    for (var i = 0u; i < busy; i += 1u) { sum += sums[i] * exp(most[i] - highest); }
    for (var i = lane; i < dims.lag; i += LANES) {
      if (dims.lag > LANES) { sigma = spread(tensor, start + i, h); }
      var share = 0.5 * exp(sigma - highest) / sum;
      if (tensor == 1u) { share += out[to + start + i]; }
      out[to + start + i] = share;
    }
    workgroupBarrier();
  }
}
