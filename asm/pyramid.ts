// pyramid: PyramidKV's budgets, a straight line down the layers.
//   lo = b / beta,  hi = 2 b - lo;   hi >= N - W: hi = N - W, lo = 2 b - hi;   n_l = hi - l (hi - lo) / (L - 1)
//   every layer gets b when not N >= hi >= lo >= W, and when L = 1 (kvpress divides by zero there)
// corrected: b = keptCount(N, r); the line is rounded by largest remainder (ties to the lower layer), so that the sum is L b
// compat:    b = N (1 - r), not rounded; each n_l by itself half to even: kvpress's numbers, whose sum drifts
//
// out   budgets [layers] u32, each between W and N where the line is used
import { keptCount } from './kept-count';

export function pyramid(budgets: usize, layers: i32, tokens: u32, ratio: f64, window: u32, beta: f64, compat: bool): void {
  const all = <f64>tokens;
  const b = compat ? all * (1 - ratio) : <f64>keptCount(tokens, ratio, false);
  let lo = b / beta;
  let hi = b * 2 - lo;
  if (hi >= all - <f64>window) {
    hi = all - <f64>window;
    lo = b * 2 - hi;
  }
  if (layers === 1 || !(all >= hi && hi >= lo && lo >= <f64>window)) {
    for (let l: i32 = 0; l < layers; l++) store<u32>(budgets + ((<usize>l) << 2), <u32>nearest<f64>(b));
    return;
  }
  const step = (hi - lo) / <f64>(layers - 1);
  if (compat) {
    for (let l: i32 = 0; l < layers; l++) store<u32>(budgets + ((<usize>l) << 2), <u32>nearest<f64>(hi - <f64>l * step));
    return;
  }
  let left = <i64>b * layers;
  for (let l: i32 = 0; l < layers; l++) {
    const share = <u32>floor<f64>(onLine(hi, step, l));
    store<u32>(budgets + ((<usize>l) << 2), share);
    left -= share;
  }
  for (; left > 0; left--) {
    let best: i32 = -1;
    let bestRest: f64 = 0;
    for (let l: i32 = 0; l < layers; l++) {
      const rest = onLine(hi, step, l) - <f64>load<u32>(budgets + ((<usize>l) << 2)); // negative once the layer got its +1
      if (rest <= bestRest + 1e-9) continue; // what differs by rounding error is a tie
      best = l;
      bestRest = rest;
    }
    if (best < 0) return; // never: fewer tokens are left than layers with a remainder
    const at = budgets + ((<usize>best) << 2);
    store<u32>(at, load<u32>(at) + 1);
  }
}

/** A point of the line; what is an integer but for rounding error is that integer. */
function onLine(hi: f64, step: f64, layer: i32): f64 {
  const x = hi - <f64>layer * step;
  const whole = nearest<f64>(x);
  return abs<f64>(x - whole) <= 1e-9 * max<f64>(1, abs<f64>(hi)) ? whole : x;
}
