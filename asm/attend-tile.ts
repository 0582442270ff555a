// attend-tile: adds a tile of entries to a block of rows, flash-style: the only scores in memory are those of one tile for eight rows.
// A row keeps its maximum, its sum of e^(score - maximum) and its weighted sum of V; when a tile raises the maximum, both sums shrink.
//   m' = max(m, max s);  total' = total e^(m - m') + sum e^(s - m');  sums' = sums e^(m - m') + sum e^(s - m') v
// in   rows.k, rows.v, rows.positions: the tile, filled by the caller    rows.queries, rows.limit, rows.low: openRows
// out  rows.most (m), rows.total, rows.sums    scratch  rows.p
// Eight rows lie in the lanes of two vectors, so that maxima, sums and corrections are lane by lane, and a product is 8 rows x
// 4 keys (or 4 columns) in registers with K and V row by row, one splat an element. All sums are f32.
import { keyRow, Rows, valueRow } from './attend-rows';
import { exp4, madd } from './exp';

/** Adds the tile's `keys` entries, e0 .. e0 + keys - 1 of their list, to every row that sees them. */
export function attendTile(rows: Rows, e0: i32, keys: i32, windowed: bool): void {
  const d = rows.d;
  for (let t = keys; t & 3; t++) { // whole steps of four keys; no row sees the added ones
    memory.fill(keyRow(rows, t), 0, <usize>d << 2);
    memory.fill(valueRow(rows, t), 0, <usize>d << 2);
    store<i32>(rows.positions + (<usize>t << 2), 0);
  }
  let newest = -1;
  let oldest = i32.MAX_VALUE;
  if (windowed) {
    for (let t = 0; t < keys; t++) {
      const position = load<i32>(rows.positions + (<usize>t << 2));
      newest = max(newest, position);
      oldest = min(oldest, position);
    }
  }
  for (let r = 0; r < rows.count; r += 8) {
    const at = <usize>r << 2;
    // Limits and lows grow with the row.
    const seen = min(keys, load<i32>(rows.limit + at + 28) - e0);
    if (seen <= 0 || (windowed && newest <= load<i32>(rows.low + at))) continue;
    const steps = (seen + 3) & ~3;
    const queries = rows.queries + at * <usize>d;
    scores(rows.p, queries, rows.k, d, steps);
    const hidden = windowed && oldest <= load<i32>(rows.low + at + 28);
    if (hidden || e0 + steps > load<i32>(rows.limit + at)) hide(rows.p, rows.positions, rows.limit + at, rows.low + at, e0, steps, windowed);
    softmaxAndSum(rows, at, steps);
  }
}

/** p[t, r] = k[t].q[r] for eight rows and `keys` keys, four at a time. */
function scores(p: usize, queries: usize, k: usize, d: i32, keys: i32): void {
  const width = <usize>d << 2;
  for (const end = p + (<usize>keys << 5); p < end; p += 128) {
    let a0 = f32x4.splat(0), a1 = f32x4.splat(0), b0 = f32x4.splat(0), b1 = f32x4.splat(0);
    let c0 = f32x4.splat(0), c1 = f32x4.splat(0), d0 = f32x4.splat(0), d1 = f32x4.splat(0);
    let k1 = k + width, k2 = k1 + width, k3 = k2 + width;
    let q = queries;
    for (const last = k1; k < last; k += 16, k1 += 16, k2 += 16, k3 += 16, q += 128) {
      let low = v128.load(q), high = v128.load(q, 16);
      let x = v128.load32_splat(k);
      a0 = madd(low, x, a0); a1 = madd(high, x, a1);
      x = v128.load32_splat(k1);
      b0 = madd(low, x, b0); b1 = madd(high, x, b1);
      x = v128.load32_splat(k2);
      c0 = madd(low, x, c0); c1 = madd(high, x, c1);
      x = v128.load32_splat(k3);
      d0 = madd(low, x, d0); d1 = madd(high, x, d1);
      low = v128.load(q, 32); high = v128.load(q, 48);
      x = v128.load32_splat(k, 4);
      a0 = madd(low, x, a0); a1 = madd(high, x, a1);
      x = v128.load32_splat(k1, 4);
      b0 = madd(low, x, b0); b1 = madd(high, x, b1);
      x = v128.load32_splat(k2, 4);
      c0 = madd(low, x, c0); c1 = madd(high, x, c1);
      x = v128.load32_splat(k3, 4);
      d0 = madd(low, x, d0); d1 = madd(high, x, d1);
      low = v128.load(q, 64); high = v128.load(q, 80);
      x = v128.load32_splat(k, 8);
      a0 = madd(low, x, a0); a1 = madd(high, x, a1);
      x = v128.load32_splat(k1, 8);
      b0 = madd(low, x, b0); b1 = madd(high, x, b1);
      x = v128.load32_splat(k2, 8);
      c0 = madd(low, x, c0); c1 = madd(high, x, c1);
      x = v128.load32_splat(k3, 8);
      d0 = madd(low, x, d0); d1 = madd(high, x, d1);
      low = v128.load(q, 96); high = v128.load(q, 112);
      x = v128.load32_splat(k, 12);
      a0 = madd(low, x, a0); a1 = madd(high, x, a1);
      x = v128.load32_splat(k1, 12);
      b0 = madd(low, x, b0); b1 = madd(high, x, b1);
      x = v128.load32_splat(k2, 12);
      c0 = madd(low, x, c0); c1 = madd(high, x, c1);
      x = v128.load32_splat(k3, 12);
      d0 = madd(low, x, d0); d1 = madd(high, x, d1);
    }
    v128.store(p, a0); v128.store(p, a1, 16);
    v128.store(p, b0, 32); v128.store(p, b1, 48);
    v128.store(p, c0, 64); v128.store(p, c1, 80);
    v128.store(p, d0, 96); v128.store(p, d1, 112);
    k = k3; // k3 has run to the end of its row, where the next four begin
  }
}

/** Scores a row does not see become -infinity. */
function hide(p: usize, positions: usize, limit: usize, low: usize, e0: i32, keys: i32, windowed: bool): void {
  const limit0 = v128.load(limit), limit1 = v128.load(limit, 16);
  const low0 = v128.load(low), low1 = v128.load(low, 16);
  const none = f32x4.splat(-Infinity);
  for (let t = 0; t < keys; t++, p += 32) {
    const e = i32x4.splat(e0 + t);
    let see0 = i32x4.lt_s(e, limit0), see1 = i32x4.lt_s(e, limit1);
    if (windowed) {
      const position = v128.load32_splat(positions + (<usize>t << 2));
      see0 = v128.and(see0, i32x4.gt_s(position, low0));
      see1 = v128.and(see1, i32x4.gt_s(position, low1));
    }
    v128.store(p, v128.bitselect(v128.load(p), none, see0));
    v128.store(p, v128.bitselect(v128.load(p, 16), none, see1), 16);
  }
}

/** Turns the eight rows' scores into e^(s - most) and adds them, and their share of V, to the running sums. `at`: 4 x first row. */
function softmaxAndSum(rows: Rows, at: usize, keys: i32): void {
  const first = rows.p;
  const end = first + (<usize>keys << 5);
  const old0 = v128.load(rows.most + at), old1 = v128.load(rows.most + at, 16);
  let most0 = old0, most1 = old1;
  for (let p = first; p < end; p += 32) {
    most0 = f32x4.pmax(most0, v128.load(p));
    most1 = f32x4.pmax(most1, v128.load(p, 16));
  }
  let total0 = f32x4.splat(0), total1 = f32x4.splat(0);
  for (let p = first; p < end; p += 32) {
    const e0 = exp4(f32x4.sub(v128.load(p), most0));
    const e1 = exp4(f32x4.sub(v128.load(p, 16), most1));
    total0 = f32x4.add(total0, e0);
    total1 = f32x4.add(total1, e1);
    v128.store(p, e0);
    v128.store(p, e1, 16);
  }
  const shrink0 = exp4(f32x4.sub(old0, most0)), shrink1 = exp4(f32x4.sub(old1, most1));
  v128.store(rows.most + at, most0);
  v128.store(rows.most + at, most1, 16);
  v128.store(rows.total + at, madd(v128.load(rows.total + at), shrink0, total0));
  v128.store(rows.total + at, madd(v128.load(rows.total + at, 16), shrink1, total1), 16);
  addValues(rows.sums + at * <usize>rows.d, first, end, rows.v, <usize>(rows.d + 16) << 2, rows.d, shrink0, shrink1);
}

/** sums[c, r] = sums[c, r] shrink[r] + sum over t of p[t, r] v[t, c], four columns at a time; p .. end holds whole steps of four keys. */
function addValues(sums: usize, first: usize, end: usize, v: usize, stride: usize, d: i32, shrink0: v128, shrink1: v128): void {
  for (let c = 0; c < d; c += 4, v += 16, sums += 128) {
    let a0 = f32x4.mul(v128.load(sums), shrink0), a1 = f32x4.mul(v128.load(sums, 16), shrink1);
    let b0 = f32x4.mul(v128.load(sums, 32), shrink0), b1 = f32x4.mul(v128.load(sums, 48), shrink1);
    let c0 = f32x4.mul(v128.load(sums, 64), shrink0), c1 = f32x4.mul(v128.load(sums, 80), shrink1);
    let d0 = f32x4.mul(v128.load(sums, 96), shrink0), d1 = f32x4.mul(v128.load(sums, 112), shrink1);
    let row = v;
    for (let p = first; p < end; p += 64) {
      let low = v128.load(p), high = v128.load(p, 16);
      let x = v128.load32_splat(row);
      a0 = madd(low, x, a0); a1 = madd(high, x, a1);
      x = v128.load32_splat(row, 4);
      b0 = madd(low, x, b0); b1 = madd(high, x, b1);
      x = v128.load32_splat(row, 8);
      c0 = madd(low, x, c0); c1 = madd(high, x, c1);
      x = v128.load32_splat(row, 12);
      d0 = madd(low, x, d0); d1 = madd(high, x, d1);
      row += stride;
      low = v128.load(p, 32); high = v128.load(p, 48);
      x = v128.load32_splat(row);
      a0 = madd(low, x, a0); a1 = madd(high, x, a1);
      x = v128.load32_splat(row, 4);
      b0 = madd(low, x, b0); b1 = madd(high, x, b1);
      x = v128.load32_splat(row, 8);
      c0 = madd(low, x, c0); c1 = madd(high, x, c1);
      x = v128.load32_splat(row, 12);
      d0 = madd(low, x, d0); d1 = madd(high, x, d1);
      row += stride;
    }
    v128.store(sums, a0); v128.store(sums, a1, 16);
    v128.store(sums, b0, 32); v128.store(sums, b1, 48);
    v128.store(sums, c0, 64); v128.store(sums, c1, 80);
    v128.store(sums, d0, 96); v128.store(sums, d1, 112);
  }
}
