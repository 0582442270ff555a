// store-entries: writes `count` entries of one KV head into its pages, from slot `from` of its list on.
// in   order [count] u32: entry i is row order[i] of k, v; 0 = row i    k, v [*, H, d] f32, head `head` of each row
//      pageTable [*] u32: this head's row of the layer's table
// out  pages at pool + page * pageBytes, drawn in entry-page
//      int8 row: scale = max |x| / 127, value = round half to even(x / scale); a row of zeros has scale 0
//      f16: to nearest, ties to even; values beyond +-65504 become that (no key comes near), NaN stays NaN: halfBits
import { ENTRY_F16, ENTRY_F32, rowBytesOf, scalesAt } from './entry-page';
import { halfBits } from './half';

export function storeEntries(
  pool: usize, pageBytes: usize, entryType: i32, entriesPerPage: i32, pageTable: usize, from: i32,
  k: usize, v: usize, order: usize, count: i32, head: i32, H: i32, d: i32,
): void {
  const E = <usize>entriesPerPage;
  const rowBytes = (<usize>H * <usize>d) << 2;
  const headBytes = (<usize>head * <usize>d) << 2;
  const width = rowBytesOf(entryType, d);
  const scales = scalesAt(entriesPerPage, d);
  for (let i = 0; i < count; i++) {
    const e = <u32>(from + i);
    const page = pool + <usize>load<u32>(pageTable + (<usize>(e / <u32>entriesPerPage) << 2)) * pageBytes;
    const slot = <usize>(e % <u32>entriesPerPage);
    const row = (order ? <usize>load<u32>(order + (<usize>i << 2)) : <usize>i) * rowBytes + headBytes;
    if (entryType == ENTRY_F32) {
      memory.copy(page + slot * width, k + row, width);
      memory.copy(page + (E + slot) * width, v + row, width);
    } else if (entryType == ENTRY_F16) {
      halve(page + slot * width, k + row, d);
      halve(page + (E + slot) * width, v + row, d);
    } else {
      store<f32>(page + scales + (slot << 2), quantise(page + slot * width, k + row, d));
      store<f32>(page + scales + ((E + slot) << 2), quantise(page + (E + slot) * width, v + row, d));
    }
  }
}

/** Writes row x [d] f32 as d f16 at out. */
function halve(out: usize, x: usize, d: i32): void {
  for (const end = x + (<usize>d << 2); x < end; x += 16, out += 8) {
    const bits = halfBits(v128.load(x));
    v128.store64_lane(out, i16x8.narrow_i32x4_u(bits, bits), 0);
  }
}

/** Writes row x [d] f32 as d bytes at out; returns the scale. */
function quantise(out: usize, x: usize, d: i32): f32 {
  const end = x + (<usize>d << 2);
  let most = f32x4.splat(0);
  for (let at = x; at < end; at += 16) most = i32x4.max_s(most, f32x4.abs(v128.load(at))); // by their bits: NaN is largest, a bad row stays loud
  most = i32x4.max_s(most, i32x4.shuffle(most, most, 2, 3, 0, 1));
  most = i32x4.max_s(most, i32x4.shuffle(most, most, 1, 0, 3, 2));
  let top = f32x4.extract_lane(most, 0);
  if (top < <f32>1e-36) top = 0; // 127 / top would not be finite
  const inverse = f32x4.splat(top == 0 ? 0 : <f32>127 / top);
  const round = f32x4.splat(12582912); // 1.5 * 2^23: the sum's low bits are the nearest integer, halves to even
  for (let at = x; at < end; at += 16, out += 4) {
    const steps = i32x4.sub(f32x4.add(f32x4.mul(v128.load(at), inverse), round), round);
    const words = i16x8.narrow_i32x4_s(steps, steps);
    v128.store32_lane(out, i8x16.narrow_i16x8_s(words, words), 0);
  }
  return top / <f32>127;
}
