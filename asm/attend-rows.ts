// attend-rows: the rows that attention works on and the tile of entries they look at, both in the caller's scratch.
// A row is one (query, query head) of a KV head's group: row r = query r / G, head r % G. Up to ROWS rows share a tile of up to
// TILE entries. Each keeps the maximum of its scores so far, the sum of e^(s - maximum) and the so weighted sum of V, all f32.

// @ts-ignore: decorator
@inline export const ROWS: i32 = 64;
// @ts-ignore: decorator
@inline export const TILE: i32 = 64; // tiles of 32 or 128 keys, blocks of 32 or 128 rows: within 3%
// @ts-ignore: decorator
@inline export const LEAST: f32 = -3.0e38; // the maximum before any key: finite, so that LEAST - LEAST is 0 and not NaN

/**
 * The scratch: rows of one KV head and the tile they look at. `limit` and `low` are i32: a row sees entry e of a list at
 * position p if e < limit and p > low. Positions are read only with a sliding window.
 *   most, total [ROWS] f32: running maximum and sum    limit, low [ROWS] i32    positions [TILE] i32
 *   p f32: the scores of eight rows, then e^(score - maximum)    queries (scaled), sums f32    k, v: the tile, f32
 * How p, queries, sums lie depends on who works:
 *   attend-tile    p [TILE, 8]: an entry's scores for eight rows side by side    queries, sums [ROWS / 8, d, 8]
 *   attend-decode  p [8, TILE + 4]: a row's scores side by side, P_STRIDE bytes a row    queries, sums [8, d]
 * k is [TILE, d], v [TILE, d + 16]: one line more, so that rows of 512 bytes do not fall on the same cache sets.
 * querySteps, weightSteps [8] f32: attend-decode-int8
 */
@unmanaged
export class Rows {
  most: usize;
  total: usize;
  limit: usize;
  low: usize;
  positions: usize;
  p: usize;
  queries: usize;
  sums: usize;
  k: usize;
  v: usize;
  querySteps: usize;
  weightSteps: usize;
  d: i32;
  count: i32;
  sink: i32; // written, never read: keeps loads that are made for the cache only (attend-decode)
}

// @ts-ignore: decorator
@inline const HEADER: usize = 128; // Rows (60 bytes), then Pages (28)
/** Where attend-paged keeps its Pages. */
// @ts-ignore: decorator
@inline export const PAGES_AT: usize = 64;
// @ts-ignore: decorator
@inline const P_FLOATS: i32 = 8 * (TILE + 4);

/** Decoding: bytes from one row of p to the next. Scores are written four at a time, so a row has room for up to three past the tile. */
// @ts-ignore: decorator
@inline export const P_STRIDE: usize = <usize>(TILE + 4) * 4;

/** Bytes of scratch for attendCausal and attendPaged. */
export function attendScratchBytes(d: i32): usize {
  return HEADER + <usize>(4 * ROWS + 2 * 8 + TILE + P_FLOATS + 2 * ROWS * d + TILE * d + TILE * (d + 16)) * 4;
}

export function layRows(scratch: usize, d: i32): Rows {
  const rows = changetype<Rows>(scratch);
  const block = <usize>(ROWS * d) << 2;
  rows.d = d;
  rows.most = scratch + HEADER;
  rows.total = rows.most + <usize>ROWS * 4;
  rows.limit = rows.total + <usize>ROWS * 4;
  rows.low = rows.limit + <usize>ROWS * 4;
  rows.querySteps = rows.low + <usize>ROWS * 4;
  rows.weightSteps = rows.querySteps + 8 * 4;
  rows.positions = rows.weightSteps + 8 * 4;
  rows.p = rows.positions + <usize>TILE * 4;
  rows.queries = rows.p + <usize>P_FLOATS * 4;
  rows.sums = rows.queries + block;
  rows.k = rows.sums + block;
  rows.v = rows.k + (<usize>(TILE * d) << 2);
  return rows;
}

// @ts-ignore: decorator
@inline export function keyRow(rows: Rows, t: i32): usize {
  return rows.k + (<usize>(t * rows.d) << 2);
}

// @ts-ignore: decorator
@inline export function valueRow(rows: Rows, t: i32): usize {
  return rows.v + (<usize>(t * (rows.d + 16)) << 2);
}

// @ts-ignore: decorator
@inline export function copyRow(to: usize, from: usize, d: i32): void {
  const end = from + (<usize>d << 2);
  for (; from < end; from += 16, to += 16) v128.store(to, v128.load(from));
}

/** Rows first .. first + count - 1 of head h, empty of keys. Query 0 sees the first `limit0` entries and stands at `position0`. */
export function openRows(
  rows: Rows, q: usize, first: i32, count: i32, G: i32, Hq: i32, h: i32,
  scale: f32, limit0: i32, position0: i32, slidingWindow: i32,
): void {
  const d = rows.d;
  const padded = (count + 7) & ~7;
  rows.count = count;
  for (let r = 0; r < padded; r++) {
    const row = first + min(r, count - 1); // rows past the last repeat it; closeRows leaves them out
    const query = row / G;
    const at = <usize>r << 2;
    store<f32>(rows.most + at, LEAST);
    store<f32>(rows.total + at, 0);
    store<i32>(rows.limit + at, limit0 + query);
    store<i32>(rows.low + at, slidingWindow ? position0 + query - slidingWindow : -1);
    const from = q + (<usize>((query * Hq + h * G + (row % G)) * d) << 2);
    const to = rows.queries + (<usize>((r >> 3) * d * 8 + (r & 7)) << 2);
    for (let c = 0; c < d; c++) store<f32>(to + (<usize>c << 5), load<f32>(from + (<usize>c << 2)) * scale);
  }
  memory.fill(rows.sums, 0, <usize>(padded * d) << 2);
}

/** out = sums / total; a total of 0 (nothing seen) gives zeros. */
export function closeRows(rows: Rows, out: usize, first: i32, G: i32, Hq: i32, h: i32): void {
  const d = rows.d;
  for (let r = 0; r < rows.count; r++) {
    const row = first + r;
    const total = load<f32>(rows.total + (<usize>r << 2));
    const inverse: f32 = total == 0 ? 0 : <f32>1 / total;
    const to = out + (<usize>(((row / G) * Hq + h * G + (row % G)) * d) << 2);
    const from = rows.sums + (<usize>((r >> 3) * d * 8 + (r & 7)) << 2);
    for (let c = 0; c < d; c++) store<f32>(to + (<usize>c << 2), load<f32>(from + (<usize>c << 5)) * inverse);
  }
}
