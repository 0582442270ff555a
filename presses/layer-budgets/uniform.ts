/** Uniform: every layer keeps the same share. The baseline that every other layer budget must beat.
 *      b_l = N (1 - r) */
import type { PlannedBudget } from '../contract.ts';
import { noParams } from '../params.ts';

export const uniform: PlannedBudget<typeof noParams> = {
  name: 'uniform',
  summary: 'every layer keeps the same number of tokens',
  paper: null,
  formula: 'b[l] = N(1 - r)',
  needs: 'nothing',
  params: noParams,
  signal: 'none',
  ragged: false,
  limits: (_signals, { even }) => [...even],
  bounds: (context) => context.even.map((b) => ({ min: b, max: b })),
};
