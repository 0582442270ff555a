// norm-share: each token's share of what the keys and values of its head are long (CurDKV's leverage).
//   kk_t = k_t.k_t,  vv_t = v_t.v_t;  segment > 0: each divided by its sum over its segment of `segment` tokens, counted from token 0, the last one shorter
//   z_t = kk_t | vv_t | (kk_t + vv_t) / 2 | kk_t vv_t, by `kind`;   out[h,t] = z_t / sum of z.  A share of a sum of 0 is 0
// in    k, v [n, H, d] f32      out  [H, n] f32
// scratch normShareScratchBytes(n): vv [n] f32
// Squares are f32, sums over tokens f64, t ascending.
import { squares } from './squares';

// @ts-ignore: decorator
@inline const KEY: i32 = 0;
// @ts-ignore: decorator
@inline const VALUE: i32 = 1;
// @ts-ignore: decorator
@inline const AVERAGE: i32 = 2; // else the product

export function normShareScratchBytes(n: i32): usize {
  return (<usize>n) << 2;
}

export function normShare(out: usize, k: usize, v: usize, n: i32, kvHeads: i32, headDim: i32, segment: i32, kind: i32, scratch: usize): void {
  const size = segment > 0 ? min(segment, n) : n;
  for (let h = 0; h < kvHeads; h++) {
    const head = (<usize>h * headDim) << 2;
    const to = out + ((<usize>h * n) << 2); // kk, then z, until they are replaced by the result
    squaresOfHead(to, k + head, n, kvHeads, headDim);
    squaresOfHead(scratch, v + head, n, kvHeads, headDim);
    let total: f64 = 0;
    for (let first = 0; first < n; first += size) {
      const end = min(n, first + size);
      const keys = segment > 0 ? sum(to, first, end) : 1;
      const values = segment > 0 ? sum(scratch, first, end) : 1;
      for (let t = first; t < end; t++) {
        const at = (<usize>t) << 2;
        const z = <f32>combined(share(load<f32>(to + at), keys), share(load<f32>(scratch + at), values), kind);
        store<f32>(to + at, z);
        total += <f64>z;
      }
    }
    for (let t = 0; t < n; t++) {
      const at = to + ((<usize>t) << 2);
      store<f32>(at, <f32>share(load<f32>(at), total));
    }
  }
}

function squaresOfHead(out: usize, x: usize, n: i32, kvHeads: i32, headDim: i32): void {
  const stride = (<usize>kvHeads * headDim) << 2;
  for (let t = 0; t < n; t += 4) {
    const count = min(4, n - t);
    const lanes = squares(x + <usize>t * stride, stride, count, headDim);
    const at = out + ((<usize>t) << 2);
    if (count === 4) v128.store(at, lanes);
    else {
      store<f32>(at, f32x4.extract_lane(lanes, 0));
      if (count > 1) store<f32>(at, f32x4.extract_lane(lanes, 1), 4);
      if (count > 2) store<f32>(at, f32x4.extract_lane(lanes, 2), 8);
    }
  }
}

function sum(x: usize, first: i32, end: i32): f64 {
  let total: f64 = 0;
  for (let t = first; t < end; t++) total += <f64>load<f32>(x + ((<usize>t) << 2));
  return total;
}

// @ts-ignore: decorator
@inline function share(x: f32, total: f64): f64 {
  return total === 0 ? 0 : <f64>x / total;
}

// @ts-ignore: decorator
@inline function combined(key: f64, value: f64, kind: i32): f64 {
  if (kind === KEY) return key;
  if (kind === VALUE) return value;
  return kind === AVERAGE ? (key + value) / 2 : key * value;
}
