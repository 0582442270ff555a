/** ZigZag's budgets on the wrong layers: the control of a study.
 *      B = zigzag(u[pi]),  pi a permutation of the layers drawn from shuffle_seed and from u itself, so that every prompt has another
 *  If layers by LMBA do better than uniform ones, and than these, it is the measure that helps; if these do as well, unequal layers do, whichever they are.
 *  needs     what zigzag needs
 *  conserves sum(B_l) = T
 *  cascades  no: what a layer gets is known when all were measured */
import type { MeasuredBudget, Signal } from '../contract.ts';
import { wholeNumber } from '../params.ts';
import { uniform } from '../scorers/random.ts';
import { zigzag } from './zigzag.ts';

const params = zigzag.params.extend({ shuffle_seed: wholeNumber(0, 2 ** 32 - 1, 0, 'of the permutations') });

export const zigzagShuffled: MeasuredBudget<typeof params> = {
  ...zigzag,
  name: 'zigzag_shuffled',
  summary: "zigzag's budgets on randomly permuted layers: a control for studies",
  paper: null,
  formula: 'b[l] = zigzag of LMBA[pi(l)], pi drawn for every prompt',
  params,
  controlOf: zigzag.name,
  cascades: false,
  refuses: (press, own) => zigzag.refuses?.(press, own)?.replace('layer_budget "zigzag"', 'layer_budget "zigzag_shuffled"') ?? null,
  limits: (signals, context, { shuffle_seed, ...own }) => zigzag.limits(shuffled(signals, shuffle_seed), context, own),
};

/** Fisher-Yates. */
function shuffled(signals: readonly Signal[], seed: number): Signal[] {
  const lots = signals.flatMap((signal) => Array.from(signal)).reduce((hash, value) => Math.imul(hash ^ value, 0x01000193), seed ^ 0x811c9dc5); // FNV-1a
  const order = [...signals];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(uniform(lots, 0, i) * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
