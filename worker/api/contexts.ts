/** POST /v1/contexts, GET /v1/contexts, GET and DELETE /v1/contexts/:id: documents that are read and pressed once, and asked about many times. Each belongs to the key that made it. */
import type { Context } from 'hono';
import { shownName } from '../../presses/did-you-mean.ts';
import { InputError } from '../../presses/input-error.ts';
import { MOST_LISTED } from '../contexts/bounds.ts';
import type { PromptInput } from '../engine/types.ts';
import { contextWire } from '../wire/context.ts';
import { chatPrompt } from '../wire/prompt.ts';
import { type ContextBody, DEFAULT_TTL_SECONDS } from '../wire/request-schema.ts';
import { timingsWire } from '../wire/usage.ts';
import { show } from '../wire/validate.ts';
import type { Env } from './env.ts';
import { ApiError, clientGone } from './errors.ts';
import { stayUntil } from './stay-until.ts';
import type { StoredContexts } from './stored-contexts.ts';

export async function createContext(c: Context<Env>): Promise<Response> {
  const { body, engine, press } = await c.var.read('context');
  const contexts = await contextsOf(c);
  const { signal } = c.req.raw;
  const { seed = null, ttl, metadata } = body;
  const made = contexts.create(
    engine,
    { prompt: promptOf(body), press, seed, ttlMs: (ttl ?? DEFAULT_TTL_SECONDS) * 1000, metadata: metadata ?? {} },
    signal,
  );
  stayUntil(
    c,
    made.catch(() => {}),
  );
  try {
    const { record, held } = await made;
    const { explain } = held.kvCache;
    return c.json({ ...contextWire(record), ...(explain && { explain }), timings: timingsWire(held) });
  } catch (error) {
    if (signal.aborted) throw clientGone();
    throw error instanceof InputError && error.param === 'prompt' && body.text !== undefined
      ? new InputError(error.code, 'text', error.message)
      : error;
  }
}

export async function listContexts(c: Context<Env>): Promise<Response> {
  const { limit, after, ...others } = c.req.query();
  const [unknown] = Object.keys(others);
  if (unknown !== undefined)
    throw new InputError('unknown_field', shownName(unknown), `unknown parameter "${shownName(unknown)}": limit and after are known`);
  const contexts = await contextsOf(c);
  const { records, next } = await contexts.list({ limit: limit === undefined ? undefined : limitOf(limit), after });
  return c.json({ object: 'list', data: records.map(contextWire), has_more: next !== null, next });
}

export async function getContext(c: Context<Env>): Promise<Response> {
  const contexts = await contextsOf(c);
  return c.json(contextWire(await contexts.get(c.req.param('id')!)));
}

export async function deleteContext(c: Context<Env>): Promise<Response> {
  const id = c.req.param('id')!;
  await (await contextsOf(c)).delete(id);
  return c.json({ id, object: 'context.deleted', deleted: true });
}

export async function contextsOf(c: Context<Env>): Promise<StoredContexts> {
  const contexts = await c.var.contexts();
  if (contexts) return contexts;
  const message =
    'this server keeps no contexts: in workerd it wants the bindings CONTEXTS and CONTEXT_BLOBS of wrangler.toml, elsewhere --contexts <folder>';
  throw new ApiError(404, 'contexts_unavailable', null, message);
}

function promptOf({ messages, text }: ContextBody): PromptInput {
  return messages === undefined ? { kind: 'text', text: text! } : chatPrompt(messages);
}

function limitOf(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InputError('invalid_value', 'limit', `limit must be a whole number from 1 to ${MOST_LISTED}, got ${show(text)}`);
}
