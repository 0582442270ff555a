// cholesky-inverse: W with W^T W = (M + ridge I)^-1, so that x^T (M + ridge I)^-1 x = |W x|^2.
//   M + ridge I = L L^T,  W = L^-1.   Where a pivot is not above 0, ridge becomes 10 times as much, `tries` times at most
// in    matrix M [R, d, d] f32, symmetric
// out   [R, d, d] f32, lower triangular, zeros above; all zeros where every ridge failed    tries [R] u32: ridges it took, 0 = all failed
// scratch choleskyInverseScratchBytes(d): L [d, d] f32
// Dot products run in four f32 lanes.
import { madd } from './exp';

export function choleskyInverseScratchBytes(d: i32): usize {
  return (<usize>d * d) << 2;
}

export function choleskyInverse(out: usize, tries: usize, matrix: usize, rows: i32, d: i32, ridge: f32, most: i32, scratch: usize): void {
  const bytes = (<usize>d * d) << 2;
  for (let r = 0; r < rows; r++) {
    const to = out + <usize>r * bytes;
    memory.fill(to, 0, bytes);
    let added = ridge;
    let taken = 0;
    for (let attempt = 1; attempt <= most && taken == 0; attempt++, added *= 10)
      if (factor(scratch, matrix + <usize>r * bytes, d, added)) taken = attempt;
    store<u32>(tries + ((<usize>r) << 2), taken);
    if (taken > 0) invert(to, scratch, d);
  }
}

/** The lower triangle of L; false where there is none. */
function factor(lower: usize, matrix: usize, d: i32, ridge: f32): bool {
  const rowBytes = (<usize>d) << 2;
  for (let i = 0; i < d; i++) {
    const row = lower + <usize>i * rowBytes;
    const from = matrix + <usize>i * rowBytes;
    for (let j = 0; j < i; j++) {
      const other = lower + <usize>j * rowBytes;
      const at = (<usize>j) << 2;
      store<f32>(row + at, (load<f32>(from + at) - dot(row, other, j)) / load<f32>(other + at));
    }
    const at = (<usize>i) << 2;
    const pivot = load<f32>(from + at) + ridge - dot(row, row, i);
    if (!(pivot > 0 && pivot < f32.MAX_VALUE)) return false;
    store<f32>(row + at, sqrt<f32>(pivot));
  }
  return true;
}

/** Row i of W = -(sum over k < i of L[i,k] W[k]) / L[i,i], and 1 / L[i,i] on the diagonal. */
function invert(out: usize, lower: usize, d: i32): void {
  const rowBytes = (<usize>d) << 2;
  for (let i = 0; i < d; i++) {
    const row = out + <usize>i * rowBytes;
    const coefficients = lower + <usize>i * rowBytes;
    for (let k = 0; k < i; k++) addScaled(row, out + <usize>k * rowBytes, load<f32>(coefficients + ((<usize>k) << 2)), k + 1);
    const inverse: f32 = <f32>1 / load<f32>(coefficients + ((<usize>i) << 2));
    for (let j = 0; j < i; j++) store<f32>(row + ((<usize>j) << 2), load<f32>(row + ((<usize>j) << 2)) * (-inverse));
    store<f32>(row + ((<usize>i) << 2), inverse);
  }
}

function dot(x: usize, y: usize, length: i32): f32 {
  const vectorEnd = (<usize>(length & ~3)) << 2;
  const allEnd = (<usize>length) << 2;
  let sum = f32x4.splat(0);
  let i: usize = 0;
  for (; i < vectorEnd; i += 16) sum = madd(v128.load(x + i), v128.load(y + i), sum);
  let total = f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 2) + (f32x4.extract_lane(sum, 1) + f32x4.extract_lane(sum, 3));
  for (; i < allEnd; i += 4) total += load<f32>(x + i) * load<f32>(y + i);
  return total;
}

/** to += x * factor, `length` numbers. */
function addScaled(to: usize, x: usize, factor: f32, length: i32): void {
  const vectorEnd = (<usize>(length & ~3)) << 2;
  const allEnd = (<usize>length) << 2;
  const factors = f32x4.splat(factor);
  let i: usize = 0;
  for (; i < vectorEnd; i += 16) v128.store(to + i, madd(v128.load(x + i), factors, v128.load(to + i)));
  for (; i < allEnd; i += 4) store<f32>(to + i, load<f32>(to + i) + load<f32>(x + i) * factor);
}
