// prune-channels: sets the key channels that the last queries make least of to zero, the same ones in every kept row of a head (ThinK).
//   energy[h,c] = (mean over the group's heads a and the W queries i of q[i,a,c]^2) (mean over kept rows t of k[t,h,c]^2)
//   k[t,h,c] = 0 for the `zeroed` channels of least energy, ties to the lower channel;  kept: rows t = order[h,i], i < counts[h]
// in    k [n, H, d] f32      q [W, Hq, d] f32      order [H, stride] u32      counts [H] u32
// out   k
// scratch pruneChannelsScratchBytes(d): sums of squares, energy [d] f64; which channels [d] u8
// Sums are f64.

export function pruneChannelsScratchBytes(headDim: i32): usize {
  return <usize>headDim * 17;
}

export function pruneChannels(
  k: usize,
  q: usize,
  window: i32,
  order: usize,
  stride: i32,
  counts: usize,
  zeroed: i32,
  queryHeads: i32,
  kvHeads: i32,
  headDim: i32,
  scratch: usize,
): void {
  const rowBytes = <usize>headDim << 2;
  const energy = scratch + ((<usize>headDim) << 3);
  const pruned = energy + ((<usize>headDim) << 3);
  const group = queryHeads / kvHeads;
  for (let h = 0; h < kvHeads; h++) {
    const rows = order + ((<usize>h * stride) << 2);
    const count = load<u32>(counts + ((<usize>h) << 2));
    memory.fill(scratch, 0, (<usize>headDim) << 4);
    for (let i = 0; i < window; i++)
      for (let a = h * group; a < (h + 1) * group; a++) addSquares(energy, q + (<usize>i * queryHeads + a) * rowBytes, headDim);
    for (let i: u32 = 0; i < count; i++)
      addSquares(scratch, k + (<usize>load<u32>(rows + ((<usize>i) << 2)) * kvHeads + h) * rowBytes, headDim);
    for (let c: usize = 0; c < <usize>headDim; c++) {
      const at = c << 3;
      store<f64>(energy + at, load<f64>(energy + at) * load<f64>(scratch + at)); // both divided by what is the same for all channels
    }
    for (let c = 0; c < headDim; c++) {
      const own = load<f64>(energy + ((<usize>c) << 3));
      let below = 0;
      for (let o = 0; o < headDim; o++) {
        const other = load<f64>(energy + ((<usize>o) << 3));
        below += i32(other < own || (other == own && o < c));
      }
      store<u8>(pruned + c, u8(below < zeroed));
    }
    for (let i: u32 = 0; i < count; i++) {
      const row = k + (<usize>load<u32>(rows + ((<usize>i) << 2)) * kvHeads + h) * rowBytes;
      for (let c = 0; c < headDim; c++) if (load<u8>(pruned + c)) store<f32>(row + ((<usize>c) << 2), 0);
    }
  }
}

/** sums [d] f64 += x [d] f32 squared. */
function addSquares(sums: usize, x: usize, headDim: i32): void {
  const end = x + ((<usize>(headDim & ~1)) << 2);
  for (; x < end; x += 8, sums += 16) {
    const two = f64x2.promote_low_f32x4(v128.load64_zero(x));
    v128.store(sums, f64x2.add(v128.load(sums), f64x2.mul(two, two)));
  }
  if (headDim & 1) store<f64>(sums, load<f64>(sums) + <f64>load<f32>(x) * <f64>load<f32>(x));
}
