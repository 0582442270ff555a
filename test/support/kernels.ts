/**
 * Kernels for parity tests in Node: the plain-SIMD build, or another one.
 *   KERNELS=build/x.wasm                work on one kernel: `node scripts/build-asm.mjs --entry asm/x.ts --out build/x.wasm`
 *   KERNELS=build/kernels-relaxed.wasm  where the host accepts relaxed SIMD, as Deno does and Node 20 does not. In workerd: test/worker/relaxed.test.ts
 */
import { readFileSync } from 'node:fs';
import { placeKernels, type TestKernels } from './placed-kernels.ts';

export type { TestKernels } from './placed-kernels.ts';

export function loadKernels(path = process.env.KERNELS ?? 'build/kernels.wasm'): TestKernels {
  return placeKernels(new WebAssembly.Module(readFileSync(path)), path.includes('relaxed'));
}
