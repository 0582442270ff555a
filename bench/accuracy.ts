/**
 * Accuracy of models/needle on its held-out samples, by press, over HTTP from workerd:
 *   npm run -s build && npx tsx bench/accuracy.ts [--samples 100] [--url http://127.0.0.1:8787] [--json out.json]
 * Starts `edgepress serve --runtime workerd` on a free port and stops it, unless --url names a server.
 *
 * Samples are spread evenly over the file's tasks and lengths. An answer is a list: "all found" counts the samples whose every expected answer
 * is in it (whatever else is), "recall" is the mean share of expected answers in it, "exact" the samples with exactly the expected list;
 * models/needle's README scores so. "lost, won" counts samples that no_press has all of and the press has not, and the reverse.
 *
 * snapkv's window is 16: the default of 64 protects more than half of the 128-token prompts, and such a press is refused.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { parseArgs } from 'node:util';
import { type Sample, samples, score, twoParts } from '../test/support/samples.ts';
import { type Completion, connect } from '../test/support/worker.ts';

const CONCURRENCY = 2;
const MAX_TOKENS = 80; // models/recipe/evaluate.py's

interface Row {
  readonly preset: string;
  readonly scope?: 'prompt' | 'context';
  readonly compression_ratio?: number;
}

const presets = ['zigzag_snapkv', 'snapkv', 'adakv_snapkv', 'streaming_llm', 'random', 'tova', 'keydiff', 'knorm'];
const parameters = (preset: string) => (preset.endsWith('snapkv') ? { window_size: 16 } : preset === 'random' ? { seed: 1 } : {});
const pressed = (preset: string, scope: Row['scope'], compression_ratio: number): Row => ({
  preset,
  compression_ratio,
  scope,
  ...parameters(preset),
});
const rows: Row[] = [
  { preset: 'no_press' },
  ...(['prompt', 'context'] as const).flatMap((scope) => [
    ...presets.map((preset) => pressed(preset, scope, 0.5)),
    ...presets.slice(0, 2).map((preset) => pressed(preset, scope, 0.8)),
  ]),
];

/** One sample's answer under one press. */
interface Result {
  readonly task: string;
  readonly context_length: number;
  readonly prompt_tokens: number;
  readonly text: string;
  readonly recall: number;
  readonly exact: boolean;
  readonly kept: number; // bytes_kept / bytes_full
}

const { values: options } = parseArgs({
  options: { samples: { type: 'string', default: '100' }, url: { type: 'string' }, json: { type: 'string' } },
});
const all = samples();
const count = Math.min(Number(options.samples), all.length);
if (!Number.isInteger(count) || count < 1) throw new Error(`--samples must be a whole number from 1 to ${all.length}, got "${options.samples}"`);
const chosen = Array.from({ length: count }, (_, i) => all[Math.floor((i * all.length) / count)]);

const started = performance.now();
const worker = connect(new URL(options.url ?? (await serve())));
const table: { row: Row; results: Result[] }[] = [];
for (const row of rows) {
  table.push({ row, results: await inPairs(chosen, (sample) => ask(sample, row)) });
  console.error(`${Math.round((performance.now() - started) / 1000)} s  ${table.length} of ${rows.length}  ${JSON.stringify(row)}`);
}
print();
if (options.json) writeFileSync(options.json, `${JSON.stringify(table, null, 1)}\n`);
process.exit(); // with the server

async function ask(sample: Sample, press: Row): Promise<Result> {
  const { task, context_length, answers } = sample;
  const { choices, usage }: Completion = await worker.chat({ messages: twoParts(sample), press, max_tokens: MAX_TOKENS });
  const text = choices[0].message.content;
  const { bytes_kept, bytes_full } = usage.kv_cache;
  return { task, context_length, prompt_tokens: usage.prompt_tokens, text, ...score(answers, text), kept: bytes_kept / bytes_full };
}

async function inPairs<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const run = async () => {
    for (let i = next++; i < items.length; i = next++) results[i] = await work(items[i]);
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, run));
  return results;
}

function print(): void {
  const reference = table[0].results;
  console.log('| press | scope | ratio | all found | 95 % interval | lost, won | recall | exact | bytes kept / full |');
  console.log('| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |');
  for (const { row, results } of table) {
    const found = results.filter(({ recall }) => recall === 1).length;
    const [low, high] = wilson(found, count).map((share) => (100 * share).toFixed(0));
    const lost = results.filter(({ recall }, i) => recall < 1 && reference[i].recall === 1).length;
    const won = results.filter(({ recall }, i) => recall === 1 && reference[i].recall < 1).length;
    const recall = percent(results.map((result) => result.recall));
    const exact = results.filter((result) => result.exact).length;
    const kept = mean(results.map((result) => result.kept)).toFixed(2);
    const { preset, scope = '', compression_ratio = 0 } = row;
    const pair = row === rows[0] ? '' : `${lost}, ${won}`;
    console.log(
      `| ${preset} | ${scope} | ${compression_ratio} | ${found}/${count} | ${low} to ${high} % | ${pair} | ${recall} | ${exact}/${count} | ${kept} |`,
    );
  }
  const same = reference.filter(({ text, prompt_tokens }, i) => {
    const { greedy_output_text, prompt_token_ids } = chosen[i];
    return text === greedy_output_text && prompt_tokens === prompt_token_ids.length;
  }).length;
  console.log(
    `\nno_press: ${same} of ${count} answers are the reference's text; its recall on these samples is ${percent(chosen.map((s) => s.recall))}.`,
  );
  console.log(`${count} samples a row, ${Math.round((performance.now() - started) / 1000)} s in all.`);
}

/** The 95 % score interval of `hits` in n. */
function wilson(hits: number, n: number): [number, number] {
  const z = 1.96;
  const centre = (hits + (z * z) / 2) / (n + z * z);
  const half = (z / (n + z * z)) * Math.sqrt((hits * (n - hits)) / n + (z * z) / 4);
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function percent(shares: readonly number[]): string {
  return `${(100 * mean(shares)).toFixed(1)} %`;
}

/** Starts the server; resolves to its address once it answers. It lives no longer than this process. */
async function serve(): Promise<string> {
  const command = ['dist/cli/index.js', 'serve', '--runtime', 'workerd', '--model', 'models/needle', '--port', String(await freePort())];
  const server = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
  process.on('exit', () => {
    try {
      process.kill(-server.pid!, 'SIGTERM'); // its group: workerd too
    } catch {} // all of it has ended
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
  server.once('exit', (code, signal) => {
    console.error(`the server ended: ${signal ?? `status ${code}; has it been built (npm run -s build)?`}`);
    process.exit(1);
  });
  return new Promise((resolve) => {
    server.stdout.setEncoding('utf8').on('data', (text: string) => {
      const address = / on (http:[\w/.:]+\d)/.exec(text)?.[1];
      if (address) resolve(address);
    });
  });
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, 'close');
  return port;
}
