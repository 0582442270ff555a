/** edgepress serve: the HTTP API, in Node (or Deno), or in workerd through wrangler as `npm start` does. */
import { type Command, Option } from 'commander';
import { serveNode } from '../worker/serve.ts';
import { openModel } from './open-model.ts';
import { countArgument, type ModelOptions, withModelOptions } from './options.ts';
import { serveWorkerd } from './serve-workerd.ts';

interface ServeOptions extends ModelOptions {
  readonly runtime: 'node' | 'workerd';
  readonly host: string;
  readonly port: number;
  readonly entryType: 'f32' | 'int8';
}

export function serveCommand(program: Command, defaultModel: string): void {
  withModelOptions(program.command('serve').description('serve the OpenAI-compatible API'), defaultModel)
    .addOption(
      new Option('--runtime <name>', 'node: in this process; workerd: the Cloudflare Worker, through wrangler')
        .choices(['node', 'workerd'])
        .default('node'),
    )
    .addOption(new Option('--host <address>', 'address to listen on').env('HOST').default('127.0.0.1'))
    .addOption(new Option('--port <n>', 'port to listen on').env('PORT').default(8787).argParser(countArgument))
    .addOption(new Option('--entry-type <type>', 'how entries are stored unless a request says').choices(['f32', 'int8']).default('f32'))
    .action((options: ServeOptions) => (options.runtime === 'workerd' ? inWorkerd(options) : inProcess(options)));
}

async function inProcess(options: ServeOptions): Promise<void> {
  const engine = await openModel(options);
  await serveNode({ engine, host: options.host, port: options.port, apiKeys: process.env.API_KEYS });
  greet(`http://${options.host}:${options.port}`, engine.info.id);
}

async function inWorkerd(options: ServeOptions): Promise<void> {
  const worker = await serveWorkerd({ ...options, apiKeys: process.env.API_KEYS });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => worker.close().finally(() => process.exit(0)));
  greet(worker.address, worker.model);
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
    press: { preset: 'zigzag_snapkv', compression_ratio: 0.5, window_size: 8, scope: 'prompt' },
  };
  console.log(`\nedgepress serves ${model} on ${address}. Try:\n`);
  console.log(`curl -s ${address}/v1/chat/completions -H 'content-type: application/json' -d '${JSON.stringify(body)}'\n`);
}

const EXAMPLE_DOCUMENT =
  'The grass is green and the sky is blue. One of the special magic numbers for brave otter is: 4821. One of the special magic numbers for old lamp is: 7306. The horse slept near the valley. Anna lives in Oslo.';
