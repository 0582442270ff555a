/** One piece of compute at a time, in order of arrival: requests run side by side, token by token, and each knows what its own pieces took. */
import type { InputError } from '../../presses/input-error.ts';
import type { Eviction } from './eviction.ts';
import { FairLock } from './gate.ts';
import type { KvSequence } from './kv-cache.ts';
import type { Timings } from './types.ts';

export interface Running {
  readonly sequence: KvSequence;
  /** Null where no press acts while decoding. */
  readonly eviction: Eviction | null;
  /** Device memory that it works with at most, beside what it holds all the time. */
  readonly workBytes: number;
  /** When it last showed a sign of life. */
  beat: number;
  readonly spent: Spent;
  /** The request's own, for presses that draw; null = each draws another. */
  readonly seed: number | null;
}

/** Milliseconds of compute so far. */
export class Spent {
  readonly #work = { prefillMs: 0, pressMs: 0, decodeMs: 0 };
  readonly #withPause = { prefillMs: 0, pressMs: 0, decodeMs: 0 };

  add(part: keyof Timings, work: number, withPause: number): void {
    this.#work[part] += work;
    this.#withPause[part] += withPause;
  }

  /** On Cloudflare clocks stand still while a request computes and go on with its next event: there the pause after each piece counts too. */
  get timings(): Timings {
    const { prefillMs, pressMs, decodeMs } = this.#work;
    return { ...(prefillMs + pressMs + decodeMs > 0 ? this.#work : this.#withPause) };
  }
}

export const TURN_STALE_MS = 60_000;

export class Turns {
  readonly #lock = new FairLock(TURN_STALE_MS);
  readonly #pace: () => Promise<void>;
  #closed: InputError | null = null;

  /** `pace` resolves when the device has nearly done what it was given. */
  constructor(pace: () => Promise<void>) {
    this.#pace = pace;
  }

  /** No piece begins from now on: what they compute with is given back, for this reason. */
  close(why: InputError): void {
    this.#closed = why;
  }

  /** Throws InputError once it is closed. */
  checkOpen(): void {
    if (this.#closed) throw this.#closed;
  }

  /** Runs one bounded piece of work in its turn, then lets the event loop see to others, to the client and to an abort. */
  async piece<T>(run: Running, part: keyof Timings, work: () => T | Promise<T>, signal?: AbortSignal): Promise<T> {
    run.beat = Date.now();
    const turn = await this.#lock.acquire(signal);
    run.beat = Date.now();
    const started = performance.now();
    try {
      this.checkOpen();
      const result = await work();
      await this.#pace();
      return result;
    } finally {
      const took = performance.now() - started;
      turn.release();
      await pause();
      run.spent.add(part, took, performance.now() - started);
      signal?.throwIfAborted();
    }
  }
}

/** One turn of the event loop. */
function pause(): Promise<void> {
  return new Promise((resolve) => (typeof setImmediate === 'function' ? setImmediate(resolve) : setTimeout(resolve, 0)));
}
