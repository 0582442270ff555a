#!/usr/bin/env node
// edgepress, in Node and in workerd, and its peers on one file, in interleaved rounds (A B C A B C ...), as a markdown table.
//   node run.mjs [--model file.gguf] [--rounds 3]
import { spawn } from 'node:child_process';
import { cpus, loadavg, totalmem } from 'node:os';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DECODE_TOKENS, median, modelPath, options, PREFILL_TOKENS, ROOT, SHORT_CONTEXT } from './workload.mjs';

const TIMEOUT_MS = 300_000; // for one program in one round; wllama, the slowest, needs about 80 s

const { model, rounds } = options({ model: undefined, rounds: 3 });
const path = modelPath(model);
const here = (name) => fileURLToPath(new URL(name, import.meta.url));

const programs = [
  {
    name: 'edgepress in Node',
    args: ['dist/cli/index.js', 'bench', '--model', path, '--json', '--prompt-tokens', PREFILL_TOKENS, '--decode-tokens', DECODE_TOKENS],
  },
  { name: 'edgepress in workerd', args: [here('workerd.mjs'), '--model', path, '--repeats', 1] },
  { name: 'llama.cpp', args: [here('llama-cpp.mjs'), '--model', path, '--repeats', 1] },
  { name: 'wllama', args: [here('wllama.mjs'), '--model', path, '--repeats', 1] },
].map((program) => ({ ...program, results: [], error: undefined }));

const COLUMNS = [
  ['prefill_tokens_per_s', `prefill ${PREFILL_TOKENS}`],
  ['decode_tokens_per_s', `decode ${DECODE_TOKENS} after ${PREFILL_TOKENS}`],
  ['decode_short_tokens_per_s', `decode ${DECODE_TOKENS} after ${SHORT_CONTEXT}`],
];

/** The JSON object a program prints, alone or as its last line. */
function parse(text) {
  for (const part of [text, text.trim().split('\n').at(-1)]) {
    try {
      const value = JSON.parse(part);
      if (Number.isFinite(value?.prefill_tokens_per_s) && Number.isFinite(value.decode_tokens_per_s)) return value;
    } catch {}
  }
}

function once(args) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args.map(String), { cwd: ROOT, timeout: TIMEOUT_MS, stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '',
      err = '';
    child.stdout.on('data', (data) => (out += data));
    child.stderr.on('data', (data) => (err += data));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      const value = code === 0 ? parse(out) : undefined;
      if (value) return resolve(value);
      const why = signal
        ? `ended by ${signal} (limit ${TIMEOUT_MS / 1000} s)`
        : code
          ? `exit status ${code}`
          : 'no JSON object with prefill_tokens_per_s and decode_tokens_per_s';
      const lines = err
        .split('\n')
        .map((line) => line.trim())
        .filter(Boolean);
      const said = lines.find((line) => /error/i.test(line)) ?? lines.at(-1);
      reject(new Error(said ? `${why}: ${said}` : why));
    });
  });
}

for (let round = 1; round <= rounds; round++) {
  for (const program of programs.filter((program) => !program.error)) {
    console.error(`round ${round} of ${rounds}: ${program.name}`);
    try {
      program.results.push(await once(program.args));
    } catch (error) {
      program.error = error.message;
    }
  }
}

const medianOf = ({ results, error }, field) =>
  error || results[0][field] === undefined ? undefined : median(results.map((result) => result[field]));

function cell(program, field) {
  const value = medianOf(program, field);
  if (value === undefined) return program.error ? 'not available' : '-';
  const own = medianOf(programs[0], field);
  return program === programs[0] || own === undefined ? value.toFixed(1) : `${value.toFixed(1)} (${(value / own).toFixed(2)}x)`;
}

const cpu = cpus();
const gigabytes = Math.round(totalmem() / 2 ** 30);
console.log(`${basename(path)}, one thread each, tokens/s, median of ${rounds} interleaved rounds; in brackets: times edgepress in Node.`);
console.log(
  `${cpu[0].model.trim()}, ${cpu.length} cores, ${gigabytes} GiB, Node ${process.versions.node}, load average at the end ${loadavg()[0].toFixed(1)}\n`,
);
console.log(`| engine | ${COLUMNS.map(([, title]) => title).join(' | ')} |`);
console.log(`| --- |${' ---: |'.repeat(COLUMNS.length)}`);
for (const program of programs) console.log(`| ${program.name} | ${COLUMNS.map(([field]) => cell(program, field)).join(' | ')} |`);
console.log();
for (const { name, results, error } of programs) {
  if (error) console.log(`* ${name}: not available, ${error}`);
  else if (results[0].version) console.log(`* ${name}: ${results[0].version}`);
}
if (programs.some((program) => program.error)) process.exitCode = 1;
