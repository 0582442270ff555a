// swiglu: out[i] = gate[i] / (1 + e^-gate[i]) * up[i]
// e^-gate is held at e^88.37 = 2.4e38: from gate = -88.37 down the result is below 1e-34 where silu is below 4e-37
// in   gate [count] f32    up [count] f32    (4-byte aligned)
// out  out [count] f32; may be gate or up
import { EXP_HIGHEST, exp1, exp4 } from './exp';

export function swiglu(out: usize, gate: usize, up: usize, count: i32): void {
  const one = f32x4.splat(1);
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const at = <usize>i << 2;
    const g = v128.load(gate + at);
    const silu = f32x4.div(g, f32x4.add(one, exp4(f32x4.pmin(f32x4.neg(g), f32x4.splat(EXP_HIGHEST)))));
    v128.store(out + at, f32x4.mul(silu, v128.load(up + at)));
  }
  for (; i < count; i++) {
    const at = <usize>i << 2;
    const g = load<f32>(gate + at);
    store<f32>(out + at, (g / (<f32>1 + exp1(g < -EXP_HIGHEST ? EXP_HIGHEST : -g))) * load<f32>(up + at));
  }
}
