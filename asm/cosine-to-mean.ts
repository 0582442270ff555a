// cosine-to-mean: how much each key points where the keys of its head point on average (KeyDiff).
//   unit_t = k_t / max(|k_t|, 1e-12);  mean = mean over t of unit_t, not normalised again
//   out[h,j] = sign * k_j.mean / (max(|k_j|, 1e-8) max(|mean|, 1e-8))
// in    k [n, H, d] f32      out  [H, n] f32
// scratch cosineToMeanScratchBytes(d), 16-byte aligned: sum [d] f64, mean [d] f32
// The mean is summed in f64.
import { madd } from './exp';
import { keyNorm } from './key-norm';

export function cosineToMeanScratchBytes(headDim: i32): usize {
  return <usize>headDim * 12;
}

export function cosineToMean(out: usize, k: usize, n: i32, kvHeads: i32, headDim: i32, sign: f32, scratch: usize): void {
  const stride = (<usize>kvHeads * headDim) << 2;
  const mean = scratch + ((<usize>headDim) << 3);
  keyNorm(out, k, n, kvHeads, headDim, 1);
  for (let h = 0; h < kvHeads; h++) {
    const keys = k + ((<usize>h * headDim) << 2);
    const to = out + ((<usize>h * n) << 2); // norms, until they are replaced by the result
    memory.fill(scratch, 0, (<usize>headDim) << 3);
    for (let j = 0; j < n; j++) addScaled(scratch, keys + <usize>j * stride, 1 / max<f64>(load<f32>(to + ((<usize>j) << 2)), 1e-12), headDim);
    let square: f64 = 0;
    for (let c: usize = 0; c < <usize>headDim; c++) {
      const x = load<f64>(scratch + (c << 3)) / <f64>n;
      square += x * x;
      store<f32>(mean + (c << 2), <f32>x);
    }
    const factor = <f64>sign / max<f64>(sqrt<f64>(square), 1e-8);
    for (let j = 0; j < n; j++) {
      const at = to + ((<usize>j) << 2);
      store<f32>(at, <f32>((<f64>dot(keys + <usize>j * stride, mean, headDim) * factor) / max<f64>(load<f32>(at), 1e-8)));
    }
  }
}

/** sum [d] f64 += key [d] f32 * factor. */
function addScaled(sum: usize, key: usize, factor: f64, headDim: i32): void {
  const end = key + ((<usize>(headDim & ~1)) << 2);
  for (; key < end; key += 8, sum += 16) {
    const x = f64x2.promote_low_f32x4(v128.load64_zero(key));
    v128.store(sum, f64x2.add(v128.load(sum), f64x2.mul(x, f64x2.splat(factor))));
  }
  if (headDim & 1) store<f64>(sum, load<f64>(sum) + <f64>load<f32>(key) * factor);
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
