/** The whole press library against the real kvpress on WASM: test/support/golden-library-suite.ts. */
import { expect, test } from 'vitest';
import { golden } from './support/golden.ts';
import { CONFIGS, DECODING, type Library } from './support/golden-library.ts';
import { librarySuite } from './support/golden-library-suite.ts';

librarySuite({ models: ['needle', 'qwen3', 'llama'], load: {}, pick: (runs) => runs });

test('every entry has a config, and every config an entry', () => {
  const entries = new Set<string>();
  const decoding = new Set<string>();
  for (const model of ['needle', 'qwen3', 'llama']) {
    const library = golden<Library>(`library/${model}.json`);
    for (const name of Object.keys(library.entries)) entries.add(name);
    for (const name of Object.keys(library.decoding)) decoding.add(name);
  }
  expect([...entries].sort()).toEqual(Object.keys(CONFIGS).sort());
  expect([...decoding].sort()).toEqual(Object.keys(DECODING).sort());
});
