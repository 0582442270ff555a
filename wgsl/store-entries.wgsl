// store-entries: writes counts[h] entries of every KV head into its pages, from slot from[h] of its list on. Pages are drawn in asm/entry-page.ts.
//   int8 row: scale = max |x| / 127, value = round half to even(x / scale); a row of zeros has scale 0
//   f16: to nearest, ties to even; values beyond +-65504 become that (no key comes near), NaN stays NaN: half-bits
// in   0 k    1 v [*, H, d] f32 as bits, at multiples of 16 bytes    2 order [H, stride] u32: entry i is row order[h, i]; row i where ordered is 0
//      3 lists: from % E [H], counts [H], where its pages begin in lists [H]; then the numbers of the pages that are written
// out  4 pool, words of 4 bytes
// grid main: (ceil(most entries / 8), H, 2: keys, values): one workgroup = 8 rows of one head, 8 threads each
//      alone: (ceil(most entries / 8), H, 2): one thread = one row, for adapters on which barriers are slow
// twin asm/store-entries.ts; f32 and f16 rows bit for bit; int8 values within one step (x / scale near a half), scales 3e-7 relative (division)

struct Dims {
  kAt: u32,
  vAt: u32,
  orderAt: u32,
  listsAt: u32,
  poolAt: u32,
  kvHeads: u32,
  vecs: u32, // d / 4
  ordered: u32,
  stride: u32,
  entryType: u32, // as in asm/entry-page.ts
  pageWords: u32,
  entriesPerPage: u32,
}

@group(0) @binding(0) var<storage, read> k: array<vec4u>;
@group(0) @binding(1) var<storage, read> v: array<vec4u>;
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<storage, read> lists: array<u32>;
@group(0) @binding(4) var<storage, read_write> pool: array<u32>;
@group(0) @binding(5) var<uniform> dims: Dims;

const F32 = 0u;
const HALF = 1u;
const INT8 = 2u;
const NAN_OR_INFINITE = 0x7f800000u;
var<workgroup> tops: array<u32, 64>; // [8 rows, 8 threads]

fn load(h: u32, i: u32, values: u32, c: u32) -> vec4u {
  var row = i;
  if (dims.ordered != 0u) { row = order[dims.orderAt + h * dims.stride + i]; }
  let at = (row * dims.kvHeads + h) * dims.vecs + c;
  if (values != 0u) { return v[dims.vAt / 4u + at]; }
  return k[dims.kAt / 4u + at];
}

//#include "parts/half-bits.wgsl"

/** The largest |x| by its bits: NaN is largest, so that a bad row stays loud. */
fn topOf(most: u32, x: vec4u) -> u32 {
  let bits = x & vec4u(0x7fffffffu);
  return max(max(max(bits.x, bits.y), max(bits.z, bits.w)), most);
}

/** Columns first, first + step, .. of the row; the thread of column 0 writes the scale. */
fn store(h: u32, i: u32, values: u32, first: u32, step: u32, most: u32) {
  let e = lists[dims.listsAt + h] + i;
  let page = dims.poolAt + lists[dims.listsAt + lists[dims.listsAt + 2u * dims.kvHeads + h] + e / dims.entriesPerPage] * dims.pageWords;
  let row = values * dims.entriesPerPage + e % dims.entriesPerPage;
  if (dims.entryType == F32) {
    for (var c = first; c < dims.vecs; c += step) {
      let x = load(h, i, values, c);
      let to = page + (row * dims.vecs + c) * 4u;
      pool[to] = x.x;
      pool[to + 1u] = x.y;
      pool[to + 2u] = x.z;
      pool[to + 3u] = x.w;
    }
    return;
  }
  if (dims.entryType == HALF) {
    for (var c = first; c < dims.vecs; c += step) {
      let x = load(h, i, values, c);
      let to = page + (row * dims.vecs + c) * 2u;
      pool[to] = halfPair(x.xy);
      pool[to + 1u] = halfPair(x.zw);
    }
    return;
  }
  let top = select(bitcast<f32>(most), 0.0, most < 0x03aa2425u); // 1e-36: 127 / top would not be finite
  let inverse = select(127.0 / top, 0.0, top == 0.0);
  for (var c = first; c < dims.vecs; c += step) {
    let steps = clamp(round(bitcast<vec4f>(load(h, i, values, c)) * inverse), vec4f(-127.0), vec4f(127.0));
    pool[page + row * dims.vecs + c] = pack4xI8(vec4i(steps));
  }
  if (first == 0u) {
    let scale = select(bitcast<u32>(top / 127.0), most, most >= NAN_OR_INFINITE);
    pool[page + 2u * dims.entriesPerPage * dims.vecs + row] = scale;
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let h = group.y;
  let i = group.x * 8u + lane / 8u;
  let within = i < lists[dims.listsAt + dims.kvHeads + h];
  var most = 0u;
  if (within && dims.entryType == INT8) {
    for (var c = lane % 8u; c < dims.vecs; c += 8u) { most = topOf(most, load(h, i, group.z, c)); }
  }
  tops[lane] = most;
  workgroupBarrier();
  for (var t = 0u; t < 8u; t += 1u) { most = max(most, tops[(lane & 56u) + t]); }
  if (within) { store(h, i, group.z, lane % 8u, 8u, most); }
}

@compute @workgroup_size(8)
fn alone(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= lists[dims.listsAt + dims.kvHeads + id.y]) { return; }
  var most = 0u;
  for (var c = 0u; c < dims.vecs && dims.entryType == INT8; c += 1u) { most = topOf(most, load(id.y, id.x, id.z, c)); }
  store(id.y, id.x, id.z, 0u, 1u, most);
}
