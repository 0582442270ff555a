/** The door and the lock that requests queue at, on a clock that the test turns. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { FairLock, Gate } from '../worker/engine/gate.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const soon = (ms = 0) => vi.advanceTimersByTimeAsync(ms);

/** A room for so many, and who entered it, in order. */
function room(places: number, mostWaiting = 100) {
  const gate = new Gate(mostWaiting);
  const entered: string[] = [];
  let left = places;
  const enter = (name: string, needs = 1, signal?: AbortSignal): Promise<void> =>
    gate.enter(() => {
      if (left < needs) return false;
      left -= needs;
      entered.push(name);
      return true;
    }, signal);
  const leave = (count = 1) => {
    left += count;
    gate.poke();
  };
  return { gate, entered, enter, leave };
}

describe('gate', () => {
  test('who comes to an open door enters at once', async () => {
    const { gate, entered, enter } = room(2);
    await enter('a');
    await enter('b');
    expect(entered).toEqual(['a', 'b']);
    expect(gate.waiting).toBe(0);
  });

  test('those that wait enter in the order of arrival, whatever room there would be for a later one', async () => {
    const { gate, entered, enter, leave } = room(4);
    await enter('a', 4);
    const waiting = [enter('large', 4), enter('b'), enter('c')];
    await soon(100);
    expect(gate.waiting).toBe(3);
    leave(1); // enough for b, but large is first
    await soon(100);
    expect(entered).toEqual(['a']);
    leave(3);
    await soon();
    expect(entered).toEqual(['a', 'large']);
    leave(4);
    await soon(100);
    await Promise.all(waiting);
    expect(entered).toEqual(['a', 'large', 'b', 'c']);
  });

  test('who comes later does not pass those that wait, even when there is room', async () => {
    const { entered, enter, leave } = room(2);
    await enter('a', 2);
    const b = enter('b', 2);
    leave(1);
    const c = enter('c', 1);
    await soon(200);
    expect(entered).toEqual(['a']);
    leave(1);
    await soon(100);
    await b;
    leave(2);
    await soon(100);
    await c;
    expect(entered).toEqual(['a', 'b', 'c']);
  });

  test('a poke is seen at once, and without one the first looks again soon', async () => {
    const { entered, enter, leave } = room(1);
    await enter('a');
    const b = enter('b');
    leave();
    await soon(0);
    expect(entered).toEqual(['a', 'b']);
    await b;
    let open = false;
    const gate = new Gate(10);
    const c = gate.enter(() => open);
    open = true; // nobody pokes
    await soon(30);
    await c;
  });

  test('when as many wait as may, the next is refused with queue_full, and nobody is when one has left', async () => {
    const { enter, leave } = room(1, 2);
    await enter('a');
    const [b, c] = [enter('b'), enter('c')];
    await expect(enter('d')).rejects.toMatchObject({ code: 'queue_full', message: expect.stringContaining('2 requests are waiting') });
    leave();
    await soon(30);
    await b;
    const d = enter('d');
    leave();
    await soon(30);
    await c;
    leave();
    await soon(30);
    await d;
  });

  test('who gives up leaves the line, throws its reason, and the next takes its place', async () => {
    const { gate, entered, enter, leave } = room(1);
    await enter('a');
    const abort = new AbortController();
    const reason = new Error('gone');
    const b = enter('b', 1, abort.signal);
    const refused = expect(b).rejects.toBe(reason);
    const c = enter('c');
    abort.abort(reason);
    await soon(30);
    await refused;
    expect(gate.waiting).toBe(1);
    leave();
    await soon(30);
    await c;
    expect(entered).toEqual(['a', 'c']);
    await expect(enter('d', 1, AbortSignal.abort(reason))).rejects.toBe(reason);
    expect(gate.waiting).toBe(0);
  });

  test('a look that throws leaves the line', async () => {
    const gate = new Gate(10);
    let calls = 0;
    const broken = gate.enter(() => {
      if (++calls > 1) throw new Error('broken');
      return false;
    });
    const refused = expect(broken).rejects.toThrow('broken');
    await soon(60);
    await refused;
    expect(gate.waiting).toBe(0);
  });

  test('one that has not looked for long, while the others did, is passed over', async () => {
    const gate = new Gate(10);
    const looks = vi.fn(() => true);
    const timers = [vi.spyOn(globalThis, 'setTimeout'), vi.spyOn(globalThis, 'setInterval')];
    for (const timer of timers) timer.mockImplementation((() => 0) as never); // its context is gone: its timer never fires
    void gate.enter(() => false);
    for (const timer of timers) timer.mockRestore();
    const living = gate.enter(looks);
    expect(gate.waiting).toBe(2);
    await soon(4_000);
    expect(looks).not.toHaveBeenCalled(); // behind one that may yet look
    await soon(4_000);
    await living;
    expect(looks).toHaveBeenCalledTimes(1);
    expect(gate.waiting).toBe(0);
  });

  test('one that was passed over and comes to life after all goes back to its place', async () => {
    const { gate, entered, enter, leave } = room(1);
    await enter('a');
    const ticking = globalThis.setInterval;
    const late = vi.spyOn(globalThis, 'setInterval').mockImplementation(((run: () => void) => {
      setTimeout(() => ticking(run, 25), 10_000); // its timer sleeps for ten seconds
      return 0;
    }) as never);
    const b = enter('b');
    late.mockRestore();
    const c = enter('c');
    await soon(9_000);
    expect(gate.waiting).toBe(1); // b is out
    await soon(2_000);
    expect(gate.waiting).toBe(2);
    leave();
    await soon(60);
    await b;
    expect(entered).toEqual(['a', 'b']);
    leave();
    await soon(60);
    await c;
    expect(gate.waiting).toBe(0);
  });

  test('a long pause of everybody makes nobody dead', async () => {
    const { entered, enter, leave } = room(1);
    await enter('a');
    const [b, c] = [enter('b'), enter('c')];
    await soon(30);
    vi.setSystemTime(Date.now() + 60_000); // a kernel held up every timer for a minute
    await soon(30);
    leave();
    await soon(30);
    await b;
    leave();
    await soon(30);
    await c;
    expect(entered).toEqual(['a', 'b', 'c']);
  });
});

describe('lock', () => {
  test('one holder at a time, in order of arrival', async () => {
    const lock = new FairLock(60_000);
    const order: number[] = [];
    let inside = 0;
    const work = async (i: number): Promise<void> => {
      const hold = await lock.acquire();
      expect(++inside).toBe(1);
      order.push(i);
      await new Promise((resolve) => setTimeout(resolve, 10));
      inside--;
      hold.release();
    };
    const all = Array.from({ length: 20 }, (_, i) => work(i));
    await soon(5_000);
    await Promise.all(all);
    expect(order).toEqual(Array.from({ length: 20 }, (_, i) => i));
  });

  test('two that take turns alternate', async () => {
    const lock = new FairLock(60_000);
    const order: string[] = [];
    const run = async (name: string): Promise<void> => {
      for (let i = 0; i < 10; i++) {
        const hold = await lock.acquire();
        order.push(name);
        await new Promise((resolve) => setTimeout(resolve, 1));
        hold.release();
        await new Promise((resolve) => setTimeout(resolve, 0));
      }
    };
    const both = [run('a'), run('b')];
    await soon(5_000);
    await Promise.all(both);
    expect(order.join('')).toBe('ab'.repeat(10));
  });

  test('releasing twice, or after losing it, is nothing', async () => {
    const lock = new FairLock(1_000);
    const first = await lock.acquire();
    first.release();
    const second = await lock.acquire();
    first.release();
    let third = false;
    const waiting = lock.acquire().then(() => {
      third = true;
    });
    await soon(500);
    expect(third).toBe(false); // the second still has it
    second.release();
    await soon(30);
    await waiting;
  });

  test('a holder that shows no sign of life loses it; one that does keeps it', async () => {
    const lock = new FairLock(1_000);
    const holder = await lock.acquire();
    const next = lock.acquire();
    let taken = false;
    void next.then(() => {
      taken = true;
    });
    for (let i = 0; i < 5; i++) {
      await soon(800);
      holder.beat();
    }
    expect(taken).toBe(false);
    await soon(1_100);
    expect(taken).toBe(true);
    holder.release(); // too late: the next one has it
    let third = false;
    const after = lock.acquire().then(() => {
      third = true;
    });
    await soon(900);
    expect(third).toBe(false);
    (await next).release();
    await soon(30);
    await after;
  });

  test('who gives up waiting leaves the line', async () => {
    const lock = new FairLock(60_000);
    const holder = await lock.acquire();
    const abort = new AbortController();
    const gone = expect(lock.acquire(abort.signal)).rejects.toThrow('gone');
    const third = lock.acquire();
    abort.abort(new Error('gone'));
    await soon(30);
    await gone;
    holder.release();
    await soon(30);
    (await third).release();
  });
});
