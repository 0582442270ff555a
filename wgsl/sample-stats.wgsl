// sample-stats: what a slice of 1024 logits, penalties off, says of itself: its largest, the lowest id that has it, and the weight of them all.
//   p[i] = logits[i] - (counts[i] > 0 ? counts[i] frequency + presence : 0);   weight = sum exp((p[i] - max p) / temperature)
// Logits go by their key, a u32 of the same order (no NaN, -0 = 0): what is compared is exact. The largest of every 32 ids go into `stats` too.
// in   0 logits [vocab] f32, by their bits    1 counts [vocab] u32, not read without penalties
// out  2 stats u32: [slices, 4] = largest key, its id, 1 where a logit is NaN or infinite, weight as f32 (0 when greedy);
//      then [slices * 32] = largest key of each segment of 32 ids, 0 where there are no such ids
// grid main: ceil(vocab / 1024) workgroups, folded into x and y: one thread = 4 ids in a row; then 32 threads join 8 each, one thread those 32
//      alone: ceil(vocab / 1024 / 8) workgroups; one thread = a slice, in the same order, for adapters on which barriers are slow
// twin penalise and argmax of worker/engine/sampler.ts: equal without penalties, with them to an ulp of the logit (f32); weight to 1e-6 (f32 sums)

//#include "parts/sample-keys.wgsl"

struct Dims {
  logitsAt: u32,
  countsAt: u32,
  statsAt: u32,
  vocab: u32,
  penalised: u32,
  frequency: f32,
  presence: f32,
  inverseTemperature: f32, // 0 = greedy
}

@group(0) @binding(0) var<storage, read> logits: array<u32>;
@group(0) @binding(1) var<storage, read> counts: array<u32>;
@group(0) @binding(2) var<storage, read_write> stats: array<u32>;
@group(0) @binding(3) var<uniform> dims: Dims;

const LANES = 256u;
const EACH = 4u;
const SEGMENTS = 32u; // in a slice
const SLICE = LANES * EACH;

var<workgroup> keys: array<u32, LANES>;
var<workgroup> ids: array<u32, LANES>;
var<workgroup> weights: array<f32, LANES>;
var<workgroup> broken: atomic<u32>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let slice = group.y * groups.x + group.x;
  let slices = (dims.vocab + SLICE - 1u) / SLICE;
  if (slice >= slices) { return; } // the whole workgroup
  var own = array<u32, EACH>();
  var key = 0u;
  var id = 0u;
  for (var e = 0u; e < EACH; e += 1u) {
    let i = slice * SLICE + lane * EACH + e;
    own[e] = 0u;
    if (i < dims.vocab) {
      if (!isFinite(logits[dims.logitsAt + i])) { atomicOr(&broken, 1u); }
      own[e] = penalisedKey(i);
    }
    if (own[e] > key) { key = own[e]; id = i; }
  }
  keys[lane] = key;
  ids[lane] = id;
  workgroupBarrier();
  if (lane < SEGMENTS) {
    let first = lane * (LANES / SEGMENTS);
    var best = first;
    for (var l = first; l < first + LANES / SEGMENTS; l += 1u) { if (keys[l] > keys[best]) { best = l; } }
    key = keys[best];
    id = ids[best];
    stats[dims.statsAt + slices * 4u + slice * SEGMENTS + lane] = key;
  }
  workgroupBarrier();
  if (lane < SEGMENTS) { keys[lane] = key; ids[lane] = id; }
  workgroupBarrier();
  if (lane == 0u) {
    for (var s = 1u; s < SEGMENTS; s += 1u) { if (keys[s] > key) { key = keys[s]; id = ids[s]; } }
    keys[0] = key;
  }
  workgroupBarrier();
  var weight = 0.0;
  if (dims.inverseTemperature != 0.0) {
    for (var e = 0u; e < EACH; e += 1u) { if (own[e] != 0u) { weight += weightOf(own[e], keys[0]); } }
  }
  weights[lane] = weight;
  workgroupBarrier();
  if (lane < SEGMENTS) {
    weight = 0.0;
    for (var l = 0u; l < LANES / SEGMENTS; l += 1u) { weight += weights[lane * (LANES / SEGMENTS) + l]; }
  }
  workgroupBarrier();
  if (lane < SEGMENTS) { weights[lane] = weight; }
  workgroupBarrier();
  if (lane == 0u) {
    for (var s = 1u; s < SEGMENTS; s += 1u) { weight += weights[s]; }
    let at = dims.statsAt + slice * 4u;
    stats[at] = key;
    stats[at + 1u] = id;
    stats[at + 2u] = atomicLoad(&broken);
    stats[at + 3u] = bitcast<u32>(weight);
  }
}

@compute @workgroup_size(8)
fn alone(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let slice = (group.y * groups.x + group.x) * 8u + lane;
  let slices = (dims.vocab + SLICE - 1u) / SLICE;
  if (slice >= slices) { return; }
  let end = min((slice + 1u) * SLICE, dims.vocab);
  let each = SLICE / SEGMENTS;
  var key = 0u;
  var id = 0u;
  var bad = 0u;
  for (var s = 0u; s < SEGMENTS; s += 1u) {
    var largest = 0u;
    for (var i = slice * SLICE + s * each; i < min(slice * SLICE + (s + 1u) * each, end); i += 1u) {
      if (!isFinite(logits[dims.logitsAt + i])) { bad = 1u; }
      let own = penalisedKey(i);
      largest = max(largest, own);
      if (own > key) { key = own; id = i; }
    }
    stats[dims.statsAt + slices * 4u + slice * SEGMENTS + s] = largest;
  }
  var weight = 0.0;
  if (dims.inverseTemperature != 0.0) {
    for (var s = 0u; s < SEGMENTS; s += 1u) {
      var ofSegment = 0.0;
      for (var i = slice * SLICE + s * each; i < min(slice * SLICE + (s + 1u) * each, end); i += EACH) {
        var ofFour = 0.0;
        for (var e = i; e < min(i + EACH, end); e += 1u) { ofFour += weightOf(penalisedKey(e), key); }
        ofSegment += ofFour;
      }
      weight += ofSegment;
    }
  }
  let at = dims.statsAt + slice * 4u;
  stats[at] = key;
  stats[at + 1u] = id;
  stats[at + 2u] = bad;
  stats[at + 3u] = bitcast<u32>(weight);
}
