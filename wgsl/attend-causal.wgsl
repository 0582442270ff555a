// attend-causal: causal attention of n queries at positions start .. start + n - 1 over keys 0 .. start + n - 1, flash-style.
//   out[i, a] = sum over j of e^(s_j - m) v[j, h] / sum over j of e^(s_j - m),   s_j = scale q[i, a].k[j, h],  m = max s_j,
//   over start + i - slidingWindow < j <= start + i (slidingWindow 0: no lower bound),  h = a / G,  G = Hq / H
// in   0 q [n, Hq, d] f32    1 k    2 v [>= start + n, H, d] f32    d a multiple of 4, up to 256; views at multiples of 16 bytes
// out  3 out [n, Hq, d] f32; zeros for a query that sees nothing
// grid main: (ceil(n G / 32), H, 1): one workgroup = 32 rows of one KV head, 64 threads; attend-tile. The last rows, which see most, begin first
//      alone: ceil(n Hq / 32) workgroups: one thread = one query of one head, for adapters on which barriers are slow; attend-alone
// twin asm/attend-causal.ts; 1e-5 of the largest |v| (order of sums)

struct Dims {
  qAt: u32,
  kAt: u32,
  vAt: u32,
  outAt: u32,
  n: u32,
  start: u32,
  queryHeads: u32,
  kvHeads: u32,
  vecs: u32, // d / 4
  slidingWindow: u32,
  splits: u32, // 1
  splitKeys: u32, // more than there are
  scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> k: array<vec4f>;
@group(0) @binding(2) var<storage, read> v: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4f>;
@group(0) @binding(4) var<uniform> dims: Dims;

const FEW = 8u; // keys at a time in attend-alone; 4: 1.7 times as long on lavapipe
//#include "parts/attend-out.wgsl"
//#include "parts/attend-tile.wgsl"
//#include "parts/attend-alone.wgsl"

fn firstKey(h: u32, i: u32) -> u32 {
  let end = dims.start + i + 1u;
  return select(0u, end - min(end, dims.slidingWindow), dims.slidingWindow > 0u);
}

fn keyEnd(h: u32, i: u32) -> u32 {
  return dims.start + i + 1u;
}

fn entryOf(h: u32, j: u32) -> Entry {
  let row = (j * dims.kvHeads + h) * dims.vecs;
  let farthest = j + dims.slidingWindow;
  return Entry(row, row, 1.0, 1.0, select(farthest - min(farthest, dims.start), EVERYBODY, dims.slidingWindow == 0u));
}

fn keyVec(at: u32, c: u32) -> vec4f {
  return k[dims.kAt / 4u + at + c];
}

fn valueVec(at: u32, c: u32) -> vec4f {
  return v[dims.vAt / 4u + at + c];
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  attendTile(groups.x - 1u - group.x, group.y, 0u, lane);
}

@compute @workgroup_size(32)
fn alone(@builtin(global_invocation_id) id: vec3u) {
  attendAlone(id.x);
}
