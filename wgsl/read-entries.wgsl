// read-entries: entries of the cache as f32 rows again, whichever list they are in: the inverse of store-entries. Pages are drawn in asm/entry-page.ts.
// in   0 pool, words of 4 bytes    1 places [count] u32: page * E + slot of each entry
// out  2 k    3 v [count, d] f32, as bits: f32 rows bit for bit, f16 exactly (NaN stays NaN), int8 rows value * scale
// grid (ceil(count d / 4 / 64) folded, 2: keys, values): one thread = four numbers
// twin asm/read-entries.ts; equal

struct Dims {
  poolAt: u32,
  placesAt: u32,
  kAt: u32,
  vAt: u32,
  count: u32,
  vecs: u32, // d / 4
  entryType: u32, // as in asm/entry-page.ts
  pageWords: u32,
  entriesPerPage: u32,
}

@group(0) @binding(0) var<storage, read> pool: array<u32>;
@group(0) @binding(1) var<storage, read> places: array<u32>;
@group(0) @binding(2) var<storage, read_write> k: array<u32>;
@group(0) @binding(3) var<storage, read_write> v: array<u32>;
@group(0) @binding(4) var<uniform> dims: Dims;

const F32 = 0u;
const HALF = 1u;

/** Columns 4c..4c+3 of a row of a page, as bits of f32. */
fn bitsOf(page: u32, row: u32, c: u32) -> vec4u {
  if (dims.entryType == F32) {
    let start = page + (row * dims.vecs + c) * 4u;
    return vec4u(pool[start], pool[start + 1u], pool[start + 2u], pool[start + 3u]);
  }
  if (dims.entryType == HALF) {
    let start = page + (row * dims.vecs + c) * 2u;
    return bitcast<vec4u>(vec4f(unpack2x16float(pool[start]), unpack2x16float(pool[start + 1u])));
  }
  let scale = bitcast<f32>(pool[page + 2u * dims.entriesPerPage * dims.vecs + row]);
  return bitcast<vec4u>(vec4f(unpack4xI8(pool[page + row * dims.vecs + c])) * scale);
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= dims.count * dims.vecs) { return; }
  let place = places[dims.placesAt + i / dims.vecs];
  let page = dims.poolAt + place / dims.entriesPerPage * dims.pageWords;
  let x = bitsOf(page, place % dims.entriesPerPage + group.z * dims.entriesPerPage, i % dims.vecs);
  for (var c = 0u; c < 4u; c += 1u) {
    if (group.z == 0u) { k[dims.kAt + 4u * i + c] = x[c]; } else { v[dims.vAt + 4u * i + c] = x[c]; }
  }
}
