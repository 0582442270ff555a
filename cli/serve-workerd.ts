/**
 * The Cloudflare Worker in local workerd, by wrangler's own start function: the bundle, bindings and routes of wrangler.toml. Without the inspector:
 * wrangler forwards each 4 KiB of every asset to it as a message, and a model of 100 MB drowns in them.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InputError } from '../presses/input-error.ts';
import { manifestFile } from '../worker/engine/weights/manifest.ts';
import { modelNameOf } from '../worker/engine/weights/node-files.ts';
import { progressBar } from './open-model.ts';
import { packModel } from './pack.ts';

export interface WorkerdOptions {
  readonly model: string;
  readonly host: string;
  readonly port: number;
  readonly entryType: string;
  readonly memoryLimit?: number;
  readonly kvPool?: number;
  /** Comma-separated bearer keys. */
  readonly apiKeys?: string;
}

/** Resolves once the worker has loaded the model; throws InputError when it cannot. */
export async function serveWorkerd(options: WorkerdOptions): Promise<{ address: string; model: string; close(): Promise<void> }> {
  const root = projectRoot();
  const assets = await packedAssets(options.model, root);
  process.env.CLOUDFLARE_CF_FETCH_ENABLED = 'false'; // no look-up of where on the internet this machine is
  const { unstable_startWorker: startWorker } = await import('wrangler').catch(() => {
    throw new InputError('wrangler_missing', null, 'wrangler is not installed beside edgepress: npm install wrangler, or use --runtime node');
  });
  const text = (value: string | number | undefined) => (value === undefined ? [] : [{ type: 'plain_text' as const, value: String(value) }]);
  const vars = {
    MEMORY_LIMIT: text(options.memoryLimit),
    KV_POOL: text(options.kvPool),
    ENTRY_TYPE: text(options.entryType),
    API_KEYS: text(options.apiKeys || undefined),
  };
  const worker = await startWorker({
    config: join(root, 'wrangler.toml'),
    assets,
    bindings: Object.fromEntries(Object.entries(vars).flatMap(([name, given]) => given.map((binding) => [name, binding]))),
    sendMetrics: false,
    dev: { inspector: false, watch: false, liveReload: false, logLevel: 'warn', server: { hostname: options.host, port: options.port } },
  });
  try {
    await worker.ready;
    const address = (await worker.url).origin;
    return { address, model: await loadedModel(address), close: () => worker.dispose() };
  } catch (error) {
    await worker.dispose();
    throw error;
  }
}

/** The folder of the packed model; packs it first unless it is one. */
async function packedAssets(model: string, root: string): Promise<string> {
  if (existsSync(join(model, manifestFile))) return model;
  const out = join(root, 'build', 'assets', modelNameOf(model));
  const bar = progressBar(`packing ${model}`);
  await packModel(model, out, {}, ({ doneBytes, totalBytes }) => bar.update(doneBytes, totalBytes)).finally(bar.stop);
  return out;
}

/** The model's name, once /health answers 200: the worker loads the model at its first request. */
async function loadedModel(address: string): Promise<string> {
  for (;;) {
    const response = await fetch(`${address}/health`);
    const health = (await response.json()) as { status: string; error?: string; model?: { id: string } };
    if (response.ok && health.model) return health.model.id;
    if (health.status === 'error') throw new InputError('model_unavailable', 'model', `the worker cannot load the model: ${health.error}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
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
