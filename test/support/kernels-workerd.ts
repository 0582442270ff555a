/** Kernels for parity tests in workerd, where test/worker/relaxed.test.ts puts this file in the place of kernels.ts: the relaxed-SIMD build. */
import relaxed from '../../build/kernels-relaxed.wasm';
import { placeKernels, type TestKernels } from './placed-kernels.ts';

export type { TestKernels } from './placed-kernels.ts';

export const loadKernels = (): TestKernels => placeKernels(relaxed, true);
