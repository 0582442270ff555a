/**
 * The entry for `deno serve`: the same routes as the worker, on Deno's WebGPU (wgpu). Settings are environment variables, named as in wrangler.toml:
 * MODEL, BACKEND (webgpu, wasm, auto, gpu-first), MEMORY_LIMIT, KV_POOL, ENTRY_TYPE, MAX_WAITING, API_KEYS.
 */
import process from 'node:process';
import { InputError } from '../presses/input-error.ts';
import { createApp } from './api/app.ts';
import { parseApiKeys } from './api/auth.ts';
import { exampleCurl } from './api/example.ts';
import { entryTypes } from './backend/backend.ts';
import { parseBytes } from './engine/bytes.ts';
import type { EngineSupply } from './engine/supply.ts';
import { openSupply } from './node.ts';
import { embeddedModel } from './package-root.ts';
import { servePage } from './serve-page.ts';

const { MODEL, BACKEND = 'webgpu', MEMORY_LIMIT, KV_POOL, ENTRY_TYPE, MAX_WAITING, API_KEYS } = process.env;

function oneOf<const T extends string>(name: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((one) => one === value);
  if (found === undefined) throw new InputError('invalid_value', name, `${name} must be ${allowed.join(', ')}, got "${value}"`);
  return found;
}

function bytes(name: string, text: string | undefined): number | undefined {
  if (!text) return undefined;
  try {
    return parseBytes(text);
  } catch (error) {
    throw new InputError('invalid_value', name, `${name}: ${(error as Error).message}`);
  }
}

async function open(): Promise<EngineSupply> {
  if (MAX_WAITING && !/^\d+$/.test(MAX_WAITING))
    throw new InputError('invalid_value', 'MAX_WAITING', `MAX_WAITING must be a whole number such as 64, got "${MAX_WAITING}"`);
  return openSupply(MODEL ?? embeddedModel(), {
    backend: oneOf('BACKEND', BACKEND, ['webgpu', 'wasm', 'auto', 'gpu-first']),
    memoryLimitBytes: bytes('MEMORY_LIMIT', MEMORY_LIMIT),
    kvPoolBytes: bytes('KV_POOL', KV_POOL),
    entryType: ENTRY_TYPE ? oneOf('ENTRY_TYPE', ENTRY_TYPE, entryTypes) : undefined,
    maxWaiting: MAX_WAITING ? Number(MAX_WAITING) : undefined,
    onNote: (note) => console.error(`edgepress: ${note}`),
  });
}

const supply = await open().catch((error: Error) => {
  console.error(`edgepress: ${error instanceof InputError ? error.message : error.stack}`);
  process.exit(1);
});
const app = createApp({ engine: () => supply.get(), apiKeys: parseApiKeys(API_KEYS) });
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
