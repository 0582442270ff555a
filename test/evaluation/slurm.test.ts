/**
 * evaluation/slurm/: the shards of an array, stopped and submitted again, end with the answers of one unsharded run.
 *
 * On Slurm where a cluster answers (`bash test/evaluation/single-node-slurm.sh npx vitest run test/evaluation/slurm.test.ts` makes one). Elsewhere a loop stands in
 * for Slurm: it starts shard.sbatch for every array index side by side, then merge.sbatch; submit.sh then is tested as far as what it refuses.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { keyOf, readResults } from '../../evaluation/results.ts';

const SHARDS = 3;
const cli = resolve('dist/cli/index.js');
const onSlurm = spawnSync('sinfo', ['--noheader'], { timeout: 10_000 }).status === 0;
const where = onSlurm ? 'on Slurm' : 'no Slurm here, a loop runs the scripts of the array side by side';

// In the checkout, which nodes of a cluster share; a blank, a comma and what sbatch's names of logs would read as a number of the task.
const folder = mkdtempSync(resolve('build', 'slurm, 100%a '));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (...names: string[]): string => join(folder, ...names);
const config = at('config.json');

function bash(script: string, ...args: string[]): { status: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync('bash', [`evaluation/slurm/${script}`, ...args], { encoding: 'utf8', timeout: 60_000, input: '' });
  return { status, out: stdout, err: stderr };
}
const submitArgs = (out: string): string[] => [
  '--config',
  config,
  '--out',
  out,
  '--shards',
  `${SHARDS}`,
  '--mem',
  '1G',
  '--time',
  '5',
  '--',
  '--samples',
  '12',
];
const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

interface Queued {
  /** As a time limit does at its end: SIGKILL. */
  stop(): Promise<void>;
  /** When shards, merge and report are over. */
  ended: Promise<void>;
}

function submit(out: string): Queued {
  return onSlurm ? submitted(out) : looped(out);
}

function submitted(out: string): Queued {
  const { status, err } = bash('submit.sh', ...submitArgs(out));
  expect([status, err]).toEqual([0, '']);
  const jobs = readFileSync(join(out, 'jobs'), 'utf8').trim();
  const gone = async (): Promise<void> => {
    while (spawnSync('squeue', ['--noheader', '--jobs', jobs], { encoding: 'utf8' }).stdout !== '') await pause(200);
  };
  const stop = async (): Promise<void> => {
    spawnSync('scancel', ['--signal=KILL', '--full', jobs.split(',')[0]]);
    await gone();
  };
  return { stop, ended: gone() };
}

function looped(out: string): Queued {
  const start = (script: string, args: string[], index?: number): ChildProcess =>
    spawn('bash', [`evaluation/slurm/${script}`, cli, ...args], { stdio: 'ignore', env: { ...process.env, SLURM_ARRAY_TASK_ID: `${index}` } });
  const exit = (child: ChildProcess): Promise<number | null> => new Promise((done) => child.once('exit', done));
  const tasks: ChildProcess[] = [];
  for (let index = 1; index <= SHARDS; index++) tasks.push(start('shard.sbatch', [config, out, `${SHARDS}`, '--samples', '12'], index));
  const exits = Promise.all(tasks.map(exit));
  const ended = exits.then(async (codes) => {
    if (codes.every((code) => code === 0)) await exit(start('merge.sbatch', [out, `${SHARDS}`]));
  });
  const stop = async (): Promise<void> => {
    for (const task of tasks) task.kill('SIGKILL');
    await ended;
  };
  return { stop, ended };
}

const answersOf = (path: string) => readResults(path).answers.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
const shardFile = (out: string, index: number): string => join(out, 'shards', `${index}`, `answers-${index}-of-${SHARDS}.jsonl`);
const linesOf = (path: string): string[] => (existsSync(path) ? readFileSync(path, 'utf8').split('\n').slice(0, -1) : []);
/** Lines before the first answer: the setup, and what two presses are made of. */
const HEAD = 3;
const shards = Array.from({ length: SHARDS }, (_, i) => i + 1);

beforeAll(() => {
  writeFileSync(config, JSON.stringify({ presses: ['no_press', 'snapkv'], tasks: ['niah_single_1'], lengths: [512], ratios: [0.5], samples: 1 }));
  const { status } = spawnSync(process.execPath, [cli, 'eval', '--config', config, '--samples', '12', '--out', at('whole')]);
  expect(status).toBe(0);
});

test(`${where}: an array that is killed and submitted again goes on, and ends with the answers of an unsharded run`, async () => {
  const out = at('array');
  const first = submit(out);
  let over = false;
  void first.ended.then(() => (over = true));
  while (!over && shards.every((index) => linesOf(shardFile(out, index)).length <= HEAD)) await pause(20); // until there is an answer
  await first.stop();
  const before = shards.map((index) => linesOf(shardFile(out, index)));
  expect(before.flat().length).toBeLessThan(24 + HEAD * SHARDS); // some were really cut off
  expect(existsSync(join(out, 'answers.jsonl'))).toBe(false); // nothing is merged of an array that failed

  // what a task leaves that was killed on a node which nobody can ask any more
  mkdirSync(dirname(shardFile(out, 1)), { recursive: true });
  writeFileSync(`${shardFile(out, 1)}.lock`, JSON.stringify({ pid: 1, host: 'a-node-that-failed' }));
  const again = submit(out);
  if (onSlurm) expect(bash('submit.sh', ...submitArgs(out)).err).toMatch(/are still in the queue: wait, or scancel/);
  await again.ended;
  for (const index of shards) {
    const lines = linesOf(shardFile(out, index));
    expect(lines.slice(0, before[index - 1].length)).toEqual(before[index - 1]);
    expect(new Set(lines).size).toBe(HEAD + 8); // 12 samples of 2 presses in 3 parts, each once
    expect(lines.length).toBe(HEAD + 8);
  }
  expect(answersOf(join(out, 'answers.jsonl'))).toEqual(answersOf(at('whole', 'answers.jsonl')));
  expect(readFileSync(join(out, 'report.md'), 'utf8')).toMatch(/\| no_press \| - \| 100\.0% \|/);
});

test('a merge names the shard that is missing, and a task outside an array says so', () => {
  rmSync(at('array', 'shards', '2'), { recursive: true });
  const merge = bash('merge.sbatch', cli, at('array'), `${SHARDS}`);
  expect([merge.status, merge.err]).toEqual([1, expect.stringContaining(`shard 2 of ${SHARDS} has no answers in ${at('array', 'shards', '2')}`)]);
  expect(bash('shard.sbatch', cli, config, at('array'), '3').err).toMatch(/SLURM_ARRAY_TASK_ID: is the number of the shard/);
});

test.each<[string, string[], RegExp]>([
  ['no config', ['--out', at('no'), '--shards', '2'], /--config, --out and --shards are all wanted/],
  ['a config that is not there', ['--config', at('no.json'), '--out', at('no'), '--shards', '2'], /no readable config file at .*no\.json/],
  ['no shards', ['--config', config, '--out', at('no'), '--shards', '0'], /--shards is a whole number from 1 to 10000, not "0"/],
  ['shards that are no number', ['--config', config, '--out', at('no'), '--shards', '2;x'], /not "2;x"/],
  ['too many shards', ['--config', config, '--out', at('no'), '--shards', '10001'], /from 1 to 10000/],
  ['cpus', ['--config', config, '--out', at('no'), '--shards', '2', '--cpus', '-1'], /--cpus is a whole number/],
  ['memory', ['--config', config, '--out', at('no'), '--shards', '2', '--mem', 'lots'], /--mem is megabytes/],
  ['a time', ['--config', config, '--out', at('no'), '--shards', '2', '--time', 'soon'], /--time is minutes/],
  ['an option without a value', ['--config'], /--config wants a value/],
  ['an unknown option', ['--shard', '2'], /unknown option --shard/],
  ['an option that is its own', ['--config', config, '--out', at('no'), '--shards', '2', '--', '--shard', '1/2'], /--shard is set by submit\.sh/],
])('submit.sh refuses %s, with a sentence', (_, args, message) => {
  const { status, out, err } = bash('submit.sh', ...args);
  expect([status, out]).toEqual([1, '']);
  expect(err).toMatch(message);
  expect(existsSync(at('no'))).toBe(false);
});
