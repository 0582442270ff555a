// key-norm: the length of each key, with a sign.
//   out[h,j] = sign * |k[j,h]|
// in    k [n, H, d] f32      out  [H, n] f32
import { madd } from './exp';
import { sumLanes } from './sum-lanes';

export function keyNorm(out: usize, k: usize, n: i32, kvHeads: i32, headDim: i32, sign: f32): void {
  const stride = (<usize>kvHeads * headDim) << 2;
  for (let h = 0; h < kvHeads; h++) {
    const keys = k + ((<usize>h * headDim) << 2);
    const to = out + ((<usize>h * n) << 2);
    for (let j = 0; j < n; j += 4) {
      const norms = f32x4.mul(f32x4.sqrt(squares(keys + <usize>j * stride, stride, min(4, n - j), headDim)), f32x4.splat(sign));
      const at = to + ((<usize>j) << 2);
      if (j + 4 <= n) v128.store(at, norms);
      else {
        store<f32>(at, f32x4.extract_lane(norms, 0));
        if (j + 1 < n) store<f32>(at, f32x4.extract_lane(norms, 1), 4);
        if (j + 2 < n) store<f32>(at, f32x4.extract_lane(norms, 2), 8);
      }
    }
  }
}

/** k.k of four keys; where there are only `count` < 4, the last lanes repeat the last key. */
function squares(k0: usize, stride: usize, count: i32, headDim: i32): v128 {
  const k1 = k0 + <usize>min(1, count - 1) * stride;
  const k2 = k0 + <usize>min(2, count - 1) * stride;
  const k3 = k0 + <usize>min(3, count - 1) * stride;
  const vectorEnd = (<usize>(headDim & ~3)) << 2;
  const allEnd = (<usize>headDim) << 2;
  let a = f32x4.splat(0),
    b = a,
    c = a,
    d = a;
  let i: usize = 0;
  for (; i < vectorEnd; i += 16) {
    let x = v128.load(k0 + i);
    a = madd(x, x, a);
    x = v128.load(k1 + i);
    b = madd(x, x, b);
    x = v128.load(k2 + i);
    c = madd(x, x, c);
    x = v128.load(k3 + i);
    d = madd(x, x, d);
  }
  let sums = sumLanes(a, b, c, d);
  for (; i < allEnd; i += 4) {
    const x = f32x4(load<f32>(k0 + i), load<f32>(k1 + i), load<f32>(k2 + i), load<f32>(k3 + i));
    sums = madd(x, x, sums);
  }
  return sums;
}
