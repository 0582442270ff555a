// sample-pick: the next token, from what sample-stats says of the logits. greedy: the likeliest. main: a draw, in the order of ids, from what top_k,
// top_p and min_p leave; each keeps a prefix of the tokens by falling weight, the lower id first among equals.
//   token = first id at which the running sum of the kept ids' weights exceeds draw * their sum
// Few tokens are looked at. Without cuts: the slice in which the draw falls. With them: the segments that may hold a kept token, those whose largest
// key reaches a floor. It is the k-th largest of the segments' keys (k ids reach that), the weight (1 - p) total / vocab (lighter ones cannot make up
// 1 - p), or min_p. Thresholds are searched for among the keys: a cut is exact but for the sums of top_p.
// in   0 logits, as in sample-stats    2 stats, from sample-stats    3 list [1024 without cuts, else vocab] of key and id: scratch
// out  1 counts [vocab] u32, that of the token + 1 when `counted`    4 token [1] u32, 0xffffffff where a logit is NaN or infinite
// grid 1 workgroup; one thread = a run of slices, of segments, of list entries. One thread for all of them is no faster on software adapters
// twin sample of worker/engine/sampler.ts, in f64; equal unless the draw or a cut is within 1e-5 of a bound between two tokens (f32 sums, exp)

//#include "parts/sample-keys.wgsl"
//#include "parts/sample-sums.wgsl"

struct Dims {
  logitsAt: u32,
  countsAt: u32,
  statsAt: u32,
  listAt: u32,
  tokenAt: u32,
  vocab: u32,
  penalised: u32,
  counted: u32,
  frequency: f32,
  presence: f32,
  temperature: f32,
  inverseTemperature: f32,
  topK: u32, // 0 = off, else less than vocab
  topP: f32, // 1 = off
  minP: f32, // 0 = off
  nucleusFloor: f32, // (1 - topP) / vocab
  draw: f32, // in [0, 1)
}

@group(0) @binding(0) var<storage, read> logits: array<u32>;
@group(0) @binding(1) var<storage, read_write> counts: array<u32>;
@group(0) @binding(2) var<storage, read> stats: array<u32>;
@group(0) @binding(3) var<storage, read_write> list: array<vec2u>;
@group(0) @binding(4) var<storage, read_write> token: array<u32>;
@group(0) @binding(5) var<uniform> dims: Dims;

const BROKEN = 0xffffffffu;
const SLICE = 1024u;
const SEGMENT = 32u;
const BELOW_1 = 0.99999994; // the f32 before 1: x * BELOW_1 < x
const SLACK = 1e-3; // off the logarithm of a floor, far more than f32 gets wrong

// One loop does all steps, so that its sums, and their barriers, are compiled once: software adapters take minutes for ten of them.
const SLICES = 0u; // weigh the slices; without cuts, find the one that is drawn from
const FLOOR = 1u; // search for the k-th largest key of segments
const COLLECT = 2u; // list the ids that may be kept, ascending
const TOP_K = 3u; // search for the k-th largest key of the list
const TOP_K_TIES = 4u; // cut what is below it, and ties from the highest id on
const WEIGH = 5u; // what top_k left
const TOP_P = 6u; // search for the key at which their weight reaches p
const TOP_P_TIES = 7u;
const DRAW = 8u;

struct State {
  step: u32,
  first: u32, // the items of the step: slices, segments, or entries of the list
  count: u32,
  largest: u32, // key
  low: u32, // keys below cannot be kept
  wanted: f32, // what the keys that are searched for amount to, in number or weight
  reached: u32, // from this key on they do, unless all together, those from `low` on, do not
  missed: u32, // from this key on they do not
  above: f32, // what they amount to there
  at: vec4u, // keys between the two to try next
  left: f32, // without cuts: of the draw, in the slice that it falls into
}

struct Outcome {
  total: vec4f,
  chosen: vec2u, // a slice, and what is left of the draw there, as f32
}

var<workgroup> topKey: atomic<u32>;
var<workgroup> topId: atomic<u32>; // its complement, so that the lowest id wins
var<workgroup> broken: atomic<u32>;
var<workgroup> best: vec3u;
var<workgroup> outcome: Outcome;

fn slices() -> u32 {
  return (dims.vocab + SLICE - 1u) / SLICE;
}

fn segments() -> u32 {
  return (dims.vocab + SEGMENT - 1u) / SEGMENT;
}

fn hasCuts() -> bool {
  return dims.topK != 0u || dims.topP < 1.0 || dims.minP > 0.0;
}

/// The largest key of all, the lowest id that has it, 1 where a logit is not finite.
fn merge(lane: u32) -> vec3u {
  var own = vec2u();
  for (var s = lane; s < slices(); s += LANES) {
    let at = dims.statsAt + s * 4u;
    if (stats[at] > own.x) { own = vec2u(stats[at], stats[at + 1u]); }
    if (stats[at + 2u] != 0u) { atomicStore(&broken, 1u); }
  }
  atomicMax(&topKey, own.x);
  workgroupBarrier();
  if (own.x == atomicLoad(&topKey)) { atomicMax(&topId, ~own.y); }
  workgroupBarrier();
  if (lane == 0u) { best = vec3u(atomicLoad(&topKey), ~atomicLoad(&topId), atomicLoad(&broken)); }
  return workgroupUniformLoad(&best);
}

fn take(id: u32) {
  token[dims.tokenAt] = id;
  if (dims.counted != 0u) { counts[dims.countsAt + id] += 1u; }
}

/// The smallest key that may weigh so much.
fn floorOf(weight: f32, largest: u32) -> u32 {
  return keyOf(bitcast<u32>(logitOf(largest) + dims.temperature * (log(weight) - SLACK)));
}

/// What item i counts in this step.
fn amount(state: State, i: u32) -> vec4f {
  if (state.step == SLICES) {
    let at = dims.statsAt + i * 4u;
    return vec4f(bitcast<f32>(stats[at + 3u]) * weightOf(stats[at], state.largest));
  }
  var key = 0u;
  if (state.step <= COLLECT) { key = stats[dims.statsAt + slices() * 4u + i]; } else { key = list[dims.listAt / 2u + i].x; }
  if (key < state.low) { return vec4f(); } // a segment without candidates, an entry that was cut
  switch (state.step) {
    case COLLECT: {
      var found = 0.0; // exact: below 2^24
      for (var id = i * SEGMENT; id < min((i + 1u) * SEGMENT, dims.vocab); id += 1u) { found += select(0.0, 1.0, penalisedKey(id) >= state.low); }
      return vec4f(found);
    }
    case FLOOR, TOP_K, TOP_P: {
      if (key < state.at.x || key >= state.missed) { return vec4f(); }
      var one = 1.0;
      if (state.step == TOP_P) { one = weightOf(key, state.largest); }
      return select(vec4f(), vec4f(one), vec4u(key) >= state.at);
    }
    case TOP_K_TIES, TOP_P_TIES: { return vec4f(select(0.0, 1.0, key == state.reached)); }
    default: {}
  }
  let weight = weightOf(key, state.largest);
  if (state.step == DRAW && weight < dims.minP && key != state.largest) { return vec4f(); }
  return vec4f(weight);
}

/// Whether the items of this step are gone through once more when their running sum is known.
fn acts(step: u32) -> bool {
  return step == COLLECT || step == TOP_K_TIES || step == TOP_P_TIES || step == DRAW || (step == SLICES && !hasCuts());
}

/// Goes through items own.x to before own.y, of which the first has `running.before` before it.
fn act(state: State, own: vec2u, running: Running) {
  var sum = running.before.x;
  let total = rows[ROW].x;
  var left = state.left;
  if (state.step == SLICES || hasCuts()) { left = dims.draw * total; }
  left = min(left, total * BELOW_1);
  let draws = (state.step == SLICES || state.step == DRAW) && sum <= left && left < running.after.x; // one lane of all
  var drawn = own.x;
  var before = sum;
  var ties = 1.0;
  if (state.step == TOP_P_TIES) { ties = weightOf(state.reached, state.largest); }
  ties = max(ceil((state.wanted - state.above) / ties), 1.0);
  for (var i = own.x; i < own.y; i += 1u) {
    let here = amount(state, i).x;
    if (state.step == COLLECT && here > 0.0) {
      var at = dims.listAt / 2u + u32(sum);
      for (var id = i * SEGMENT; id < min((i + 1u) * SEGMENT, dims.vocab); id += 1u) {
        let key = penalisedKey(id);
        if (key >= state.low) { list[at] = vec2u(key, id); at += 1u; }
      }
    } else if (state.step == TOP_K_TIES || state.step == TOP_P_TIES) {
      let at = dims.listAt / 2u + i;
      if (list[at].x < state.reached || (here > 0.0 && sum >= ties)) { list[at].x = 0u; }
    } else if (here > 0.0 && sum <= left) { // the last one, where rounding leaves a crumb
      drawn = i;
      before = sum;
    }
    sum += here;
  }
  if (!draws) { return; }
  if (state.step == SLICES) { outcome.chosen = vec2u(drawn, bitcast<u32>(left - before)); } else { take(list[dims.listAt / 2u + drawn].y); }
}

fn isNeeded(step: u32, count: u32) -> bool {
  switch (step) {
    case FLOOR: { return dims.topK != 0u && dims.topK <= segments(); }
    case TOP_K, TOP_K_TIES: { return dims.topK != 0u && dims.topK < count; }
    case WEIGH: { return dims.topK != 0u && dims.topP < 1.0; }
    case TOP_P, TOP_P_TIES: { return dims.topP < 1.0; }
    default: { return true; }
  }
}

fn searches(step: u32) -> bool {
  return step == FLOOR || step == TOP_K || step == TOP_P;
}

/// Keys that split what is searched into five parts.
fn withThresholds(now: State) -> State {
  var state = now;
  let part = max((state.missed - state.reached) / 5u, 1u);
  state.at = min(vec4u(state.reached) + part * vec4u(1u, 2u, 3u, 4u), vec4u(state.missed));
  return state;
}

/// After a step: what its total says, and the next step that is needed.
fn next(now: State, outcome: Outcome) -> State {
  var state = now;
  if (searches(state.step)) {
    let amounts = state.above + outcome.total;
    for (var t = 0u; t < 4u; t += 1u) {
      if (amounts[t] >= state.wanted) {
        state.reached = state.at[t];
      } else if (state.at[t] < state.missed) {
        state.missed = state.at[t];
        state.above = amounts[t];
      }
    }
    if (state.missed - state.reached > 1u) { return withThresholds(state); }
  }
  switch (state.step) {
    case SLICES: {
      state.wanted = max(dims.topP * outcome.total.x, 1e-30);
      state.count = segments();
      if (!hasCuts()) {
        state.first = outcome.chosen.x * (SLICE / SEGMENT);
        state.count = min(SLICE / SEGMENT, segments() - state.first);
        state.left = bitcast<f32>(outcome.chosen.y);
      } else if (dims.topK == 0u && dims.topP < 1.0) {
        state.low = max(floorOf(dims.nucleusFloor * outcome.total.x, state.largest), 1u);
      }
      if (dims.minP > 0.0 && (dims.topK == 0u || dims.topP >= 1.0)) { // else it comes after top_p, which is of all that top_k left
        state.low = max(floorOf(dims.minP, state.largest), state.low);
      }
    }
    case FLOOR: { state.low = max(state.low, state.reached); }
    case COLLECT: { state.first = 0u; state.count = u32(outcome.total.x); }
    case WEIGH: { state.wanted = max(dims.topP * outcome.total.x, 1e-30); }
    default: {}
  }
  state.step += 1u;
  while (!isNeeded(state.step, state.count)) { state.step += 1u; }
  if (state.step == FLOOR || state.step == TOP_K) { state.wanted = f32(dims.topK); }
  if (searches(state.step)) {
    state.reached = state.low - 1u;
    state.missed = state.largest + 1u;
    state.above = 0.0;
    return withThresholds(state);
  }
  return state;
}

@compute @workgroup_size(256)
fn greedy(@builtin(local_invocation_index) lane: u32) {
  let top = merge(lane);
  if (lane != 0u) { return; }
  if (top.z != 0u) { token[dims.tokenAt] = BROKEN; } else { take(top.y); }
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) lane: u32) {
  let top = merge(lane);
  if (top.z != 0u) { // the whole workgroup
    if (lane == 0u) { token[dims.tokenAt] = BROKEN; }
    return;
  }
  var state = State(SLICES, 0u, slices(), top.x, 1u, 0.0, 0u, 0u, 0.0, vec4u(), 0.0);
  while (state.step <= DRAW) {
    let own = state.first + run(lane, state.count);
    var amounts = vec4f();
    for (var i = own.x; i < own.y; i += 1u) { amounts += amount(state, i); }
    let running = scan(lane, amounts);
    if (acts(state.step)) { act(state, own, running); }
    if (lane == 0u) { outcome.total = rows[ROW]; }
    storageBarrier(); // the list is read by other lanes than wrote it
    state = next(state, workgroupUniformLoad(&outcome));
  }
}
