import { afterAll, beforeAll, expect, test } from 'vitest';
import { entryTypes } from '../../../worker/backend/backend.ts';
import { moved, randomMoves, randomPool } from '../../support/entry-pool.ts';
import { type Backends, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('move-entries: keys, values and scales to the named places, bit for bit as WASM and float64, and nothing else is written; one dispatch', async () => {
  const random = new Random(82);
  let cases = 0;
  for (const type of entryTypes)
    for (const d of [4, 20, 64, 128])
      for (const count of [1, 2, 30]) {
        cases++;
        const pool = randomPool(random, type, d, 5, type === 'int8' && count === 30 ? 13 : undefined);
        const moves = randomMoves(random, pool, count);
        const results = await onEach(backends, async (bench) => {
          const block = bench.put(pool.bytes);
          bench.backend.moveEntries({ pool: block, pageBytes: pool.pageBytes, entryType: type, entriesPerPage: pool.E }, moves, d);
          return (await bench.backend.read(block, pool.bytes.length)).slice();
        });
        const want = moved(pool, moves);
        for (const [name, got] of Object.entries(results)) expect(Buffer.compare(got, want), `${name} ${type} ${d} ${count}`).toBe(0);
      }
  expect(backends.gpu.recorder.counts.dispatches).toBe(cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});
