/** The entry for Node and Deno: the same routes as the worker, one process, one engine. */
import { createApp } from './api/app.ts';
import { parseApiKeys } from './api/auth.ts';
import type { EngineSupply } from './engine/supply.ts';

export interface ServeNodeOptions {
  readonly supply: EngineSupply;
  readonly host: string;
  readonly port: number;
  /** Comma-separated bearer keys; empty = open to all. */
  readonly apiKeys?: string;
}

/** Resolves once the port is open, with the port, which for 0 is one that the system chose; rejects where it cannot be (in use, not allowed). */
export async function serveNode({ supply, host, port, apiKeys }: ServeNodeOptions): Promise<{ port: number; close(): Promise<void> }> {
  const app = createApp({ engine: () => supply.get(), apiKeys: parseApiKeys(apiKeys) });
  const { serve } = await import('@hono/node-server');
  return new Promise((resolve, reject) => {
    const server = serve({ fetch: app.fetch, hostname: host, port }, (address) => {
      resolve({ port: address.port, close: () => new Promise((closed) => server.close(() => closed())) });
    });
    server.once('error', reject);
  });
}
