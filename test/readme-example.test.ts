/** The README's example of adding a press, taken from there letter by letter: it is under 40 lines, compiles, and keeps what its formula says. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { needleSamples } from './support/golden.ts';

const readme = readFileSync('README.md', 'utf8');
const folder = resolve('build/readme-example'); // in the project, so that packages are found

/** What stands after `from` in the README, up to `to`. */
function between(from: string, to: string): string {
  const start = readme.indexOf(from);
  const end = readme.indexOf(to, start + from.length);
  if (start < 0 || end < 0) throw new Error(`the README has no ${from} ... ${to}`);
  return readme.slice(start + from.length, end);
}

const example = between('`presses/scorers/value-norm.ts`:\n\n   ```ts\n', '   ```\n').replaceAll(/^ {3}/gm, '');
const [importLine, entryLine] = ['In presses/registry.ts `', 'in `scorers`, `'].map((before) => between(before, '`'));

beforeAll(() => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(`${folder}/build`, { recursive: true });
  for (const part of ['presses', 'worker']) cpSync(part, `${folder}/${part}`, { recursive: true });
  for (const built of ['kernels.wasm', 'kernels-relaxed.wasm', 'shaders.ts']) symlinkSync(resolve('build', built), `${folder}/build/${built}`);
  writeFileSync(`${folder}/presses/scorers/value-norm.ts`, example);
  const registry = readFileSync('presses/registry.ts', 'utf8');
  const added = registry
    .replace(/^import /m, `${importLine}\nimport `)
    .replace('export const scorers = {\n', `export const scorers = {\n  ${entryLine}\n`);
  writeFileSync(`${folder}/presses/registry.ts`, added);
  writeFileSync(`${folder}/tsconfig.json`, JSON.stringify({ extends: '../../tsconfig.json', include: ['presses'], exclude: [] }));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('is under 40 lines, with both lines of the registry', () => {
  expect(example.trimEnd().split('\n').length + 2).toBeLessThan(40);
});

test('compiles', { timeout: 60_000 }, () => {
  const { status, stdout } = spawnSync('npx', ['--no-install', 'tsc', '-p', folder], { encoding: 'utf8' });
  expect(stdout).toBe('');
  expect(status).toBe(0);
});

test('runs: alone, under ZigZag and with ragged heads', { timeout: 60_000 }, async () => {
  const { openEngine } = (await import(`${folder}/worker/node.ts`)) as typeof import('../worker/node.ts');
  const { parsePress } = (await import(`${folder}/presses/config.ts`)) as typeof import('../presses/config.ts');
  const engine = await openEngine('models/needle');
  try {
    const tokens = needleSamples()[92].prompt_token_ids.slice(0, 300);
    const inspect = (press: unknown) => engine.inspect({ kind: 'tokens', tokens }, parsePress(press));
    const kept = async (press: unknown) => (await inspect(press)).layers.map(({ heads }) => heads.map((head) => head.kept));

    // CUR ranks by squared norms of values, where told so: the same order.
    const squares = { scorer: { name: 'cur', num_sinks: 2, leverage_type: 'value', use_local_approximation: false }, compression_ratio: 0.7 };
    expect(await kept({ scorer: 'value_norm', compression_ratio: 0.7 })).toEqual(await kept(squares));

    const zigzag = (await inspect({ preset: 'zigzag_value_norm', compression_ratio: 0.7 })).layers.map(({ budget }) => budget);
    expect(new Set(zigzag).size).toBeGreaterThan(1);
    expect(zigzag.reduce((sum, budget) => sum + budget, 0)).toBe(6 * 90);
    const ragged = await kept({ scorer: { name: 'value_norm', first_tokens: 5 }, head_budget: 'adakv', compression_ratio: 0.7 });
    for (const heads of ragged) {
      expect(heads.reduce((sum, list) => sum + list.length, 0)).toBe(2 * 90);
      for (const list of heads) expect(list.slice(0, 5)).toEqual([0, 1, 2, 3, 4]);
    }
  } finally {
    engine.close();
  }
});
