/** Re-rotation: kept keys move together to positions 0..b-1, as if what went had never been there; what follows goes on at b.          arXiv 2408.00167
 *      p_0 < p_1 < ..: the rows that head h keeps;   K'_p_j = K_p_j turned by j - p_j positions;   V as it is
 *  kvpress's KeyRerotationPress, and the second half of FINCH. Heads keep different rows, but equally many: all of them go on at the same position.
 *  The ledger still names the tokens: kept positions are reported as they were, and a sliding window masks by them. In a composition rows are turned from the
 *  positions that they really had; kvpress takes a row's place in the cache for it, which after a press that orders by score is another token's. */
import * as z from 'zod';
import type { Transform } from '../contract.ts';

const params = z.strictObject({});

export const rerotate: Transform<typeof params> = {
  name: 'rerotate',
  summary: 'turns kept keys to positions without gaps; what follows is read right after them',
  paper: 'arXiv 2408.00167',
  formula: "K'[h,p_j] = K[h,p_j] turned by j - p_j positions, p_0 < p_1 < .. the tokens that head h keeps",
  needs: 'keys, the rotary table',
  params,
  scratchBytes: ({ n }) => n, // turn-keys
  renumbers: true,
  apply({ backend, k, n, rope, shape, order, counts, note }) {
    const count = counts[0]; // of every head
    backend.turnKeys(k, rope, order, count, n, shape.kvHeads, shape.headDim);
    note(`kept keys were turned to positions 0 to ${count - 1}; what follows is read from position ${count} on`);
  },
};
