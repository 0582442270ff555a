/** Optional bearer keys. Without keys the API is open. */
import type { MiddlewareHandler } from 'hono';
import type { Env } from './env.ts';
import { ApiError } from './errors.ts';

/** "a, b" (the API_KEYS secret) to a list; empty means open. */
export const parseApiKeys = (text: string | undefined): string[] =>
  (text ?? '')
    .split(',')
    .map((key) => key.trim())
    .filter((key) => key !== '');

export function requireKey(keys: readonly string[]): MiddlewareHandler<Env> {
  return async (c, next) => {
    const given = /^Bearer +(\S+) *$/i.exec(c.req.header('authorization') ?? '')?.[1];
    if (given === undefined) throw refused('this server needs an API key; send it as "Authorization: Bearer <key>"');
    if (!(await isOneOf(given, keys))) throw refused("the API key is not one of this server's; ask whoever runs it");
    c.set('apiKey', given);
    await next();
  };
}

const refused = (message: string) => new ApiError(401, 'invalid_api_key', null, message, { 'www-authenticate': 'Bearer' });

/** Compares digests, all of them and to the end: the time taken tells nothing of the keys. */
async function isOneOf(given: string, keys: readonly string[]): Promise<boolean> {
  const digest = async (text: string) => new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)));
  const [want, ...have] = await Promise.all([given, ...keys].map(digest));
  let found = 0;
  for (const key of have) {
    let difference = 0;
    for (let i = 0; i < want.length; i++) difference |= want[i] ^ key[i];
    found |= difference === 0 ? 1 : 0;
  }
  return found === 1;
}
