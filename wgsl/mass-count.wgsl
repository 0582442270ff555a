// mass-count: MBA of each row, the fewest evictable tokens that hold `threshold` of the evictable mass. LMBA is its mean over a layer's heads.
//   masses m >= 0 in rank order;  c_k = m_1 + .. + m_k;  MBA = min { k >= 1 : c_k >= threshold * c_last }
//   c_last 0 or not finite (no information): MBA = ceil(threshold * evictable), which the host hands over.  Nothing evictable: 0
// maps from scores s to masses:  0 identity  m = max(s, 0)    1 affine  m = max(s + 1, 0), twice the twin's
//   2 softmax  m = exp((s - max s) / std s), std over the evictable tokens (divided by their number); std 0 = no information    3 shift  m = s - min s
//   4 exp  m = exp(s - max s)
// in   0 scores [rows, n] f32, as bits    1 order [rows, n] u32, full rank orders from top-k: first the n - evictable protected ones
// out  2 counts [rows] u32
// grid (1, rows): one workgroup = one row, each of 256 threads has a run of ranks
// Sums are exact in whatever order: masses are integers of 64 bits, in units of the last place that the f64 sum c_last has. The ranks say where
// the largest mass is, and that a NaN or an infinity is the first or the last.
// twin asm/mass-count.ts; counts within one (threshold has 32 bits, and all masses but identity's are f32; f64 there)

struct Dims {
  scoresAt: u32,
  orderAt: u32,
  countsAt: u32,
  n: u32,
  evictable: u32,
  map: u32,
  threshold: u32, // 2^32 threshold, rounded down; not used where `all`
  all: u32, // threshold is 1
  uninformed: u32,
}

@group(0) @binding(0) var<storage, read> scores: array<u32>;
@group(0) @binding(1) var<storage, read> order: array<u32>;
@group(0) @binding(2) var<storage, read_write> counts: array<u32>;
@group(0) @binding(3) var<uniform> dims: Dims;

const LANES = 256u;
const AFFINE = 1u;
const SOFTMAX = 2u;
const SHIFT = 3u;
const EXP = 4u;
var<workgroup> parts: array<f32, LANES>;
var<workgroup> sums: array<vec2<u32>, LANES>; // (low, high)

fn scoreBits(row: u32, rank: u32) -> u32 {
  let at = row * dims.n;
  return scores[dims.scoresAt + at + order[dims.orderAt + at + dims.n - dims.evictable + rank]];
}
fn score(row: u32, rank: u32) -> f32 { return bitcast<f32>(scoreBits(row, rank)); }
fn finite(bits: u32) -> bool { return (bits & 0x7f800000u) != 0x7f800000u; }

/// Bits of the mass of a score. Softmax: (s - base) / range / deviation, which does not underflow for small scores.
fn mass(bits: u32, base: f32, range: f32, deviation: f32) -> u32 {
  var m = bitcast<f32>(bits);
  if (dims.map == AFFINE) { m = m + 1.0; }
  if (dims.map == SOFTMAX) { m = exp((m - base) / range / deviation); }
  if (dims.map == SHIFT) { m = m - base; }
  if (dims.map == EXP) { m = exp(m - base); }
  let made = bitcast<u32>(m);
  return select(made, 0u, (made & 0x80000000u) != 0u);
}

/// The exponent of the last place of a positive f32.
fn lastPlace(bits: u32) -> i32 { return max(i32(bits >> 23u), 1) - 150; }

fn add(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = a.x + b.x;
  return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}
fn reaches(a: vec2<u32>, b: vec2<u32>) -> bool { return a.y > b.y || (a.y == b.y && a.x >= b.x); }

/// A positive f32 in units of 2^unit, to the nearest. It is below 2^64 of them.
fn inUnits(bits: u32, unit: i32) -> vec2<u32> {
  let digits = (bits & 0x7fffffu) | select(0u, 0x800000u, bits >= 0x800000u);
  let shift = lastPlace(bits) - unit;
  if (shift < -24) { return vec2<u32>(0u); }
  if (shift < 0) { return vec2<u32>(((digits >> u32(-shift - 1)) + 1u) >> 1u, 0u); }
  if (shift == 0) { return vec2<u32>(digits, 0u); }
  if (shift < 32) { return vec2<u32>(digits << u32(shift), digits >> u32(32 - shift)); }
  return vec2<u32>(0u, digits << u32(min(shift - 32, 31)));
}

/// a * b >> 32, b below 2^32.
fn fraction(a: vec2<u32>, b: u32) -> vec2<u32> {
  return add(vec2<u32>(product(a.x, b).y, 0u), product(a.y, b));
}
fn product(a: u32, b: u32) -> vec2<u32> {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
  return vec2<u32>((other << 16u) | (low & 0xffffu), (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.y;
  if (dims.evictable == 0u) {
    if (lane == 0u) { counts[dims.countsAt + row] = 0u; }
    return; // the whole workgroup
  }
  let run = (dims.evictable + LANES - 1u) / LANES;
  // Threads with ranks. Loops that end at the constant LANES are unrolled by Mesa: 75 s to compile.
  let runs = (dims.evictable + run - 1u) / run;
  let begin = min(lane * run, dims.evictable);
  let end = min(begin + run, dims.evictable);
  let bestBits = scoreBits(row, 0u);
  let lastBits = scoreBits(row, dims.evictable - 1u);
  let best = bitcast<f32>(bestBits);
  let base = select(best, bitcast<f32>(lastBits), dims.map == SHIFT);
  var range = 1.0;
  var deviation = 1.0;
  var informed = finite(bestBits) && (lastBits & 0x7fffffffu) <= 0x7f800000u;
  if (dims.map == SOFTMAX) {
    range = best - bitcast<f32>(lastBits);
    informed = informed && range > 0.0 && finite(bitcast<u32>(range));
    if (!informed) { range = 1.0; }
    var sum = 0.0;
    for (var i = begin; i < end; i += 1u) { sum += (score(row, i) - best) / range; }
    parts[lane] = sum;
    workgroupBarrier();
    var mean = 0.0;
    for (var i = 0u; i < runs; i += 1u) { mean += parts[i]; }
    mean /= f32(dims.evictable);
    workgroupBarrier();
    sum = 0.0;
    for (var i = begin; i < end; i += 1u) {
      let x = (score(row, i) - best) / range - mean;
      sum += x * x;
    }
    parts[lane] = sum;
    workgroupBarrier();
    var squares = 0.0;
    for (var i = 0u; i < runs; i += 1u) { squares += parts[i]; }
    deviation = sqrt(squares / f32(dims.evictable));
  }

  let highest = mass(bestBits, base, range, deviation);
  informed = informed && highest > 0u && finite(highest);
  var unit = lastPlace(highest) - 16; // 2^24 of the largest mass are below 2^64 units
  var before = vec2<u32>(0u); // mass of the ranks before this thread's
  var total = vec2<u32>(0u);
  for (var turn = 0; turn < 2; turn += 1) { // the first finds out how large the sum is
    var sum = vec2<u32>(0u);
    for (var i = begin; i < end; i += 1u) { sum = add(sum, inUnits(mass(scoreBits(row, i), base, range, deviation), unit)); }
    workgroupBarrier();
    sums[lane] = sum;
    workgroupBarrier();
    total = vec2<u32>(0u);
    for (var i = 0u; i < runs; i += 1u) {
      if (i == lane) { before = total; }
      total = add(total, sums[i]);
    }
    let bits = select(firstLeadingBit(total.x), 32u + firstLeadingBit(total.y), total.y > 0u);
    if (turn == 0) { unit += i32(bits) - 52; } // an f64 has 53 bits
  }

  var wanted = fraction(total, dims.threshold);
  if (dims.all != 0u) { wanted = total; }
  if (!informed) {
    if (lane == 0u) { counts[dims.countsAt + row] = dims.uninformed; }
    return;
  }
  // Of the threads' runs, one is where the sum reaches what is wanted; k >= 1, so the first run reaches 0 too.
  if (lane > 0u && reaches(before, wanted)) { return; }
  for (var i = begin; i < end; i += 1u) {
    before = add(before, inUnits(mass(scoreBits(row, i), base, range, deviation), unit));
    if (reaches(before, wanted)) {
      counts[dims.countsAt + row] = i + 1u;
      return;
    }
  }
}
