// key-norm: the length of each key, with a sign.
//   out[h,j] = sign * |k[j,h]|
// in    k [n, H, d] f32      out  [H, n] f32
import { squares } from './squares';

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
