import { defineConfig } from 'vitest/config';

/** test/real wants a model that is not in the repository: `npm run test:smollm2` fetches it and sets REAL. */
const include = process.env.REAL
  ? ['test/real/**/*.test.ts']
  : ['test/*.test.ts', 'test/evaluation/**/*.test.ts', 'test/parity/**/*.test.ts', 'test/worker/**/*.test.ts', 'test/browser/**/*.test.ts'];

export default defineConfig({
  test: { include, testTimeout: 120_000, hookTimeout: 120_000, pool: 'forks', maxWorkers: 2 },
});
