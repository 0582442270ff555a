/** How large the parts of a context may be, and what names look like. What the caller chose is an InputError, by its field on the wire; names that nobody can have are as absent. */
import { InputError } from '../../presses/input-error.ts';
import type { BlobSource, NewContext } from './contract.ts';

/** As UTF-8 JSON. A Durable Object's row takes 2 MiB. */
export const MOST_META_BYTES = 64 * 2 ** 10;
export const MOST_MODEL_LENGTH = 512;
/** Presses of per_layer spell out a ratio for every layer. */
export const MOST_PRESS_LENGTH = 32 * 2 ** 10;
export const MOST_TOKENS = 2 ** 20;
/** A linear memory has 4 GiB at most, and R2 takes 5 GiB in one put. */
export const MOST_BLOB_BYTES = 4 * 2 ** 30;
/** 400 days, as browsers keep cookies. Whoever wants one for longer touches it. */
export const MOST_TTL_MS = 400 * 86_400_000;
export const MOST_LISTED = 100;
export const DEFAULT_LISTED = 20;
/** Twelve hex digits of time reach to the year 10889, and the id behind them breaks ties. */
const CURSOR = /^([0-9a-f]{12})(ctx_[0-9a-f]{32})$/;

export const isId = (id: string): boolean => /^ctx_[0-9a-f]{32}$/.test(id);
export const isOwner = (owner: string): boolean => /^[0-9a-f]{64}$/.test(owner);

export function newId(): string {
  return `ctx_${hex(crypto.getRandomValues(new Uint8Array(16)))}`;
}

/** Whose contexts they are: a digest of the bearer key, which itself is stored nowhere. Null: of a server without keys, where all are one. */
export async function ownerOf(key: string | null): Promise<string> {
  const text = key === null ? 'edgepress contexts of everybody' : `edgepress contexts of key ${key}`;
  return hex(new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text))));
}

/** Our own mistake, not the caller's: names of folders and objects are made of it. */
export function assertOwner(owner: string): void {
  if (!isOwner(owner)) throw new Error('an owner is what ownerOf gives');
}

/** The metadata as text; throws InputError where any part is too large or no such thing. */
export function checkNew({ model, press, tokens, ttlMs, meta }: NewContext, { bytes }: BlobSource): string {
  if (model.length > MOST_MODEL_LENGTH) throw tooLong('model', model.length, MOST_MODEL_LENGTH);
  if (press.length > MOST_PRESS_LENGTH) throw tooLong('press', press.length, MOST_PRESS_LENGTH);
  if (tokens.length < 1 || tokens.length > MOST_TOKENS)
    throw new InputError('invalid_value', null, `a context is of 1 to ${MOST_TOKENS} tokens, got ${tokens.length}`);
  if (!Number.isSafeInteger(bytes) || bytes < 0 || bytes > MOST_BLOB_BYTES)
    throw new InputError(
      'invalid_value',
      null,
      `a context takes 0 to ${MOST_BLOB_BYTES} bytes, got ${bytes}; a higher compression_ratio makes it smaller`,
    );
  checkTtl(ttlMs);
  const text = JSON.stringify(meta);
  const size = new TextEncoder().encode(text).length;
  if (size > MOST_META_BYTES)
    throw new InputError(
      'invalid_value',
      'metadata',
      `metadata must be at most ${MOST_META_BYTES} bytes of JSON, got ${size}; shorter values would work`,
    );
  return text;
}

export function checkTtl(ttlMs: number): void {
  if (!Number.isFinite(ttlMs) || ttlMs < 1 || ttlMs > MOST_TTL_MS)
    throw new InputError('invalid_value', 'ttl', `ttl must be above 0 and at most ${MOST_TTL_MS / 1000} seconds, got ${ttlMs / 1000}`);
}

export interface Position {
  readonly createdAt: number;
  readonly id: string;
}

export function checkPage({ limit = DEFAULT_LISTED, after }: { limit?: number; after?: string } = {}): { limit: number; after: Position | null } {
  if (!Number.isInteger(limit) || limit < 1 || limit > MOST_LISTED)
    throw new InputError('invalid_value', 'limit', `limit must be a whole number from 1 to ${MOST_LISTED}, got ${limit}`);
  if (after === undefined) return { limit, after: null };
  const cursor = CURSOR.exec(after);
  if (!cursor) throw new InputError('invalid_value', 'after', 'after must be what an earlier page gave as its next, got something else');
  return { limit, after: { createdAt: Number.parseInt(cursor[1], 16), id: cursor[2] } };
}

export const cursorOf = ({ createdAt, id }: Position): string => createdAt.toString(16).padStart(12, '0') + id;

/** Newest first. */
export const byAge = (a: Position, b: Position): number => b.createdAt - a.createdAt || (a.id < b.id ? 1 : -1);

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function tooLong(param: string, seen: number, most: number): InputError {
  return new InputError('invalid_value', param, `${param} must be at most ${most} characters where it is kept with a context, got ${seen}`);
}
