// weighted-gram: the matrix of all products of channels, summed over tokens: a covariance, where x is centred and nothing weighs.
//   out[r] = factor * sum over j of (w[r,j] + epsilon) (x_j - m_r) (x_j - m_r)^T,   x of head r / (R / H)
// in    x [n, H, d] f32    weights w: row r at weights + r * stride, [n] f32, or 0 = all weigh 1    centre m [R, d] f32 or 0 = none is taken off
// out   [R, d, d] f32, symmetric to the last bit
// scratch weightedGramScratchBytes(d): x - m, and the same weighed, of 32 tokens, d filled up to a multiple of 8 with zeros
// Sums are f32: 32 tokens, then over the blocks of 32.
import { madd } from './exp';

// @ts-ignore: decorator
@inline const TOKENS: i32 = 32;

// @ts-ignore: decorator
@inline function padded(headDim: i32): i32 {
  return (headDim + 7) & ~7;
}

export function weightedGramScratchBytes(headDim: i32): usize {
  return (<usize>(2 * TOKENS * padded(headDim))) << 2;
}

export function weightedGram(
  out: usize, x: usize, weights: usize, stride: i32, centre: usize, n: i32, rows: i32, heads: i32, headDim: i32, epsilon: f32, factor: f32, scratch: usize,
): void {
  const width = padded(headDim);
  const left = scratch; // x - m [TOKENS, width]
  const right = scratch + ((<usize>(TOKENS * width)) << 2); // the same, weighed
  const tokenStride = (<usize>heads * headDim) << 2;
  const matrixBytes = (<usize>headDim * headDim) << 2;
  memory.fill(scratch, 0, weightedGramScratchBytes(headDim));
  memory.fill(out, 0, <usize>rows * matrixBytes);
  for (let r = 0; r < rows; r++) {
    const head = x + ((<usize>(r / (rows / heads)) * headDim) << 2);
    const weight = weights ? weights + ((<usize>r * stride) << 2) : 0;
    const mean = centre ? centre + ((<usize>r * headDim) << 2) : 0;
    const matrix = out + <usize>r * matrixBytes;
    for (let first = 0; first < n; first += TOKENS) {
      const count = min(TOKENS, n - first);
      for (let t = 0; t < count; t++) {
        const row = (<usize>t * width) << 2;
        const w: f32 = weight ? load<f32>(weight + ((<usize>(first + t)) << 2)) + epsilon : 1;
        pack(left + row, right + row, head + <usize>(first + t) * tokenStride, mean, w, headDim);
      }
      for (let i = 0; i < headDim; i += 4)
        for (let j = 0; j < i + 4; j += 8) addTile(matrix, left, right, width, count, i, j, headDim);
    }
    mirror(matrix, headDim, factor);
  }
}

function pack(left: usize, right: usize, x: usize, mean: usize, weight: f32, headDim: i32): void {
  const vectorEnd = (<usize>(headDim & ~3)) << 2;
  const allEnd = (<usize>headDim) << 2;
  const weights = f32x4.splat(weight);
  let c: usize = 0;
  for (; c < vectorEnd; c += 16) {
    let value = v128.load(x + c);
    if (mean) value = f32x4.sub(value, v128.load(mean + c));
    v128.store(left + c, value);
    v128.store(right + c, f32x4.mul(value, weights));
  }
  for (; c < allEnd; c += 4) {
    let value = load<f32>(x + c);
    if (mean) value -= load<f32>(mean + c);
    store<f32>(left + c, value);
    store<f32>(right + c, value * weight);
  }
}

/** Rows i..i+3, columns j..j+7 of the matrix, as far as it has them. */
function addTile(matrix: usize, left: usize, right: usize, width: i32, count: i32, i: i32, j: i32, headDim: i32): void {
  const step = (<usize>width) << 2;
  let a = left + ((<usize>i) << 2);
  let b = right + ((<usize>j) << 2);
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  for (let t = 0; t < count; t++, a += step, b += step) {
    const low = v128.load(b), high = v128.load(b, 16);
    let x = v128.load32_splat(a);
    s0 = madd(x, low, s0);
    t0 = madd(x, high, t0);
    x = v128.load32_splat(a, 4);
    s1 = madd(x, low, s1);
    t1 = madd(x, high, t1);
    x = v128.load32_splat(a, 8);
    s2 = madd(x, low, s2);
    t2 = madd(x, high, t2);
    x = v128.load32_splat(a, 12);
    s3 = madd(x, low, s3);
    t3 = madd(x, high, t3);
  }
  const rowBytes = (<usize>headDim) << 2;
  const to = matrix + <usize>i * rowBytes + ((<usize>j) << 2);
  const columns = headDim - j;
  add(to, s0, t0, columns);
  if (i + 1 < headDim) add(to + rowBytes, s1, t1, columns);
  if (i + 2 < headDim) add(to + 2 * rowBytes, s2, t2, columns);
  if (i + 3 < headDim) add(to + 3 * rowBytes, s3, t3, columns);
}

// @ts-ignore: decorator
@inline function add(to: usize, low: v128, high: v128, columns: i32): void {
  addFour(to, low, columns);
  if (columns > 4) addFour(to + 16, high, columns - 4);
}

// @ts-ignore: decorator
@inline function addFour(to: usize, x: v128, columns: i32): void {
  if (columns >= 4) {
    v128.store(to, f32x4.add(v128.load(to), x));
    return;
  }
  store<f32>(to, load<f32>(to) + f32x4.extract_lane(x, 0));
  if (columns > 1) store<f32>(to, load<f32>(to, 4) + f32x4.extract_lane(x, 1), 4);
  if (columns > 2) store<f32>(to, load<f32>(to, 8) + f32x4.extract_lane(x, 2), 8);
}

/** The lower triangle times `factor`, above the diagonal too. */
function mirror(matrix: usize, headDim: i32, factor: f32): void {
  for (let i = 0; i < headDim; i++) {
    for (let j = 0; j <= i; j++) {
      const value = load<f32>(matrix + ((<usize>(i * headDim + j)) << 2)) * factor;
      store<f32>(matrix + ((<usize>(i * headDim + j)) << 2), value);
      store<f32>(matrix + ((<usize>(j * headDim + i)) << 2), value);
    }
  }
}
