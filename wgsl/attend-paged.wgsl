// attend-paged: attention of n new queries over one layer of the paged, ragged cache. Their own entries are the last n of every list, so query i, at
// position start + i, sees the first length[h] - (n - 1 - i) entries of head h, in whatever order they lie; with a sliding window only those at
// positions > start + i - slidingWindow. Formula: attend-causal. Pages are drawn in asm/entry-page.ts; int8 rows are value * scale.
// in   0 q [n, Hq, d] f32, at a multiple of 16 bytes    1 pool, as vec4f for f32 pages    2 the pool again, as words, for f16 and int8 pages
//      3 lists: length [H], where its pages begin in lists [H], where its blinds begin [H]; then page numbers, and if there is a window, of every
//        entry the first query that is too far away to see it, in blindBits bits (n at most)
// out  4 out [n, Hq, d] f32; zeros for a query that sees nothing. With several splits of the entries the parts of attend-out, for attend-merge
// grid decode: (ceil(G / HEADS), H, splits), n = 1: attend-decode
//      main: (ceil(n G / 32), H, splits): attend-tile
//      alone: ceil(n Hq splits / 8) workgroups: attend-alone, for adapters on which barriers are slow
// twin asm/attend-paged.ts; 1e-5 of the largest |v| (order of sums); 1e-4 for one query on int8 pages, where WASM rounds q and the weights

struct Dims {
  qAt: u32,
  poolAt: u32,
  wordsAt: u32,
  listsAt: u32,
  outAt: u32,
  n: u32,
  queryHeads: u32,
  kvHeads: u32,
  vecs: u32, // d / 4
  blindBits: u32, // 0 = no window, 1, 8 or 16
  splits: u32,
  splitKeys: u32, // entries in a split
  scale: f32,
  entryType: u32, // as in asm/entry-page.ts
  pageWords: u32,
  entriesPerPage: u32,
}

@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> pool: array<vec4f>;
@group(0) @binding(2) var<storage, read> words: array<u32>;
@group(0) @binding(3) var<storage, read> lists: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4f>;
@group(0) @binding(5) var<uniform> dims: Dims;

const F32 = 0u;
const HALF = 1u;
const FEW = 4u; // keys at a time in attend-alone; 8 are no faster on lavapipe, and take twice as long to compile
//#include "parts/attend-out.wgsl"
//#include "parts/attend-tile.wgsl"
//#include "parts/attend-decode.wgsl"
//#include "parts/attend-alone.wgsl"

fn firstKey(h: u32, i: u32) -> u32 {
  return 0u;
}

fn keyEnd(h: u32, i: u32) -> u32 {
  let end = lists[dims.listsAt + h] + i + 1u;
  return end - min(end, dims.n);
}

fn entryOf(h: u32, j: u32) -> Entry {
  let E = dims.entriesPerPage;
  let slot = j % E;
  let page = lists[dims.listsAt + lists[dims.listsAt + dims.kvHeads + h] + j / E] * dims.pageWords;
  var blind = EVERYBODY;
  if (dims.blindBits > 0u) {
    let bit = j * dims.blindBits;
    let word = lists[dims.listsAt + lists[dims.listsAt + 2u * dims.kvHeads + h] + bit / 32u];
    blind = extractBits(word, bit % 32u, dims.blindBits);
  }
  if (dims.entryType == F32) {
    let row = (dims.poolAt + page) / 4u + slot * dims.vecs;
    return Entry(row, row + E * dims.vecs, 1.0, 1.0, blind);
  }
  if (dims.entryType == HALF) {
    let row = dims.wordsAt + page + 2u * slot * dims.vecs;
    return Entry(row, row + 2u * E * dims.vecs, 1.0, 1.0, blind);
  }
  let row = dims.wordsAt + page + slot * dims.vecs;
  let scales = dims.wordsAt + page + 2u * E * dims.vecs + slot;
  return Entry(row, row + E * dims.vecs, bitcast<f32>(words[scales]), bitcast<f32>(words[scales + E]), blind);
}

fn keyVec(at: u32, c: u32) -> vec4f {
  if (dims.entryType == F32) { return pool[at + c]; }
  if (dims.entryType == HALF) { return vec4f(unpack2x16float(words[at + 2u * c]), unpack2x16float(words[at + 2u * c + 1u])); }
  return vec4f(unpack4xI8(words[at + c]));
}

fn valueVec(at: u32, c: u32) -> vec4f {
  return keyVec(at, c);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  attendTile(group.x, group.y, group.z, lane);
}

@compute @workgroup_size(64)
fn decode(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  attendDecode(group.x, group.y, group.z, lane);
}

@compute @workgroup_size(8)
fn alone(@builtin(global_invocation_id) id: vec3u) {
  attendAlone(id.x);
}
