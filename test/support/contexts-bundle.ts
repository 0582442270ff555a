/** test/support/contexts-worker.ts with all it imports, for workerd, where there is no vitest. */
import { resolve } from 'node:path';
import { build } from 'esbuild';

export async function contextsWorker(): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: ['test/support/contexts-worker.ts'],
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'neutral',
    external: ['cloudflare:workers'],
    alias: { vitest: resolve('test/support/vitest-in-workerd.ts') },
  });
  return outputFiles[0].text;
}
