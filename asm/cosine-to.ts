// cosine-to: how much every vector of a head points where a given one does.
//   out[r,j] = scale * clamp(g_r.x_j / (max(|g_r|, 1e-12) max(|x_j|, 1e-12)), -1, 1),   x of head r / (R / H)
// in    x [n, H, d] f32    anchors g [R, d] f32
// out   row r at out + r * stride, [n] f32
// Dot products run in four f32 lanes.
import { madd } from './exp';
import { squares } from './squares';
import { sumLanes } from './sum-lanes';

export function cosineTo(out: usize, stride: i32, x: usize, anchors: usize, n: i32, rows: i32, heads: i32, headDim: i32, scale: f32): void {
  const tokenStride = (<usize>heads * headDim) << 2;
  const group = rows / heads;
  const least = f32x4.splat(1e-12);
  for (let h = 0; h < heads; h++) {
    const head = x + ((<usize>h * headDim) << 2);
    for (let t = 0; t < n; t += 4) {
      const count = min(4, n - t);
      const vectors = head + <usize>t * tokenStride;
      const lengths = f32x4.max(f32x4.sqrt(squares(vectors, tokenStride, count, headDim)), least);
      for (let r = h * group; r < (h + 1) * group; r++) {
        const anchor = anchors + ((<usize>r * headDim) << 2);
        const length = f32x4.max(f32x4.sqrt(squares(anchor, 0, 1, headDim)), least);
        let cosine = f32x4.div(f32x4.div(dots(vectors, tokenStride, count, anchor, headDim), length), lengths);
        cosine = f32x4.min(f32x4.max(cosine, f32x4.splat(-1)), f32x4.splat(1));
        const result = f32x4.mul(cosine, f32x4.splat(scale));
        const to = out + ((<usize>r * stride + t) << 2);
        if (count == 4) v128.store(to, result);
        else {
          store<f32>(to, f32x4.extract_lane(result, 0));
          if (count > 1) store<f32>(to, f32x4.extract_lane(result, 1), 4);
          if (count > 2) store<f32>(to, f32x4.extract_lane(result, 2), 8);
        }
      }
    }
  }
}

/** Of up to four vectors with one; where there are fewer, the last lanes repeat the last one. */
function dots(x0: usize, stride: usize, count: i32, y: usize, headDim: i32): v128 {
  const x1 = x0 + <usize>min(1, count - 1) * stride;
  const x2 = x0 + <usize>min(2, count - 1) * stride;
  const x3 = x0 + <usize>min(3, count - 1) * stride;
  const vectorEnd = (<usize>(headDim & ~3)) << 2;
  const allEnd = (<usize>headDim) << 2;
  let a = f32x4.splat(0), b = a, c = a, d = a;
  let i: usize = 0;
  for (; i < vectorEnd; i += 16) {
    const v = v128.load(y + i);
    a = madd(v128.load(x0 + i), v, a);
    b = madd(v128.load(x1 + i), v, b);
    c = madd(v128.load(x2 + i), v, c);
    d = madd(v128.load(x3 + i), v, d);
  }
  let sums = sumLanes(a, b, c, d);
  for (; i < allEnd; i += 4)
    sums = madd(f32x4(load<f32>(x0 + i), load<f32>(x1 + i), load<f32>(x2 + i), load<f32>(x3 + i)), v128.load32_splat(y + i), sums);
  return sums;
}
