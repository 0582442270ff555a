/** coverage.md names every test file, and no file or test that does not exist. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const coverage = readFileSync('test/coverage.md', 'utf8');
const tests = (folder: string) => readdirSync(folder).flatMap((name) => (name.endsWith('.test.ts') ? [`${folder}/${name}`] : []));

test('every test file stands in coverage.md', () => {
  const files = ['test', 'test/evaluation', 'test/parity', 'test/worker', 'test/real', 'test/browser', 'test/gpu', 'test/gpu/parity'].flatMap(tests);
  const missing = files.filter((file) => !coverage.includes(file) && !coverage.includes(file.replace(/[\w-]+(?=\.test\.ts$)/, '*')));
  expect(missing).toEqual([]);
});

test('what coverage.md names exists: every file, and in it every test by its name', () => {
  let named = 0;
  for (const line of coverage.split('\n')) {
    let source = '';
    for (const [, file, name] of line.matchAll(/(test\/[\w/-]+\.(?:test\.)?ts)|"([^"]+)"/g)) {
      if (file) {
        expect(existsSync(file), file).toBe(true);
        source = readFileSync(file, 'utf8');
      } else {
        expect(source.includes(name), `${name} in: ${line}`).toBe(true);
        named++;
      }
    }
  }
  expect(named).toBeGreaterThan(30);
});
