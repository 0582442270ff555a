// prune-channels: sets the key channels that the last queries make least of to zero, the same ones in every kept row of a head (ThinK).
//   energy[h,c] = (mean over the group's heads a and the W queries i of q[i,a,c]^2) (mean over kept rows t of k[t,h,c]^2)
//   k[t,h,c] = 0 for the `zeroed` channels of least energy, ties to the lower channel;  kept: rows t = order[h,i], i < counts[h]
// in   1 q [W, Hq, d] f32    2 order [H, stride] u32    3 counts [H] u32
// mid  4 energies [2 H, d] f32: of the queries, then of the keys; d <= 256
// out  0 k [n, H, d] f32
// grid energy: 2 H workgroups, a list of rows each: a thread has one channel of every few rows.  zero: (ceil(most kept / 64), H): 64 rows of a head
// Sums in fixed order: rows of a thread ascending, threads ascending.
// twin asm/prune-channels.ts; zeros equal but where two energies are 1e-5 relative from each other (order of sums)

struct Dims {
  kAt: u32,
  qAt: u32,
  orderAt: u32,
  countsAt: u32,
  energiesAt: u32,
  stride: u32,
  window: u32,
  zeroed: u32,
  queryHeads: u32,
  kvHeads: u32,
  headDim: u32,
}

@group(0) @binding(0) var<storage, read_write> k: array<f32>;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<storage, read> counts: array<u32>;
@group(0) @binding(4) var<storage, read_write> energies: array<f32>;
@group(0) @binding(5) var<uniform> dims: Dims;

const LANES = 256u;
const ROWS = 64u;
var<workgroup> sums: array<f32, LANES>; // then energies
var<workgroup> pruned: array<u32, LANES>;

@compute @workgroup_size(256)
fn energy(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let ofKeys = group.x >= dims.kvHeads;
  let h = group.x % dims.kvHeads;
  let heads = dims.queryHeads / dims.kvHeads; // of the group
  let d = dims.headDim;
  let count = select(dims.window * heads, counts[dims.countsAt + h], ofKeys);
  let turns = LANES / d;
  let c = lane % d;
  var sum = 0.0;
  if (lane < turns * d) {
    for (var i = lane / d; i < count; i += turns) {
      var x = 0.0;
      if (ofKeys) {
        x = k[dims.kAt + (order[dims.orderAt + h * dims.stride + i] * dims.kvHeads + h) * d + c];
      } else {
        x = q[dims.qAt + (i / heads * dims.queryHeads + h * heads + i % heads) * d + c];
      }
      sum += x * x;
    }
  }
  sums[lane] = sum;
  workgroupBarrier();
  if (lane >= d) { return; }
  var all = 0.0;
  for (var t = 0u; t < turns; t += 1u) { all += sums[t * d + lane]; }
  energies[dims.energiesAt + group.x * d + lane] = all / f32(max(count, 1u));
}

@compute @workgroup_size(256)
fn zero(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let h = group.y;
  let d = dims.headDim;
  var own = 0.0;
  if (lane < d) { own = energies[dims.energiesAt + h * d + lane] * energies[dims.energiesAt + (dims.kvHeads + h) * d + lane]; }
  sums[lane] = own;
  workgroupBarrier();
  var below = 0u;
  for (var o = 0u; o < d; o += 1u) {
    let other = sums[o];
    below += select(0u, 1u, other < own || (other == own && o < lane));
  }
  pruned[lane] = select(0u, 1u, below < dims.zeroed);
  workgroupBarrier();
  let first = group.x * ROWS;
  let end = min(first + ROWS, counts[dims.countsAt + h]);
  for (var t = lane; t < ROWS * d; t += LANES) {
    let i = first + t / d;
    let c = t % d;
    if (i < end && pruned[c] == 1u) { k[dims.kAt + (order[dims.orderAt + h * dims.stride + i] * dims.kvHeads + h) * d + c] = 0.0; }
  }
}
