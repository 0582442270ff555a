/** A results file under everything that can happen to it: a run cut off at any byte, another setup, lines that are none. */
import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Answer, ResultsFile, readResults, type Setup } from '../../evaluation/results.ts';

const setup: Setup = { model: 'm', fingerprint: 'f', backend: 'wasm', entry_type: 'f32', query_aware: false, samples: { seed: 1, tasks: ['a'] } };
const answer = (sample: string, variant = 'knorm@0.5', prediction = 'größer'): Answer => ({
  sample,
  variant,
  task: 'a',
  length: 128,
  depth: null,
  words: null,
  groups: {},
  press: 'knorm',
  ratio: 0.5,
  prediction,
  answers: ['x'],
  score: 0.5,
  weight: 1,
  other_scores: {},
  kl: null,
  tokens: 100,
  covered: 90,
  compression_ratio: 0.5,
  bytes_kept: 10,
  bytes_full: 20,
  kept_per_layer: [45],
  lmba_per_layer: [null],
  retained_mass_per_layer: [0.9],
  notes: [],
});
let folder: string;
let path: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'edgepress-results-'));
  path = join(folder, 'deep', 'results.jsonl');
});
afterEach(() => rmSync(folder, { recursive: true }));

function write(...batches: Answer[][]): void {
  const file = new ResultsFile(path, setup);
  for (const batch of batches) file.append(batch);
  file.close();
}

test('what is appended is read back, and an answer stands there once', () => {
  write([answer('1'), answer('2')], [answer('2'), answer('3')]);
  write([answer('3'), answer('4', 'tova@0.5')]);
  const { setup: read, answers } = readResults(path);
  expect(read).toEqual(setup);
  expect(answers.map(({ sample }) => sample)).toEqual(['1', '2', '3', '4']);
  expect(answers[0]).toEqual(answer('1'));
  expect(readFileSync(path, 'utf8').trimEnd().split('\n').length).toBe(5);
});

test('a run cut off at any byte loses one answer at most, and goes on', () => {
  write([answer('1')], [answer('2')]);
  const whole = readFileSync(path);
  for (let cut = 0; cut <= whole.length; cut++) {
    writeFileSync(path, whole);
    truncateSync(path, cut);
    const lines = whole.subarray(0, cut).filter((byte) => byte === 10).length;
    const file = new ResultsFile(path, setup);
    expect(file.size).toBe(Math.max(0, lines - 1));
    file.append([answer('1'), answer('2')]);
    file.close();
    expect(readFileSync(path)).toEqual(whole);
  }
});

describe('refused, and left as it is', () => {
  test.each<[string, string | Buffer, RegExp]>([
    ['a file of something else', 'hello\n', /line 1: .* this is no results file of this version/],
    ['JSON of something else', '{"a":1}\n', /line 1: /],
    ['another version', '{"edgepress_eval":99,"setup":{}}\n', /line 1: .*this version/],
    ['a broken line in the middle', 'HEAD\n{"sample":\nANSWER\n', /line 2: .*remove the line/],
    ['an answer without a field', 'HEAD\n{"sample":"1"}\n', /line 2: .*variant/],
    ['bytes that are no text', Buffer.from([0xff, 0xfe, 0, 10]), /line 1: /],
  ])('%s', (_, content, message) => {
    write([]);
    const head = readFileSync(path, 'utf8').trimEnd();
    writeFileSync(path, typeof content === 'string' ? content.replace('HEAD', head).replace('ANSWER', JSON.stringify(answer('1'))) : content);
    const before = readFileSync(path);
    expect(() => new ResultsFile(path, setup)).toThrow(message);
    expect(() => readResults(path)).toThrow(message);
    expect(readFileSync(path)).toEqual(before);
  });

  test('answers of another setup, with what differs', () => {
    write([answer('1')]);
    const other = { ...setup, query_aware: true, samples: { seed: 2, tasks: ['a'] } };
    expect(() => new ResultsFile(path, other)).toThrow(/query_aware false, now true; samples .*"seed":1.*now .*"seed":2/);
    expect(() => new ResultsFile(path, { ...setup, samples: { tasks: ['a'], seed: 1 } }).close()).not.toThrow(); // the same in another order
  });
});

test('a file without a whole line is no result', () => {
  write([]);
  truncateSync(path, 5);
  expect(() => readResults(path)).toThrow(/no whole line/);
  expect(() => readResults(join(folder, 'none.jsonl'))).toThrow(/no such file/);
});

test('lines longer than a chunk of reading are whole', () => {
  write([answer('1', 'a', 'é'.repeat(1_500_000)), answer('2')]);
  appendFileSync(path, '{"sam');
  const { answers } = readResults(path);
  expect(answers.map(({ prediction }) => prediction.length)).toEqual([1_500_000, 6]);
});

test('one run at a time writes: a second is told of the first, and what a killed one left is taken over', () => {
  const first = new ResultsFile(path, setup);
  expect(() => new ResultsFile(path, setup)).toThrow(`${path} is being written by process ${process.pid}: wait for it`);
  first.append([answer('1')]);
  first.close();
  const dead = spawnSync(process.execPath, ['-e', '']).pid;
  writeFileSync(`${path}.lock`, JSON.stringify({ pid: dead, host: hostname() }));
  const next = new ResultsFile(path, setup);
  expect(next.size).toBe(1);
  next.close();
  writeFileSync(`${path}.lock`, JSON.stringify({ pid: dead, host: 'elsewhere' }));
  expect(() => new ResultsFile(path, setup)).toThrow(/process \d+ on elsewhere.*remove .*\.lock$/);
  rmSync(`${path}.lock`);
  expect(() => new ResultsFile(path, { ...setup, model: 'other' })).toThrow(/another setup/);
  new ResultsFile(path, setup).close(); // who is refused leaves no lock
});

test('an answer without a KL is made again where one is asked for, and the later line counts', () => {
  write([answer('1')]);
  const file = new ResultsFile(path, setup);
  expect([file.has(answer('1')), file.has(answer('1'), true)]).toEqual([true, false]);
  file.append([{ ...answer('1'), kl: 0.25 }]);
  expect(file.has(answer('1'), true)).toBe(true);
  file.append([answer('1')]);
  file.close();
  expect(readResults(path).answers.map(({ kl }) => kl)).toEqual([0.25]);
});
