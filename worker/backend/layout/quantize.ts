/** f32 weights to blocks of 8 or 4 bits. */
import { fromHalf, toHalf } from './half.ts';
import { BLOCK, put16, q4Record, q8Record } from './records.ts';

/** The largest weight becomes 127. */
export function quantizeQ8(target: Uint8Array, row: number, block: number, blocks: number, values: Float32Array, at: number): void {
  let top = 0;
  for (let c = 0; c < BLOCK; c++) {
    const size = Math.abs(values[at + c]);
    if (size > top) top = size;
  }
  let bits = toHalf(top / 127);
  if (fromHalf(bits) * 127.49 < top) bits++; // a subnormal scale rounded far down would make 128 of 127
  const scale = fromHalf(bits);
  const inverse = scale > 0 ? 1 / scale : 0;
  const record = q8Record(row, block, blocks);
  put16(target, record.scale, bits);
  for (let c = 0; c < BLOCK; c++) target[record.q + c] = ((values[at + c] * inverse + 128.5) | 0) - 128; // rounds: truncation of a positive number
}

/** Ranges tried around max - min, in steps of the 15 between: a narrower one clips outliers and gives the rest finer steps. Six tries: 2% less error, twice the time. */
const rangeTries = [0, -0.6, 0.4];
const nibbles = new Uint8Array(BLOCK);

/** Least squares for scale and min at each range tried; the best after rounding both to f16 stays, the plain range among them. */
export function quantizeQ4(target: Uint8Array, row: number, block: number, blocks: number, values: Float32Array, at: number): void {
  let top = values[at];
  let bottom = top;
  let sum = 0;
  for (let c = 0; c < BLOCK; c++) {
    const value = values[at + c];
    if (value > top) top = value;
    if (value < bottom) bottom = value;
    sum += value;
  }
  let bestScale = toHalf((top - bottom) / 15);
  let bestLow = toHalf(bottom);
  let best = roundNibbles(values, at, fromHalf(bestScale), fromHalf(bestLow));
  for (let i = 0; top > bottom && i < rangeTries.length; i++) {
    const inverse = (15 + rangeTries[i]) / (top - bottom);
    let q1 = 0;
    let q2 = 0;
    let qx = 0;
    for (let c = 0; c < BLOCK; c++) {
      const value = values[at + c];
      const q = nibble((value - bottom) * inverse);
      q1 += q;
      q2 += q * q;
      qx += q * value;
    }
    const determinant = BLOCK * q2 - q1 * q1;
    if (determinant <= 0) continue;
    const scale = toHalf((BLOCK * qx - q1 * sum) / determinant);
    const low = toHalf((q2 * sum - q1 * qx) / determinant);
    const error = roundNibbles(values, at, fromHalf(scale), fromHalf(low));
    if (error < best) {
      best = error;
      bestScale = scale;
      bestLow = low;
    }
  }
  roundNibbles(values, at, fromHalf(bestScale), fromHalf(bestLow));
  const record = q4Record(row, block, blocks);
  put16(target, record.scale, bestScale);
  put16(target, record.scale + 8, bestLow);
  for (let j = 0; j < 8; j++) {
    target[record.q + 2 * j] = nibbles[j] | (nibbles[8 + j] << 4);
    target[record.q + 2 * j + 1] = nibbles[16 + j] | (nibbles[24 + j] << 4);
  }
}

/** Rounded, in 0..15. Truncation of a number that is positive after + 0.5 rounds; the rest is clamped to 0. */
function nibble(x: number): number {
  const q = (x + 0.5) | 0;
  return q < 0 ? 0 : Math.min(q, 15);
}

/** Fills `nibbles`; returns the squared error. */
function roundNibbles(values: Float32Array, at: number, scale: number, low: number): number {
  const inverse = scale !== 0 ? 1 / scale : 0;
  let error = 0;
  for (let c = 0; c < BLOCK; c++) {
    const value = values[at + c];
    const q = nibble((value - low) * inverse);
    const off = scale * q + low - value;
    nibbles[c] = q;
    error += off * off;
  }
  return error;
}
