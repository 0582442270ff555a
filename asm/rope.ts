// rope: rotates every head of every token in place, half-split convention.
//   x[c]       = x[c] cos[c] - x[c + d/2] sin[c]
//   x[c + d/2] = x[c + d/2] cos[c] + x[c] sin[c],   c = 0 .. d/2 - 1
// in   x [n, heads, d] f32    table [n, d] f32: row i = cos (d/2) then sin (d/2) of token i's position
// out  x

export function rope(x: usize, table: usize, n: i32, heads: i32, d: i32): void {
  const half = d >> 1;
  const halfBytes = <usize>half << 2;
  const vectors = half & ~3;
  for (let i = 0; i < n; i++) {
    for (let h = 0; h < heads; h++) {
      let c = 0;
      for (; c < vectors; c += 4) {
        const at = <usize>c << 2;
        const cos = v128.load(table + at);
        const sin = v128.load(table + halfBytes + at);
        const a = v128.load(x + at);
        const b = v128.load(x + halfBytes + at);
        v128.store(x + at, f32x4.sub(f32x4.mul(a, cos), f32x4.mul(b, sin)));
        v128.store(x + halfBytes + at, f32x4.add(f32x4.mul(b, cos), f32x4.mul(a, sin)));
      }
      for (; c < half; c++) {
        const at = <usize>c << 2;
        const cos = load<f32>(table + at);
        const sin = load<f32>(table + halfBytes + at);
        const a = load<f32>(x + at);
        const b = load<f32>(x + halfBytes + at);
        store<f32>(x + at, a * cos - b * sin);
        store<f32>(x + halfBytes + at, b * cos + a * sin);
      }
      x += <usize>d << 2;
    }
    table += <usize>d << 2;
  }
}
