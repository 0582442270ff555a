import { defineConfig } from 'vitest/config';

/**
 * The tests that want an adapter: all of them in Deno on wgpu, these in Node on Dawn, where compiling a shader takes longer. GPU_TESTS=all runs all on Dawn too.
 * scripts/test.mjs starts both with the drivers that scripts/vulkan.mjs finds.
 */
const onDawn = ['test/gpu/smoke.test.ts'];

const all = 'Deno' in globalThis || process.env.GPU_TESTS === 'all';

export default defineConfig({
  test: { include: all ? ['test/gpu/**/*.test.ts'] : onDawn, testTimeout: 120_000, hookTimeout: 120_000, pool: 'forks', maxWorkers: 2 },
});
