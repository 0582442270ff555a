/** The entry for workerd: the only file that imports .wasm. The model comes from static assets, packed; contexts/durable.ts is the class that wrangler.toml names. */
import type { DurableObjectNamespace, ExecutionContext, Fetcher, R2Bucket } from '@cloudflare/workers-types';
import simd from '../build/kernels.wasm';
import relaxed from '../build/kernels-relaxed.wasm';
import { ARTIFACTS_FOLDER } from '../presses/artifacts.ts';
import { createApp } from './api/app.ts';
import { parseApiKeys } from './api/auth.ts';
import { SHIPPED_FOLDER } from './api/shipped-contexts.ts';
import type { ContextStore } from './contexts/contract.ts';
import type { ContextIndex } from './contexts/durable.ts';
import { DurableContexts } from './contexts/durable-store.ts';
import { BESIDE } from './engine/artifacts.ts';
import type { EdgeEngine } from './engine/engine.ts';
import { loadEngine } from './engine/load.ts';
import { loadPacked, type OpenArena } from './engine/weights/packed.ts';
import { type ModelFiles, readerOfBytes } from './engine/weights/source.ts';
import { quotaOf, settingsOf, type Variables } from './settings.ts';

export { ContextIndex } from './contexts/durable.ts';

interface Env extends Variables {
  ASSETS: Fetcher;
  API_KEYS?: string;
  /** Without these two no contexts are stored. */
  CONTEXTS?: DurableObjectNamespace<ContextIndex>;
  CONTEXT_BLOBS?: R2Bucket;
}

/** One engine an isolate. A load that failed is tried again by a request that comes RETRY_MS later, one whose request died after STALE_MS. */
let loading: { engine: Promise<EdgeEngine>; state: 'running' | 'done' | 'failed'; since: number } | null = null;
const STALE_MS = 120_000;
const RETRY_MS = 10_000;
/** What an isolate on Workers has in all. */
const ISOLATE_BYTES = 128_000_000;
/** Of the memory limit, outside the WASM module's memory: artefacts that are held, and buffers on their way in and out. */
const ARTIFACT_BYTES = 2 * 2 ** 20;
const BUFFER_BYTES = 2 ** 20;

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

function asset(env: Env, name: string): Promise<Response> {
  return env.ASSETS.fetch(`http://assets/${name}`) as unknown as Promise<Response>;
}

function assetsIn(env: Env, folder: string): ModelFiles {
  return {
    async open(name) {
      const answer = await asset(env, `${folder}/${name}`);
      if (answer.ok) return readerOfBytes(name, new Uint8Array(await answer.arrayBuffer()));
      await answer.body?.cancel();
      return null;
    },
  };
}

async function load(env: Env): Promise<EdgeEngine> {
  const { memoryLimitBytes = ISOLATE_BYTES, ...settings } = settingsOf(env);
  quotaOf(env);
  const load = (arena: OpenArena) => loadPacked((name) => asset(env, name), arena);
  return loadEngine(
    { kernels: { simd, relaxed }, memoryLimitBytes },
    load,
    { ...settings, artifactBytes: ARTIFACT_BYTES, besideBytes: ARTIFACT_BYTES + BUFFER_BYTES },
    {
      files: assetsIn(env, ARTIFACTS_FOLDER),
      where: BESIDE,
    },
  );
}

let contexts: ContextStore | null = null;

function contextsOf(env: Env): ContextStore | null {
  const { CONTEXTS, CONTEXT_BLOBS } = env;
  if (CONTEXTS && CONTEXT_BLOBS) contexts ??= new DurableContexts(CONTEXTS, CONTEXT_BLOBS, { quota: quotaOf(env) });
  return contexts;
}

let app: ReturnType<typeof createApp> | null = null;

export default {
  fetch(request: Request, env: Env, context: ExecutionContext): Response | Promise<Response> {
    app ??= createApp({
      engine: (c) => engineOf(c.env as unknown as Env, c.executionCtx as unknown as ExecutionContext),
      contexts: (c) => contextsOf(c.env as unknown as Env),
      shippedContexts: (c) => assetsIn(c.env as unknown as Env, SHIPPED_FOLDER),
      apiKeys: parseApiKeys(env.API_KEYS),
    });
    return app.fetch(request, env, context as unknown as Parameters<typeof app.fetch>[2]);
  },
};
