// keptCount: how many of `tokens` tokens stay at compression ratio r (the fraction removed).
//   corrected: N (1 - r) rounded down, where a value within 1e-9 max(1, N) of an integer is that integer: 100 at 0.8 keeps 20
//   compat:    trunc(N * (1 - r)) in f64, kvpress's number: 100 at 0.8 keeps 19

/** No ratio that a person writes comes this near to an integer without meaning it; the error of the product is below N * 2^-52. */
const NEAR: f64 = 1e-9;

export function keptCount(tokens: u32, ratio: f64, compat: bool): u32 {
  const kept = <f64>tokens * (1 - ratio);
  if (compat) return <u32>kept;
  const whole = nearest<f64>(kept);
  return abs<f64>(kept - whole) <= NEAR * max<f64>(1, <f64>tokens) ? <u32>whole : <u32>floor<f64>(kept);
}
