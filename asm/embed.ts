// embed: out[i] = table[tokens[i]], one kernel per weight type
// in   table [rows, cols], laid out as linear-f32, linear-f16, linear-q8, linear-q4 tell; tokens [n] u32 below rows (the caller's duty)
// out  out [n, cols] f32, 4-byte aligned
// Every value is one weight as f32; q4: scale * q is exact, the sum with min is rounded once.
import { load4Bf16, load4Halves, loadBf16, loadHalf } from './half';
import { BLOCK } from './quantize-rows';

export function embedF32(out: usize, table: usize, tokens: usize, cols: i32, n: i32): void {
  const rowBytes = <usize>cols * 4;
  for (let i = 0; i < n; i++, tokens += 4, out += rowBytes) memory.copy(out, table + <usize>load<u32>(tokens) * rowBytes, rowBytes);
}

export function embedF16(out: usize, table: usize, tokens: usize, cols: i32, n: i32): void {
  for (let i = 0; i < n; i++, tokens += 4) {
    let p = table + <usize>load<u32>(tokens) * cols * 2, c = 0;
    for (; c + 4 <= cols; c += 4, p += 8, out += 16) v128.store(out, load4Halves(p));
    for (; c < cols; c++, p += 2, out += 4) store<f32>(out, loadHalf(p));
  }
}

export function embedBf16(out: usize, table: usize, tokens: usize, cols: i32, n: i32): void {
  for (let i = 0; i < n; i++, tokens += 4) {
    let p = table + <usize>load<u32>(tokens) * cols * 2, c = 0;
    for (; c + 4 <= cols; c += 4, p += 8, out += 16) v128.store(out, load4Bf16(p));
    for (; c < cols; c++, p += 2, out += 4) store<f32>(out, loadBf16(p));
  }
}

export function embedQ8(out: usize, table: usize, tokens: usize, cols: i32, n: i32): void {
  const groupBytes = <usize>(cols / BLOCK) * 136;
  for (let i = 0; i < n; i++, tokens += 4) {
    const row = load<u32>(tokens), lane = <usize>(row & 3);
    let record = table + <usize>(row >> 2) * groupBytes;
    for (const end = record + groupBytes; record < end; record += 136) {
      const scale = f32x4.splat(loadHalf(record + lane * 2));
      let q = record + 8 + lane * 32;
      for (const stop = q + 32; q < stop; q += 8, out += 32) {
        const eight = v128.load8x8_s(q);
        v128.store(out, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(eight)), scale));
        v128.store(out, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(eight)), scale), 16);
      }
    }
  }
}

export function embedQ4(out: usize, table: usize, tokens: usize, cols: i32, n: i32): void {
  const groupBytes = <usize>(cols / BLOCK) * 80, mask = i16x8.splat(15);
  for (let i = 0; i < n; i++, tokens += 4) {
    const row = load<u32>(tokens), lane = <usize>(row & 3);
    let record = table + <usize>(row >> 2) * groupBytes;
    for (const end = record + groupBytes; record < end; record += 80) {
      const scale = f32x4.splat(loadHalf(record + lane * 2)), low = f32x4.splat(loadHalf(record + 8 + lane * 2));
      let q = v128.load(record + 16 + lane * 16);
      for (let k = 0; k < 4; k++, q = i16x8.shr_u(q, 4), out += 32) {
        const eight = v128.and(q, mask);
        v128.store(out, f32x4.add(f32x4.mul(f32x4.convert_i32x4_u(i32x4.extend_low_i16x8_u(eight)), scale), low));
        v128.store(out, f32x4.add(f32x4.mul(f32x4.convert_i32x4_u(i32x4.extend_high_i16x8_u(eight)), scale), low), 16);
      }
    }
  }
}
