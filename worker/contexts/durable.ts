/**
 * Where an owner's contexts are written down in workerd: one Durable Object an owner, SQLite. The bytes are in R2; the worker that has them puts them there itself
 * (durable-store.ts), so that they never pass through here.
 *
 *   contexts   what is there, one row each
 *   leases     every other blob that R2 may hold. 'writing': until `until` it may become a context, and counts for the quota. 'gone': it is removed at `until`, and once more
 *              LATE_MS later where its writer may still be at it (`last` = 0); only then does the row go
 *
 *   begin    a lease, if the quota allows                       R2: nothing yet
 *   commit   lease -> context, in one transaction               R2: the blob is whole
 *   remove   context -> lease 'gone', in one transaction        R2: the blob goes afterwards
 *   alarm    contexts that are over, leases that are over and blobs that could not be removed, at their time, for ever until it is done
 *
 * A blob has a row here before it is in R2 and until it is out of it again. So nothing is forgotten wherever this object, its worker or R2 stops.
 */

import { DurableObject } from 'cloudflare:workers';
import type { DurableObjectState, R2Bucket, SqlStorageValue } from '@cloudflare/workers-types';
import type { Position } from './bounds.ts';
import type { Collected, ContextRecord } from './contract.ts';
import { MOST_COUNT, type Quota } from './quota.ts';

export interface ContextBindings {
  readonly CONTEXT_BLOBS: R2Bucket;
}

/** As it lies in SQLite and goes over the wire: metadata as text. */
export type Row = Omit<ContextRecord, 'meta'> & { readonly meta: string; readonly head: string; readonly whole: string };

export type Candidate = Pick<Row, 'id' | 'tokens' | 'head' | 'whole'>;

const RETRY_MS = 60_000;
/** Longer than any writer lives after its lease. */
const LATE_MS = 3_600_000;
/** Of names in one call to R2. */
const MOST_AT_ONCE = 1000;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS contexts (
    id TEXT PRIMARY KEY, model TEXT NOT NULL, press TEXT NOT NULL, tokens INTEGER NOT NULL, head TEXT NOT NULL, whole TEXT NOT NULL,
    bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, createdAt INTEGER NOT NULL, expiresAt INTEGER NOT NULL, meta TEXT NOT NULL
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS by_age ON contexts (createdAt DESC, id DESC);
  CREATE INDEX IF NOT EXISTS by_prefix ON contexts (head, tokens);
  CREATE INDEX IF NOT EXISTS by_end ON contexts (expiresAt);
  CREATE TABLE IF NOT EXISTS leases (
    id TEXT PRIMARY KEY, bytes INTEGER NOT NULL, state TEXT NOT NULL CHECK (state IN ('writing', 'gone')), until INTEGER NOT NULL, last INTEGER NOT NULL
  ) WITHOUT ROWID;
`;
const COLUMNS = 'id, model, press, tokens, head, whole, bytes, sha256, createdAt, expiresAt, meta';

/** Names of blobs: the object's id for the owner, so that whoever finds one can ask the object whose it is. */
export const blobName = (object: string, id: string): string => `contexts/${object}/${id}`;

export class ContextIndex extends DurableObject<ContextBindings> {
  /** When the alarm does, where it was set since this object was loaded. */
  #rings: number | null = null;

  constructor(state: DurableObjectState, env: ContextBindings) {
    super(state, env);
    state.storage.sql.exec(SCHEMA);
  }

  /** What is held, where that leaves no room for it; null: it may be written until `until`. */
  async begin(id: string, bytes: number, until: number, most: Quota): Promise<Quota | null> {
    const refused = this.#atOnce(() => {
      this.#end();
      const held = this.#held();
      if (held.count + 1 > most.count || held.bytes + bytes > most.bytes) return held;
      this.#run("INSERT INTO leases (id, bytes, state, until, last) VALUES (?, ?, 'writing', ?, 0)", id, bytes, until);
      return null;
    });
    await this.#schedule();
    return refused;
  }

  /** False where its lease is over. Whoever is not sure whether it was done may ask again. */
  async commit(row: Row): Promise<boolean> {
    const done = this.#atOnce(() => {
      if (this.#one('SELECT 1 FROM contexts WHERE id = ?', row.id)) return true;
      if (!this.#one("SELECT 1 FROM leases WHERE id = ? AND state = 'writing' AND until > ?", row.id, this.now())) return false;
      this.#run('DELETE FROM leases WHERE id = ?', row.id);
      const { id, model, press, tokens, head, whole, bytes, sha256, createdAt, expiresAt, meta } = row;
      const values = [id, model, press, tokens, head, whole, bytes, sha256, createdAt, expiresAt, meta];
      this.#run(`INSERT INTO contexts (${COLUMNS}) VALUES (${values.map(() => '?').join(', ')})`, ...values);
      return true;
    });
    await this.#schedule();
    return done;
  }

  /** A write that failed, wherever it was: what there is of it goes, now or at the next alarm. */
  async abandon(id: string): Promise<void> {
    this.#atOnce(() => {
      this.#drop('id = ?', id);
      this.#run("UPDATE leases SET state = 'gone', until = ? WHERE id = ? AND state = 'writing'", this.now(), id);
    });
    await this.#schedule();
    await this.#removeBlobs().catch(() => {});
  }

  async remove(id: string): Promise<boolean> {
    const there = this.#atOnce(() => {
      const found = this.#one('SELECT 1 FROM contexts WHERE id = ? AND expiresAt > ?', id, this.now()) !== null;
      if (found) this.#drop('id = ?', id);
      return found;
    });
    if (!there) return false;
    await this.#schedule();
    await this.#removeBlobs().catch(() => {}); // absent it is already; the alarm tries again
    return true;
  }

  find(id: string): Row | null {
    return this.#one<Row>(`SELECT ${COLUMNS} FROM contexts WHERE id = ? AND expiresAt > ?`, id, this.now());
  }

  /** Newest first. */
  page(most: number, after: Position | null): Row[] {
    const { createdAt, id } = after ?? { createdAt: Number.MAX_SAFE_INTEGER, id: '' };
    return this.#all<Row>(
      `SELECT ${COLUMNS} FROM contexts WHERE (createdAt, id) < (?, ?) AND expiresAt > ? ORDER BY createdAt DESC, id DESC LIMIT ?`,
      createdAt,
      id,
      this.now(),
      most,
    );
  }

  async extend(id: string, expiresAt: number): Promise<Row | null> {
    this.#run('UPDATE contexts SET expiresAt = max(expiresAt, ?) WHERE id = ? AND expiresAt > ?', expiresAt, id, this.now());
    await this.#schedule();
    return this.find(id);
  }

  /** Contexts that begin as some of the prompt's heads say, longest first. */
  candidates(heads: readonly string[], longest: number): Candidate[] {
    return this.#all<Candidate>(
      `SELECT id, tokens, head, whole FROM contexts WHERE head IN (SELECT value FROM json_each(?)) AND tokens <= ? AND expiresAt > ?
       ORDER BY tokens DESC, expiresAt DESC, createdAt DESC LIMIT ?`,
      JSON.stringify(heads),
      longest,
      this.now(),
      MOST_COUNT,
    );
  }

  held(): Quota {
    return this.#held();
  }

  /** What is over or belongs to nobody; and of R2, what is under this object's name and stands in no row. */
  async collect(): Promise<Collected> {
    const expired = this.#atOnce(() => this.#end());
    await this.#schedule();
    const removed = await this.#removeBlobs();
    return { expired, blobs: removed + (await this.#removeStrays()) };
  }

  async alarm(): Promise<void> {
    this.#rings = null;
    this.#atOnce(() => this.#end());
    await this.#schedule();
    await this.#removeBlobs().catch(() => {}); // the next alarm is set already
  }

  protected now(): number {
    return Date.now();
  }

  /** Contexts and leases that are over become blobs to remove; how many contexts there were. */
  #end(): number {
    const now = this.now();
    const ended = this.#drop('expiresAt <= ?', now);
    this.#run("UPDATE leases SET state = 'gone' WHERE state = 'writing' AND until <= ?", now);
    return ended;
  }

  /** Contexts to leases 'gone'; how many. */
  #drop(where: string, value: SqlStorageValue): number {
    const { rowsWritten } = this.#run(
      `INSERT INTO leases (id, bytes, state, until, last) SELECT id, bytes, 'gone', ${this.now()}, 1 FROM contexts WHERE ${where}`,
      value,
    );
    if (rowsWritten === 0) return 0;
    const { n } = this.#one<{ n: number }>(`SELECT count(*) AS n FROM contexts WHERE ${where}`, value)!;
    this.#run(`DELETE FROM contexts WHERE ${where}`, value);
    return n;
  }

  #held(): Quota {
    const now = this.now();
    return this.#one<{ count: number; bytes: number }>(
      `SELECT count(*) AS count, coalesce(sum(bytes), 0) AS bytes FROM (
         SELECT bytes FROM contexts WHERE expiresAt > ? UNION ALL SELECT bytes FROM leases WHERE state = 'writing' AND until > ?)`,
      now,
      now,
    )!;
  }

  /** Of leases 'gone' whose time has come; how many blobs went for good. */
  async #removeBlobs(): Promise<number> {
    let removed = 0;
    for (;;) {
      const now = this.now();
      const due = this.#all<{ id: string }>("SELECT id FROM leases WHERE state = 'gone' AND until <= ? LIMIT ?", now, MOST_AT_ONCE).map(
        ({ id }) => id,
      );
      if (due.length === 0) return removed;
      await this.env.CONTEXT_BLOBS.delete(due.map((id) => this.#blobName(id)));
      const ids = JSON.stringify(due);
      this.#atOnce(() => {
        // Those that are still due: an alarm may have been here meanwhile.
        const rows = "state = 'gone' AND until <= ? AND id IN (SELECT value FROM json_each(?))";
        this.#run(`DELETE FROM leases WHERE last = 1 AND ${rows}`, now, ids);
        this.#run(`UPDATE leases SET last = 1, until = ? WHERE ${rows}`, this.now() + LATE_MS, now, ids);
      });
      await this.#schedule();
      removed += due.length;
    }
  }

  /** Rows are older than their blobs: a blob that was seen and has no row now belongs to nobody, and no name comes twice. */
  async #removeStrays(): Promise<number> {
    let strays = 0;
    const prefix = this.#blobName('');
    for (let cursor: string | undefined; ; ) {
      const listed = await this.env.CONTEXT_BLOBS.list({ prefix, cursor });
      const ids = JSON.stringify(listed.objects.map(({ key }) => key.slice(prefix.length)));
      const lost = this.#all<{ id: string }>(
        `SELECT value AS id FROM json_each(?) WHERE value NOT IN (SELECT id FROM contexts) AND value NOT IN (SELECT id FROM leases)`,
        ids,
      );
      if (lost.length > 0) await this.env.CONTEXT_BLOBS.delete(lost.map(({ id }) => this.#blobName(id)));
      strays += lost.length;
      if (!listed.truncated) return strays;
      cursor = listed.cursor;
    }
  }

  /** The alarm is part of the same write as the rows before it: nothing is awaited between. Blobs that should be gone are tried again after RETRY_MS. */
  async #schedule(): Promise<void> {
    const { next } = this.#one<{ next: number | null }>(
      'SELECT min(at) AS next FROM (SELECT min(until) AS at FROM leases UNION ALL SELECT min(expiresAt) FROM contexts)',
    )!;
    const at = next === null ? null : Math.max(next, this.now() + RETRY_MS);
    if (at === null || (this.#rings !== null && this.#rings <= at)) return; // nor is it put off, however often it is looked at
    await this.ctx.storage.setAlarm(at);
    this.#rings = at;
  }

  #blobName(id: string): string {
    return blobName(this.ctx.id.toString(), id);
  }

  #atOnce<R>(work: () => R): R {
    return this.ctx.storage.transactionSync(work);
  }

  #run(statement: string, ...values: SqlStorageValue[]) {
    return this.ctx.storage.sql.exec(statement, ...values);
  }

  #all<R extends object>(statement: string, ...values: SqlStorageValue[]): R[] {
    return this.#run(statement, ...values).toArray() as unknown as R[];
  }

  #one<R extends object>(statement: string, ...values: SqlStorageValue[]): R | null {
    return this.#all<R>(statement, ...values)[0] ?? null;
  }
}
