/**
 * Contexts in memory, mounted once and used by many: the least recently used go first, until count and bytes fit.
 *
 *   in use     as often as it was acquired and not released; never evicted, whatever comes
 *   idle       evicted to make room, the one that was used longest ago first
 *   mounting   one attempt at a time for an id; whoever else wants it waits. Counts with the bytes that were announced
 *
 * Room is made before a mount begins, so that what goes and what comes are never there together.
 */
import { InputError } from '../../presses/input-error.ts';

export interface Mountable {
  readonly bytes: number;
  close(): void;
}

export interface Lease<T> {
  readonly value: T;
  /** Once; more often does nothing. */
  release(): void;
}

interface Entry<T> {
  bytes: number;
  users: number;
  /** Null while it is being mounted, where that failed, and once it is closed. */
  value: T | null;
  failed: { readonly error: unknown } | null;
  /** When its mount began. */
  readonly since: number;
  /** Not in the map any more: goes with its last user. */
  dropped: boolean;
  /** Resolves when the mount has ended, well or not. */
  ended: Promise<void>;
}

export interface MountedOptions {
  readonly mostCount: number;
  readonly mostBytes: number;
  /** In workerd a request whose client has left ends in mid-mount without a word: after so long the next one mounts anew. */
  readonly staleMs?: number;
}

const STALE_MS = 60_000;
/** Waiters look for themselves: who began the mount may be gone. */
const POLL_MS = 50;

export class MountedContexts<T extends Mountable> {
  readonly #options: Required<MountedOptions>;
  /** From the least to the most recently used. */
  readonly #entries = new Map<string, Entry<T>>();
  /** In use and not in the map any more. */
  readonly #leaving = new Set<Entry<T>>();
  #closed = false;

  constructor(options: MountedOptions) {
    this.#options = { staleMs: STALE_MS, ...options };
  }

  /** `bytes` counts what is being mounted too. */
  get account(): { readonly count: number; readonly bytes: number; readonly inUse: number } {
    const all = this.#all();
    return { count: all.length, bytes: all.reduce((sum, { bytes }) => sum + bytes, 0), inUse: all.filter(({ users }) => users > 0).length };
  }

  /**
   * What is mounted under `id`; else `mount` is asked for it, once for all who wait. Its failure is theirs too, and the next one tries again. `signal` ends this
   * caller's wait, not the mount: nobody else's request may fail because one client left.
   */
  async acquire(id: string, bytes: number, mount: () => Promise<T>, signal?: AbortSignal): Promise<Lease<T>> {
    for (;;) {
      signal?.throwIfAborted();
      if (this.#closed)
        throw new InputError('contexts_closed', null, 'the contexts in memory were closed: this server is ending, or loads its model anew');
      const entry = this.#entryOf(id, bytes, mount);
      // Counted as a user from here on: what was just mounted for a caller is not evicted before it has it.
      entry.users++;
      let given = false;
      try {
        await this.#mounted(entry, signal);
        if (entry.failed) throw entry.failed.error;
        if (entry.value !== null && !this.#closed) {
          given = true;
          this.#refresh(id, entry);
          return this.#lease(entry, entry.value);
        }
        this.#forget(id, entry); // its mount died
      } finally {
        if (!given) this.#leave(entry);
      }
    }
  }

  /** The context was deleted: it goes with its last user, and whoever comes meanwhile mounts anew. */
  drop(id: string): void {
    const entry = this.#entries.get(id);
    if (entry) this.#forget(id, entry);
  }

  /** Somebody else wants memory: evicts idle ones until so many bytes are free, and says how many were. */
  evict(bytes: number): number {
    let freed = 0;
    for (const [id, entry] of this.#entries) {
      if (freed >= bytes) break;
      if (!isIdle(entry)) continue;
      freed += entry.bytes;
      this.#forget(id, entry);
    }
    return freed;
  }

  /** Idle ones at once, the others with their last user. Nothing can be acquired afterwards. */
  close(): void {
    this.#closed = true;
    for (const [id, entry] of this.#entries) this.#forget(id, entry);
  }

  #entryOf(id: string, bytes: number, mount: () => Promise<T>): Entry<T> {
    const known = this.#entries.get(id);
    if (known) return known;
    this.#makeRoom(bytes);
    const entry: Entry<T> = { bytes, users: 0, value: null, failed: null, since: Date.now(), dropped: false, ended: Promise.resolve() };
    this.#entries.set(id, entry);
    entry.ended = this.#mount(id, entry, mount);
    return entry;
  }

  async #mount(id: string, entry: Entry<T>, mount: () => Promise<T>): Promise<void> {
    try {
      entry.value = await mount();
      entry.bytes = entry.value.bytes;
      if (entry.dropped) this.#closeUnused(entry);
      else this.#trim(); // it may be larger than was announced
    } catch (error) {
      entry.failed = { error };
      this.#forget(id, entry);
      this.#closeUnused(entry);
    }
  }

  /** Returns once it is mounted, has failed, or its mount is taken for dead. */
  async #mounted(entry: Entry<T>, signal?: AbortSignal): Promise<void> {
    while (this.#isMounting(entry)) {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const pause = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, POLL_MS);
      });
      await Promise.race([entry.ended, pause]).finally(() => clearTimeout(timer));
      signal?.throwIfAborted();
    }
  }

  #lease(entry: Entry<T>, value: T): Lease<T> {
    let held = true;
    return {
      value,
      release: () => {
        if (held) this.#leave(entry);
        held = false;
      },
    };
  }

  #leave(entry: Entry<T>): void {
    entry.users--;
    if (entry.dropped) this.#closeUnused(entry);
    else this.#trim();
  }

  /** Now the most recently used. */
  #refresh(id: string, entry: Entry<T>): void {
    if (this.#entries.get(id) !== entry) return;
    this.#entries.delete(id);
    this.#entries.set(id, entry);
  }

  #forget(id: string, entry: Entry<T>): void {
    if (this.#entries.get(id) === entry) this.#entries.delete(id);
    if (entry.dropped) return;
    entry.dropped = true;
    this.#leaving.add(entry);
    this.#closeUnused(entry);
  }

  #closeUnused(entry: Entry<T>): void {
    if (entry.users > 0 || this.#isMounting(entry)) return;
    this.#leaving.delete(entry);
    entry.value?.close();
    entry.value = null;
  }

  #isMounting({ value, failed, since }: Entry<T>): boolean {
    return value === null && !failed && Date.now() - since < this.#options.staleMs;
  }

  /** All that takes memory. A mount that died takes none any more. */
  #all(): Entry<T>[] {
    const isDead = (entry: Entry<T>) => entry.users === 0 && entry.value === null && !this.#isMounting(entry);
    for (const [id, entry] of this.#entries) if (isDead(entry)) this.#forget(id, entry);
    for (const entry of this.#leaving) if (isDead(entry)) this.#leaving.delete(entry);
    return [...this.#entries.values(), ...this.#leaving];
  }

  /** Throws InputError where what is in use leaves no room; then nothing was evicted in vain. */
  #makeRoom(bytes: number): void {
    const { mostCount, mostBytes } = this.#options;
    const kept = this.#all().filter((entry) => !isIdle(entry));
    const keptBytes = kept.reduce((sum, entry) => sum + entry.bytes, 0);
    if (bytes > mostBytes)
      throw new InputError(
        'context_too_large',
        'context',
        `the context takes ${bytes} bytes of memory, ${mostBytes} are there for all: one pressed at a higher compression_ratio would fit`,
      );
    if (kept.length + 1 > mostCount || keptBytes + bytes > mostBytes)
      throw new InputError(
        'contexts_busy',
        'context',
        `the context takes ${bytes} bytes of memory, and ${kept.length} of ${mostCount} contexts with ${keptBytes} of ${mostBytes} bytes are in use now: once they are answered it fits`,
      );
    this.#trim(1, bytes);
  }

  /** Evicts idle ones until the rest fits beside `count` more contexts of `bytes`. */
  #trim(count = 0, bytes = 0): void {
    const { mostCount, mostBytes } = this.#options;
    for (const [id, entry] of this.#entries) {
      const account = this.account;
      if (account.count + count <= mostCount && account.bytes + bytes <= mostBytes) return;
      if (isIdle(entry)) this.#forget(id, entry);
    }
  }
}

/** Mounted, and nobody uses it or waits for it. */
function isIdle({ users, value }: Entry<Mountable>): boolean {
  return users === 0 && value !== null;
}
