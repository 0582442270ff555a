/** edgepress serve: the HTTP API, in Node (or Deno), or in workerd through wrangler as `npm start` does. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Command, Option } from 'commander';
import { InputError } from '../presses/input-error.ts';
import { manifestFile } from '../worker/engine/weights/manifest.ts';
import { modelNameOf } from '../worker/engine/weights/node-files.ts';
import { serveNode } from '../worker/serve.ts';
import { openModel, progressBar } from './open-model.ts';
import { countArgument, type ModelOptions, withModelOptions } from './options.ts';
import { packModel } from './pack.ts';

interface ServeOptions extends ModelOptions {
  readonly runtime: 'node' | 'workerd';
  readonly host: string;
  readonly port: number;
  readonly entryType: 'f32' | 'int8';
}

export function serveCommand(program: Command, defaultModel: string): void {
  withModelOptions(program.command('serve').description('serve the OpenAI-compatible API'), defaultModel)
    .addOption(new Option('--runtime <name>', 'node: in this process; workerd: the Cloudflare Worker, through wrangler').choices(['node', 'workerd']).default('node'))
    .addOption(new Option('--host <address>', 'address to listen on').env('HOST').default('127.0.0.1'))
    .addOption(new Option('--port <n>', 'port to listen on').env('PORT').default(8787).argParser(countArgument))
    .addOption(new Option('--entry-type <type>', 'how entries are stored unless a request says').choices(['f32', 'int8']).default('f32'))
    .action((options: ServeOptions) => (options.runtime === 'workerd' ? serveWorkerd(options) : serveInProcess(options)));
}

async function serveInProcess(options: ServeOptions): Promise<void> {
  const engine = await openModel(options);
  await serveNode({ engine, host: options.host, port: options.port, apiKeys: process.env.API_KEYS });
  greet(`http://${options.host}:${options.port}`, engine.info.id);
}

/** Packs the model where wrangler finds it, starts wrangler dev, and says so once the worker has loaded the model. */
async function serveWorkerd(options: ServeOptions): Promise<void> {
  const root = projectRoot();
  const assets = await packedAssets(options.model, root);
  const wrangler = createRequire(join(root, 'package.json')).resolve('wrangler/package.json');
  const address = `http://${options.host}:${options.port}`;
  const vars = [
    ...(options.memoryLimit === undefined ? [] : ['--var', `MEMORY_LIMIT:${options.memoryLimit}`]),
    ...(options.kvPool === undefined ? [] : ['--var', `KV_POOL:${options.kvPool}`]),
    '--var',
    `ENTRY_TYPE:${options.entryType}`,
    ...(process.env.API_KEYS ? ['--var', `API_KEYS:${process.env.API_KEYS}`] : []),
  ];
  const args = [join(dirname(wrangler), 'bin', 'wrangler.js'), 'dev', '--local', '--ip', options.host, '--port', String(options.port), '--assets', assets, '--show-interactive-dev-session=false', ...vars];
  const child = spawn(process.execPath, args, {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, CLOUDFLARE_CF_FETCH_ENABLED: 'false', WRANGLER_SEND_METRICS: 'false', CI: '1' },
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => child.kill(signal));
  const gone = new Promise<number>((resolve) => child.once('exit', (code) => resolve(code ?? 0)));
  const model = await Promise.race([ready(address), gone.then(() => null)]);
  if (model !== null) greet(address, model);
  process.exitCode = await gone;
}

async function packedAssets(model: string, root: string): Promise<string> {
  if (existsSync(join(model, manifestFile))) return model;
  const out = join(root, 'build', 'assets', modelNameOf(model));
  const bar = progressBar(`packing ${model}`);
  await packModel(model, out, {}, ({ doneBytes, totalBytes }) => bar.update(doneBytes, totalBytes)).finally(bar.stop);
  return out;
}

/** The model's name, once /health answers 200: the worker loads the model at its first request. */
async function ready(address: string): Promise<string> {
  for (;;) {
    const response = await fetch(`${address}/health`).catch(() => null);
    if (response?.ok) return ((await response.json()) as { model: { id: string } }).model.id;
    await response?.body?.cancel();
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

function projectRoot(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); folder !== dirname(folder); folder = dirname(folder)) {
    if (existsSync(join(folder, 'wrangler.toml'))) return folder;
  }
  throw new InputError('wrangler_missing', null, 'there is no wrangler.toml beside this program: --runtime workerd works in a checkout of edgepress; use --runtime node');
}

function greet(address: string, model: string): void {
  const body = {
    model,
    messages: [
      {
        role: 'user',
        content: [
          { type: 'text', text: `${EXAMPLE_DOCUMENT}\n` },
          { type: 'text', text: 'What is the special magic number for brave otter mentioned in the provided text?' },
        ],
      },
    ],
    temperature: 0,
    press: { preset: 'knorm', compression_ratio: 0.3 },
  };
  console.log(`\nedgepress serves ${model} on ${address}. Try:\n`);
  console.log(`curl -s ${address}/v1/chat/completions -H 'content-type: application/json' -d '${JSON.stringify(body)}'\n`);
}

const EXAMPLE_DOCUMENT =
  'The grass is green and the sky is blue. One of the special magic numbers for brave otter is: 4821. One of the special magic numbers for old lamp is: 7306. The horse slept near the valley. Anna lives in Oslo.';
