// mass-count: MBA of each head, the fewest evictable tokens that hold `threshold` of the evictable mass. LMBA is its mean over a layer's heads.
//   masses m >= 0 in rank order;  c_k = m_1 + .. + m_k in f64;  MBA = min { k >= 1 : c_k >= threshold * c_last }
//   c_last 0 or not finite (no information): MBA = ceil(threshold * evictable).  Nothing evictable: 0
// maps from scores s to masses, all over the evictable tokens of the head:
//   0 identity  m = s          negative scores count as 0: they are rounding dust of a map that should not make them
//   1 affine    m = (s + 1) / 2, not below 0
//   2 softmax   m = exp((s - max s) / std s), std over all of them (divided by their number); std 0 = no information
//   3 shift     m = s - min s
//   4 exp       m = exp(s - max s)
//
// in    scores [H, n] f32    order [H, n] u32, full rank orders from topK: the first + last protected ones come first
// out   out [H] u32
// The sum is taken twice in the same order, once for c_last and once up to the threshold, so no scratch is needed.

// @ts-ignore: decorator
@inline const AFFINE: i32 = 1;
// @ts-ignore: decorator
@inline const SOFTMAX: i32 = 2;
// @ts-ignore: decorator
@inline const SHIFT: i32 = 3;
// @ts-ignore: decorator
@inline const EXP: i32 = 4;

export function massCount(out: usize, scores: usize, order: usize, n: i32, kvHeads: i32, first: i32, last: i32, threshold: f64, map: i32): void {
  const kept = min(first + last, n);
  const evictable = n - kept;
  for (let h = 0; h < kvHeads; h++) {
    const row = scores + ((<usize>h * n) << 2);
    const ranked = order + ((<usize>(h * n + kept)) << 2);
    store<u32>(out + ((<usize>h) << 2), evictable > 0 ? countHead(row, ranked, evictable, threshold, map) : 0);
  }
}

function countHead(scores: usize, order: usize, evictable: i32, threshold: f64, map: i32): u32 {
  let shift: f64 = 0; // m = (s - shift) * factor, or exp of that
  let factor: f64 = 1;
  if (map === AFFINE) {
    shift = -1;
    factor = 0.5;
  } else if (map === SOFTMAX) {
    shift = scoreAt(scores, order, 0);
    const std = deviation(scores, order, evictable);
    factor = 1 / std; // std 0: not finite, 0 * infinity = NaN below
  } else if (map === SHIFT) shift = scoreAt(scores, order, evictable - 1);
  else if (map === EXP) shift = scoreAt(scores, order, 0);
  let total: f64 = 0;
  for (let i = 0; i < evictable; i++) total += mass((scoreAt(scores, order, i) - shift) * factor, map);
  if (!(total > 0 && total < Infinity)) return <u32>ceil<f64>(threshold * <f64>evictable);
  const target = threshold * total;
  let cumulated: f64 = 0;
  for (let i = 0; i < evictable; i++) {
    cumulated += mass((scoreAt(scores, order, i) - shift) * factor, map);
    if (cumulated >= target) return i + 1;
  }
  return evictable; // not reached: the last cumulated is the total
}

// @ts-ignore: decorator
@inline
function mass(x: f64, map: i32): f64 {
  return map === SOFTMAX || map === EXP ? Math.exp(x) : max<f64>(x, 0); // both pass NaN on
}

// @ts-ignore: decorator
@inline
function scoreAt(scores: usize, order: usize, i: i32): f64 {
  return load<f32>(scores + ((<usize>load<u32>(order + ((<usize>i) << 2))) << 2));
}

function deviation(scores: usize, order: usize, evictable: i32): f64 {
  let sum: f64 = 0;
  for (let i = 0; i < evictable; i++) sum += scoreAt(scores, order, i);
  const mean = sum / <f64>evictable;
  let squares: f64 = 0;
  for (let i = 0; i < evictable; i++) {
    const x = scoreAt(scores, order, i) - mean;
    squares += x * x;
  }
  return sqrt<f64>(squares / <f64>evictable);
}
