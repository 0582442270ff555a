/** A backend whose n-th call fails: what a fault anywhere leaves behind is then looked at, call after call. */
import { expect, vi } from 'vitest';
import { WasmBackend } from '../../worker/backend/wasm.ts';
import { Random } from './random.ts';

/** Not counted: what gives memory back must not fail. */
const GIVE_BACK = ['constructor', 'free', 'trim'];

export interface Faults {
  /** How many calls `run` makes when none fails. */
  count(run: () => Promise<unknown>): Promise<number>;
  /** Runs it again with one call failing: each of the first `all`, then `some` at random. `after` sees what is left. */
  tryAll(run: () => Promise<unknown>, counts: { all: number; some: number }, after: (call: number) => void): Promise<void>;
}

/** Of all WASM backends until the mocks are restored. */
export function failingBackend(): Faults {
  const fault = new Error('a fault');
  let calls = 0;
  let faultAt = Number.POSITIVE_INFINITY;
  for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(WasmBackend.prototype))) {
    if (GIVE_BACK.includes(name) || typeof value !== 'function') continue;
    const original = value as (...args: unknown[]) => unknown;
    vi.spyOn(WasmBackend.prototype, name as 'alloc').mockImplementation(function (this: WasmBackend, ...args: unknown[]) {
      if (++calls === faultAt) throw fault;
      return original.apply(this, args);
    } as never);
  }
  const count = async (run: () => Promise<unknown>): Promise<number> => {
    calls = 0;
    faultAt = Number.POSITIVE_INFINITY;
    await run();
    return calls;
  };
  return {
    count,
    async tryAll(run, { all, some }, after) {
      const made = await count(run);
      const random = new Random(31);
      for (let i = 0; i < all + some; i++) {
        calls = 0;
        faultAt = i < all ? i + 1 : random.int(1, made);
        const failed = await run().then(
          () => null,
          (error: unknown) => error,
        );
        expect(failed, `call ${faultAt}`).toBe(fault);
        after(faultAt);
      }
    },
  };
}
