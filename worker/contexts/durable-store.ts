/**
 * Contexts in workerd: what is known of them in a Durable Object for each owner (durable.ts), their bytes in R2, streamed, so that no isolate ever holds a whole blob.
 *
 *   create   lease (object) -> blob (R2), its SHA-256 taken on the way -> context (object)
 *   delete   context (object) -> blob (object, R2)
 *
 * Where an answer of the object is lost, its step is asked for once more; where that fails too, all of it is undone, by the object's alarm if need be.
 */
import type { DurableObjectNamespace, R2Bucket } from '@cloudflare/workers-types';
import { InputError } from '../../presses/input-error.ts';
import { assertOwner, checkNew, checkPage, checkTtl, cursorOf, hex, isId, isOwner, newId } from './bounds.ts';
import {
  type BlobSource,
  type Collected,
  ContextDamaged,
  type ContextRecord,
  type ContextStore,
  leaseMs,
  type NewContext,
  type Page,
  type StoredBlob,
} from './contract.ts';
import { blobName, type ContextIndex, type Row } from './durable.ts';
import { digestsOf, headsOf, matches } from './prefix.ts';
import { checkedQuota, DEFAULT_QUOTA, type Quota, QuotaError } from './quota.ts';

export interface DurableOptions {
  readonly quota?: Quota;
  readonly now?: () => number;
}

export class DurableContexts implements ContextStore {
  readonly #objects: DurableObjectNamespace<ContextIndex>;
  readonly #blobs: R2Bucket;
  readonly quota: Quota;
  readonly #now: () => number;

  constructor(objects: DurableObjectNamespace<ContextIndex>, blobs: R2Bucket, { quota = DEFAULT_QUOTA, now = Date.now }: DurableOptions = {}) {
    this.#objects = objects;
    this.#blobs = blobs;
    this.quota = checkedQuota(quota);
    this.#now = now;
  }

  async create(owner: string, context: NewContext, blob: BlobSource): Promise<ContextRecord> {
    const meta = checkNew(context, blob);
    const { model, press } = context;
    const digests = await digestsOf(context);
    const { bytes } = blob;
    const id = newId();
    const until = this.#now() + leaseMs(bytes);
    try {
      const held = await this.#index(owner).begin(id, bytes, until, this.quota);
      if (held) throw new QuotaError(held, bytes, this.quota);
      const sha256 = await this.#put(this.#blobName(owner, id), blob);
      const createdAt = this.#now();
      const expiresAt = Math.ceil(createdAt + context.ttlMs);
      const row: Row = { id, model, press, tokens: context.tokens.length, bytes, sha256, createdAt, expiresAt, meta, ...digests };
      const commit = () => this.#index(owner).commit(row);
      if (!(await commit().catch(commit)))
        throw new Error('the context took longer to write than its lease: it was not kept, and can be written again');
      return recordOf(row);
    } catch (error) {
      if (error instanceof QuotaError) throw error; // no lease was given
      const abandon = () => this.#index(owner).abandon(id);
      await abandon()
        .catch(abandon)
        .catch(() => {}); // its lease ends
      throw error;
    }
  }

  async get(owner: string, id: string): Promise<ContextRecord | null> {
    const row = isId(id) ? await this.#index(owner).find(id) : null;
    return row && recordOf(row);
  }

  async list(owner: string, options?: { readonly limit?: number; readonly after?: string }): Promise<Page> {
    const { limit, after } = checkPage(options);
    const rows = await this.#index(owner).page(limit + 1, after);
    const records = rows.slice(0, limit).map(recordOf);
    return { records, next: rows.length > limit ? cursorOf(records.at(-1)!) : null };
  }

  async delete(owner: string, id: string): Promise<boolean> {
    return isId(id) && (await this.#index(owner).remove(id));
  }

  async touch(owner: string, id: string, ttlMs: number): Promise<ContextRecord | null> {
    checkTtl(ttlMs);
    const row = isId(id) ? await this.#index(owner).extend(id, Math.ceil(this.#now() + ttlMs)) : null;
    return row && recordOf(row);
  }

  async read(owner: string, id: string): Promise<StoredBlob | null> {
    const record = await this.get(owner, id);
    return record && { record, chunks: this.#chunks(owner, record) };
  }

  async longestPrefix(owner: string, of: Pick<NewContext, 'model' | 'press' | 'tokens'>): Promise<ContextRecord | null> {
    const heads = await headsOf(of);
    for (const candidate of await this.#index(owner).candidates(heads, of.tokens.length)) {
      const record = (await matches(of.tokens, heads, candidate.tokens, candidate)) ? await this.get(owner, candidate.id) : null;
      if (record) return record;
    }
    return null;
  }

  async usage(owner: string): Promise<{ held: Quota; most: Quota }> {
    return { held: await this.#index(owner).held(), most: this.quota };
  }

  /** Of all: of every owner with a blob in R2. Those without have nothing to collect but rows, which their alarms do. */
  async collect(owner?: string): Promise<Collected> {
    if (owner !== undefined) return this.#index(owner).collect();
    const sum = { expired: 0, blobs: 0 };
    const prefix = 'contexts/';
    for (let cursor: string | undefined; ; ) {
      const listed = await this.#blobs.list({ prefix, delimiter: '/', cursor });
      for (const folder of listed.delimitedPrefixes) {
        const object = folder.slice(prefix.length, -1);
        if (!isOwner(object)) continue; // not ours; ids of objects look as owners do
        const { expired, blobs } = await this.#objects.get(this.#objects.idFromString(object)).collect();
        sum.expired += expired;
        sum.blobs += blobs;
      }
      if (!listed.truncated) return sum;
      cursor = listed.cursor;
    }
  }

  #index(owner: string) {
    assertOwner(owner);
    return this.#objects.get(this.#objects.idFromName(owner));
  }

  #blobName(owner: string, id: string): string {
    return blobName(this.#objects.idFromName(owner).toString(), id);
  }

  /** The blob's SHA-256. R2 keeps a stream whole or not at all. */
  async #put(name: string, { bytes, chunks }: BlobSource): Promise<string> {
    const { readable, writable } = new FixedLengthStream(bytes);
    const digest = new crypto.DigestStream('SHA-256');
    const [body, hash] = [writable.getWriter(), digest.getWriter()];
    digest.digest.catch(() => {}); // told by whatever aborts it
    const write = async () => {
      try {
        let done = 0;
        for await (const chunk of chunks) {
          done += chunk.length;
          if (done > bytes) throw new Error(`the blob has more than the ${bytes} bytes that were announced`);
          await Promise.all([body.write(chunk), hash.write(chunk)]);
        }
        if (done !== bytes) throw new Error(`the blob has ${done} bytes, ${bytes} were announced`);
        await Promise.all([body.close(), hash.close()]);
      } catch (error) {
        await Promise.allSettled([body.abort(error), hash.abort(error)]);
        throw error;
      }
    };
    const put = this.#blobs.put(name, readable).catch((error: unknown) => {
      body.abort(error).catch(() => {}); // nobody reads it any more, and whoever writes would wait for ever
      throw error;
    });
    const failed = (await Promise.allSettled([write(), put])).find((one) => one.status === 'rejected');
    if (failed) throw failed.reason;
    return hex(new Uint8Array(await digest.digest));
  }

  async *#chunks(owner: string, { id, bytes, sha256 }: ContextRecord): AsyncGenerator<Uint8Array, void, void> {
    const object = await this.#blobs.get(this.#blobName(owner, id));
    if (!object) {
      if (await this.get(owner, id)) throw new ContextDamaged(id, 'its blob is not there');
      throw new InputError('context_not_found', 'context', `context ${id} was deleted, or is over, since it was asked for`);
    }
    const digest = new crypto.DigestStream('SHA-256');
    const hash = digest.getWriter();
    digest.digest.catch(() => {});
    let whole = false;
    try {
      let done = 0;
      for await (const chunk of object.body as unknown as AsyncIterable<Uint8Array>) {
        done += chunk.length;
        await hash.write(chunk);
        yield chunk;
      }
      if (done !== bytes) throw new ContextDamaged(id, `its blob has ${done} bytes, its record says ${bytes}`);
      await hash.close();
      whole = true;
    } finally {
      if (!whole) await hash.abort().catch(() => {});
    }
    const seen = hex(new Uint8Array(await digest.digest));
    if (seen !== sha256) throw new ContextDamaged(id, `its blob's SHA-256 is ${seen}, its record says ${sha256}`);
  }
}

function recordOf({ meta, head: _, whole: __, ...record }: Row): ContextRecord {
  return { ...record, meta: JSON.parse(meta) as ContextRecord['meta'] };
}
