import { expect, test } from 'vitest';
import { entryTypes } from '../../worker/backend/backend.ts';
import { randomPool, valuesOf } from '../support/entry-pool.ts';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();

test('read-entries: every number that is stored at the named places, int8 as value * scale, NaN too, and nothing beside them', () => {
  const random = new Random(81);
  for (const type of entryTypes)
    for (const d of [4, 16, 20, 64, 80, 128])
      for (const count of [1, 2, 63, 65, 300]) {
        kernels.reset();
        const pool = randomPool(random, type, d, 5, type === 'int8' && count === 63 ? 7 : undefined);
        const places = Uint32Array.from({ length: count }, () => random.int(0, pool.places - 1));
        const poolAt = kernels.put(pool.bytes);
        const placesAt = kernels.put(places);
        const [k, v] = [0, 0].map(() => kernels.put(new Float32Array(count * d + 4).fill(-7)));
        kernels.exports.readEntries(k, v, poolAt, pool.pageBytes, pool.entryType, pool.E, placesAt, count, d);
        for (const [which, at] of [k, v].entries()) {
          const got = kernels.f32(at, count * d + 4);
          for (const [i, place] of places.entries()) expect(got.subarray(i * d, (i + 1) * d)).toEqual(valuesOf(pool, place)[which]);
          expect([...got.subarray(count * d)]).toEqual([-7, -7, -7, -7]);
        }
      }
});
