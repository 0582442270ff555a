/**
 * Contexts in memory, mounted once and used by many: the least recently used go first, until count and bytes fit.
 *
 *   in use     as often as it was acquired and not released; never evicted, whatever comes
 *   idle       evicted to make room, the one that was used longest ago first
 *   mounting   one attempt at a time for an id; whoever else wants it waits. Counts with the bytes that were announced
 *
 * Room is made before a mount begins, so that what goes and what comes are never there together.
 *
 * In workerd a request whose client has left may end in the middle without a word: no `finally` runs. So whoever mounts or uses shows a sign of life by a timer, which ends with
 * its request, and one that has shown none for `staleMs` is taken for dead.
 */
import { InputError } from '../../presses/input-error.ts';

export interface Mountable {
  readonly bytes: number;
  close(): void;
}

export interface Lease<T> {
  /** Closed while it is used only where its user was taken for dead. */
  readonly value: T;
  /** Once; more often does nothing. */
  release(): void;
}

interface Entry<T> {
  bytes: number;
  /** Those who wait for it among them. */
  readonly users: Set<Pulse>;
  /** Null while it is being mounted, where that failed, and once it is closed. */
  value: T | null;
  failed: { readonly error: unknown } | null;
  readonly mounting: Pulse;
  /** Not in the map any more: goes with its last user. */
  dropped: boolean;
  /** Resolves when the mount has ended, well or not. */
  ended: Promise<void>;
}

export interface MountedOptions {
  readonly mostCount: number;
  readonly mostBytes: number;
  /** Infinity where requests do not vanish, as in Node and Deno. */
  readonly staleMs?: number;
}

const STALE_MS = 60_000; // as engine/turns.ts has it
const BEATS = 8;
/** Waiters look for themselves: who began the mount may be gone. */
const POLL_MS = 50;

/** Beats for as long as the request that made it lives, or until it is stopped. A process that ends does not wait for it. */
class Pulse {
  readonly #staleMs: number;
  readonly #timer: ReturnType<typeof setInterval> | undefined;
  #beat = Date.now();

  constructor(staleMs: number) {
    this.#staleMs = staleMs;
    if (!Number.isFinite(staleMs)) return;
    this.#timer = setInterval(() => {
      this.#beat = Date.now();
    }, staleMs / BEATS);
    (this.#timer as { unref?: () => void }).unref?.();
  }

  get lives(): boolean {
    return Date.now() - this.#beat < this.#staleMs;
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

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
    return { count: all.length, bytes: all.reduce((sum, { bytes }) => sum + bytes, 0), inUse: all.filter(({ users }) => users.size > 0).length };
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
      const user = new Pulse(this.#options.staleMs);
      entry.users.add(user);
      let given = false;
      try {
        await this.#mounted(entry, signal);
        if (entry.failed) throw entry.failed.error;
        if (entry.value !== null && !this.#closed) {
          given = true;
          this.#refresh(id, entry);
          return { value: entry.value, release: () => this.#leave(entry, user) };
        }
        this.#forget(id, entry); // its mount died
      } finally {
        if (!given) this.#leave(entry, user);
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
    this.#all();
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
    const mounting = new Pulse(this.#options.staleMs);
    const entry: Entry<T> = { bytes, users: new Set(), value: null, failed: null, mounting, dropped: false, ended: Promise.resolve() };
    this.#entries.set(id, entry);
    entry.ended = this.#mount(id, entry, mount);
    return entry;
  }

  async #mount(id: string, entry: Entry<T>, mount: () => Promise<T>): Promise<void> {
    try {
      entry.value = await mount();
      entry.bytes = entry.value.bytes;
      this.#trim(); // it may be larger than was announced, or wanted by nobody any more
    } catch (error) {
      entry.failed = { error };
      this.#forget(id, entry);
      this.#trim();
    } finally {
      entry.mounting.stop();
    }
  }

  /** Returns once it is mounted, has failed, or its mount is taken for dead. */
  async #mounted(entry: Entry<T>, signal?: AbortSignal): Promise<void> {
    while (isMounting(entry)) {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const pause = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, POLL_MS);
      });
      await Promise.race([entry.ended, pause]).finally(() => clearTimeout(timer));
      signal?.throwIfAborted();
    }
  }

  #leave(entry: Entry<T>, user: Pulse): void {
    user.stop();
    if (!entry.users.delete(user)) return; // it has left, or was taken for dead
    this.#trim();
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
    if (entry.users.size > 0 || isMounting(entry)) return;
    this.#leaving.delete(entry);
    entry.value?.close();
    entry.value = null;
  }

  /** All that takes memory. Whoever died uses none, and mounts none. */
  #all(): Entry<T>[] {
    for (const entry of [...this.#entries.values(), ...this.#leaving]) for (const user of entry.users) if (!user.lives) entry.users.delete(user);
    for (const [id, entry] of this.#entries) if (isDead(entry)) this.#forget(id, entry);
    for (const entry of this.#leaving) this.#closeUnused(entry);
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

  /** Closes what nobody wants, and evicts idle ones until the rest fits beside `count` more contexts of `bytes`. */
  #trim(count = 0, bytes = 0): void {
    const { mostCount, mostBytes } = this.#options;
    this.#all();
    for (const [id, entry] of this.#entries) {
      const { account } = this;
      if (account.count + count <= mostCount && account.bytes + bytes <= mostBytes) return;
      if (isIdle(entry)) this.#forget(id, entry);
    }
  }
}

/** Mounted, and nobody uses it or waits for it. */
function isIdle({ users, value }: Entry<Mountable>): boolean {
  return users.size === 0 && value !== null;
}

function isMounting({ value, failed, mounting }: Entry<Mountable>): boolean {
  return value === null && !failed && mounting.lives;
}

/** Its mount died, and nobody waits for it. */
function isDead(entry: Entry<Mountable>): boolean {
  return entry.users.size === 0 && entry.value === null && !isMounting(entry);
}
