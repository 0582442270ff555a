/** The real worker with models/needle as its assets, in workerd, on a free port of 127.0.0.1. */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { build } from 'esbuild';
import { Miniflare } from 'miniflare';
import OpenAI from 'openai';
import { packModel } from '../../cli/pack.ts';
import type { Health } from '../../worker/engine/types.ts';
import type { chatCompletion, pressPlan } from '../../worker/wire/answer-schema.ts';

export type Completion = (typeof chatCompletion)['_output'];
export type Plan = (typeof pressPlan)['_output'];

export interface Reply<T> {
  readonly status: number;
  readonly headers: Headers;
  readonly body: T;
}

export interface WireError {
  readonly error: { readonly message: string; readonly type: string; readonly param: string | null; readonly code: string };
}

export interface TestWorker {
  readonly url: URL;
  /** What the worker wrote to its log. */
  readonly log: string[];
  client(apiKey?: string): OpenAI;
  get<T>(path: string): Promise<Reply<T>>;
  /** Posts JSON, or text as it is. */
  post<T>(path: string, body: object | string, headers?: Record<string, string>): Promise<Reply<T>>;
  /** A greedy chat completion; throws what the server refuses. */
  chat(body: object): Promise<Completion>;
  plan(body: object): Promise<Plan>;
  health(): Promise<Health>;
  /** The health once no request holds or waits for a page; fails after 20 seconds. */
  idle(): Promise<Health>;
  /** What /health says once the model could not be loaded. */
  diagnosis(): Promise<string>;
  dispose(): Promise<void>;
}

const settings = readFileSync('wrangler.toml', 'utf8');

/** The value of a line `name = …` in wrangler.toml, so that the tests run what is deployed. */
function setting<T>(name: string): T {
  const line = new RegExp(`^${name} = (.*)$`, 'm').exec(settings);
  if (!line) throw new Error(`wrangler.toml has no ${name}`);
  return JSON.parse(line[1]) as T;
}

/** As `setting`, of a table of which there is one. */
function named(table: string, name: string): string {
  const found = new RegExp(`^\\[\\[${table}\\]\\]\\n(?:.+\\n)*?${name} = "(.*)"$`, 'm').exec(settings);
  if (!found) throw new Error(`wrangler.toml has no ${name} in ${table}`);
  return found[1];
}

/** Which paths are the worker's and which are answered with files, as wrangler reads the rules. */
function routes() {
  const rules = setting<string[]>('run_worker_first');
  return {
    user_worker: rules.filter((rule) => !rule.startsWith('!')),
    asset_worker: rules.filter((rule) => rule.startsWith('!')).map((rule) => rule.slice(1)),
  };
}

let bundling: ReturnType<typeof bundle> | null = null;
let packing: Promise<string> | null = null;

/** `vars` take the place of wrangler.toml's; `assets` is a packed model's folder, else models/needle is packed. */
export async function startWorker({ vars = {}, assets }: { vars?: Record<string, string>; assets?: string } = {}): Promise<TestWorker> {
  bundling ??= bundle();
  const log: string[] = [];
  const workerd = new Miniflare({
    modules: await bundling,
    modulesRoot: process.cwd(),
    compatibilityDate: setting('compatibility_date'),
    compatibilityFlags: setting('compatibility_flags'),
    bindings: { MEMORY_LIMIT: setting('MEMORY_LIMIT'), KV_POOL: '', ENTRY_TYPE: 'f32', MAX_WAITING: setting('MAX_WAITING'), ...vars },
    assets: {
      directory: assets ?? (await packedNeedle()),
      binding: 'ASSETS',
      routerConfig: { has_user_worker: true, static_routing: routes() },
    },
    durableObjects: { [named('durable_objects.bindings', 'name')]: { className: named('durable_objects.bindings', 'class_name'), useSQLite: true } },
    r2Buckets: [named('r2_buckets', 'binding')],
    cf: false,
    host: '127.0.0.1',
    port: 0,
    handleRuntimeStdio: (stdout: Readable, stderr: Readable) => {
      for (const stream of [stdout, stderr]) stream.on('data', (piece: Buffer) => log.push(piece.toString()));
    },
  });
  const url = await workerd.ready;
  const dispose = () => workerd.dispose();
  return { ...connect(url), log, dispose };
}

/** workerd closes a connection that was idle for some seconds; a request that goes out on it just then is lost. So each has its own. */
export const OWN_CONNECTION = { connection: 'close' };

/** A worker that runs already. */
export function connect(url: URL): TestWorker {
  const reply = async <T>(response: Response): Promise<Reply<T>> => ({
    status: response.status,
    headers: response.headers,
    body: (response.headers.get('content-type')?.includes('json') ? await response.json() : await response.text()) as T,
  });
  const get = async <T>(path: string) => reply<T>(await fetch(new URL(path, url), { headers: OWN_CONNECTION }));
  const post = async <T>(path: string, body: object | string, headers: Record<string, string> = {}) =>
    reply<T>(
      await fetch(new URL(path, url), {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...OWN_CONNECTION, ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      }),
    );
  const must = async <T>(path: string, body: object): Promise<T> => {
    const { status, body: answer } = await post<T | WireError>(path, body);
    if (status !== 200) throw new Error(`${path} ${status}: ${JSON.stringify(answer)}`);
    return answer as T;
  };
  const health = async () => (await get<Health>('/health')).body;
  return {
    url,
    log: [],
    client: (apiKey = 'none') => new OpenAI({ baseURL: new URL('/v1', url).href, apiKey, maxRetries: 0, defaultHeaders: OWN_CONNECTION }),
    get,
    post,
    chat: (body) => must('/v1/chat/completions', { temperature: 0, ...body }),
    plan: (body) => must('/v1/press/plan', body),
    health,
    async idle() {
      const until = Date.now() + 20_000;
      for (;;) {
        const seen = await health();
        const { memory, requests } = seen;
        const busy = memory && memory.kv_used_bytes + memory.kv_reserved_bytes + requests.running + requests.waiting;
        if (busy === 0) return seen;
        if (Date.now() > until) throw new Error(`still busy: ${JSON.stringify(seen)}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    async diagnosis() {
      for (let tries = 0; tries < 500; tries++) {
        const { status, body } = await get<{ status: string; error?: string }>('/health');
        if (status !== 503) throw new Error(`/health ${status}`);
        if (body.status === 'error') return body.error!;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      throw new Error('/health never told of the failure');
    },
    dispose: async () => {},
  };
}

/** models/needle as `edgepress pack` leaves it, in a folder that goes when the tests end. */
export function packedNeedle(): Promise<string> {
  packing ??= packTo(mkdtemp(join(tmpdir(), 'edgepress-')), {});
  return packing;
}

/** As packedNeedle, in a folder of the caller's own, to be damaged; several shards, as a larger model has. */
export function packedInShards(): Promise<string> {
  return packTo(mkdtemp(join(tmpdir(), 'edgepress-')), { shardBytes: 1 << 20 });
}

async function packTo(made: Promise<string>, options: { shardBytes?: number }): Promise<string> {
  const folder = await made;
  folders.push(folder);
  await packModel('models/needle', folder, { ...options, name: 'needle' });
  return folder;
}

const folders: string[] = [];

/** For afterAll: the folders that were packed. */
export async function removePacked(): Promise<void> {
  packing = null;
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
}

/** worker/index.ts with all it imports, and the kernels beside it. */
async function bundle() {
  const kernels = new Map<string, Uint8Array<ArrayBuffer>>();
  const result = await build({
    entryPoints: ['worker/index.ts'],
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'neutral',
    mainFields: ['module', 'main'],
    external: ['cloudflare:workers'],
    plugins: [
      {
        name: 'wasm',
        setup: (build) =>
          build.onResolve({ filter: /\.wasm$/ }, ({ path }) => {
            const name = path.split('/').at(-1)!;
            kernels.set(name, readFileSync(join('build', name)));
            return { path: `./${name}`, external: true };
          }),
      },
    ],
  });
  return [
    { type: 'ESModule' as const, path: 'index.js', contents: result.outputFiles[0].text },
    ...Array.from(kernels, ([path, contents]) => ({ type: 'CompiledWasm' as const, path, contents })),
  ];
}
