/**
 * Contexts of one key, and the engine that makes and mounts them. A context in memory serves all requests that go on behind it; what has no room goes in the order of
 * last use, and is read again from the store when it is wanted. Whatever a request is told of a context it is told of its own key's: others' are as absent.
 */
import type { PressRequest } from '../../presses/contract.ts';
import { shownName } from '../../presses/did-you-mean.ts';
import { InputError } from '../../presses/input-error.ts';
import { cursorOf, isId } from '../contexts/bounds.ts';
import { ContextDamaged, type ContextRecord, type ContextStore, type Page } from '../contexts/contract.ts';
import { type Lease, MountedContexts } from '../contexts/mounted.ts';
import { QuotaError } from '../contexts/quota.ts';
import { checkSamePress } from '../engine/pressed/mount.ts';
import { bytesOf } from '../engine/pressed/write.ts';
import { reuseKey } from '../engine/reusable.ts';
import type { Engine, GenerateRequest, Held, HoldRequest } from '../engine/types.ts';
import { readerOfBytes } from '../engine/weights/source.ts';
import { contextFacts, contextMeta } from '../wire/context.ts';

/** Those in memory, of the engine of the moment: one that took its place after a failure has nothing of theirs. */
export class MountedOfEngine {
  #engine: Engine | null = null;
  #mounted: MountedContexts<Held> | null = null;

  of(engine: Engine): MountedContexts<Held> {
    if (this.#mounted && this.#engine === engine) return this.#mounted;
    this.#mounted?.close();
    const { contexts, memory } = engine.health();
    this.#engine = engine;
    this.#mounted = new MountedContexts<Held>({ mostCount: contexts.most, mostBytes: memory.kv_pool_bytes });
    return this.#mounted;
  }

  drop(key: string): void {
    this.#mounted?.drop(key);
  }

  /** Makes room by letting go of the one that was used longest ago; false where none is idle. */
  yield(): boolean {
    return (this.#mounted?.evict(1) ?? 0) > 0;
  }
}

/** A context that a request has; `release` once, and it may go when memory is wanted. */
export interface MountedContext {
  readonly id: string;
  readonly held: Held;
  release(): void;
}

export interface NewStoredContext extends HoldRequest {
  readonly ttlMs: number;
  readonly metadata: Record<string, string>;
}

export class StoredContexts {
  readonly #store: ContextStore;
  readonly #owner: string;
  readonly #mounted: MountedOfEngine;
  /** For work that must go on when the request that began it has ended. */
  readonly #stay: (work: Promise<unknown>) => void;

  constructor(store: ContextStore, owner: string, mounted: MountedOfEngine, stay: (work: Promise<unknown>) => void) {
    this.#store = store;
    this.#owner = owner;
    this.#mounted = mounted;
    this.#stay = stay;
  }

  /** Reads, presses, stores. It stays in memory, where there is room. Whatever fails, or where `signal` ends it, nothing of it is left. */
  async create(
    engine: Engine,
    { prompt, press, seed, ttlMs, metadata }: NewStoredContext,
    signal: AbortSignal,
  ): Promise<{ record: ContextRecord; held: Held }> {
    const { held: now, most } = await this.#store.usage(this.#owner);
    if (now.count >= most.count || now.bytes >= most.bytes) throw new QuotaError(now, null, most); // before it is computed
    const held = await withRoom(this.#mounted, () => engine.hold({ prompt, press, seed }, signal));
    let record: ContextRecord;
    try {
      const { info } = engine;
      const facts = { model: info.fingerprint, press: reuseKey(held), tokens: held.tokens, ttlMs, meta: contextMeta(info, held, metadata) };
      record = await this.#store.create(this.#owner, facts, engine.writePressed(held, { entryType: held.entryType }, signal));
    } catch (error) {
      held.close();
      throw error;
    }
    await this.#remember(engine, record.id, held);
    return { record, held };
  }

  /** Throws InputError where there is none of this key. */
  async get(id: string): Promise<ContextRecord> {
    const record = await this.#store.get(this.#owner, id);
    if (record) return record;
    throw this.#notFound(id);
  }

  /** `after` is an earlier page's `next`, or the id of its last context. */
  async list({ limit, after }: { readonly limit?: number; readonly after?: string }): Promise<Page> {
    const last = after !== undefined && isId(after) ? await this.#store.get(this.#owner, after) : null;
    return this.#store.list(this.#owner, { limit, after: last ? cursorOf(last) : after });
  }

  async delete(id: string): Promise<void> {
    const deleted = await this.#store.delete(this.#owner, id);
    if (!deleted) throw this.#notFound(id);
    this.#mounted.drop(this.#key(id));
  }

  /** `asked`: the press that the request names; null: any. Throws InputError for a context of another model or another press. */
  async mount(engine: Engine, id: string, asked: PressRequest | null, signal: AbortSignal): Promise<MountedContext> {
    const record = await this.get(id);
    const { model, press } = contextFacts(record);
    if (record.model !== engine.info.fingerprint) {
      const named = (name: string, fingerprint: string) => `"${shownName(name)}" (fingerprint ${fingerprint.slice(0, 12)})`;
      const message = `context ${id} is of model ${named(model, record.model)}, and this is ${named(engine.info.id, engine.info.fingerprint)}: one made with this model would work`;
      throw new InputError('context_model_mismatch', 'context', message);
    }
    if (asked) checkSamePress(`context ${id}`, press, asked);
    return this.#mount(engine, record, signal);
  }

  /** The context that has read most of the prompt, where the answer behind it is the one without it; null: none. */
  async find(engine: Engine, request: Pick<GenerateRequest, 'prompt' | 'press'>, signal: AbortSignal): Promise<MountedContext | null> {
    const of = engine.reusable(request);
    if (of === null) return null;
    const { key, tokens, whole } = of;
    const record = await this.#store.longestPrefix(this.#owner, { model: engine.info.fingerprint, press: key, tokens });
    return record && (!whole || record.tokens === tokens.length) ? this.#mount(engine, record, signal) : null;
  }

  async #mount(engine: Engine, record: ContextRecord, signal: AbortSignal): Promise<MountedContext> {
    const { id } = record;
    const mount = () => {
      const mounting = this.#read(engine, record);
      this.#stay(mounting.catch(() => {})); // others may wait for it
      return mounting;
    };
    const { value, release }: Lease<Held> = await this.#mounted.of(engine).acquire(this.#key(id), contextFacts(record).bytesMounted, mount, signal);
    return { id, held: value, release };
  }

  async #read(engine: Engine, { id }: ContextRecord): Promise<Held> {
    const stored = await this.#store.read(this.#owner, id);
    if (stored === null) throw this.#notFound(id);
    const { record, chunks } = stored;
    const file = readerOfBytes(`context ${id}`, await bytesOf({ bytes: record.bytes, chunks }));
    try {
      return await withRoom(this.#mounted, () => engine.mount(file));
    } catch (error) {
      if (error instanceof InputError && error.code === 'context_file_invalid') throw new ContextDamaged(id, error.message); // we wrote it
      throw error;
    }
  }

  /** What was just made is what is asked about next. Where there is no room for it, it is read when it is. */
  async #remember(engine: Engine, id: string, held: Held): Promise<void> {
    try {
      const lease = await this.#mounted.of(engine).acquire(this.#key(id), held.bytes, async () => held);
      lease.release();
    } catch (error) {
      held.close();
      if (!(error instanceof InputError)) throw error;
    }
  }

  /** In memory: what others ask for in vain must not take ours away. */
  #key(id: string): string {
    return `${this.#owner}/${id}`;
  }

  #notFound(id: string): InputError {
    this.#mounted.drop(this.#key(id)); // it is over, or was deleted elsewhere
    return new InputError('context_not_found', 'context', `there is no context "${shownName(id)}": GET /v1/contexts lists those of this key`);
  }
}

/** As often as a context that nobody uses can go for it. */
export async function withRoom<T>(mounted: MountedOfEngine, work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!wantsRoom(error) || !mounted.yield()) throw error;
    }
  }
}

export function wantsRoom(error: unknown): boolean {
  return error instanceof InputError && (error.code === 'kv_budget_exceeded' || error.code === 'contexts_full');
}
