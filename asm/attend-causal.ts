// attend-causal: causal attention of n queries at positions start .. start + n - 1 over keys 0 .. start + n - 1, flash-style.
//   out[i, a] = sum over j of e^(s_j - m) v[j, h] / sum over j of e^(s_j - m),   s_j = scale q[i, a].k[j, h],  m = max s_j,
//   over start + i - slidingWindow < j <= start + i (slidingWindow 0: no lower bound),  h = a / G,  G = Hq / H
// in   q [n, Hq, d] f32    k, v [>= start + n, H, d] f32    d a multiple of 4    (4-byte aligned)
// out  out [n, Hq, d] f32; zeros for a query that sees nothing
// scratch  attendScratchBytes(d) bytes, 16-byte aligned, the same for every n
// Rows and tiles are those of attend-rows and attend-tile.
import { closeRows, copyRow, keyRow, layRows, openRows, ROWS, TILE, valueRow } from './attend-rows';
import { attendTile } from './attend-tile';

export function attendCausal(
  out: usize, q: usize, k: usize, v: usize, n: i32, start: i32, Hq: i32, H: i32, d: i32,
  scale: f32, slidingWindow: i32, scratch: usize,
): void {
  const rows = layRows(scratch, d);
  const G = Hq / H;
  const stride = <usize>(H * d) << 2;
  for (let h = 0; h < H; h++) {
    const head = <usize>(h * d) << 2;
    for (let first = 0; first < n * G; first += ROWS) {
      const count = min(ROWS, n * G - first);
      openRows(rows, q, first, count, G, Hq, h, scale, start + 1, start, slidingWindow);
      const end = start + (first + count - 1) / G + 1;
      for (let j = slidingWindow ? max(0, start + first / G - slidingWindow + 1) : 0; j < end; j += TILE) {
        const keys = min(TILE, end - j);
        for (let t = 0; t < keys; t++) {
          const at = <usize>(j + t) * stride + head;
          copyRow(keyRow(rows, t), k + at, d);
          copyRow(valueRow(rows, t), v + at, d);
          store<i32>(rows.positions + (<usize>t << 2), j + t);
        }
        attendTile(rows, j, keys, slidingWindow > 0);
      }
      closeRows(rows, out, first, G, Hq, h);
    }
  }
}
