// attend-out: where attention kernels put what they have summed up, [rows = n Hq, d] over the total of the weights. With several splits of the keys
// that is a part, for attend-merge: out [splits, rows, d / 4 + 1] vec4f, the last one of a row (largest score, total, 0, 0).

fn putSum(split: u32, row: u32, c: u32, sum: vec4f, total: f32) {
  if (dims.splits == 1u) {
    // A row that sees nothing has a total of 0.
    out[dims.outAt / 4u + row * dims.vecs + c] = sum / select(total, 1.0, total == 0.0);
  } else {
    out[dims.outAt / 4u + (split * dims.n * dims.queryHeads + row) * (dims.vecs + 1u) + c] = sum;
  }
}

fn putMost(split: u32, row: u32, most: f32, total: f32) {
  if (dims.splits > 1u) { out[dims.outAt / 4u + (split * dims.n * dims.queryHeads + row) * (dims.vecs + 1u) + dims.vecs] = vec4f(most, total, 0.0, 0.0); }
}
