/** /chat/ beside the routes, in Node and Deno: the page that runs the model in a browser, out of dist/browser. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { createApp } from './api/app.ts';
import { packageRoot } from './package-root.ts';

/** The page's path; null where it was not built, and is not served. */
export async function servePage(app: ReturnType<typeof createApp>): Promise<string | null> {
  const root = join(packageRoot(), 'dist', 'browser');
  if (!existsSync(join(root, 'index.html'))) return null;
  const { serveStatic } = await import('@hono/node-server/serve-static');
  app.use('/chat', async (c, next) => (new URL(c.req.url).pathname === '/chat' ? c.redirect('/chat/') : next()));
  app.use('/chat/*', serveStatic({ root, rewriteRequestPath: (path) => path.replace(/^\/chat/, '') }));
  return '/chat/';
}
