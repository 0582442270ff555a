/** A results file under everything that can happen to it: a run cut off at any byte, another setup, lines that are none. */
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { madeOf } from '../../evaluation/made-of.ts';
import { type Answer, ResultsFile, readResults, type Setup } from '../../evaluation/results.ts';
import { variantsOf } from '../../evaluation/variants.ts';

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

test('a byte that is not the one that was written, anywhere in an answer, is told with its line; without the line the answer is made again', () => {
  write([answer('1')], [answer('2')], [answer('3')]);
  const whole = readFileSync(path);
  const ends = [...whole.entries()].filter(([, byte]) => byte === 10).map(([at]) => at);
  for (let at = ends[0] + 1; at < ends[2]; at++) {
    for (const flip of [1, 0x20, 0x80]) {
      const bytes = Buffer.from(whole);
      bytes[at] ^= flip;
      writeFileSync(path, bytes);
      expect(() => new ResultsFile(path, setup), `byte ${at}`).toThrow(/line [23]: .*remove the line, and its answer is made again/);
      expect(() => readResults(path)).toThrow(/line [23]: /);
      expect(readFileSync(path)).toEqual(bytes);
    }
  }
  const bytes = Buffer.from(whole);
  bytes[ends[1] - 30] ^= 1;
  writeFileSync(
    path,
    bytes
      .toString('latin1')
      .split('\n')
      .filter((_, i) => i !== 1)
      .join('\n'),
    'latin1',
  );
  const file = new ResultsFile(path, setup);
  expect(['1', '2', '3'].map((sample) => file.has(answer(sample)))).toEqual([false, true, true]);
  file.close();
});

test('lines of before there was a check are taken as they are', () => {
  write([answer('1'), answer('2')]);
  writeFileSync(path, readFileSync(path, 'utf8').replaceAll(/,"check":"[0-9a-f]{8}"/g, ''));
  expect(readResults(path).answers).toEqual([answer('1'), answer('2')]);
  write([answer('3')]);
  expect(readResults(path).answers.length).toBe(3);
});

test('a disk that is full: the answers that did not go on it are not there, those before are, and it goes on', () => {
  const script = (samples: number) =>
    spawnSync(
      'bash',
      [
        '-c',
        `ulimit -f 4; exec node --import tsx --input-type=module -e "
          import { ResultsFile } from './evaluation/results.ts';
          const [path, setup, answer] = process.argv.slice(1);
          const file = new ResultsFile(path, JSON.parse(setup));
          try {
            for (let i = 0; i < ${samples}; i++) file.append([{ ...JSON.parse(answer), sample: String(i) }]);
          } catch (error) { console.log(error.message); } finally { file.close(); }" "$@"`,
        'script',
        path,
        JSON.stringify(setup),
        JSON.stringify(answer('')),
      ],
      { encoding: 'utf8' },
    );
  expect(script(100).stdout).toMatch(
    /results\.jsonl cannot be written: EFBIG.*; once it can, the same command goes on after the last answer there$/m,
  );
  const { answers } = readResults(path);
  expect(answers.length).toBeGreaterThan(2);
  expect(answers.length).toBeLessThan(30);
  expect(readFileSync(path).at(-1)).toBe(10); // no half line
  expect(existsSync(`${path}.lock`)).toBe(false);
  const file = new ResultsFile(path, setup);
  file.append([answer('more')]);
  file.close();
  expect(readResults(path).answers.map(({ sample }) => sample)).toEqual([...answers.map(({ sample }) => sample), 'more']);
});

test('what is no file, and folders that cannot be made, are refused at once', () => {
  const refused = (to: string) => expect(() => new ResultsFile(to, setup));
  const at = (...names: string[]) => join(folder, ...names);
  writeFileSync(at('file'), '');
  symlinkSync(at('nowhere'), at('link'));
  symlinkSync('/dev/zero', at('zero.jsonl'));
  symlinkSync('/dev/null', at('null.jsonl'));
  spawnSync('mkfifo', [at('pipe.jsonl')]);
  mkdirSync(at('folder.jsonl'));
  refused(at('file', 'a.jsonl')).toThrow(/the folder .*file cannot be made: it is a file; name another one/);
  refused(at('file', 'b', 'a.jsonl')).toThrow(/the folder .*b cannot be made: ENOTDIR/);
  refused(at('link', 'a.jsonl')).toThrow(/the folder .*link cannot be made: EEXIST/);
  refused('/proc/edgepress/a.jsonl').toThrow(/the folder \/proc\/edgepress cannot be made: ENOENT/);
  for (const name of ['zero', 'null', 'pipe']) {
    refused(at(`${name}.jsonl`)).toThrow(/it is no file, but a device, a pipe or a socket/);
    expect(() => readResults(at(`${name}.jsonl`))).toThrow(/it is no file/);
  }
  refused(at('folder.jsonl')).toThrow(/it is a folder; name another/);
  expect(readdirSync(folder).filter((name) => name.includes('.lock'))).toEqual([]);
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
  writeFileSync(`${path}.lock`, ''); // of a run that was killed, or had no room, while it made it
  expect(() => new ResultsFile(path, setup)).toThrow(/is being written by another run/);
  utimesSync(`${path}.lock`, 0, Date.now() / 1000 - 11);
  new ResultsFile(path, setup).close();
  expect(readdirSync(join(folder, 'deep'))).toEqual(['results.jsonl']);
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

test('what presses are made of stands there once, and is read back', () => {
  const { variants } = variantsOf([{ name: 'mine', press: 'zigzag_snapkv' }], [0.5, 0.75], false);
  const made = variants.map(({ key, request }) => [key, madeOf(request)] as const);
  for (let runs = 0; runs < 2; runs++) {
    const file = new ResultsFile(path, setup);
    file.describe(made);
    file.append([answer('1', 'mine@0.5')]);
    expect(file.size).toBe(1);
    file.close();
  }
  expect(readFileSync(path, 'utf8').trimEnd().split('\n').length).toBe(4);
  const read = readResults(path);
  expect(read.answers).toEqual([answer('1', 'mine@0.5')]);
  expect([...read.made]).toEqual(made);
  expect(read.made.get('mine@0.75')).toMatchObject([{ scorer: { name: 'snapkv' }, layer_budget: { name: 'zigzag' }, compression_ratio: 0.75 }]);
  appendFileSync(path, '{"variant":"mine@0.9","made_of":[{}]}\n');
  expect(() => readResults(path)).toThrow(/line 5: .*scorer/);
});
