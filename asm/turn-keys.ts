// turn-keys: kept keys move together: each is turned back from its own position to its place among the kept ones (KeyRerotation).
//   of every head, rows p = order[h,i], i < count;  j = how many of these rows have a lower number
//   k[p,h] = k[p,h] turned by -(p - j) positions: with cos, sin of row p - j of the table
//     (x_c, x_c+d/2) = (x_c cos + x_c+d/2 sin,  x_c+d/2 cos - x_c sin)
// in    k [n, H, d] f32      table [n, d] f32: row t = cos (d/2) then sin (d/2) of position t      order [H, stride] u32
// out   k
// scratch n bytes: which rows are kept

export function turnKeys(
  k: usize,
  table: usize,
  order: usize,
  stride: i32,
  count: i32,
  n: i32,
  kvHeads: i32,
  headDim: i32,
  scratch: usize,
): void {
  const rowBytes = <usize>headDim << 2;
  for (let h = 0; h < kvHeads; h++) {
    const rows = order + ((<usize>h * stride) << 2);
    memory.fill(scratch, 0, n);
    for (let i = 0; i < count; i++) store<u8>(scratch + <usize>load<u32>(rows + ((<usize>i) << 2)), 1);
    for (let p = 0, j = 0; p < n; p++) {
      if (!load<u8>(scratch + p)) continue;
      if (p > j) turnBack(k + (<usize>p * kvHeads + h) * rowBytes, table + <usize>(p - j) * rowBytes, headDim >> 1);
      j++;
    }
  }
}

function turnBack(x: usize, table: usize, half: i32): void {
  const halfBytes = <usize>half << 2;
  const vectorEnd = (<usize>(half & ~3)) << 2;
  let at: usize = 0;
  for (; at < vectorEnd; at += 16) {
    const cos = v128.load(table + at);
    const sin = v128.load(table + halfBytes + at);
    const a = v128.load(x + at);
    const b = v128.load(x + halfBytes + at);
    v128.store(x + at, f32x4.add(f32x4.mul(a, cos), f32x4.mul(b, sin)));
    v128.store(x + halfBytes + at, f32x4.sub(f32x4.mul(b, cos), f32x4.mul(a, sin)));
  }
  for (; at < halfBytes; at += 4) {
    const cos = load<f32>(table + at);
    const sin = load<f32>(table + halfBytes + at);
    const a = load<f32>(x + at);
    const b = load<f32>(x + halfBytes + at);
    store<f32>(x + at, a * cos + b * sin);
    store<f32>(x + halfBytes + at, b * cos - a * sin);
  }
}
