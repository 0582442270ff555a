/** edgepress eval as a person meets it: runs, stops and goes on, shards, reports, refusals. `npm test` builds dist first. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readResults } from '../../evaluation/results.ts';

const folder = mkdtempSync(join(tmpdir(), 'edgepress-eval-cli-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (...names: string[]): string => join(folder, ...names);

function edgepress(...args: string[]): { status: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['dist/cli/index.js', ...args], { encoding: 'utf8', timeout: 120_000, input: '' });
  return { status, out: stdout, err: stderr };
}

const config = at('config.json');
const options = ['--tasks', 'niah_single_1,needle_in_haystack', '--samples', '3', '--config', config];
const whole = at('whole');
let first: ReturnType<typeof edgepress>;

beforeAll(() => {
  const grid = { scorers: ['random', { name: 'snapkv', window_size: 16 }], layer_budgets: ['uniform', 'zigzag'] };
  writeFileSync(config, JSON.stringify({ presses: ['no_press'], grid, lengths: [256], ratios: [0.5], samples: 1 }));
  first = edgepress('eval', ...options, '--out', whole);
});

test('answers every sample under every press, and tells what was left out and what it took', () => {
  expect(first.status).toBe(0);
  expect(first.err).toMatch(/random\+zigzag\+uniform at 0.5 is left out: .*spread alike/);
  expect(first.err).toMatch(/24 answers from 6 readings in \d+ s/); // 6 samples, 4 presses that are not refused
  expect(first.out).toMatch(/^\| press \| ratio \|/);
  const { setup, answers } = readResults(join(whole, 'answers.jsonl'));
  expect(setup).toMatchObject({ model: 'needle', backend: 'wasm', query_aware: false, samples: { style: 'needle', seed: 42 } });
  expect(answers.length).toBe(24);
  expect(answers.filter(({ variant }) => variant === 'no_press').every(({ score }) => score === 1)).toBe(true);
  const { variants, refused, lifts } = JSON.parse(readFileSync(join(whole, 'summary.json'), 'utf8'));
  expect(variants.length).toBe(4);
  expect(variants[0].score.mean).toBe(100);
  expect(refused).toEqual([{ press: 'random+zigzag+uniform', ratio: 0.5, why: expect.any(String) }]);
  expect(lifts).toMatchObject([{ scorer: 'snapkv', layer_budget: 'zigzag', against: 'uniform', ratio: 0.5, samples: 6 }]);
});

test('the same command again has nothing to do; more samples add to what is there', () => {
  expect(edgepress('eval', ...options, '--out', whole).err).toMatch(/ 0 answers from 0 readings/);
});

test('a run that is killed goes on, and ends with the same file', async () => {
  const out = at('killed');
  const child = spawn(process.execPath, ['dist/cli/index.js', 'eval', ...options, '--out', out], { stdio: 'ignore' });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  while (!existsSync(join(out, 'answers.jsonl')) || readFileSync(join(out, 'answers.jsonl'), 'utf8').split('\n').length < 6)
    await new Promise((resolve) => setTimeout(resolve, 20));
  child.kill('SIGKILL');
  await ended;
  expect(edgepress('eval', ...options, '--out', out).status).toBe(0);
  expect(readFileSync(join(out, 'answers.jsonl'))).toEqual(readFileSync(join(whole, 'answers.jsonl')));
});

test('a run that is killed at any moment, again and again, loses and repeats nothing', async () => {
  const out = at('killed-often');
  let kills = 0;
  for (let delay = 150; ; delay = delay * 1.25 + 20) {
    const child = spawn(process.execPath, ['dist/cli/index.js', 'eval', ...options, '--out', out], { stdio: 'ignore' });
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    const timer = setTimeout(() => child.kill('SIGKILL'), delay);
    const status = await ended;
    clearTimeout(timer);
    if (status !== null) {
      expect(status).toBe(0);
      break;
    }
    kills++;
  }
  expect(kills).toBeGreaterThan(3);
  expect(readFileSync(join(out, 'answers.jsonl'))).toEqual(readFileSync(join(whole, 'answers.jsonl')));
  expect(readdirSync(out).sort()).toEqual(['answers.jsonl', 'summary.json']);
});

test('Ctrl-C ends a run soon, tells how to go on, and leaves whole answers and no lock', async () => {
  const out = at('stopped');
  const args = ['eval', ...options, '--samples', '200', '--out', out];
  const child = spawn(process.execPath, ['dist/cli/index.js', ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  let err = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  while (!existsSync(join(out, 'answers.jsonl')) || readFileSync(join(out, 'answers.jsonl'), 'utf8').split('\n').length < 6)
    await new Promise((resolve) => setTimeout(resolve, 20));
  child.kill('SIGINT');
  expect(await ended).toBe(1);
  expect(err).toContain(`edgepress: stopped; the same command goes on from ${out}\n`);
  expect(readdirSync(out)).toEqual(['answers.jsonl']);
  expect(readFileSync(join(out, 'answers.jsonl')).at(-1)).toBe(10);
  expect(readResults(join(out, 'answers.jsonl')).answers.length % 4).toBe(0); // all of a sample, or none
});

test('of two runs on one folder at once one is told of the other, and the answers are those of one', async () => {
  const out = at('both');
  const start = async () => {
    const child = spawn(process.execPath, ['dist/cli/index.js', 'eval', ...options, '--out', out], { stdio: ['ignore', 'ignore', 'pipe'] });
    let err = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
    return { status: await new Promise<number | null>((resolve) => child.once('close', resolve)), err };
  };
  const runs = await Promise.all([start(), start(), start()]);
  expect(runs.some(({ status }) => status === 0)).toBe(true);
  for (const { status, err } of runs)
    if (status !== 0) expect(err).toMatch(/answers\.jsonl is being written by (process \d+|another run): wait for it/);
  expect(edgepress('eval', ...options, '--out', out).status).toBe(0);
  expect(readFileSync(join(out, 'answers.jsonl'))).toEqual(readFileSync(join(whole, 'answers.jsonl')));
});

test('on a terminal a bar tells the time that is left; elsewhere there is none', () => {
  const command = `"${process.execPath}" dist/cli/index.js eval ${options.join(' ')} --samples 5 --out ${at('watched')}`;
  const { status, stdout } = spawnSync('script', ['-qec', command, '/dev/null'], { encoding: 'utf8', timeout: 120_000 });
  expect(status, stdout).toBe(0);
  expect(stdout).toMatch(/10 samples x 4 presses \[-+\] 0%(?! \|)/); // no time before there is one
  expect(stdout).toMatch(/10 samples x 4 presses \[=+-*\] \d+% \| \d+s left/);
  expect(first.err).not.toMatch(/% \|/);
});

test('shards, merged, hold the same answers', () => {
  for (const shard of ['1/2', '2/2']) expect(edgepress('eval', ...options, '--shard', shard, '--out', at('shards')).status).toBe(0);
  expect(edgepress('eval', 'merge', at('shards'), '--out', at('merged')).out).toMatch(/24 answers/);
  const answers = (name: string) => readResults(at(name, 'answers.jsonl')).answers.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  expect(answers('merged')).toEqual(answers('whole'));
});

test('a run of one shard is a shard too: merged, the same answers', () => {
  expect(edgepress('eval', ...options, '--samples', '1', '--shard', '1/1', '--out', at('single')).status).toBe(0);
  expect(edgepress('eval', 'merge', at('single'), '--out', at('single-merged')).out).toMatch(/8 answers/);
  expect(readResults(at('single', 'answers-1-of-1.jsonl'))).toEqual(readResults(at('single-merged', 'answers.jsonl')));
});

test('a report is one page that needs nothing else, and a picture for every plot', () => {
  const { status, out, err } = edgepress('eval', 'report', whole, '--title', 'a <b> & "c"');
  expect([status, err]).toEqual([0, '']);
  expect(out).toMatch(/24 answers of 4 variants, 7 plots/);
  const page = readFileSync(join(whole, 'report.html'), 'utf8');
  expect(page).toMatch(/<h1>a &lt;b&gt; &amp; &quot;c&quot;<\/h1>/);
  expect(page).not.toMatch(/(?:src|href)="https?:/);
  for (const name of ['score-by-bytes', 'layer-budgets', 'needle-grid', 'lmba-by-layer', 'lmba-by-task', 'lift', 'lift-by-task']) {
    const svg = readFileSync(join(whole, `${name}.svg`), 'utf8');
    expect(svg).toMatch(/^<svg /);
    expect(page).toContain(svg);
  }
  const markdown = readFileSync(join(whole, 'report.md'), 'utf8');
  expect(markdown).toMatch(/\| no_press \| - \| 100\.0% \| 100\.0 \[100\.0, 100\.0\] \|/);
  expect(markdown).toMatch(/### 256 tokens\n\n\| press \| ratio \| niah_single_1 \| needle_in_haystack \|/);
  expect(markdown).toMatch(/## Layer budgets against uniform\n\n1 pairs? /);
  expect(markdown).toMatch(/\| scorer \| ratio \| zigzag \|\n.*\n\| snapkv \| 0\.5 \| \**[+-]?\d/);
  const { refused, lift_counts } = JSON.parse(readFileSync(join(whole, 'summary.json'), 'utf8'));
  expect(refused.length).toBe(1); // told by the run
  expect(lift_counts).toMatchObject([
    { measure: 'score', by: 'press', by_chance: 0.025 },
    { by: 'task', by_chance: 0.05 },
  ]);
});

test('results that do not tell what presses are made of are told by the config of their run', () => {
  const lines = readFileSync(join(whole, 'answers.jsonl'), 'utf8').split('\n');
  const old = at('old');
  mkdirSync(old);
  writeFileSync(join(old, 'answers.jsonl'), lines.filter((line) => !line.includes('"made_of"')).join('\n'));
  expect(edgepress('eval', 'report', old).status).toBe(0);
  const before = readFileSync(join(old, 'report.md'), 'utf8');
  expect(before).toMatch(/It is not known what 4 of the presses are made of/);
  expect(before).not.toMatch(/against uniform/);
  expect(edgepress('eval', 'report', old, '--config', config).status).toBe(0);
  const lifts = (name: string) => JSON.parse(readFileSync(at(name, 'summary.json'), 'utf8')).lifts;
  expect(lifts('old')).toEqual(lifts('whole'));
  expect(edgepress('eval', 'report', old, '--config', 'README.md').err).toMatch(/--config README\.md is no JSON/);
  writeFileSync(join(old, 'summary.json'), '{"refused"');
  expect(edgepress('eval', 'report', old).err).toMatch(/summary\.json is no summary .*remove it/);
});

test('rows of a dataset in a file: questions of one context share a reading', () => {
  const row = (key: string, answer: string) => ({
    context:
      'The grass is green. One of the special magic numbers for brave otter is: 4821. One of the special magic numbers for old lamp is: 7306.\n',
    question: `What is the special magic number for ${key} mentioned in the provided text?`,
    answer_prefix: '',
    answer: [answer],
    task: 'niah_multikey_1',
    max_new_tokens: 16,
  });
  const rows = at('ruler.jsonl');
  writeFileSync(rows, `${JSON.stringify(row('brave otter', '4821'))}\n${JSON.stringify(row('old lamp', '7306'))}\n`);
  const args = ['--dataset', 'ruler', '--data-path', rows, '--presses', 'no_press,knorm', '--ratios', '0.25', '--out', at('rows')];
  const { status, out, err } = edgepress('eval', ...args);
  expect(err).toMatch(/4 answers from 1 readings/);
  expect([status, out]).toEqual([0, expect.stringMatching(/\| no_press \| - \| 100\.0% \| 100\.0 /)]);
  const moved = at('moved.jsonl');
  writeFileSync(moved, readFileSync(rows));
  expect(edgepress('eval', ...args, '--data-path', moved, '--tasks', 'niah_multikey_1').err).toMatch(/ 0 answers from 0 readings/);
  writeFileSync(moved, readFileSync(rows, 'utf8').replace('green', 'brown'));
  expect(edgepress('eval', ...args, '--data-path', moved).err).toMatch(/holds answers of another setup \(samples .*"rows":"[0-9a-f]{16}"/);
  expect(edgepress('eval', ...args, '--samples', '1', '--out', at('drawn')).err).toMatch(/1 of 2 samples of ruler were drawn/);
});

describe('refused with a sentence', () => {
  test.each<[string, string[], RegExp]>([
    ['an unknown task', ['--tasks', 'niah_singel_1'], /unknown task "niah_singel_1"; did you mean "niah_single_1"/],
    ['a length that is too short', ['--tasks', 'niah_single_1', '--lengths', '10'], /niah_single_1 needs \d+ tokens at least/],
    ['presses that are all refused', ['--presses', 'zigzag_streaming_llm'], /zigzag_streaming_llm/],
    ['a misspelt press among others', ['--presses', 'snapkv,snapk'], /unknown preset "snapk"; did you mean "snapkv"/],
    ['lengths beyond the context', ['--tasks', 'niah_single_1', '--lengths', '6000', '--samples', '1'], /no sample was answered/],
    ['a ratio of 1', ['--ratios', '1'], /options: ratios\.0 must be below 1, got 1/],
    ['a shard beyond the last', ['--shard', '3/2'], /the i-th of n parts/],
    ['a dataset that is not there', ['--dataset', 'ruler', '--data-path', at('no.jsonl')], /no such file or folder/],
    ['tasks that a dataset does not have', ['--dataset', 'ruler', '--data-path', 'test/evaluation/cli.test.ts'], /cli\.test\.ts/],
    ['no tasks', ['--tasks', ''], /tasks must not be empty/],
    ['no presses', ['--presses', ','], /presses must not be empty/],
    ['no folder', ['--out', ''], /Expected the name of a folder/],
    ['presses from a device', ['--presses', '@/dev/zero'], /--presses \/dev\/zero: it is no file/],
    ['a dataset that is a device', ['--dataset', 'ruler', '--data-path', '/dev/zero'], /\/dev\/zero: cannot be read: it is no file/],
    ['a task of 100 kB', ['--tasks', 'x'.repeat(100_000)], /tasks\.0 must have at most 200 characters, got .{80,100}$/m],
    [
      'a folder that is a file',
      ['--tasks', 'niah_single_1', '--samples', '1', '--lengths', '256', '--out', 'package.json'],
      /package\.json cannot be made: it is a file/,
    ],
    [
      'lengths of a dataset',
      ['--dataset', 'math500', '--lengths', '512', '--essay', 'x'],
      /lengths, essay: of generated tasks, not of the dataset math500/,
    ],
    ['answers of another seed beside a shard', ['--seed', '7', '--shard', '1/2', '--out', whole], /answers\.jsonl holds answers of another setup/],
    ['a path without a dataset', ['--data-path', at('no.jsonl')], /none is named/],
    ['a config that is no JSON', ['--config', 'README.md'], /is no JSON/],
    ['a config with an unknown field', ['--config', 'package.json'], /package\.json: unknown field "name"/],
    ['answers of another seed in the folder', ['--tasks', 'niah_single_1', '--seed', '7', '--lengths', '256', '--out', whole], /another setup/],
  ])('%s', (_, args, message) => {
    const { status, out, err } = edgepress('eval', '--out', at('none'), ...args);
    expect(err).toMatch(message);
    expect([status, out]).toEqual([1, '']);
    expect(err).not.toMatch(/ at .*\.[jt]s:\d/); // a stack
  });

  test('a report of a folder without results, and of two setups', () => {
    expect(edgepress('eval', 'report', folder).err).toMatch(/holds no answers\.jsonl/);
    expect(edgepress('eval', 'report', at('nowhere')).err).toMatch(/no folder of results/);
    edgepress('eval', '--presses', 'knorm', '--tasks', 'niah_single_1', '--lengths', '256', '--samples', '1', '--seed', '7', '--out', at('seven'));
    expect(edgepress('eval', 'report', whole, at('seven')).err).toMatch(/another setup \(samples/);
  });
});
