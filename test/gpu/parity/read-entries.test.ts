import { afterAll, beforeAll, expect, test } from 'vitest';
import { entryTypes } from '../../../worker/backend/backend.ts';
import { randomPool } from '../../support/entry-pool.ts';
import { type Backends, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('read-entries: equal to WASM and to float64 in every type, NaN too, and nothing beside the rows; one dispatch', async () => {
  const random = new Random(81);
  let cases = 0;
  for (const type of entryTypes)
    for (const d of [4, 20, 64, 128])
      for (const count of [1, 2, 63, 65, 300]) {
        cases++;
        const { bytes, pageBytes, E, places } = randomPool(random, type, d, 5, type === 'int8' && count === 63 ? 7 : undefined);
        const wanted = Uint32Array.from({ length: count }, () => random.int(0, places - 1));
        const results = await onEach(backends, async (bench) => {
          const pool = { pool: bench.put(bytes), pageBytes, entryType: type, entriesPerPage: E };
          const [k, v] = [0, 0].map(() => bench.put(new Float32Array(count * d + 4).fill(-7)));
          bench.backend.readEntries(k, v, pool, wanted, d);
          return { k: await bench.f32(k, count * d + 4), v: await bench.f32(v, count * d + 4) };
        });
        expect(results.gpu).toEqual(results.wasm);
        expect(results.gpu).toEqual(results.reference);
      }
  expect(backends.gpu.recorder.counts.dispatches).toBe(cases);
  expect(backends.gpu.buffers.live).toEqual([]);
});

test('read-entries: more places than go up at once come out whole', async () => {
  const random = new Random(83);
  const { bytes, pageBytes, E, places } = randomPool(random, 'f16', 4, 3);
  const wanted = Uint32Array.from({ length: 70_001 }, () => random.int(0, places - 1));
  const results = await onEach(backends, async (bench) => {
    const pool = { pool: bench.put(bytes), pageBytes, entryType: 'f16' as const, entriesPerPage: E };
    const [k, v] = [bench.room(wanted.length * 16), bench.room(wanted.length * 16)];
    bench.backend.readEntries(k, v, pool, wanted, 4);
    return { k: await bench.f32(k, wanted.length * 4), v: await bench.f32(v, wanted.length * 4) };
  });
  expect(results.gpu).toEqual(results.reference);
  expect(results.wasm).toEqual(results.reference);
});
