/**
 * The entry for `deno serve`: the same routes as the worker, on Deno's WebGPU (wgpu). Settings are environment variables, named as in wrangler.toml:
 * MODEL, BACKEND (webgpu, wasm, auto, gpu-first), MEMORY_LIMIT, KV_POOL, LONGEST_PROMPT, HIDDEN_TYPE, SEQUENCES, ENTRY_TYPE, MAX_WAITING, API_KEYS, CONTEXTS_PER_KEY, CONTEXT_BYTES_PER_KEY; ARTIFACTS, a folder in place
 * of the model's artifacts/; CONTEXTS, the folder where contexts are kept (open-contexts.ts).
 */
import process from 'node:process';
import { InputError } from '../presses/input-error.ts';
import { createApp } from './api/app.ts';
import { parseApiKeys } from './api/auth.ts';
import { exampleCurl } from './api/example.ts';
import { SHIPPED_FOLDER } from './api/shipped-contexts.ts';
import type { EngineSupply } from './engine/supply.ts';
import { folderBeside, openFolder } from './engine/weights/node-files.ts';
import { openSupply } from './node.ts';
import { openContexts } from './open-contexts.ts';
import { embeddedModel } from './package-root.ts';
import { servePage } from './serve-page.ts';
import { quotaOf, settingsOf, type Variables } from './settings.ts';

const { MODEL, BACKEND = 'webgpu', API_KEYS, ARTIFACTS, CONTEXTS } = process.env;
const BACKENDS = ['webgpu', 'wasm', 'auto', 'gpu-first'] as const;

async function open(): Promise<EngineSupply> {
  const backend = BACKENDS.find((one) => one === BACKEND);
  if (!backend) throw new InputError('invalid_value', 'BACKEND', `BACKEND must be ${BACKENDS.join(', ')}, got "${BACKEND}"`);
  const onNote = (note: string): void => console.error(`edgepress: ${note}`);
  return openSupply(MODEL ?? embeddedModel(), { ...settingsOf(process.env as Variables), backend, onNote, artifacts: ARTIFACTS || undefined });
}

const failed = (error: Error): never => {
  console.error(`edgepress: ${error instanceof InputError ? error.message : error.stack}`);
  process.exit(1);
};
const contexts = await openContexts(CONTEXTS, quotaOf(process.env as Variables)).catch(failed);
const supply = await open().catch(failed);
const shipped = openFolder(await folderBeside(MODEL ?? embeddedModel(), SHIPPED_FOLDER));
const app = createApp({ engine: () => supply.get(), contexts: () => contexts, shippedContexts: () => shipped, apiKeys: parseApiKeys(API_KEYS) });
const page = await servePage(app);

export default {
  fetch: (request: Request): Response | Promise<Response> => app.fetch(request),
  /** Told by Deno once the port is open. */
  onListen({ hostname, port }: { hostname: string; port: number }): void {
    const { info } = supply.current;
    const { backend } = supply.current.health();
    const origin = `http://${hostname}:${port}`;
    const inBrowser = page ? `Or in a browser, where the model runs in the page: ${origin}${page}\n` : '';
    const curl = exampleCurl(origin, parseApiKeys(API_KEYS).length > 0);
    console.log(`\nedgepress serves ${info.id} on ${origin}, ${backend.name}: ${backend.variant}. Try:\n\n${curl}\n\n${inBrowser}`);
  },
};
