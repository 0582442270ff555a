/**
 * Rows of the rotary table: cos then sin of position * invFreq, [count, d]. The product is rounded to f32 before cos and sin, as
 * transformers does, so that long positions agree with it; the functions themselves run in f64, on the CPU (some GPU drivers' sin is poor).
 */
export function ropeTable(invFreq: Float32Array, start: number, count: number): Float32Array {
  const half = invFreq.length;
  const table = new Float32Array(count * half * 2);
  for (let i = 0; i < count; i++) {
    const row = i * half * 2;
    for (let c = 0; c < half; c++) {
      const angle = Math.fround(invFreq[c] * (start + i));
      table[row + c] = Math.cos(angle);
      table[row + half + c] = Math.sin(angle);
    }
  }
  return table;
}

/** The table that turns back what `ropeTable` turned: sines negated. Row i is of positions[i]. */
export function inverseRopeTable(invFreq: Float32Array, positions: ArrayLike<number>): Float32Array {
  const half = invFreq.length;
  const table = new Float32Array(positions.length * half * 2);
  for (let i = 0; i < positions.length; i++) {
    const row = i * half * 2;
    for (let c = 0; c < half; c++) {
      const angle = Math.fround(invFreq[c] * positions[i]);
      table[row + c] = Math.cos(angle);
      table[row + half + c] = -Math.sin(angle);
    }
  }
  return table;
}

/** One row that turns by the mean of the rotations at `count` positions from `start` on: mean cosines, then mean sines. That turns and shortens. */
export function averageRope(invFreq: Float32Array, start: number, count: number): Float32Array {
  const half = invFreq.length;
  const sums = new Float64Array(2 * half);
  for (let position = start; position < start + count; position++) {
    for (let c = 0; c < half; c++) {
      const angle = Math.fround(invFreq[c] * position);
      sums[c] += Math.cos(angle);
      sums[half + c] += Math.sin(angle);
    }
  }
  return Float32Array.from(sums, (sum) => sum / count);
}
