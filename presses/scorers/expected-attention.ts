/** Expected attention: what queries yet to come will attend to stays, for queries that are normal as those of the prompt are.          arXiv 2510.00636
 *      q ~ N(mu_a, C_a) before RoPE, mu_a, C_a the mean and (biased) covariance of all queries behind the sinks;   R = mean of the rotations at the next F positions
 *      z[a,j] = <R mu_a, k_j> / sqrt d + k_j^T R C_a R^T k_j / 2d;   e[h,j] = groupMean_a softmax_j(z);   s = (e + epsilon) |v_j|
 *  needs     all queries, or their statistics in a file: then C is the file's, and no query is read
 *  The sinks are protected and outside the softmax. R turns keys instead of queries: <R mu, k> = <mu, R^T k>, and C as well. */
import * as z from 'zod';
import { at, type View } from '../../worker/backend/backend.ts';
import { artifactName } from '../artifacts.ts';
import type { ScoreContext, Scorer } from '../contract.ts';
import { realNumber, trueOrFalse, wholeNumber } from '../params.ts';
import { aboutStatistics, queryStatistics, statisticsOf } from '../query-statistics.ts';
import { turnAhead, withoutRope, withoutRopeBytes } from '../without-rope.ts';

const F32 = 4;

const params = z.strictObject({
  n_future_positions: wholeNumber(1, 65536, 512, 'F: how many of the next positions the mean rotation is of'),
  n_sink: wholeNumber(0, 4096, 4, 'how many of the first tokens are always kept; their queries do not count'),
  use_covariance: trueOrFalse(true, 'whether the spread of the queries counts, or their mean alone'),
  use_vnorm: trueOrFalse(true, 'whether scores are multiplied by the length of the value'),
  epsilon: realNumber(0, 1, 0, 'added before the length of the value counts: how much tokens without attention matter'),
  artifact: artifactName(aboutStatistics).nullable().default(null),
});

export const expectedAttention: Scorer<typeof params> = {
  name: 'expected_attention',
  summary: 'keeps what queries yet to come are expected to attend to',
  paper: 'arXiv 2510.00636',
  formula:
    's[h,j] = (mean over the group of softmax(<R mu, k[j]> / sqrt d + k[j]ᵀ R C Rᵀ k[j] / 2d) + epsilon) |v[j]|; mu, C of queries before RoPE, R the mean rotation ahead',
  needs: 'keys, values, all queries; with artifact no queries',
  cost: 'the covariance of all queries, and a product of it with every key',
  params,
  artifact: queryStatistics('artifact'),
  comparable: true, // shares of attention
  massMap: 'identity',
  protectedBy: 'n_sink',
  queries: ({ artifact }) => (artifact === null ? Infinity : 0),
  someQueries: true,
  protect: ({ n_sink }) => ({ first: n_sink, last: 0 }),
  scratchBytes(size, { use_covariance, artifact }) {
    const { n, window, queryHeads: Hq, kvHeads: H, headDim: d } = size;
    const matrices = use_covariance ? Hq * d * d : 0;
    const scores = 2 * Hq * n + 3 * H * n;
    return (artifact === null ? withoutRopeBytes(window, Hq, size) : 0) + F32 * (matrices + Hq * d + n * H * d + 2 * d + scores) + 1024;
  },
  score(context, { n_future_positions, n_sink, use_covariance, use_vnorm, epsilon, artifact }) {
    const { backend, scratch, n, k, v, shape, start, end = start + n } = context;
    const { queryHeads: Hq, kvHeads: H, headDim: d, scale } = shape;
    const sinks = Math.min(n_sink, n);
    const logits = scratch(Hq * n * F32, 'expected logits'); // [Hq, n]; those of the sinks are not read
    const { mean, covariance } = artifact === null ? ofQueries(context, n_sink, use_covariance) : ofFile(context, artifact, use_covariance);

    const keys = scratch(n * H * d * F32, 'keys turned ahead'); // R̄ᵀ k, [n, H, d]
    backend.copy(keys, k, n * H * d * F32);
    turnAhead(context, keys, n * H, artifact === null ? start + context.window : end, n_future_positions, true);

    const linear = { vectors: mean, factor: scale };
    const quadratic = covariance === null ? undefined : { matrices: covariance, factor: scale ** 2 / 2, squared: false };
    backend.quadraticForm(logits, n, keys, { linear, quadratic }, n, Hq, H, d);
    if (n > sinks) backend.rowSoftmax(at(logits, sinks * F32), Hq, n - sinks, n, false);
    const expected = scratch(H * n * F32, 'expected attention'); // [H, n]
    backend.groupMean(expected, logits, H, Hq / H, n);
    if (!use_vnorm) return expected;
    const [lengths, scores] = [scratch(H * n * F32, 'lengths of values'), scratch(H * n * F32, 'expected attention by value')];
    backend.keyNorm(lengths, v, n, H, d, 1);
    backend.weigh(scores, expected, lengths, H, H, n, epsilon);
    return scores;
  },
};

/** mean [Hq, d], covariance [Hq, d, d] */
interface Moments {
  readonly mean: View;
  readonly covariance: View | null;
}

/** Of the queries behind the sinks, before RoPE. */
export function ofQueries(context: ScoreContext, n_sink: number, withCovariance: boolean): Moments {
  const { backend, scratch, q, window, start, shape } = context;
  const { queryHeads: Hq, headDim: d } = shape;
  const skipped = Math.min(n_sink, window - 1); // a prompt that is all sinks is kept whole, whatever comes of it
  const rows = window - skipped;
  const queries = withoutRope(context, at(q, skipped * Hq * d * F32), rows, Hq, start + skipped);
  const mean = scratch(Hq * d * F32, 'mean query');
  backend.tokenMean(mean, queries, rows, Hq, d);
  if (!withCovariance) return { mean, covariance: null };
  const covariance = scratch(Hq * d * d * F32, 'covariance of queries');
  backend.weightedGram(covariance, queries, null, mean, rows, Hq, Hq, d, 1 / rows);
  return { mean, covariance };
}

function ofFile({ backend, scratch, layer, artifact, shape, firstHead = 0 }: ScoreContext, name: string, withCovariance: boolean): Moments {
  const { mean, cov } = statisticsOf(artifact(name), layer);
  const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
  const first = firstHead * (Hq / H);
  const written = (all: Float32Array, each: number, label: string): View => {
    const values = all.subarray(first * each, (first + Hq) * each); // of the heads that are scored here
    const view = scratch(values.byteLength, label);
    backend.write(view, values);
    return view;
  };
  return { mean: written(mean, d, 'mean query'), covariance: withCovariance ? written(cov, d * d, 'covariance of queries') : null };
}
