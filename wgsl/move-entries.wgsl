// move-entries: entries of the cache to other places in it, bit for bit: int8 rows keep their scale, nothing is rounded again.
// Pages are drawn in asm/entry-page.ts.
// in   0 moves [count, 2] u32: from, to, each page * E + slot. No place is read and written, none is written twice
// out  1 pool, words of 4 bytes
// grid (ceil(count words / 64) folded, 2: keys, values): one thread = one word, of a row or its scale
// twin asm/move-entries.ts; equal

struct Dims {
  movesAt: u32,
  poolAt: u32,
  count: u32,
  rowWords: u32,
  scaleAt: u32, // where a page's scales begin, in words; 0 = rows have none
  pageWords: u32,
  entriesPerPage: u32,
}

@group(0) @binding(0) var<storage, read> moves: array<u32>;
@group(0) @binding(1) var<storage, read_write> pool: array<u32>;
@group(0) @binding(2) var<uniform> dims: Dims;

/** Word w of a row; the one after the last is its scale. */
fn word(place: u32, values: u32, w: u32) -> u32 {
  let row = place % dims.entriesPerPage + values * dims.entriesPerPage;
  let page = dims.poolAt + place / dims.entriesPerPage * dims.pageWords;
  return page + select(row * dims.rowWords + w, dims.scaleAt + row, w == dims.rowWords);
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  let words = dims.rowWords + select(0u, 1u, dims.scaleAt > 0u);
  if (i >= dims.count * words) { return; }
  let pair = dims.movesAt + 2u * (i / words);
  pool[word(moves[pair + 1u], group.z, i % words)] = pool[word(moves[pair], group.z, i % words)];
}
