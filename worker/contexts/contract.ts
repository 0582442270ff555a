/**
 * Where pressed contexts are kept: facts about them, and their bytes, which the store does not read. Nothing here knows a model, an engine or HTTP.
 *
 *   A context is whole or absent, whatever ends the process and whenever: its bytes are written under a lease, and one atomic step makes them a context; deleting takes
 *   the facts first and the bytes after. What a writer that died leaves behind is no context, counts for the quota until its lease ends, and is then collected.
 *   A context never changes, but for the time until which it lives. One that is over is as absent, before it is collected too.
 *   Nobody but its owner sees it: ids of others are as absent.
 *
 * directory.ts keeps them in a folder (Node, Deno), durable-store.ts in a Durable Object and R2 (Workers). test/support/context-store-suite.ts holds both to this.
 */
import type { Quota } from './quota.ts';

export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

export interface NewContext {
  /** Of the model that made it: a context of another one is never found by its prefix. */
  readonly model: string;
  /** The press, spelt out: as `model`. */
  readonly press: string;
  /** All tokens that the context stands for. Kept are their number and digests (prefix.ts). */
  readonly tokens: ArrayLike<number>;
  readonly ttlMs: number;
  /** Whatever else is to be known without opening the blob. */
  readonly meta: { readonly [name: string]: Json };
}

export interface ContextRecord {
  /** "ctx_" and 128 random bits in lower-case hex: names of files need not tell cases apart. */
  readonly id: string;
  readonly model: string;
  readonly press: string;
  /** How many. */
  readonly tokens: number;
  /** Of the blob, with its SHA-256 in hex. */
  readonly bytes: number;
  readonly sha256: string;
  /** Milliseconds since 1970, as `expiresAt`. */
  readonly createdAt: number;
  readonly expiresAt: number;
  readonly meta: NewContext['meta'];
}

/** `bytes` in all, told before the first: the quota is asked first. A chunk may be written over once the next one is asked for. */
export interface BlobSource {
  readonly bytes: number;
  readonly chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

export interface StoredBlob {
  readonly record: ContextRecord;
  /**
   * In order, once. The hash is known only behind the last one: where it is not the record's, or bytes are missing, the iteration ends with ContextDamaged, and what
   * was made of the chunks must be thrown away. Whoever stops earlier has checked nothing. Opened by the first chunk, given back by the last or by `return`.
   */
  readonly chunks: AsyncIterable<Uint8Array>;
}

export interface Page {
  /** Newest first. */
  readonly records: readonly ContextRecord[];
  /** Where the next page begins, whatever is created or deleted meanwhile; null behind the last one. */
  readonly next: string | null;
}

export interface Collected {
  /** Contexts that were over. */
  readonly expired: number;
  /** Removed: theirs, and those, whole or in part, that belonged to no context and no writer. */
  readonly blobs: number;
}

export interface ContextStore {
  /** The most that one owner may keep. */
  readonly quota: Quota;
  /** Throws QuotaError before it reads the first chunk. Where it throws, the context is not there; where the answer is lost on the way, it is there whole or not at all. */
  create(owner: string, context: NewContext, blob: BlobSource): Promise<ContextRecord>;
  get(owner: string, id: string): Promise<ContextRecord | null>;
  /** `after` is an earlier page's `next`. */
  list(owner: string, options?: { readonly limit?: number; readonly after?: string }): Promise<Page>;
  /** False where it is not there. */
  delete(owner: string, id: string): Promise<boolean>;
  /** It lives for `ttlMs` from now, or longer if it does anyway: two who touch it at once both get what they were told. */
  touch(owner: string, id: string, ttlMs: number): Promise<ContextRecord | null>;
  read(owner: string, id: string): Promise<StoredBlob | null>;
  /** Of the owner's contexts of this model and press all of whose tokens begin `tokens`, the longest; of several the one that lives longest. */
  longestPrefix(owner: string, of: Pick<NewContext, 'model' | 'press' | 'tokens'>): Promise<ContextRecord | null>;
  /** Held now, with what is being written; and the most. */
  usage(owner: string): Promise<{ readonly held: Quota; readonly most: Quota }>;
  /**
   * Removes what is over, and what belongs to no context and to no writer; of one owner, or of all. The Durable Object does so by its alarm, but for blobs that it never knew of;
   * whoever serves a folder calls it now and then.
   */
  collect(owner?: string): Promise<Collected>;
}

/** What was stored is not what is there: the store's fault or the disk's, not the caller's. */
export class ContextDamaged extends Error {
  readonly id: string;
  constructor(id: string, why: string) {
    super(`context ${id} cannot be used: ${why}; delete it and press its text again`);
    this.name = 'ContextDamaged';
    this.id = id;
  }
}

/** How long a writer may take: two minutes and a second for each MiB. Whoever takes longer is told so and begins again. */
export const leaseMs = (bytes: number): number => 120_000 + Math.ceil(bytes / 2 ** 20) * 1000;
