import { expect, test } from 'vitest';
import { entryTypes } from '../../worker/backend/backend.ts';
import { moved, randomMoves, randomPool } from '../support/entry-pool.ts';
import { loadKernels } from '../support/kernels.ts';
import { Random } from '../support/random.ts';

const kernels = loadKernels();

test('move-entries: keys, values and scales to the named places, bit for bit, and nothing else is written', () => {
  const random = new Random(82);
  for (const type of entryTypes)
    for (const d of [4, 16, 20, 64, 80, 128])
      for (const count of [0, 1, 2, 30]) {
        kernels.reset();
        const pool = randomPool(random, type, d, 5, type === 'int8' && count === 30 ? 13 : undefined);
        const moves = randomMoves(random, pool, count);
        const poolAt = kernels.put(pool.bytes);
        kernels.exports.moveEntries(poolAt, pool.pageBytes, pool.entryType, pool.E, kernels.put(moves), moves.length / 2, d);
        const [left, wanted] = [kernels.u8(poolAt, pool.bytes.length), moved(pool, moves)];
        expect(
          left.every((byte, i) => byte === wanted[i]),
          `${type} ${d} ${count}`,
        ).toBe(true);
      }
});
