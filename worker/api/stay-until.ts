/** workerd stops a request's timers and promises when its client has gone, and whatever was under way would never let go of what it holds. */
import type { Context } from 'hono';
import type { Env } from './env.ts';

export function stayUntil(c: Context<Env>, over: Promise<unknown>): void {
  let lifetime: { waitUntil(promise: Promise<unknown>): void };
  try {
    lifetime = c.executionCtx;
  } catch {
    return; // Node and Deno have none and need none
  }
  lifetime.waitUntil(over);
}
