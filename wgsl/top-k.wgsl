// top-k: the rank order of every row. Protected tokens first, by position, then the others by score, higher first, ties to the lower position;
// -0 equals +0, NaN comes last.
//   order = 0 .. first-1, n-last .. n-1, then the `count` - first - last best of first .. n-last-1
// in   0 scores  [rows, n] f32, as bits
// out  1 scratch [rows, 2, others] u32, others = n - first - last: by tile, keys in order, then their tokens; alone: two lists of tokens
//      2 order [rows, count] u32
// grid tiles: (ceil(others / tile), rows), one workgroup sorts `tile` tokens: bitonic, by (key, position), which no two share
//      merge: (ceil(n / 256), rows), one thread = one token: its rank is its place in its own tile, plus how many it comes after in each other one
//      alone: (1, rows), one thread sorts one row by radix, for adapters on which barriers are slow
// A key is the score's monotone image: lower for a higher score, the highest of all for NaN. No rank depends on timing.
// twin asm/top-k.ts; equal

struct Dims {
  scoresAt: u32,
  scratchAt: u32,
  orderAt: u32,
  n: u32,
  count: u32,
  first: u32, // first + last <= count
  last: u32,
  tile: u32, // a power of two, up to 2048
}

@group(0) @binding(0) var<storage, read> scores: array<u32>;
@group(0) @binding(1) var<storage, read_write> scratch: array<u32>;
@group(0) @binding(2) var<storage, read_write> order: array<u32>;
@group(0) @binding(3) var<uniform> dims: Dims;

const LANES = 256u;
const MOST = 2048u;
var<workgroup> keys: array<u32, MOST>; // 8 KiB
var<workgroup> places: array<u32, MOST>; // 8 KiB

fn others() -> u32 { return dims.n - dims.first - dims.last; }

fn keyOf(row: u32, token: u32) -> u32 {
  let bits = scores[dims.scoresAt + row * dims.n + token];
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }
  if (bits == 0x80000000u) { return 0x7fffffffu; }
  return select(bits ^ 0x7fffffffu, bits, (bits & 0x80000000u) != 0u);
}

/// The token that stands at `rank` whatever its score.
fn protectedToken(rank: u32) -> u32 { return select(dims.n - dims.last + rank - dims.first, rank, rank < dims.first); }

@compute @workgroup_size(256)
fn tiles(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let start = group.x * dims.tile;
  for (var i = lane; i < dims.tile; i += LANES) {
    keys[i] = 0xffffffffu; // beyond the end: after NaN, for its place is higher
    if (start + i < others()) { keys[i] = keyOf(group.y, dims.first + start + i); }
    places[i] = i;
  }
  for (var size = 2u; size <= dims.tile; size *= 2u) {
    for (var stride = size / 2u; stride > 0u; stride /= 2u) {
      workgroupBarrier();
      for (var pair = lane; pair < dims.tile / 2u; pair += LANES) {
        let i = 2u * pair - (pair & (stride - 1u));
        let j = i + stride;
        let after = keys[i] > keys[j] || (keys[i] == keys[j] && places[i] > places[j]);
        if (after == ((i & size) == 0u)) {
          let key = keys[i];
          let place = places[i];
          keys[i] = keys[j];
          places[i] = places[j];
          keys[j] = key;
          places[j] = place;
        }
      }
    }
  }
  workgroupBarrier();
  let to = dims.scratchAt + group.y * 2u * others() + start;
  for (var i = lane; i < min(dims.tile, others() - start); i += LANES) {
    scratch[to + i] = keys[i];
    scratch[to + others() + i] = dims.first + start + places[i];
  }
}

@compute @workgroup_size(256)
fn merge(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= dims.n) { return; }
  let row = id.y;
  let to = dims.orderAt + row * dims.count;
  let held = dims.first + dims.last;
  if (id.x < held) {
    order[to + id.x] = protectedToken(id.x);
    return;
  }
  let own = id.x - held;
  let sorted = dims.scratchAt + row * 2u * others();
  let key = scratch[sorted + own];
  let tile = own / dims.tile;
  let wanted = dims.count - held;
  var rank = own % dims.tile;
  for (var start = 0u; start < others() && rank < wanted; start += dims.tile) {
    if (start == tile * dims.tile) { continue; }
    let length = min(dims.tile, others() - start);
    let earlier = start < own; // equal keys of earlier tiles come first
    var before = 0u;
    for (var width = dims.tile; width > 0u; width /= 2u) {
      let next = before + width;
      if (next > length) { continue; }
      let there = scratch[sorted + start + next - 1u];
      if (there < key || (earlier && there == key)) { before = next; }
    }
    rank += before;
  }
  if (rank < wanted) { order[to + held + rank] = scratch[sorted + others() + own]; }
}

var<workgroup> counts: array<u32, 256>;

@compute @workgroup_size(1)
fn alone(@builtin(workgroup_id) group: vec3u) {
  let row = group.y;
  let to = dims.orderAt + row * dims.count;
  let held = dims.first + dims.last;
  for (var i = 0u; i < held; i += 1u) { order[to + i] = protectedToken(i); }
  let wanted = dims.count - held;
  var source = dims.scratchAt + row * 2u * others();
  var spare = source + others();
  for (var shift = 0u; shift < 32u; shift += 8u) {
    for (var digit = 0u; digit < 256u; digit += 1u) { counts[digit] = 0u; }
    for (var i = 0u; i < others(); i += 1u) { counts[(keyOf(row, dims.first + i) >> shift) & 255u] += 1u; }
    var sum = 0u;
    for (var digit = 0u; digit < 256u; digit += 1u) {
      let here = counts[digit];
      counts[digit] = sum;
      sum += here;
    }
    for (var i = 0u; i < others(); i += 1u) {
      var token = dims.first + i;
      if (shift > 0u) { token = scratch[source + i]; }
      let digit = (keyOf(row, token) >> shift) & 255u;
      let rank = counts[digit];
      counts[digit] = rank + 1u;
      if (shift < 24u) { scratch[spare + rank] = token; }
      else if (rank < wanted) { order[to + held + rank] = token; }
    }
    let swapped = source;
    source = spare;
    spare = swapped;
  }
}
