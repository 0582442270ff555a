// Compiles worker/, presses/, evaluation/ and cli/ to dist/ (ESM and types), with the kernels where dist/worker looks for them.
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc');
rmSync('dist', { recursive: true, force: true });
const { status } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { stdio: 'inherit' });
if (status !== 0) process.exit(status ?? 1);
for (const name of ['kernels.wasm', 'kernels-relaxed.wasm']) cpSync(`build/${name}`, `dist/build/${name}`);
chmodSync('dist/cli/index.js', 0o755);
