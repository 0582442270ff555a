import { defineConfig } from 'vitest/config';

/**
 * The tests that want an adapter. In Deno on wgpu: all of test/gpu. In Node on Dawn, where compiling a shader takes longer: every shader once, the
 * variants that naga has no words for, faults; and the tests of presses, whose many small readbacks take 11 ms each in Deno. GPU_TESTS=all runs all
 * on Dawn too. scripts/test.mjs starts both with the drivers that scripts/vulkan.mjs finds.
 */
const onDawn = [
  'test/gpu/smoke.test.ts',
  'test/gpu/shaders.test.ts',
  'test/gpu/faults.test.ts',
  'test/gpu/recorder.test.ts',
  'test/gpu/real-kernels.test.ts',
  'test/gpu/command.test.ts',
  'test/gpu/parity/rms-norm.test.ts',
  'test/gpu/parity/linear.test.ts',
  'test/gpu/parity/top-k.test.ts',
];
const ofPresses = [
  'test/presses.test.ts',
  'test/artifact-parts.test.ts',
  'test/scorers-moments.test.ts',
  'test/selections.test.ts',
  'test/presses-attention.test.ts',
  'test/budgets-allocators.test.ts',
  'test/transforms.test.ts',
  'test/zigzag.test.ts',
];

const all = 'Deno' in globalThis || process.env.GPU_TESTS === 'all';

export default defineConfig({
  test: {
    include: all ? ['test/gpu/**/*.test.ts', ...(process.env.GPU_TESTS === 'all' ? ofPresses : [])] : [...onDawn, ...ofPresses],
    env: { GPU: '1' }, // test/support/press-runtimes.ts runs presses on the device
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: 'forks',
    maxWorkers: 2,
  },
});
