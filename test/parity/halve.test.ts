import { beforeEach, expect, test } from 'vitest';
import { awkwardFloats, fromHalf, toHalf } from '../support/half.ts';
import { loadKernels } from '../support/kernels.ts';

const kernels = loadKernels();
beforeEach(() => kernels.reset());

/** As written, and nothing behind it. */
function halved(x: Float32Array): Uint16Array {
  const [from, out] = [kernels.put(x), kernels.alloc(x.length * 2 + 8)];
  kernels.u8(out, x.length * 2 + 8).fill(0xab);
  kernels.exports.halve(out, from, x.length);
  expect([...kernels.u8(out + x.length * 2, 8)]).toEqual(new Array(8).fill(0xab));
  return new Uint16Array(kernels.memory.buffer, out, x.length).slice();
}

test('halve: bit for bit the nearest half of every kind of f32, large numbers and NaN too', () => {
  const x = awkwardFloats();
  expect(halved(x)).toEqual(Uint16Array.from(x, toHalf));
});

test('halve: counts around the vector', () => {
  for (const count of [2, 4, 6, 8, 30, 66]) {
    const x = Float32Array.from({ length: count }, (_, i) => (i - 7) * 1.37);
    expect(halved(x)).toEqual(Uint16Array.from(x, toHalf));
  }
});

test('widen: every half but infinities and foreign NaN, exactly, and nothing behind it; halving that is the same half again', () => {
  const bits = Array.from({ length: 0x7c00 }, (_, i) => [i, i | 0x8000]).flat();
  for (const halves of [[...bits, 0x7e00, 0x7e00], [0x3c00, 0x7e00], bits.slice(0, 6), bits.slice(400, 430)]) {
    const x = Uint16Array.from(halves);
    const [from, out] = [kernels.put(x), kernels.alloc(x.length * 4 + 16)];
    kernels.f32(out, x.length + 4).fill(777);
    kernels.exports.widen(out, from, x.length);
    const result = kernels.f32(out, x.length).slice();
    expect([...kernels.f32(out + x.length * 4, 4)]).toEqual([777, 777, 777, 777]);
    expect(result).toEqual(Float32Array.from(halves, fromHalf));
    expect(halved(result)).toEqual(x);
  }
});
