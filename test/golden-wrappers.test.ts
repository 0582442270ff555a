/** Selections around scorers of a window or by position, under compat, keep what kvpress's wrappers around them keep: kvpress/wrappers.json of test/golden. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parsePress } from '../presses/config.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { golden, openGolden } from './support/golden.ts';
import { type Library, unpack } from './support/golden-library.ts';

const wrappers = golden<{ model: string; tokens: number; kept: Record<string, string> }>('kvpress/wrappers.json');
const { context_ids: tokens, shape } = golden<Library>(`library/${wrappers.model}.json`);

const snapkv = { name: 'snapkv', window_size: 16 };
const configs: Record<string, Record<string, unknown>> = {
  'segments_snapkv-100': { scorer: snapkv, selection: { name: 'segments', segment_length: 100 }, compression_ratio: 0.5 },
  'segments_snapkv-130': { scorer: snapkv, selection: { name: 'segments', segment_length: 130 }, compression_ratio: 0.5 },
  'segments_tova-80': { scorer: 'tova', selection: { name: 'segments', segment_length: 80 }, compression_ratio: 0.7 },
  'chunks_tova-13': { scorer: 'tova', selection: { name: 'chunks', chunk_length: 13 }, compression_ratio: 0.7 },
  'chunks_cur-11': { scorer: 'cur', selection: { name: 'chunks', chunk_length: 11 }, compression_ratio: 0.6 },
  'blocks_cur-32': { scorer: 'cur', selection: { name: 'blocks', block_size: 32 }, compression_ratio: 0.5 },
};

let engine: EdgeEngine;
beforeAll(async () => {
  engine = await openGolden(wrappers.model);
});
afterAll(() => engine.close());

/** [layer][head] ascending positions. */
async function kept(press: Record<string, unknown>): Promise<number[][][]> {
  const { layers } = await engine.inspect({ kind: 'tokens', tokens }, { ...parsePress(press), scope: 'prompt' });
  return layers.map(({ heads }) => heads.map((head) => [...head.kept].sort((a, b) => a - b)));
}

test('every entry has a config', () => {
  expect(Object.keys(configs).sort()).toEqual(Object.keys(wrappers.kept).sort());
  expect(tokens.length).toBe(wrappers.tokens);
});

test.each(Object.keys(configs))('%s keeps what kvpress keeps under compat, and something else by default', async (name) => {
  const theirs = unpack(wrappers.kept[name], shape, tokens.length);
  expect(await kept({ ...configs[name], compat: 'kvpress' })).toEqual(theirs);
  expect(await kept(configs[name])).not.toEqual(theirs); // positions of queries, whole chunks, the order of what is scored
});
