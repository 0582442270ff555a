/**
 * Contexts in a folder, for Node and Deno.
 *
 *   <folder>/<owner>/<id>/record.json, blob, expires.<ms>      a context, until that millisecond; of several such names the latest counts
 *   <folder>/<owner>/<id>.writing.<bytes>.<until>/             one that is being written: the name is the lease
 *   <folder>/<owner>/<id>.<random>.gone/                       one that is being removed
 *
 *   create   makes .writing, writes and fsyncs the files and the folder, renames it, fsyncs the owner's folder
 *   touch    makes the later name, fsyncs the folder, removes the earlier ones
 *   delete   renames to .gone, fsyncs the owner's folder, removes what is in it
 *   collect  renames what is over, or whose lease is, to .gone, and removes that
 *
 * So at every moment there is a context or there is none, and of two who want to rename the same folder one does and the other finds it gone: a writer that was taken for
 * dead cannot publish what was collected meanwhile. Several processes may use one folder. (Windows renames no folder with an open file in it: there a context that is
 * being read is not deleted, and delete says so.)
 */
import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { InputError } from '../../presses/input-error.ts';
import { makeFolder } from '../regular-file.ts';
import { assertOwner, byAge, checkNew, checkPage, checkTtl, cursorOf, isId, isOwner, newId } from './bounds.ts';
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
import { expiriesOf, isFolder, isMissing, type Kept, readBlob, readKept, syncFolder, writeBlob, writeWhole } from './files.ts';
import { digestsOf, headsOf, matches } from './prefix.ts';
import { checkedQuota, checkQuota, DEFAULT_QUOTA, type Quota } from './quota.ts';

export interface DirectoryOptions {
  readonly quota?: Quota;
  readonly now?: () => number;
}

/** What sums and look-ups want; the rest is read when it is given out. */
interface Facts extends Pick<Kept, 'id' | 'tokens' | 'bytes' | 'createdAt' | 'head' | 'whole'> {
  /** It may have been touched since: never later than what its folder says. */
  readonly expiresAt: number;
}

/** Names in an owner's folder. */
interface Names {
  readonly ids: readonly string[];
  readonly writing: readonly { readonly id: string; readonly name: string; readonly bytes: number; readonly until: number }[];
  readonly gone: readonly string[];
}

const WRITING = /^(ctx_[0-9a-f]{32})\.writing\.(\d{1,16})\.(\d{1,16})$/;
const GONE = /^ctx_[0-9a-f]{32}\.[0-9a-f-]{36}\.gone$/;

export class ContextDirectory implements ContextStore {
  readonly folder: string;
  readonly quota: Quota;
  readonly #now: () => number;
  /** By owner and id; dropped with the folder. */
  readonly #facts = new Map<string, Map<string, Facts | null>>();
  /** One admission at a time for an owner: two that fit one after the other must not refuse each other. */
  readonly #admitting = new Map<string, Promise<unknown>>();

  /** Throws InputError where there can be no such folder. */
  constructor(folder: string, { quota = DEFAULT_QUOTA, now = Date.now }: DirectoryOptions = {}) {
    this.folder = resolve(folder);
    this.quota = checkedQuota(quota);
    this.#now = now;
    try {
      makeFolder(this.folder);
    } catch (error) {
      throw new InputError(
        'file_unwritable',
        null,
        `the folder ${folder} for contexts cannot be made: ${(error as Error).message}; name another one`,
      );
    }
  }

  async create(owner: string, context: NewContext, blob: BlobSource): Promise<ContextRecord> {
    assertOwner(owner);
    checkNew(context, blob);
    const digests = await digestsOf(context);
    const id = newId();
    const until = this.#now() + leaseMs(blob.bytes);
    const lease = `${id}.writing.${blob.bytes}.${until}`;
    const writing = this.#path(owner, lease);
    await this.#alone(owner, () => this.#admit(owner, writing, blob.bytes));
    let published = false;
    try {
      const sha256 = await writeBlob(join(writing, 'blob'), blob);
      const { model, press, meta } = context;
      const createdAt = this.#now();
      const kept: Kept = { id, model, press, tokens: context.tokens.length, bytes: blob.bytes, sha256, createdAt, meta, ...digests };
      await writeWhole(join(writing, 'record.json'), JSON.stringify(kept));
      const expiresAt = Math.ceil(createdAt + context.ttlMs);
      await writeWhole(join(writing, `expires.${expiresAt}`), '');
      await syncFolder(writing);
      if (this.#now() >= until) throw leaseOver();
      await rename(writing, this.#path(owner, id));
      published = true;
      await syncFolder(this.#path(owner));
      return recordOf(kept, expiresAt);
    } catch (error) {
      await this.#remove(owner, id, published ? id : lease).catch(() => {}); // what stays is collected when its lease is over
      throw isMissing(error) && !published ? leaseOver() : error;
    }
  }

  async get(owner: string, id: string): Promise<ContextRecord | null> {
    return this.#whereFound(owner, id, async (path, expiresAt) => recordOf(await readKept(path, id), expiresAt));
  }

  async list(owner: string, options?: { readonly limit?: number; readonly after?: string }): Promise<Page> {
    const { limit, after } = checkPage(options);
    const live = (await this.#live(owner)).filter((one) => after === null || byAge(one, after) > 0).sort(byAge);
    const shown = live.slice(0, limit);
    const records: ContextRecord[] = [];
    for (const { id } of shown) {
      const record = await this.get(owner, id);
      if (record) records.push(record); // else it was deleted just now
    }
    return { records, next: live.length > limit ? cursorOf(shown.at(-1)!) : null };
  }

  async delete(owner: string, id: string): Promise<boolean> {
    try {
      return (await this.#whereFound(owner, id, () => this.#remove(owner, id, id))) !== null;
    } catch (error) {
      if (error instanceof ContextDamaged) return this.#removed(owner, id, id);
      throw error;
    }
  }

  async touch(owner: string, id: string, ttlMs: number): Promise<ContextRecord | null> {
    checkTtl(ttlMs);
    return this.#whereFound(owner, id, async (path, before) => {
      const kept = await readKept(path, id);
      const expiresAt = Math.max(before, Math.ceil(this.#now() + ttlMs));
      if (expiresAt > before) {
        await writeWhole(join(path, `expires.${expiresAt}`), '', 'w'); // another one may have made the same name
        await syncFolder(path);
        for (const earlier of await expiriesOf(path)) if (earlier < expiresAt) await rm(join(path, `expires.${earlier}`), { force: true });
      }
      return recordOf(kept, expiresAt);
    });
  }

  async read(owner: string, id: string): Promise<StoredBlob | null> {
    const record = await this.get(owner, id);
    return record && { record, chunks: this.#chunks(owner, record) };
  }

  async longestPrefix(owner: string, of: Pick<NewContext, 'model' | 'press' | 'tokens'>): Promise<ContextRecord | null> {
    const heads = await headsOf(of);
    const known = new Set(heads);
    const candidates = (await this.#live(owner))
      .filter(({ tokens, head }) => tokens <= of.tokens.length && known.has(head))
      .sort((a, b) => b.tokens - a.tokens || b.expiresAt - a.expiresAt || byAge(a, b));
    for (const candidate of candidates) {
      const record = (await matches(of.tokens, heads, candidate.tokens, candidate)) ? await this.get(owner, candidate.id) : null;
      if (record) return record;
    }
    return null;
  }

  async usage(owner: string): Promise<{ held: Quota; most: Quota }> {
    return { held: await this.#held(owner), most: this.quota };
  }

  async collect(owner?: string): Promise<Collected> {
    const owners = owner === undefined ? (await readdir(this.folder)).filter(isOwner) : [owner];
    let [expired, blobs] = [0, 0];
    for (const one of owners) {
      const over = await this.#collectExpired(one);
      expired += over;
      blobs += over;
      const now = this.#now();
      const { ids, writing, gone } = await this.#names(one);
      const facts = await this.#factsOf(one, ids);
      for (const id of ids) if (facts.get(id) === null && (await this.#removed(one, id, id))) blobs++; // nobody can see it or use it
      for (const { id, name, until } of writing) if (until <= now && (await this.#removed(one, id, name))) blobs++;
      for (const name of gone) {
        await rm(this.#path(one, name), { recursive: true, force: true });
        blobs++;
      }
    }
    return { expired, blobs };
  }

  async #collectExpired(owner: string): Promise<number> {
    const now = this.#now();
    let expired = 0;
    for (const known of (await this.#factsOf(owner, (await this.#names(owner)).ids)).values())
      if (known && known.expiresAt <= now && (await this.#removed(owner, known.id, known.id))) expired++;
    return expired;
  }

  /** Takes the lease first and counts then: of two processes at once each sees the other's, so both may be refused, and never are both let in. */
  async #admit(owner: string, writing: string, bytes: number): Promise<void> {
    await this.#makeOwner(owner);
    await mkdir(writing, { mode: 0o700 });
    try {
      const held = await this.#held(owner);
      checkQuota({ count: held.count - 1, bytes: held.bytes - bytes }, bytes, this.quota);
    } catch (error) {
      await rm(writing, { recursive: true, force: true });
      throw error;
    }
    await this.#collectExpired(owner); // the disk need not hold both
  }

  async #makeOwner(owner: string): Promise<void> {
    try {
      await mkdir(this.#path(owner), { mode: 0o700 });
      await syncFolder(this.folder);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }

  /** Leases first: one that is published meanwhile is then seen as one, as a context, or as both, and counts once. */
  async #held(owner: string): Promise<Quota> {
    const now = this.#now();
    const { writing } = await this.#names(owner);
    const leases = writing.filter(({ until }) => until > now);
    const bytes = new Map([...leases, ...(await this.#live(owner))].map((one) => [one.id, one.bytes]));
    return { count: bytes.size, bytes: [...bytes.values()].reduce((sum, one) => sum + one, 0) };
  }

  /** What `use` gives of the context's folder; null where there is none, or it goes meanwhile. */
  async #whereFound<R>(owner: string, id: string, use: (path: string, expiresAt: number) => Promise<R>): Promise<R | null> {
    assertOwner(owner);
    if (!isId(id)) return null;
    const path = this.#path(owner, id);
    try {
      const expiresAt = Math.max(...(await expiriesOf(path)));
      return expiresAt > this.#now() ? await use(path, expiresAt) : null;
    } catch (error) {
      if (!isMissing(error)) throw error;
      if (!(await isFolder(path))) return null;
      throw new ContextDamaged(id, (error as Error).message); // it is there, and something in it is not
    }
  }

  async *#chunks(owner: string, record: ContextRecord): AsyncGenerator<Uint8Array, void, void> {
    const { id } = record;
    const file = await this.#whereFound(owner, id, (path) => open(join(path, 'blob'), 'r'));
    if (!file) throw new InputError('context_not_found', 'context', `context ${id} was deleted, or is over, since it was asked for`);
    try {
      yield* readBlob(file, record);
    } finally {
      await file.close();
    }
  }

  /** As #remove, and whether it was there. */
  async #removed(owner: string, id: string, name: string): Promise<boolean> {
    try {
      return await this.#remove(owner, id, name);
    } catch (error) {
      if (isMissing(error)) return false; // somebody was quicker
      throw error;
    }
  }

  /** Absent once the folder is renamed. What cannot be removed then is left to collect. */
  async #remove(owner: string, id: string, name: string): Promise<true> {
    const gone = this.#path(owner, `${id}.${randomUUID()}.gone`);
    await rename(this.#path(owner, name), gone);
    await syncFolder(this.#path(owner));
    await rm(gone, { recursive: true, force: true }).catch(() => {});
    return true;
  }

  /** What is not over. */
  async #live(owner: string): Promise<Facts[]> {
    const now = this.#now();
    const facts = await this.#factsOf(owner, (await this.#names(owner)).ids);
    return [...facts.values()].filter((one) => one !== null && one.expiresAt > now) as Facts[];
  }

  /** Each record is read once, and until when it lives only where it seems over; null: it cannot be read. */
  async #factsOf(owner: string, ids: readonly string[]): Promise<ReadonlyMap<string, Facts | null>> {
    const before = this.#facts.get(owner);
    const facts = new Map<string, Facts | null>();
    const now = this.#now();
    for (const id of ids) {
      const known = before?.get(id);
      if (known && known.expiresAt > now) {
        facts.set(id, known);
        continue;
      }
      const path = this.#path(owner, id);
      try {
        const expiresAt = Math.max(...(await expiriesOf(path)));
        const { tokens, bytes, createdAt, head, whole } = known ?? (await readKept(path, id));
        facts.set(id, { id, tokens, bytes, createdAt, head, whole, expiresAt });
      } catch (error) {
        if (!(error instanceof ContextDamaged) && !isMissing(error)) throw error;
        if (await isFolder(path)) facts.set(id, null); // else it was deleted just now
      }
    }
    this.#facts.set(owner, facts);
    return facts;
  }

  async #names(owner: string): Promise<Names> {
    assertOwner(owner);
    const names = await readdir(this.#path(owner)).catch((error) => {
      if (isMissing(error)) return [];
      throw error;
    });
    const writing = names.flatMap((name) => {
      const lease = WRITING.exec(name);
      return lease ? [{ id: lease[1], name, bytes: Number(lease[2]), until: Number(lease[3]) }] : [];
    });
    return { ids: names.filter(isId), writing, gone: names.filter((name) => GONE.test(name)) };
  }

  async #alone<R>(owner: string, work: () => Promise<R>): Promise<R> {
    const before = this.#admitting.get(owner) ?? Promise.resolve();
    const mine = before.then(work, work);
    this.#admitting.set(owner, mine);
    try {
      return await mine;
    } finally {
      if (this.#admitting.get(owner) === mine) this.#admitting.delete(owner);
    }
  }

  #path(owner: string, name = ''): string {
    return join(this.folder, owner, name);
  }
}

function recordOf({ id, model, press, tokens, bytes, sha256, createdAt, meta }: Kept, expiresAt: number): ContextRecord {
  return { id, model, press, tokens, bytes, sha256, createdAt, expiresAt, meta };
}

const leaseOver = () => new Error('the context took longer to write than its lease: it was not kept, and can be written again');
