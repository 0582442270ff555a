#!/usr/bin/env node
// Measures edgepress in workerd (`edgepress serve --runtime workerd`) through its HTTP API, as a client sees it, and prints one JSON object.
//   node workerd.mjs [--model file.gguf] [--repeats 3]
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { benchPrompts, DECODE_TOKENS, modelPath, options, REPEATS, ROOT, report } from './workload.mjs';

const START_MS = 120_000;

const { model, repeats } = options({ model: undefined, repeats: REPEATS });
const port = await freePort();
const url = `http://127.0.0.1:${port}`;
const args = ['serve', '--runtime', 'workerd', '--model', modelPath(model), '--memory-limit', '256MiB', '--port', String(port)];
const server = spawn(process.execPath, ['dist/cli/index.js', ...args], { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] });
try {
  const health = await ready();
  const prompts = benchPrompts();
  await run(prompts.short.ids, 8); // warm-up
  const runs = [];
  for (let i = 0; i < repeats; i++) {
    const short = await run(prompts.short.ids, DECODE_TOKENS);
    const long = await run(prompts.long.ids, DECODE_TOKENS);
    runs.push({ prefill: long.prefill, decodeLong: long.decode, decodeShort: short.decode });
  }
  console.log(JSON.stringify(report('edgepress in workerd', `kernels: ${health.backend.variant}`, runs)));
} finally {
  const gone = new Promise((resolve) => server.once('exit', resolve));
  server.kill();
  await gone;
}

/** Time to the first token is the prefill; each of the n tokens after it is one decode step. */
async function run(ids, n) {
  const start = performance.now();
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: ids, max_tokens: n + 1, temperature: 0, ignore_eos: true, stream: true }),
  });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  let first = 0;
  let text = '';
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
    if (first === 0) first = performance.now();
    text += piece;
  }
  const end = performance.now();
  const usage = text
    .split('\n')
    .filter((line) => line.startsWith('data: {'))
    .map((line) => JSON.parse(line.slice(6)).usage)
    .find(Boolean);
  if (usage?.completion_tokens !== n + 1) throw new Error(`expected ${n + 1} tokens, got ${usage?.completion_tokens}`);
  return { prefill: (ids.length / (first - start)) * 1000, decode: (n / (end - first)) * 1000 };
}

async function ready() {
  const deadline = Date.now() + START_MS;
  while (Date.now() < deadline) {
    if (server.exitCode !== null) throw new Error(`the server ended with status ${server.exitCode}`);
    const health = await fetch(`${url}/health`).then(
      (response) => (response.ok ? response.json() : null),
      () => null,
    );
    if (health) return health;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  throw new Error(`no answer from ${url} in ${START_MS / 1000} s`);
}

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer().once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}
