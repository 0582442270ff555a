/** The entry for Node and Deno: the same routes as the worker, one process, one engine. */
import { createApp } from './api/app.ts';
import { parseApiKeys } from './api/auth.ts';
import type { ContextStore } from './contexts/contract.ts';
import type { EngineSupply } from './engine/supply.ts';
import type { ModelFiles } from './engine/weights/source.ts';
import { servePage } from './serve-page.ts';

export interface ServeNodeOptions {
  readonly supply: EngineSupply;
  readonly host: string;
  readonly port: number;
  /** Where contexts are kept; null: nowhere. */
  readonly contexts?: ContextStore | null;
  /** Where contexts lie that came with the model. */
  readonly shippedContexts?: ModelFiles;
  /** Comma-separated bearer keys; empty = open to all. */
  readonly apiKeys?: string;
}

export interface ServedNode {
  readonly port: number;
  /** Path of the page that runs the model in a browser; null where it was not built. */
  readonly page: string | null;
  close(): Promise<void>;
}

/** Resolves once the port is open, with the port, which for 0 is one that the system chose; rejects where it cannot be (in use, not allowed). */
export async function serveNode({ supply, host, port, contexts = null, shippedContexts, apiKeys }: ServeNodeOptions): Promise<ServedNode> {
  const app = createApp({
    engine: () => supply.get(),
    contexts: () => contexts,
    shippedContexts: () => shippedContexts ?? null,
    apiKeys: parseApiKeys(apiKeys),
  });
  const page = await servePage(app);
  const { serve } = await import('@hono/node-server');
  return new Promise((resolve, reject) => {
    const server = serve({ fetch: app.fetch, hostname: host, port }, (address) => {
      resolve({ port: address.port, page, close: () => new Promise((closed) => server.close(() => closed())) });
    });
    server.once('error', reject);
  });
}
