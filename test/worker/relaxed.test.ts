/**
 * The relaxed-SIMD kernels, which Node 20 does not accept, in workerd, which runs them in production: every test of test/parity, against the same float64
 * references. The tests are bundled with a small stand-in for vitest (test/support/vitest-in-workerd.ts) and the relaxed module for the plain one.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { build, type Plugin } from 'esbuild';
import { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Comparison } from '../support/parity-worker.ts';
import type { Result } from '../support/vitest-in-workerd.ts';
import { OWN_CONNECTION, removePacked, startWorker } from '../support/worker.ts';

const files = readdirSync('test/parity')
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => basename(name, '.test.ts'));

const inPlaceOf: Plugin = {
  name: 'workerd in the place of Node and vitest',
  setup(build) {
    build.onResolve({ filter: /^vitest$/ }, () => ({ path: resolve('test/support/vitest-in-workerd.ts') }));
    build.onResolve({ filter: /support\/kernels\.ts$/ }, () => ({ path: resolve('test/support/kernels-workerd.ts') }));
    build.onResolve({ filter: /\.wasm$/ }, ({ path }) => ({ path: `./${basename(path)}`, external: true }));
    build.onResolve({ filter: /^parity-tests$/ }, () => ({ path: 'parity-tests', namespace: 'made' }));
    build.onLoad({ filter: /.*/, namespace: 'made' }, () => ({
      contents: `export default { ${files.map((name) => `'${name}': () => import('./test/parity/${name}.test.ts')`).join(', ')} }`,
      resolveDir: process.cwd(),
    }));
  },
};

let workerd: Miniflare;
let url: URL;
beforeAll(async () => {
  const { outputFiles } = await build({
    entryPoints: ['test/support/parity-worker.ts'],
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'neutral',
    plugins: [inPlaceOf],
  });
  workerd = new Miniflare({
    modules: [
      { type: 'ESModule', path: 'index.js', contents: outputFiles[0].text },
      ...['kernels.wasm', 'kernels-relaxed.wasm'].map((path) => ({
        type: 'CompiledWasm' as const,
        path,
        contents: readFileSync(join('build', path)),
      })),
    ],
    modulesRoot: process.cwd(),
    compatibilityDate: '2026-04-26',
    cf: false,
    host: '127.0.0.1',
    port: 0,
  });
  url = await workerd.ready;
});
afterAll(async () => {
  await workerd?.dispose();
  await removePacked();
});

async function get<T>(path: string): Promise<T> {
  const response = await fetch(new URL(path, url), { headers: OWN_CONNECTION });
  if (!response.ok) throw new Error(await response.text());
  return response.json() as Promise<T>;
}

test.each(files)('%s: every parity test holds on the relaxed build', async (name) => {
  const results = await get<Result[]>(`/${name}`);
  expect(results.filter(({ error }) => error !== null)).toEqual([]);
  // Not fewer than Node runs: test.each counts as one in the source, so at least as many.
  const inSource = readFileSync(`test/parity/${name}.test.ts`, 'utf8').match(/^\s*(test|it)(\.each|\()/gm)!.length;
  expect(results.length).toBeGreaterThanOrEqual(inSource);
});

test('the relaxed build is another program: q4 with bytes for activations, off by 1/254 of a block’s largest instead of 1/4094', async () => {
  const { selfTest, q4 } = await get<Comparison>('/');
  expect(selfTest).toBe(1);
  const rms = (values: number[]) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
  const off = rms(q4.plain.map((value, i) => value - q4.relaxed[i])) / rms(q4.plain);
  // linear.test.ts: 5.2e-3 of the result is typical for the relaxed build at this width, 2.4e-4 for the plain one
  expect(off).toBeGreaterThan(1e-3);
  expect(off).toBeLessThan(8e-3);
});

test('the worker picks the relaxed build', async () => {
  const worker = await startWorker();
  try {
    await worker.chat({ messages: [{ role: 'user', content: 'Anna lives in Oslo.' }], max_tokens: 1 });
    expect((await worker.health()).backend).toEqual({ name: 'wasm', variant: 'relaxed simd' });
  } finally {
    await worker.dispose();
  }
});
