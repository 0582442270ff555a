// gather: rows that a press keeps, one list of row numbers per KV head.
//   out[j,h] = x[order[h,j], h]
// in    x [*, H, d] f32    order [H, stride] u32
// out   out [count, H, d] f32

export function gather(out: usize, x: usize, order: usize, stride: i32, count: i32, kvHeads: i32, headDim: i32): void {
  const row = (<usize>headDim) << 2;
  for (let h = 0; h < kvHeads; h++) {
    const rows = order + ((<usize>h * stride) << 2);
    for (let j = 0; j < count; j++) {
      const from = <usize>load<u32>(rows + ((<usize>j) << 2)) * kvHeads + h;
      memory.copy(out + (<usize>j * kvHeads + h) * row, x + from * row, row);
    }
  }
}
