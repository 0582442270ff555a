// group-max: the largest over the query heads of each KV head.
//   out[g,j] = max of x[g * group + i, j], i = 0 .. group-1
// in    x [groups * group, n] f32      out  [groups, n] f32

export function groupMax(out: usize, x: usize, groups: i32, group: i32, n: i32): void {
  const stride = (<usize>n) << 2;
  const vectorEnd = (<usize>(n & ~3)) << 2;
  for (let g = 0; g < groups; g++) {
    const from = x + <usize>g * <usize>group * stride;
    const to = out + <usize>g * stride;
    let j: usize = 0;
    for (; j < vectorEnd; j += 16) {
      let at = from + j;
      let most = v128.load(at);
      for (let i = 1; i < group; i++) {
        at += stride;
        most = f32x4.max(most, v128.load(at));
      }
      v128.store(to + j, most);
    }
    for (; j < stride; j += 4) {
      let at = from + j;
      let most = load<f32>(at);
      for (let i = 1; i < group; i++) {
        at += stride;
        most = max(most, load<f32>(at));
      }
      store<f32>(to + j, most);
    }
  }
}
