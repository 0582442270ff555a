// gate-score: how likely each token is to be needed, by a gate of a few channels (Fast KVzip).
//   z = k[t,h].q[t,h,g] / sqrt e + bias[h,g];   z0_s = base[h,s].q[t,h,g] / sqrt e
//   out[h,t] = mean over g of 1 / (1 + sum over s of e^(z0_s - z))
// in   q [n, H, G, e] f32    k [n, H, e] f32    base [H, S, e] f32    bias [H, G] f32
// out  out [H, n] f32
// A difference above 88.37 counts as that: e^88.37 = 2.4e38, and its share is 0 to seven digits. Products are f32 in four lanes.
import { EXP_HIGHEST, exp1, exp4, madd } from './exp';

export function gateScore(
  out: usize, q: usize, k: usize, base: usize, bias: usize, n: i32, kvHeads: i32, group: i32, width: i32, sinks: i32,
): void {
  const row = (<usize>width) << 2;
  const scale: f32 = <f32>1 / sqrt<f32>(<f32>width);
  for (let t = 0; t < n; t++)
    for (let h = 0; h < kvHeads; h++) {
      const head = <usize>t * kvHeads + h;
      const bases = base + <usize>(h * sinks) * row;
      let sum: f32 = 0;
      for (let g = 0; g < group; g++) {
        const query = q + (head * group + g) * row;
        const z = dot(query, k + head * row, width) * scale + load<f32>(bias + ((<usize>(h * group + g)) << 2));
        sum += <f32>1 / (<f32>1 + others(query, bases, z, scale, width, sinks));
      }
      store<f32>(out + ((<usize>h * n + t) << 2), sum / <f32>group);
    }
}

/** Sum over s of e^(z0_s - z). */
function others(query: usize, bases: usize, z: f32, scale: f32, width: i32, sinks: i32): f32 {
  const row = (<usize>width) << 2;
  let sums = f32x4.splat(0);
  let s = 0;
  for (; s + 4 <= sinks; s += 4) {
    const at = bases + <usize>s * row;
    let x = f32x4.splat(dot(query, at, width));
    x = f32x4.replace_lane(x, 1, dot(query, at + row, width));
    x = f32x4.replace_lane(x, 2, dot(query, at + 2 * row, width));
    x = f32x4.replace_lane(x, 3, dot(query, at + 3 * row, width));
    x = f32x4.sub(f32x4.mul(x, f32x4.splat(scale)), f32x4.splat(z));
    sums = f32x4.add(sums, exp4(f32x4.pmin(x, f32x4.splat(EXP_HIGHEST))));
  }
  let sum = addLanes(sums);
  for (; s < sinks; s++) {
    const x = dot(query, bases + <usize>s * row, width) * scale - z;
    sum += exp1(x > EXP_HIGHEST ? EXP_HIGHEST : x);
  }
  return sum;
}

function dot(a: usize, b: usize, width: i32): f32 {
  let sums = f32x4.splat(0);
  let c = 0;
  for (; c + 4 <= width; c += 4) {
    const at = (<usize>c) << 2;
    sums = madd(v128.load(a + at), v128.load(b + at), sums);
  }
  let sum = addLanes(sums);
  for (; c < width; c++) {
    const at = (<usize>c) << 2;
    sum += load<f32>(a + at) * load<f32>(b + at);
  }
  return sum;
}

// @ts-ignore: decorator
@inline function addLanes(x: v128): f32 {
  return f32x4.extract_lane(x, 0) + f32x4.extract_lane(x, 2) + (f32x4.extract_lane(x, 1) + f32x4.extract_lane(x, 3));
}
