// Makes dist/browser: the library as one ES module for pages, the kernels and the packed embedded model beside it, and the page of worker/page.
// A static server can serve the folder as it is; `npm start` does at /chat/. After scripts/build-js.mjs, which compiles the packer and the types.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const out = 'dist/browser';
mkdirSync(out, { recursive: true });

/** Shaders without comments and indentation, which would be a tenth of the bundle. */
const lean = {
  name: 'lean shaders',
  setup: ({ onLoad }) =>
    onLoad({ filter: /build.shaders\.ts$/ }, ({ path }) => ({
      contents: readFileSync(path, 'utf8').replace(/^ {2}"source": (".*"),?$/gm, (line, text) => line.replace(text, () => shortened(text))),
      loader: 'ts',
    })),
};
const shortened = (text) =>
  JSON.stringify(
    JSON.parse(text)
      .replace(/\s*\/\/.*$/gm, '')
      .replace(/\n\s*/g, '\n')
      .trim(),
  );

/** For browsers alone: an import of a Node module ends the build. */
const options = { bundle: true, format: 'esm', platform: 'browser', target: 'es2022', minify: true, sourcemap: true, logLevel: 'warning' };
await build({
  ...options,
  entryPoints: ['worker/browser.ts'],
  outfile: `${out}/edgepress.js`,
  inject: ['worker/set-immediate.ts'],
  plugins: [lean],
});
const library = {
  name: 'library',
  setup: ({ onResolve }) => onResolve({ filter: /\/browser\.ts$/ }, () => ({ path: './edgepress.js', external: true })),
};
await build({ ...options, entryPoints: ['worker/page/page.ts'], outfile: `${out}/page.js`, plugins: [library] });

writeFileSync(`${out}/edgepress.d.ts`, "export * from '../worker/browser.js';\n");
for (const name of ['kernels.wasm', 'kernels-relaxed.wasm']) copyFileSync(`build/${name}`, `${out}/${name}`);
for (const name of ['index.html', 'page.css']) copyFileSync(`worker/page/${name}`, `${out}/${name}`);
const { packModel } = await import('../dist/cli/pack.js');
await packModel('models/needle', `${out}/model`);

if (process.argv.includes('--sizes')) {
  for (const name of ['edgepress.js', 'page.js', 'kernels.wasm']) {
    const bytes = readFileSync(`${out}/${name}`);
    console.log(`${name}: ${(bytes.length / 1024).toFixed(1)} KiB, gzip ${(gzipSync(bytes, { level: 9 }).length / 1024).toFixed(1)} KiB`);
  }
}
