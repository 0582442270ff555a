// group-mean: the mean over the query heads of each KV head.
//   out[g,j] = sum of x[g * group + i, j], i = 0 .. group-1, / group
// in    x [groups * group, n] f32      out  [groups, n] f32
// Sums run over i ascending.

export function groupMean(out: usize, x: usize, groups: i32, group: i32, n: i32): void {
  const stride = (<usize>n) << 2;
  for (let g = 0; g < groups; g++) {
    const from = x + <usize>g * <usize>group * stride;
    const to = out + <usize>g * stride;
    const vectorEnd = (<usize>(n & ~3)) << 2;
    let j: usize = 0;
    for (; j < vectorEnd; j += 16) {
      let at = from + j;
      let sum = v128.load(at);
      for (let i = 1; i < group; i++) {
        at += stride;
        sum = f32x4.add(sum, v128.load(at));
      }
      v128.store(to + j, f32x4.div(sum, f32x4.splat(<f32>group)));
    }
    for (; j < stride; j += 4) {
      let at = from + j;
      let sum = load<f32>(at);
      for (let i = 1; i < group; i++) {
        at += stride;
        sum += load<f32>(at);
      }
      store<f32>(to + j, sum / <f32>group);
    }
  }
}
