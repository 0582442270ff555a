/** Hands out an engine, and opens another one in its place when its device has failed: the next request is served, whatever happened to the last. */
import type { EdgeEngine } from './engine.ts';

export class EngineSupply {
  /** The engine of the moment. */
  current: EdgeEngine;
  readonly #reopen: () => Promise<EdgeEngine>;
  #opening: Promise<EdgeEngine> | null = null;
  #closed = false;

  constructor(first: EdgeEngine, reopen: () => Promise<EdgeEngine>) {
    this.current = first;
    this.#reopen = reopen;
  }

  /** An engine that works; rejects when no new one can be opened, and tries again when it is asked again. */
  get(): Promise<EdgeEngine> {
    if (!this.current.failure || this.#closed) return Promise.resolve(this.current);
    this.#opening ??= this.#replace().finally(() => {
      this.#opening = null;
    });
    return this.#opening;
  }

  close(): void {
    this.#closed = true;
    this.current.close();
  }

  async #replace(): Promise<EdgeEngine> {
    this.current.close();
    const next = await this.#reopen();
    if (this.#closed) next.close();
    this.current = next;
    return next;
  }
}
