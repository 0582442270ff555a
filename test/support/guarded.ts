/** Kernels called with scratch and results between guards: what lies after them must stay as it is. */
import type { TestKernels } from './placed-kernels.ts';

const GUARD = 64;
const BYTE = 0xa5;

/** Room for `bytes`, filled and guarded. `check` throws where a kernel wrote beyond them. */
export function guarded(kernels: TestKernels, bytes: number): { address: number; check(): void } {
  const address = kernels.alloc(bytes + GUARD);
  kernels.u8(address, bytes + GUARD).fill(BYTE);
  return {
    address,
    check() {
      if (kernels.u8(address + bytes, GUARD).some((x) => x !== BYTE)) throw new Error(`written beyond ${bytes} bytes`);
    },
  };
}

/** `length` numbers from `start` on, less the vector `centre`. */
export function row(x: Float32Array, start: number, length: number, centre?: ArrayLike<number>): number[] {
  return Array.from({ length }, (_, c) => x[start + c] - (centre?.[c] ?? 0));
}

export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}
