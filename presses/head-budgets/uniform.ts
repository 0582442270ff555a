/** Uniform: every KV head of a layer keeps the layer's budget. The only head budget that keeps the cache rectangular. */
import type { HeadBudget } from '../contract.ts';
import { noParams } from '../params.ts';

export const uniform: HeadBudget<typeof noParams> = {
  name: 'uniform',
  summary: 'every KV head of a layer keeps the same number of tokens',
  paper: null,
  formula: 'b[l,h] = b[l]',
  needs: 'nothing',
  params: noParams,
  ragged: false,
  counts: (_layer, budget, { kvHeads }) => Array(kvHeads).fill(budget),
};
