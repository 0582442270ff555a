// quadratic-form: a linear and a quadratic form of every token, as in an expected logit or a leverage.
//   out[r,j] = c1 a_r.x_j + c2 x_j^T A_r x_j      or, `squared`:      c1 a_r.x_j + c2 |A_r x_j|^2;      x of head r / (R / H)
// in    x [n, H, d] f32    vector a [R, d] f32 or 0    matrix A [R, d, d] f32 or 0: symmetric; lower triangular where `squared`, zeros above
// out   row r at out + r * stride, [n] f32
// scratch quadraticFormScratchBytes(d): 32 tokens, channels first, d filled up to a multiple of 4 with zeros; their results
// Of A the lower triangle is read and counted twice (in blocks of four), so that a symmetric form costs what a triangular one does.
// Sums are f32, channels ascending; four tokens a vector.
import { madd } from './exp';

// @ts-ignore: decorator
@inline const TOKENS: i32 = 32;
// @ts-ignore: decorator
@inline const LINE: usize = 128; // bytes of a channel of 32 tokens

export function quadraticFormScratchBytes(headDim: i32): usize {
  return <usize>(((headDim + 3) & ~3) + 1) * LINE;
}

export function quadraticForm(
  out: usize, stride: i32, x: usize, vector: usize, matrix: usize, squared: bool, n: i32, rows: i32, heads: i32, headDim: i32, c1: f32, c2: f32, scratch: usize,
): void {
  const tokenStride = (<usize>heads * headDim) << 2;
  const results = scratch + <usize>((headDim + 3) & ~3) * LINE; // [TOKENS]
  const group = rows / heads;
  for (let h = 0; h < heads; h++) {
    for (let first = 0; first < n; first += TOKENS) {
      const count = min(TOKENS, n - first);
      pack(scratch, x + <usize>first * tokenStride + ((<usize>h * headDim) << 2), tokenStride, count, headDim);
      for (let r = h * group; r < (h + 1) * group; r++) {
        memory.fill(results, 0, LINE);
        if (matrix) addQuadratic(results, scratch, matrix + ((<usize>r * headDim * headDim) << 2), squared, headDim, (count + 7) >> 3, c2);
        if (vector) addLinear(results, scratch, vector + ((<usize>r * headDim) << 2), headDim, (count + 7) >> 3, c1);
        memory.copy(out + ((<usize>r * stride + first) << 2), results, (<usize>count) << 2);
      }
    }
  }
}

/** to [d, TOKENS]; what there is not is 0. */
function pack(to: usize, x: usize, tokenStride: usize, count: i32, headDim: i32): void {
  memory.fill(to, 0, <usize>((headDim + 3) & ~3) * LINE);
  let t = 0;
  for (; t + 4 <= count; t += 4) {
    const x0 = x + <usize>t * tokenStride;
    const x1 = x0 + tokenStride;
    const x2 = x1 + tokenStride;
    const x3 = x2 + tokenStride;
    let at = to + ((<usize>t) << 2);
    let c: usize = 0;
    for (const end = (<usize>(headDim & ~3)) << 2; c < end; c += 16, at += 4 * LINE) {
      const a = v128.load(x0 + c), b = v128.load(x1 + c), e = v128.load(x2 + c), f = v128.load(x3 + c);
      const ab = i32x4.shuffle(a, b, 0, 4, 1, 5), AB = i32x4.shuffle(a, b, 2, 6, 3, 7);
      const ef = i32x4.shuffle(e, f, 0, 4, 1, 5), EF = i32x4.shuffle(e, f, 2, 6, 3, 7);
      v128.store(at, i64x2.shuffle(ab, ef, 0, 2));
      v128.store(at + LINE, i64x2.shuffle(ab, ef, 1, 3));
      v128.store(at + 2 * LINE, i64x2.shuffle(AB, EF, 0, 2));
      v128.store(at + 3 * LINE, i64x2.shuffle(AB, EF, 1, 3));
    }
    for (const end = (<usize>headDim) << 2; c < end; c += 4, at += LINE)
      v128.store(at, f32x4(load<f32>(x0 + c), load<f32>(x1 + c), load<f32>(x2 + c), load<f32>(x3 + c)));
  }
  for (; t < count; t++)
    for (let c = 0; c < headDim; c++) store<f32>(to + <usize>c * LINE + ((<usize>t) << 2), load<f32>(x + <usize>t * tokenStride + ((<usize>c) << 2)));
}

/** results += c2 * the form; `eights` times eight tokens. */
function addQuadratic(results: usize, x: usize, matrix: usize, squared: bool, headDim: i32, eights: i32, c2: f32): void {
  const rowBytes = (<usize>headDim) << 2;
  const factor = f32x4.splat(c2);
  for (let i = 0; i < headDim; i += 4) {
    const live = min(4, headDim - i);
    const m0 = matrix + <usize>i * rowBytes; // rows that are not there are read as the last one, and not counted
    const m1 = m0 + (live > 1 ? rowBytes : 0);
    const m2 = m1 + (live > 2 ? rowBytes : 0);
    const m3 = m2 + (live > 3 ? rowBytes : 0);
    const diagonal = (<usize>i) << 2;
    const end = (<usize>(i + live)) << 2;
    for (let e = 0; e < eights; e++) {
      const tokens = x + ((<usize>e) << 5);
      let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
      let at = tokens;
      for (let c: usize = 0; c < end; c += 4, at += LINE) {
        if (c == diagonal && !squared) {
          s0 = f32x4.add(s0, s0);
          s1 = f32x4.add(s1, s1);
          s2 = f32x4.add(s2, s2);
          s3 = f32x4.add(s3, s3);
          t0 = f32x4.add(t0, t0);
          t1 = f32x4.add(t1, t1);
          t2 = f32x4.add(t2, t2);
          t3 = f32x4.add(t3, t3);
        }
        const low = v128.load(at), high = v128.load(at, 16);
        let m = v128.load32_splat(m0 + c);
        s0 = madd(m, low, s0);
        t0 = madd(m, high, t0);
        m = v128.load32_splat(m1 + c);
        s1 = madd(m, low, s1);
        t1 = madd(m, high, t1);
        m = v128.load32_splat(m2 + c);
        s2 = madd(m, low, s2);
        t2 = madd(m, high, t2);
        m = v128.load32_splat(m3 + c);
        s3 = madd(m, low, s3);
        t3 = madd(m, high, t3);
      }
      at = tokens + <usize>i * LINE;
      let low = f32x4.mul(s0, squared ? s0 : v128.load(at));
      let high = f32x4.mul(t0, squared ? t0 : v128.load(at, 16));
      if (live > 1) {
        low = madd(s1, squared ? s1 : v128.load(at + LINE), low);
        high = madd(t1, squared ? t1 : v128.load(at + LINE, 16), high);
      }
      if (live > 2) {
        low = madd(s2, squared ? s2 : v128.load(at + 2 * LINE), low);
        high = madd(t2, squared ? t2 : v128.load(at + 2 * LINE, 16), high);
      }
      if (live > 3) {
        low = madd(s3, squared ? s3 : v128.load(at + 3 * LINE), low);
        high = madd(t3, squared ? t3 : v128.load(at + 3 * LINE, 16), high);
      }
      const to = results + ((<usize>e) << 5);
      v128.store(to, madd(low, factor, v128.load(to)));
      v128.store(to, madd(high, factor, v128.load(to, 16)), 16);
    }
  }
}

/** results += c1 * a.x. */
function addLinear(results: usize, x: usize, vector: usize, headDim: i32, eights: i32, c1: f32): void {
  const factor = f32x4.splat(c1);
  for (let e = 0; e < eights; e++) {
    let at = x + ((<usize>e) << 5);
    let low = f32x4.splat(0), high = low;
    for (let c = 0; c < headDim; c++, at += LINE) {
      const a = v128.load32_splat(vector + ((<usize>c) << 2));
      low = madd(a, v128.load(at), low);
      high = madd(a, v128.load(at, 16), high);
    }
    const to = results + ((<usize>e) << 5);
    v128.store(to, madd(low, factor, v128.load(to)));
    v128.store(to, madd(high, factor, v128.load(to, 16)), 16);
  }
}
