/** CurDKV: tokens whose keys and values are long among their neighbours stay, the rows that a CUR decomposition would pick.          arXiv 2509.15038
 *      κ_t = |K_t|₂²,  ν_t = |V_t|₂²;   with use_local_approximation each over its sum in the segment of w = local_window_size tokens, counted from token 0
 *      z = κ | ν | (κ + ν) / 2 | κ ν, by leverage_type;   s_t = z_t / Σ z;   the first num_sinks tokens are protected
 *  A segment of zero vectors has shares of 0 (0/0 in kvpress). Sinks count in both sums, as in kvpress; there they then get s = 1, which no other token
 *  exceeds, so that the kept sets are the same, under compat too.
 *  kvpress's use_random_leverage is left out, and refused as unknown: a random projection of K and V to 20 channels first, which estimates the same norms. */
import * as z from 'zod';
import type { Scorer } from '../contract.ts';
import { oneOf, trueOrFalse, wholeNumber } from '../params.ts';

const params = z.strictObject({
  num_sinks: wholeNumber(0, 4096, 4, 'how many of the first tokens are always kept'),
  leverage_type: oneOf(
    ['key', 'value', 'kv_avg', 'kv_product'],
    'kv_product',
    'whose squared norms count: of keys, of values, their mean or their product',
  ),
  use_local_approximation: trueOrFalse(true, 'norms are shares of those of the neighbouring tokens'),
  local_window_size: wholeNumber(1, 4096, 16, 'w: how many tokens are neighbours; not used without use_local_approximation'),
});

export const cur: Scorer<typeof params> = {
  name: 'cur',
  summary: 'keeps tokens whose keys and values are long among their neighbours',
  paper: 'arXiv 2509.15038',
  formula:
    's[t] = z[t] / sum of z; z = norm2(K[t])^2 norm2(V[t])^2, each over its sum in a segment of local_window_size tokens; the first num_sinks are protected',
  needs: 'keys, values',
  params,
  comparable: true, // shares of the head's sum
  massMap: 'identity', // sinks are protected, so that they do not count
  protectedBy: 'num_sinks',
  queries: () => 0,
  protect: ({ num_sinks }) => ({ first: num_sinks, last: 0 }),
  score({ backend, scratch, k, v, n, shape: { kvHeads, headDim } }, { leverage_type, use_local_approximation, local_window_size }) {
    const scores = scratch(kvHeads * n * 4, 'cur scores'); // [H, n]
    backend.normShare(scores, k, v, n, kvHeads, headDim, use_local_approximation ? local_window_size : 0, leverage_type);
    return scores;
  },
};
