// row-cosine: how alike the rows of two matrices are.
//   out[r] = x[r].y[r] / (max(|x[r]|, 1e-8) max(|y[r]|, 1e-8))
// in    x, y [rows, cols] f32      out  [rows] f32
// Sums are f32 in four lanes.
import { madd } from './exp';

// @ts-ignore: decorator
@inline const LEAST: f32 = 1e-8;

export function rowCosine(out: usize, x: usize, y: usize, rows: i32, cols: i32): void {
  const stride = (<usize>cols) << 2;
  const vectorEnd = (<usize>(cols & ~3)) << 2;
  for (let r = 0; r < rows; r++) {
    const a = x + <usize>r * stride;
    const b = y + <usize>r * stride;
    let products = f32x4.splat(0), xs = products, ys = products;
    let c: usize = 0;
    for (; c < vectorEnd; c += 16) {
      const u = v128.load(a + c);
      const w = v128.load(b + c);
      products = madd(u, w, products);
      xs = madd(u, u, xs);
      ys = madd(w, w, ys);
    }
    let product = addLanes(products), xx = addLanes(xs), yy = addLanes(ys);
    for (; c < stride; c += 4) {
      const u = load<f32>(a + c);
      const w = load<f32>(b + c);
      product += u * w;
      xx += u * u;
      yy += w * w;
    }
    store<f32>(out + ((<usize>r) << 2), product / (max(sqrt<f32>(xx), LEAST) * max(sqrt<f32>(yy), LEAST)));
  }
}

// @ts-ignore: decorator
@inline function addLanes(x: v128): f32 {
  return f32x4.extract_lane(x, 0) + f32x4.extract_lane(x, 2) + (f32x4.extract_lane(x, 1) + f32x4.extract_lane(x, 3));
}
