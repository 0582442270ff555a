/** edgepress serve: the HTTP API, in Node (or Deno), or in workerd through wrangler as `npm start` does. */
import { existsSync } from 'node:fs';
import { setInterval } from 'node:timers'; // Deno's own has no unref
import { type Command, Option } from 'commander';
import { InputError } from '../presses/input-error.ts';
import { parseApiKeys } from '../worker/api/auth.ts';
import { exampleCurl } from '../worker/api/example.ts';
import { SHIPPED_FOLDER } from '../worker/api/shipped-contexts.ts';
import { type EntryType, entryTypes } from '../worker/backend/backend.ts';
import { folderBeside, openFolder, openModelPath } from '../worker/engine/weights/node-files.ts';
import { CONTEXTS_FOLDER, openContexts } from '../worker/open-contexts.ts';
import { serveNode } from '../worker/serve.ts';
import { quotaOf, type Variables } from '../worker/settings.ts';
import { freePort, hostArgument, listenError, originOf, portArgument } from './address.ts';
import { openSupplied } from './open-model.ts';
import { type ModelOptions, withModelOptions } from './options.ts';
import { serveWorkerd } from './serve-workerd.ts';

interface ServeOptions extends ModelOptions {
  readonly runtime: 'node' | 'workerd';
  readonly host: string;
  readonly port: number;
  readonly entryType: EntryType;
  readonly contexts?: string;
}

interface Served {
  readonly origin: string;
  readonly model: string;
  readonly needsKey: boolean;
  /** Where it runs, if that is not plain from the command. */
  readonly runsOn: string;
  /** The page that runs the model in a browser; null where it is not served. */
  readonly page: string | null;
  close(): Promise<void>;
}

export function serveCommand(program: Command, defaultModel: string): void {
  const command = program
    .command('serve')
    .description('serve the OpenAI-compatible API over HTTP')
    .addOption(
      new Option('--runtime <name>', 'node: in this process; workerd: the Cloudflare Worker, through wrangler')
        .choices(['node', 'workerd'])
        .default('node'),
    )
    .addOption(new Option('--host <address>', 'address to listen on').env('HOST').default('127.0.0.1').argParser(hostArgument))
    .addOption(new Option('--port <n>', 'port to listen on, 0 for any that is free').env('PORT').default(8787).argParser(portArgument))
    .addOption(new Option('--entry-type <type>', 'how KV entries are stored unless a request says').choices(entryTypes).default('f32'))
    .option('--contexts <folder>', `where pressed contexts are kept; default ${CONTEXTS_FOLDER} here, in workerd .wrangler/state`)
    .addHelpText(
      'after',
      '\nWith API_KEYS in the environment (keys with commas between), every request to /v1 needs one of them. CONTEXTS_PER_KEY and CONTEXT_BYTES_PER_KEY there are the most that one may store.',
    );
  withModelOptions(command, defaultModel, '4GiB, in workerd 128MB').action(run);
}

async function run(options: ServeOptions): Promise<void> {
  if (options.runtime === 'workerd' && options.backend !== 'wasm')
    throw new InputError(
      'no_gpu',
      'backend',
      `--runtime workerd has no GPU: --backend wasm, or --runtime node with --backend ${options.backend} (in a clone: npm run start:gpu), would work`,
    );
  if (options.runtime === 'workerd' && options.contexts !== undefined)
    throw new InputError(
      'invalid_value',
      'contexts',
      '--runtime workerd keeps contexts in a Durable Object and R2: leave out --contexts, or use --runtime node',
    );
  if (!existsSync(options.model)) await openModelPath(options.model); // says what a model is, before the port is tried
  const port = await freePort(options.host, options.port);
  const starting = options.runtime === 'workerd' ? inWorkerd({ ...options, port }) : inProcess({ ...options, port });
  endOnSignal(starting);
  const served = await starting;
  if (options.json) console.log(JSON.stringify({ url: served.origin, model: served.model, runtime: options.runtime }));
  else greet(served, options.host);
}

async function inProcess(options: ServeOptions): Promise<Served> {
  const { API_KEYS: apiKeys } = process.env;
  const contexts = await openContexts(options.contexts, quotaOf(process.env as Variables));
  const supply = await openSupplied(options, options.entryType);
  const { host } = options;
  const shippedContexts = openFolder(await folderBeside(options.model, SHIPPED_FOLDER));
  const server = await serveNode({ supply, host, port: options.port, contexts, shippedContexts, apiKeys }).catch((error) => {
    throw listenError(error, host, options.port);
  });
  const { backend } = supply.current.health();
  return {
    origin: originOf(host, server.port),
    model: supply.current.info.id,
    needsKey: parseApiKeys(apiKeys).length > 0,
    runsOn: backend.name === 'wasm' ? '' : `, on ${backend.name}: ${backend.variant}`,
    page: server.page && `${originOf(host, server.port)}${server.page}`,
    close: () => server.close(),
  };
}

async function inWorkerd(options: ServeOptions): Promise<Served> {
  const { model, needsKey, close } = await serveWorkerd({ ...options, apiKeys: process.env.API_KEYS });
  const origin = originOf(options.host, options.port);
  const { ok } = await fetch(`${origin}/chat/`, { method: 'HEAD' });
  return { origin, model, needsKey, runsOn: '', page: ok ? `${origin}/chat/` : null, close };
}

const MOST_CLOSING_MS = 3000; // a client that reads a stream keeps a server open

/** Closes what was started, or is being started, and ends; a second signal ends at once. */
function endOnSignal(starting: Promise<Served>): void {
  let told = false;
  const end = () => {
    if (told) process.exit(1);
    told = true;
    setTimeout(() => process.exit(0), MOST_CLOSING_MS);
    starting
      .then((served) => served.close())
      .catch(() => {}) // it ends either way
      .finally(() => process.exit(0));
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, end);
  // npx hands a signal to the shell between, which keeps it: an orphan is one who was meant to end.
  if (process.env.npm_command !== 'exec') return;
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    end();
  }, 500);
  watch.unref();
}

/** In one piece: whoever reads the first lines and goes must not end the server with the next. */
function greet({ origin, model, needsKey, runsOn, page }: Served, host: string): void {
  const everywhere = host === '0.0.0.0' || host === '::' ? ', and on every other address of this machine' : '';
  const lines = [`\nedgepress serves ${model} on ${origin}${everywhere}${runsOn}. Try:\n`];
  if (needsKey) lines.push('API_KEY=<one of your keys>');
  lines.push(`${exampleCurl(origin, needsKey)}\n`);
  if (page) lines.push(`Or in a browser, where the model runs in the page: ${page}\n`);
  console.log(lines.join('\n'));
}
