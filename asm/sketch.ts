// sketch: every head's vectors, less their centre, times a matrix of its own.
//   out[t,h] = (x[t,h] - m_h) Phi_h
// in    x [n, H, d] f32    centre m [H, d] f32    phi [H, d, k] f32, k a multiple of 4
// out   [n, H, k] f32
// scratch sketchScratchBytes(d): x - m of four tokens
// Sums are f32, channels ascending.
import { madd } from './exp';

export function sketchScratchBytes(headDim: i32): usize {
  return (<usize>headDim) << 4;
}

export function sketch(out: usize, x: usize, centre: usize, phi: usize, n: i32, heads: i32, headDim: i32, width: i32, scratch: usize): void {
  const tokenStride = (<usize>heads * headDim) << 2;
  const outStride = (<usize>heads * width) << 2;
  const rowBytes = (<usize>headDim) << 2;
  for (let h = 0; h < heads; h++) {
    const mean = centre + <usize>h * rowBytes;
    const matrix = phi + ((<usize>h * headDim * width) << 2);
    for (let t = 0; t < n; t += 4) {
      const live = min(4, n - t);
      for (let i = 0; i < 4; i++) {
        // Tokens that are not there are read as the last one, and not stored.
        const row = x + <usize>(t + min(i, live - 1)) * tokenStride + <usize>h * rowBytes;
        for (let c: usize = 0; c < rowBytes; c += 4) store<f32>(scratch + <usize>i * rowBytes + c, load<f32>(row + c) - load<f32>(mean + c));
      }
      const to = out + <usize>t * outStride + ((<usize>h * width) << 2);
      for (let j = 0; j < width; j += 4) fourByFour(to + ((<usize>j) << 2), outStride, live, scratch, matrix + ((<usize>j) << 2), headDim, width);
    }
  }
}

/** Four tokens, four columns. */
function fourByFour(to: usize, outStride: usize, live: i32, x: usize, phi: usize, headDim: i32, width: i32): void {
  const rowBytes = (<usize>headDim) << 2;
  const step = (<usize>width) << 2;
  let a = f32x4.splat(0), b = a, c = a, d = a;
  for (const end = x + rowBytes; x < end; x += 4, phi += step) {
    const column = v128.load(phi);
    a = madd(v128.load32_splat(x), column, a);
    b = madd(v128.load32_splat(x + rowBytes), column, b);
    c = madd(v128.load32_splat(x + 2 * rowBytes), column, c);
    d = madd(v128.load32_splat(x + 3 * rowBytes), column, d);
  }
  v128.store(to, a);
  if (live > 1) v128.store(to + outStride, b);
  if (live > 2) v128.store(to + 2 * outStride, c);
  if (live > 3) v128.store(to + 3 * outStride, d);
}
