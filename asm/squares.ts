// squares: x.x of up to four vectors, as lanes. No memory; for the kernels that want lengths of keys or values.
import { madd } from './exp';
import { sumLanes } from './sum-lanes';

/** Of four vectors `stride` bytes apart; where there are only `count` < 4, the last lanes repeat the last one. */
export function squares(k0: usize, stride: usize, count: i32, headDim: i32): v128 {
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
