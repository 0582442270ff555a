/** How long `edgepress bench --presses` says that it will take, on a machine where every reading takes a tenth of a second. */
import { afterEach, expect, test, vi } from 'vitest';
import { askedPresses, pressCosts } from '../cli/bench-presses.ts';
import { parsePress } from '../presses/config.ts';
import type { PressRequest } from '../presses/contract.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';

const READING_MS = 100;
afterEach(() => vi.useRealTimers());

/** Only time passes in it. */
const engine = {
  info: { vocabSize: 100 },
  backend: { queued: false },
  plan: async () => ({ bytes_press: 0 }),
  async *generate({ press }: { press: PressRequest }) {
    vi.advanceTimersByTime(READING_MS);
    const pressMs = press.presses.some(({ schedule }) => schedule.part.prefill) ? 1 : 0;
    yield { type: 'finish', timings: { prefillMs: READING_MS, pressMs }, usage: { completionTokens: 1, kvCache: {} } };
  },
} as unknown as EdgeEngine;

test.each([
  { runs: 1, pairs: false },
  { runs: 3, pairs: true },
])('the time that is left is that of the readings that are left: %j', async (options) => {
  vi.useFakeTimers({ toFake: ['performance'] });
  const asked = askedPresses(['knorm,decoding_knorm', 'qfilter,snapkv'], { press: 'no_press' });
  const told: { at: number; secondsLeft: number }[] = [];
  await pressCosts(engine, asked, parsePress('no_press'), {
    promptTokens: 8,
    ...options,
    next: (_, __, secondsLeft) => told.push({ at: performance.now(), secondsLeft }),
    done: () => {},
  });
  const end = performance.now();
  expect(told.map(({ secondsLeft }) => secondsLeft.toFixed(3))).toEqual(told.map(({ at }) => ((end - at) / 1000).toFixed(3)));
  expect(told).toHaveLength(asked.length);
  expect(told[0].secondsLeft).toBeGreaterThan(0.4);
});
