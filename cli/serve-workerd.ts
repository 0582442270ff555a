/**
 * The Cloudflare Worker in local workerd, by wrangler's own start function: the bundle, bindings and routes of wrangler.toml. Without the inspector:
 * wrangler forwards each 4 KiB of every asset to it as a message, and a model of 100 MB drowns in them.
 */
import { existsSync, rmSync } from 'node:fs';
import { copyFile, mkdtemp, readdir, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { unstable_startWorker } from 'wrangler';
import { ARTIFACTS_FOLDER } from '../presses/artifacts.ts';
import { InputError } from '../presses/input-error.ts';
import { SHIPPED_FOLDER } from '../worker/api/shipped-contexts.ts';
import { manifestFile } from '../worker/engine/weights/manifest.ts';
import { folderBeside, modelNameOf } from '../worker/engine/weights/node-files.ts';
import { progressBar } from './open-model.ts';
import { packModel } from './pack.ts';

export interface WorkerdOptions {
  readonly model: string;
  readonly host: string;
  readonly port: number;
  readonly entryType: string;
  readonly memoryLimit?: number;
  readonly kvPool?: number;
  readonly longestPrompt?: number;
  readonly hiddenType?: string;
  readonly sequences?: number;
  /** A folder in place of the model's artifacts/. */
  readonly artifacts?: string;
  /** Comma-separated bearer keys. */
  readonly apiKeys?: string;
}

/** Resolves once the worker has loaded the model; throws InputError when it cannot. The port must be free: wrangler would wait for it for ever. */
export async function serveWorkerd(options: WorkerdOptions): Promise<{ model: string; needsKey: boolean; close(): Promise<void> }> {
  const root = projectRoot();
  process.env.CLOUDFLARE_CF_FETCH_ENABLED = 'false'; // no look-up of where on the internet this machine is
  const { unstable_startWorker: startWorker } = await import('wrangler').catch(() => {
    throw new InputError(
      'wrangler_missing',
      null,
      '--runtime workerd needs wrangler, which is not installed beside edgepress: npm install --save-dev wrangler@4, or use --runtime node',
    );
  });
  const assets = await siteOf(await packedAssets(options.model, root), join(root, 'dist', 'browser'), {
    artifacts: options.artifacts,
    contexts: await folderBeside(options.model, SHIPPED_FOLDER),
  });
  const removeSite = () => rmSync(assets, { recursive: true, force: true });
  process.once('exit', removeSite); // at a signal Miniflare ends the process itself, before close() is done
  const text = (value: string | number | undefined) => (value === undefined ? [] : [{ type: 'plain_text' as const, value: String(value) }]);
  const vars = {
    MEMORY_LIMIT: text(options.memoryLimit),
    KV_POOL: text(options.kvPool),
    LONGEST_PROMPT: text(options.longestPrompt),
    HIDDEN_TYPE: text(options.hiddenType),
    SEQUENCES: text(options.sequences),
    ENTRY_TYPE: text(options.entryType),
    API_KEYS: text(options.apiKeys || undefined),
    CONTEXTS_PER_KEY: text(process.env.CONTEXTS_PER_KEY || undefined),
    CONTEXT_BYTES_PER_KEY: text(process.env.CONTEXT_BYTES_PER_KEY || undefined),
  };
  const worker = await startWorker({
    config: join(root, 'wrangler.toml'),
    assets,
    bindings: Object.fromEntries(Object.entries(vars).flatMap(([name, given]) => given.map((binding) => [name, binding]))),
    sendMetrics: false,
    dev: { inspector: false, watch: false, liveReload: false, logLevel: 'warn', server: { hostname: options.host, port: options.port } },
  });
  try {
    await started(worker);
    const { origin } = await worker.url;
    const model = await loadedModel(origin);
    const { status } = await ask(`${origin}/v1/models`); // .dev.vars may hold keys too
    return { model, needsKey: status === 401, close: () => worker.dispose().finally(removeSite) };
  } catch (error) {
    removeSite();
    await Promise.race([worker.dispose(), new Promise((resolve) => setTimeout(resolve, MOST_DISPOSING_MS))]);
    throw error;
  }
}

const MOST_STARTING_MS = 60_000; // bundling takes a second or two
const MOST_DISPOSING_MS = 3000; // a worker that never started may never be disposed of

/** wrangler's own promise never settles where the start fails; its events tell. */
function started(worker: Awaited<ReturnType<typeof unstable_startWorker>>): Promise<void> {
  let running = false;
  const failed = new Promise<never>((_, reject) => {
    worker.raw.on('error', (event: { reason?: string; cause?: { message?: string } }) => {
      const reason = event.cause?.message ?? event.reason ?? String(event);
      if (running) console.error(`edgepress: the worker failed: ${reason}`);
      else reject(new InputError('worker_failed', null, `wrangler could not start the worker: ${reason}`));
    });
  });
  const late = new Promise<never>((_, reject) => {
    const error = new Error(`wrangler did not start the worker within ${MOST_STARTING_MS / 1000} seconds`);
    setTimeout(() => reject(error), MOST_STARTING_MS).unref();
  });
  const ready = worker.ready.then(() => {
    running = true;
  });
  return Promise.race([ready, failed, late]);
}

/** The folder of the packed model; packs it first unless it is one. */
async function packedAssets(model: string, root: string): Promise<string> {
  if (existsSync(join(model, manifestFile))) return model;
  const out = join(root, 'build', 'assets', modelNameOf(model));
  const bar = progressBar(`packing ${model}`);
  await packModel(model, out, {}, ({ doneBytes, totalBytes }) => bar.update(doneBytes, totalBytes)).finally(bar.stop);
  return out;
}

/**
 * A folder of links: the packed model's files, artefacts and contexts, which only the worker reads, and in chat/ the page for everybody with the library, the kernels and the
 * embedded model, whichever model is served. Run from the sources there may be no built page; then there is no chat/.
 */
export async function siteOf(packed: string, page: string, { artifacts, contexts }: { artifacts?: string; contexts?: string } = {}): Promise<string> {
  const site = await mkdtemp(join(tmpdir(), 'edgepress-site-'));
  const own = (name: string) => ![ARTIFACTS_FOLDER, SHIPPED_FOLDER, 'chat'].includes(name);
  for (const name of await readdir(packed)) if (own(name)) await link(resolve(packed, name), join(site, name));
  for (const [name, folder] of [
    [ARTIFACTS_FOLDER, artifacts ?? join(packed, ARTIFACTS_FOLDER)],
    [SHIPPED_FOLDER, contexts ?? join(packed, SHIPPED_FOLDER)],
  ])
    if (existsSync(folder)) await symlink(resolve(folder), join(site, name), 'junction');
  if (existsSync(join(page, 'index.html'))) await symlink(resolve(page), join(site, 'chat'), 'junction');
  return site;
}

/** A copy where links are for administrators only (Windows). */
async function link(from: string, to: string): Promise<void> {
  await symlink(from, to).catch(() => copyFile(from, to));
}

/** The model's name, once /health answers 200: the worker loads the model at its first request. */
async function loadedModel(address: string): Promise<string> {
  for (;;) {
    const response = await ask(`${address}/health`);
    const health = (await response.json()) as { status: string; error?: string; model?: { id: string } };
    if (response.ok && health.model) return health.model.id;
    if (health.status === 'error') throw new InputError('model_unavailable', 'model', `the worker cannot load the model: ${health.error}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function ask(url: string): Promise<Response> {
  return fetch(url).catch((error: Error) => {
    const { message } = (error.cause ?? error) as Error; // "bad port": one of some that browsers and fetch never call
    throw new InputError('worker_failed', null, `the worker does not answer on ${url}: ${message}`);
  });
}

function projectRoot(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); folder !== dirname(folder); folder = dirname(folder)) {
    if (existsSync(join(folder, 'wrangler.toml'))) return folder;
  }
  throw new InputError(
    'wrangler_missing',
    null,
    'there is no wrangler.toml beside this program: --runtime workerd works in a checkout of edgepress; use --runtime node',
  );
}
