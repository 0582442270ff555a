/** One piece of compute at a time, in order of arrival: requests run side by side, token by token, and each knows what its own pieces took. */
import { FairLock } from './gate.ts';
import type { KvSequence } from './kv-cache.ts';

export interface Running {
  readonly sequence: KvSequence;
  /** When it last showed a sign of life. */
  beat: number;
  /** Milliseconds of compute so far. */
  readonly spent: Record<'prefill' | 'press' | 'decode', number>;
}

export const TURN_STALE_MS = 60_000;

export class Turns {
  readonly #lock = new FairLock(TURN_STALE_MS);

  /** Runs one bounded piece of work in its turn, then lets the event loop see to others, to the client and to an abort. */
  async piece<T>(run: Running, part: keyof Running['spent'], work: () => T | Promise<T>, signal?: AbortSignal): Promise<T> {
    run.beat = Date.now();
    const turn = await this.#lock.acquire(signal);
    run.beat = Date.now();
    const started = performance.now();
    try {
      return await work();
    } finally {
      const took = performance.now() - started;
      turn.release();
      await pause();
      // On Cloudflare clocks stand still while a request computes and go on with the next event; elsewhere no piece takes no time.
      run.spent[part] += took > 0 ? took : performance.now() - started;
      signal?.throwIfAborted();
    }
  }
}

/** One turn of the event loop. */
function pause(): Promise<void> {
  return new Promise((resolve) => (typeof setImmediate === 'function' ? setImmediate(resolve) : setTimeout(resolve, 0)));
}
