/** CurDKV: tokens whose keys and values are long among their neighbours stay, the rows that a CUR decomposition would pick.          arXiv 2509.15038
 *      κ_t = |K_t|₂²,  ν_t = |V_t|₂²;   with use_local_approximation each over its sum in the segment of w = local_window_size tokens, counted from token 0
 *      z = κ | ν | (κ + ν) / 2 | κ ν, by leverage_type;   s_t = z_t / Σ z;   the first num_sinks tokens are protected
 *  A segment of zero vectors has shares of 0 (0/0 in kvpress). Sinks count in both sums, as in kvpress; there they then get s = 1, which no other token
 *  exceeds, so that the kept sets are the same, under compat too.
 *  use_random_leverage: K Γ and V Γ in place of K and V, Γ [d, 20] normal numbers / sqrt 20, one for all heads, which estimates the same norms. Γ is drawn for
 *  every layer, the same on every machine; kvpress draws anew in every call. */
import * as z from 'zod';
import { at, type View } from '../../worker/backend/backend.ts';
import type { ScoreContext, Scorer } from '../contract.ts';
import { oneOf, seedNumber, trueOrFalse, wholeNumber } from '../params.ts';
import { normal } from './random.ts';

const F32 = 4;
/** Channels of Γ. */
const PROJECTED = 20;

const params = z.strictObject({
  num_sinks: wholeNumber(0, 4096, 4, 'how many of the first tokens are always kept'),
  leverage_type: oneOf(
    ['key', 'value', 'kv_avg', 'kv_product'],
    'kv_product',
    'whose squared norms count: of keys, of values, their mean or their product',
  ),
  use_local_approximation: trueOrFalse(true, 'norms are shares of those of the neighbouring tokens'),
  local_window_size: wholeNumber(1, 4096, 16, 'w: how many tokens are neighbours; not used without use_local_approximation'),
  use_random_leverage: trueOrFalse(false, `norms of keys and values in ${PROJECTED} random directions, which estimate theirs`),
  seed: seedNumber('of use_random_leverage: the same seed draws the same directions; without one, each request draws its own and reports it'),
});
type Params = z.infer<typeof params>;

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
  scratchBytes: ({ n, kvHeads: H, headDim: d }, { use_random_leverage }) =>
    use_random_leverage ? F32 * (H * d + H * d * PROJECTED + 2 * n * H * PROJECTED) + 256 : 0,
  score(context, params) {
    const { backend, scratch, n, shape } = context;
    const { use_random_leverage: projects, use_local_approximation, local_window_size, leverage_type } = params;
    const { kvHeads, headDim } = shape;
    const [k, v] = projects ? projected(context, params) : [context.k, context.v];
    const scores = scratch(kvHeads * n * F32, 'cur scores'); // [H, n]
    backend.normShare(scores, k, v, n, kvHeads, projects ? PROJECTED : headDim, use_local_approximation ? local_window_size : 0, leverage_type);
    return scores;
  },
};

/** K Γ and V Γ, [n, H, 20]. */
function projected(context: ScoreContext, params: Params): [View, View] {
  const { backend, scratch, k, v, n, layer, shape, step = 0 } = context;
  const { kvHeads: H, headDim: d } = shape;
  const seed = params.seed ?? context.seed;
  if (params.seed === undefined) context.note(`cur: seed ${seed}`);
  const drawn = Float32Array.from({ length: d * PROJECTED }, (_, i) => normal(seed + step, layer, i) / Math.sqrt(PROJECTED));
  const gamma = scratch(H * drawn.byteLength, 'random directions'); // [H, d, 20]: the same for every head
  for (let h = 0; h < H; h++) backend.write(at(gamma, h * drawn.byteLength), drawn);
  const zeros = scratch(H * d * F32, 'no mean'); // [H, d]
  backend.write(zeros, new Float32Array(H * d));
  const through = (x: View, label: string): View => {
    const out = scratch(n * H * PROJECTED * F32, label);
    backend.sketch(out, x, zeros, gamma, n, H, d, PROJECTED);
    return out;
  };
  return [through(k, 'projected keys'), through(v, 'projected values')];
}
