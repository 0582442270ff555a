/**
 * A fair door: who came first enters first. Requests on workerd live in separate contexts that can vanish in mid-wait (client gone,
 * CPU limit), so nobody trusts anybody to wake up or to leave: waiters look for themselves every POLL_MS, and one that has not
 * looked for STALE_MS, while the others looked STALE_POLLS times each, is taken for dead and passed over. (Time alone would not do: a
 * long kernel call holds up every timer.)
 */
import { InputError } from '../../presses/input-error.ts';

const POLL_MS = 25;
const STALE_MS = 5_000;
const STALE_POLLS = 50;

interface Waiter {
  /** Place in the order of arrival. */
  readonly ticket: number;
  beat: number;
  /** The gate's poll count when this waiter last looked. */
  seen: number;
  wake: () => void;
}

export class Gate {
  readonly #mostWaiting: number;
  #waiters: Waiter[] = [];
  #polls = 0;
  #tickets = 0;

  constructor(mostWaiting: number) {
    this.#mostWaiting = mostWaiting;
  }

  get waiting(): number {
    return this.#waiters.length;
  }

  /** Resolves once this caller is first in line and `tryEnter` has said yes (it then holds what it took). */
  async enter(tryEnter: () => boolean, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.#dropStale();
    if (this.#waiters.length === 0 && tryEnter()) return;
    if (this.#waiters.length >= this.#mostWaiting) {
      throw new InputError('queue_full', null, `${this.#waiters.length} requests are waiting, the most this server queues; try again later`);
    }
    const self: Waiter = { ticket: this.#tickets++, beat: Date.now(), seen: this.#polls, wake: () => {} };
    this.#waiters.push(self);
    // One timer for the whole wait, ended by who set it: a context whose client has left lives on only while something of its own is pending.
    const timer = setInterval(() => self.wake(), POLL_MS);
    try {
      for (;;) {
        const { promise, resolve } = resolvable();
        self.wake = resolve;
        await promise;
        signal?.throwIfAborted();
        self.beat = Date.now();
        self.seen = ++this.#polls;
        if (!this.#waiters.includes(self)) this.#rejoin(self);
        this.#dropStale();
        if (this.#waiters[0] === self && tryEnter()) return;
      }
    } finally {
      clearInterval(timer);
      this.#waiters = this.#waiters.filter((waiter) => waiter !== self);
      this.poke();
    }
  }

  /** Something was given back: the first in line may look again. */
  poke(): void {
    this.#waiters[0]?.wake();
  }

  /** A waiter that was taken for dead and is not goes back to its place. */
  #rejoin(waiter: Waiter): void {
    const after = this.#waiters.findIndex(({ ticket }) => ticket > waiter.ticket);
    this.#waiters.splice(after < 0 ? this.#waiters.length : after, 0, waiter);
  }

  #dropStale(): void {
    const now = Date.now();
    const mostPolls = STALE_POLLS * this.#waiters.length;
    this.#waiters = this.#waiters.filter((waiter) => now - waiter.beat <= STALE_MS || this.#polls - waiter.seen <= mostPolls);
  }
}

/**
 * One holder at a time, in order of arrival. A holder that has not shown itself for `staleMs` (its context died) loses the lock to the next in
 * line; its late `release` is ignored.
 */
export class FairLock {
  readonly #gate: Gate;
  readonly #staleMs: number;
  #holder: { beat: number } | null = null;

  constructor(staleMs: number) {
    this.#gate = new Gate(Number.POSITIVE_INFINITY);
    this.#staleMs = staleMs;
  }

  async acquire(signal?: AbortSignal): Promise<{ beat(): void; release(): void }> {
    const ticket = { beat: Date.now() };
    await this.#gate.enter(() => {
      if (this.#holder && Date.now() - this.#holder.beat <= this.#staleMs) return false;
      ticket.beat = Date.now();
      this.#holder = ticket;
      return true;
    }, signal);
    return {
      beat: () => {
        ticket.beat = Date.now();
      },
      release: () => {
        if (this.#holder !== ticket) return;
        this.#holder = null;
        this.#gate.poke();
      },
    };
  }
}

/**
 * A promise that another request may resolve. Where there is Promise.withResolvers it must come from there: once V8 has optimised the caller of
 * `new Promise`, workerd no longer knows whose it is, and the waiter goes on in the context of the request that woke it, where it may do nothing.
 * Node 20 has no withResolvers, and no contexts.
 */
function resolvable(): { promise: Promise<void>; resolve: () => void } {
  if ('withResolvers' in Promise) return (Promise as PromiseConstructor & { withResolvers: typeof resolvable }).withResolvers();
  let resolve = (): void => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
