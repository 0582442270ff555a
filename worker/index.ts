/** The entry for workerd: the only file that imports .wasm. The model comes from static assets, packed. */
import type { ExecutionContext, Fetcher } from '@cloudflare/workers-types';
import simd from '../build/kernels.wasm';
import relaxed from '../build/kernels-relaxed.wasm';
import { createApp } from './api/app.ts';
import { parseApiKeys } from './api/auth.ts';
import { entryTypes } from './backend/backend.ts';
import { parseBytes } from './engine/bytes.ts';
import type { EdgeEngine } from './engine/engine.ts';
import { type LoadSettings, loadEngine } from './engine/load.ts';
import { loadPacked } from './engine/weights/packed.ts';

interface Env {
  ASSETS: Fetcher;
  MEMORY_LIMIT?: string;
  KV_POOL?: string;
  ENTRY_TYPE?: string;
  MAX_WAITING?: string;
  API_KEYS?: string;
}

/** One engine an isolate. A load that failed is tried again by a request that comes RETRY_MS later, one whose request died after STALE_MS. */
let loading: { engine: Promise<EdgeEngine>; state: 'running' | 'done' | 'failed'; since: number } | null = null;
const STALE_MS = 120_000;
const RETRY_MS = 10_000;

function engineOf(env: Env, context: ExecutionContext): Promise<EdgeEngine> {
  const age = loading ? Date.now() - loading.since : 0;
  if (!loading || (loading.state === 'running' && age > STALE_MS) || (loading.state === 'failed' && age > RETRY_MS)) {
    const attempt: NonNullable<typeof loading> = { engine: load(env), state: 'running', since: Date.now() };
    loading = attempt;
    const ended = (state: 'done' | 'failed') => () => {
      attempt.state = state;
      attempt.since = Date.now();
    };
    attempt.engine.then(ended('done'), ended('failed'));
  }
  // The load outlives the request that began it.
  context.waitUntil(loading.engine.catch(() => {}));
  return loading.engine;
}

async function load(env: Env): Promise<EdgeEngine> {
  const asset = (name: string) => env.ASSETS.fetch(`http://assets/${name}`) as unknown as Promise<Response>;
  const memoryLimitBytes = bytes('MEMORY_LIMIT', env.MEMORY_LIMIT);
  return loadEngine({ kernels: { simd, relaxed }, memoryLimitBytes }, (arena) => loadPacked(asset, arena), settings(env));
}

/** The variables of wrangler.toml. A value that makes no sense is an Error that says what would, which /health shows. */
function settings({ KV_POOL, ENTRY_TYPE, MAX_WAITING }: Env): LoadSettings {
  const entryType = entryTypes.find((type) => type === (ENTRY_TYPE || 'f32'));
  if (!entryType) throw new Error(`ENTRY_TYPE must be ${entryTypes.map((type) => `"${type}"`).join(' or ')}, got "${ENTRY_TYPE}"`);
  if (MAX_WAITING && !/^\d+$/.test(MAX_WAITING)) throw new Error(`MAX_WAITING must be a whole number such as 64, got "${MAX_WAITING}"`);
  return { kvPoolBytes: bytes('KV_POOL', KV_POOL), entryType, maxWaiting: MAX_WAITING ? Number(MAX_WAITING) : undefined };
}

function bytes(name: string, text: string | undefined): number | undefined {
  if (!text) return undefined;
  try {
    return parseBytes(text);
  } catch (error) {
    throw new Error(`${name}: ${(error as Error).message}`);
  }
}

let app: ReturnType<typeof createApp> | null = null;

export default {
  fetch(request: Request, env: Env, context: ExecutionContext): Response | Promise<Response> {
    app ??= createApp({
      engine: (c) => engineOf(c.env as unknown as Env, c.executionCtx as unknown as ExecutionContext),
      apiKeys: parseApiKeys(env.API_KEYS),
    });
    return app.fetch(request, env, context as unknown as Parameters<typeof app.fetch>[2]);
  },
};
