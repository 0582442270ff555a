#!/usr/bin/env node
// Measures wllama (llama.cpp in WebAssembly) in headless Chromium, one thread, no GPU, and prints one JSON object.
//   node wllama.mjs [--model file.gguf] [--repeats 3] [--chromium /usr/bin/chromium]
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { benchPrompts, CONTEXT_SIZE, DECODE_TOKENS, fail, modelPath, options, REPEATS, report } from './workload.mjs';

const { model, repeats, chromium: executablePath } = options({ model: undefined, repeats: REPEATS, chromium: '/usr/bin/chromium' });
const path = modelPath(model);
if (!existsSync(executablePath)) fail(`no browser at ${executablePath}; apt-get install -y chromium, or say --chromium PATH`);

const packageFile = (name) => fileURLToPath(new URL(`node_modules/@wllama/wllama/${name}`, import.meta.url));
const FILES = {
  '/': [fileURLToPath(new URL('wllama.html', import.meta.url)), 'text/html'],
  '/wllama/index.js': [packageFile('esm/index.js'), 'text/javascript'],
  '/wllama/wasm/wllama.wasm': [packageFile('esm/wasm/wllama.wasm'), 'application/wasm'],
  '/model.gguf': [path, 'application/octet-stream'],
};

const server = createServer((request, response) => {
  const found = FILES[request.url];
  if (!found) return response.writeHead(404).end();
  response.writeHead(200, { 'content-type': found[1], 'content-length': statSync(found[0]).size });
  createReadStream(found[0]).pipe(response);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));

const browser = await chromium.launch({
  executablePath,
  headless: true,
  args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run', '--disable-quic'],
});
try {
  const page = await browser.newPage();
  page.on('pageerror', (error) => console.error(`page: ${error.message}`));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForFunction(() => window.ready, undefined, { timeout: 30_000 });
  const loaded = await page.evaluate((size) => window.load(size), CONTEXT_SIZE);
  if (loaded.multiThread || loaded.threads !== 1) throw new Error(`wllama runs ${loaded.threads} threads, expected 1`);

  const run = ({ text }, n) => page.evaluate(([text, n]) => window.run(text, n), [text, n]);
  const measured = async (prompt) => {
    const { first, decode, timings } = await run(prompt, DECODE_TOKENS);
    if (timings?.prompt_n !== prompt.ids.length || timings.predicted_n !== DECODE_TOKENS + 1) {
      throw new Error(
        `wllama read ${timings?.prompt_n} and made ${timings?.predicted_n} tokens, expected ${prompt.ids.length} and ${DECODE_TOKENS + 1}`,
      );
    }
    return { prefill: (prompt.ids.length / first) * 1000, decode: (DECODE_TOKENS / decode) * 1000 };
  };

  const prompts = benchPrompts();
  await run(prompts.short, 8); // warm-up: V8 compiles the hot functions again while they run
  const runs = [];
  for (let i = 0; i < repeats; i++) {
    const short = await measured(prompts.short);
    const long = await measured(prompts.long);
    runs.push({ prefill: long.prefill, decodeLong: long.decode, decodeShort: short.decode });
  }
  const { version } = JSON.parse(readFileSync(packageFile('package.json'), 'utf8'));
  console.log(JSON.stringify(report('wllama', `@wllama/wllama ${version} (llama.cpp ${loaded.llamaCpp}), Chromium ${browser.version()}`, runs)));
} catch (error) {
  console.error(`wllama: ${error.message}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  server.close();
}
