/** What a process that will be killed does with a store, and tells of each step before and after it; and what must hold of the store it leaves. */
import { expect } from 'vitest';
import type { ContextRecord, ContextStore } from '../../worker/contexts/contract.ts';
import { QuotaError } from '../../worker/contexts/quota.ts';
import { blobOf, bytesOf, context } from './context-store-suite.ts';
import { Random } from './random.ts';

export const QUOTA = { count: 12, bytes: 2 ** 20 };

/** Creates, deletes, touches and collects for ever, three at a time; ends when the store does. */
export async function work(
  store: Pick<ContextStore, 'list' | 'create' | 'delete' | 'touch' | 'collect'>,
  owner: string,
  seed: number,
  tell: (line: string) => void,
): Promise<void> {
  await Promise.all(
    [0, 1, 2].map(async (lane) => {
      const random = new Random(3 * seed + lane);
      for (let step = 0; ; step++) {
        const what = random.next();
        const { records } = await store.list(owner, { limit: 100 });
        const one = records.length > 0 ? random.pick(records) : null;
        if (what < 0.6 || !one) {
          const bytes = bytesOf(step, random.int(0, 100_000));
          const record = await store.create(owner, context({ meta: { step } }), blobOf(bytes)).catch((error: unknown) => {
            if (!(error instanceof QuotaError)) throw error;
            return null;
          });
          if (record) tell(`created ${record.id} ${record.sha256}`);
        } else if (what < 0.9) {
          tell(`deleting ${one.id}`);
          if (await store.delete(owner, one.id)) tell(`deleted ${one.id}`);
        } else if (what < 0.95) await store.touch(owner, one.id, 10 ** 8);
        else await store.collect();
      }
    }),
  );
}

/** Over all processes that were killed: what was told, held against what is there. */
export class Told {
  readonly #there = new Map<string, string>();
  readonly #maybe = new Set<string>();
  readonly #gone = new Set<string>();
  steps = 0;

  /** A last line that was cut off is none. */
  add(text: string): void {
    for (const line of text.split('\n').slice(0, -1)) {
      const [what, id, sha256] = line.split(' ');
      this.steps++;
      if (what === 'created') {
        if (!this.#maybe.has(id) && !this.#gone.has(id)) this.#there.set(id, sha256); // else another lane was quicker to delete than this one to tell
      } else if (what === 'deleting') {
        this.#there.delete(id);
        this.#maybe.add(id);
      } else if (what === 'deleted') {
        this.#maybe.delete(id);
        this.#gone.add(id);
      } else throw new Error(`what is "${line}"?`);
    }
  }

  /** What was told holds; `records` is what is there, found whole. */
  check(records: readonly Pick<ContextRecord, 'id' | 'sha256' | 'bytes'>[], about: string): void {
    const found = new Map(records.map(({ id, sha256 }) => [id, sha256]));
    for (const [id, sha256] of this.#there) expect(found.get(id), `${about}: ${id}, which was created`).toBe(sha256);
    for (const id of this.#gone) expect(found.has(id), `${about}: ${id}, which was deleted`).toBe(false);
    expect(records.length, about).toBeLessThanOrEqual(QUOTA.count);
    expect(
      records.reduce((sum, { bytes }) => sum + bytes, 0),
      about,
    ).toBeLessThanOrEqual(QUOTA.bytes);
    for (const [id, sha256] of found) this.#there.set(id, sha256); // those whose telling was cut off
    this.#maybe.clear();
  }
}
