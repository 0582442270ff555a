// lag-score: how far each token spreads over the range of the next `lag` tokens, as a share of its own `lag` (LagKV).
//   partition p = tokens first + p lag ..;  lo_c, hi_c = least and most of channel c in partition p + 1
//   sigma_i = std over channels c, divided by d - 1, of (y[i,c] - lo_c) / (hi_c - lo_c); 0 where hi_c - lo_c is no normal number
//   out[h,i] = (softmax over partition p of sigma of k + the same of v) / 2;  1 before the first, in the last and after it
// in    k, v [n, H, d] f32      out  [H, n] f32
// scratch lagScoreScratchBytes(d, lag): lo [d] f32, 1 / (hi - lo) [d] f32, sigma [lag] f32
// The sum of a softmax is f64.
import { exp1, madd } from './exp';

// @ts-ignore: decorator
@inline const SMALLEST: f32 = 1.17549435e-38; // normal number

export function lagScoreScratchBytes(headDim: i32, lag: i32): usize {
  return (<usize>(2 * headDim + lag)) << 2;
}

export function lagScore(
  out: usize,
  k: usize,
  v: usize,
  n: i32,
  first: i32,
  lag: i32,
  kvHeads: i32,
  headDim: i32,
  scratch: usize,
): void {
  const stride = (<usize>kvHeads * headDim) << 2;
  const low = scratch;
  const inverse = low + ((<usize>headDim) << 2);
  const sigma = inverse + ((<usize>headDim) << 2);
  const scored = (n - first) / lag - 1; // partitions that have a next one
  for (let h = 0; h < kvHeads; h++) {
    const to = out + ((<usize>h * n) << 2);
    for (let j = 0; j < n; j++) store<f32>(to + ((<usize>j) << 2), 1);
    for (let p = 0; p < scored; p++) {
      const start = first + p * lag;
      const offset = <usize>start * stride + ((<usize>h * headDim) << 2);
      const at = to + ((<usize>start) << 2);
      memory.fill(at, 0, (<usize>lag) << 2);
      for (let tensor = 0; tensor < 2; tensor++) {
        const rows = (tensor == 0 ? k : v) + offset;
        ranges(low, inverse, rows + <usize>lag * stride, stride, lag, headDim);
        for (let i = 0; i < lag; i++) store<f32>(sigma + ((<usize>i) << 2), spread(rows + <usize>i * stride, low, inverse, headDim));
        addShares(at, sigma, lag);
      }
    }
  }
}

/** lo and 1 / (hi - lo) of each channel of `count` rows; 0 in place of what has no inverse. */
function ranges(low: usize, inverse: usize, rows: usize, stride: usize, count: i32, headDim: i32): void {
  const vectorEnd = (<usize>(headDim & ~3)) << 2;
  const allEnd = (<usize>headDim) << 2;
  let c: usize = 0;
  for (; c < vectorEnd; c += 16) {
    let lo = v128.load(rows + c);
    let hi = lo;
    for (let i = 1; i < count; i++) {
      const x = v128.load(rows + <usize>i * stride + c);
      lo = f32x4.min(lo, x);
      hi = f32x4.max(hi, x);
    }
    const range = f32x4.sub(hi, lo);
    v128.store(low + c, lo);
    v128.store(inverse + c, v128.andnot(f32x4.div(f32x4.splat(1), range), f32x4.lt(range, f32x4.splat(SMALLEST))));
  }
  for (; c < allEnd; c += 4) {
    let lo = load<f32>(rows + c);
    let hi = lo;
    for (let i = 1; i < count; i++) {
      const x = load<f32>(rows + <usize>i * stride + c);
      lo = min(lo, x);
      hi = max(hi, x);
    }
    store<f32>(low + c, lo);
    store<f32>(inverse + c, hi - lo < SMALLEST ? 0 : 1 / (hi - lo));
  }
}

/** std over the channels of one row, in their ranges. */
function spread(row: usize, low: usize, inverse: usize, headDim: i32): f32 {
  const vectorEnd = (<usize>(headDim & ~3)) << 2;
  const allEnd = (<usize>headDim) << 2;
  let sums = f32x4.splat(0);
  let c: usize = 0;
  for (; c < vectorEnd; c += 16) sums = madd(f32x4.sub(v128.load(row + c), v128.load(low + c)), v128.load(inverse + c), sums);
  let sum = addLanes(sums);
  for (; c < allEnd; c += 4) sum += (load<f32>(row + c) - load<f32>(low + c)) * load<f32>(inverse + c);
  const mean = sum / <f32>headDim;
  const means = f32x4.splat(mean);
  let squares = f32x4.splat(0);
  for (c = 0; c < vectorEnd; c += 16) {
    const x = f32x4.sub(f32x4.mul(f32x4.sub(v128.load(row + c), v128.load(low + c)), v128.load(inverse + c)), means);
    squares = madd(x, x, squares);
  }
  let square = addLanes(squares);
  for (; c < allEnd; c += 4) {
    const x = (load<f32>(row + c) - load<f32>(low + c)) * load<f32>(inverse + c) - mean;
    square += x * x;
  }
  return sqrt<f32>(square / <f32>(headDim - 1));
}

// @ts-ignore: decorator
@inline function addLanes(x: v128): f32 {
  return f32x4.extract_lane(x, 0) + f32x4.extract_lane(x, 2) + (f32x4.extract_lane(x, 1) + f32x4.extract_lane(x, 3));
}

/** to += softmax(sigma) / 2. */
function addShares(to: usize, sigma: usize, count: i32): void {
  let most = load<f32>(sigma);
  for (let i = 1; i < count; i++) most = max(most, load<f32>(sigma + ((<usize>i) << 2)));
  let total: f64 = 0;
  for (let i = 0; i < count; i++) {
    const at = sigma + ((<usize>i) << 2);
    const weight = exp1(load<f32>(at) - most);
    store<f32>(at, weight);
    total += <f64>weight;
  }
  const factor = <f32>(0.5 / total);
  for (let i = 0; i < count; i++) {
    const at = (<usize>i) << 2;
    store<f32>(to + at, load<f32>(to + at) + load<f32>(sigma + at) * factor);
  }
}
