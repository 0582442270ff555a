/** The contexts that an engine holds, and what each has on the device. */
import { InputError } from '../../presses/input-error.ts';
import type { HeldContext } from './held.ts';
import type { KvSequence } from './kv-cache.ts';
import type { RecentRows } from './recent-rows.ts';
import type { Health, Held } from './types.ts';

export interface HeldMemory {
  readonly sequence: KvSequence;
  /** The last ones of the context, for a press that looks at them while decoding; null where none does. */
  readonly queries: RecentRows | null;
}

export class HeldContexts {
  readonly #most: number;
  readonly #given: () => void;
  readonly #memory = new Map<Held, HeldMemory>();
  #changes = 0;

  /** `given` is called when something was given back. */
  constructor(most: number, given: () => void) {
    this.#most = most;
    this.#given = given;
  }

  /** Changes with every context that comes or goes: what fitted beside them may not any more. */
  get changes(): number {
    return this.#changes;
  }

  get account(): Health['contexts'] {
    return { held: this.#memory.size, most: this.#most, bytes: [...this.#memory.keys()].reduce((sum, { bytes }) => sum + bytes, 0) };
  }

  /** Throws InputError where no more can be held. */
  check(): void {
    const { size } = this.#memory;
    if (size >= this.#most)
      throw new InputError('contexts_full', null, `${size} contexts are held, the most that can be at once: closing one would work`);
  }

  add(facts: Omit<HeldContext, 'bytes' | 'entryType' | 'lengths' | 'close'>, memory: HeldMemory): Held {
    this.check();
    const { sequence, queries } = memory;
    const held: HeldContext = {
      ...facts,
      entryType: sequence.entryType,
      lengths: sequence.lengths,
      bytes: sequence.heldBytes + (queries?.bytes ?? 0),
      close: () => this.#close(held),
    };
    sequence.settle();
    this.#memory.set(held, memory);
    this.#changes++;
    return held;
  }

  /** Throws InputError for a context that is not there any more. */
  of(held: Held): HeldMemory {
    const memory = this.#memory.get(held);
    if (memory) return memory;
    throw new InputError('context_closed', 'held', 'the context was closed, or is not of this model as it is loaded now: hold it again');
  }

  close(): void {
    for (const held of this.#memory.keys()) this.#close(held);
  }

  #close(held: Held): void {
    const memory = this.#memory.get(held);
    if (!memory) return;
    this.#memory.delete(held);
    memory.sequence.close();
    memory.queries?.close();
    this.#changes++;
    this.#given();
  }
}
