/** Merging: a token that goes leaves its value to the kept token whose key is most like its own.          arXiv 2406.13035, 2210.09461
 *      r(e) = argmax over kept r of cosine(K_e, K_r),   sigma_e that cosine,   ok_e: sigma_e >= similarity_threshold, and among the merge_fraction best of those
 *      w_e = max(sigma_e, 0) ok_e |V_e| / (|V_e| + |V_r(e)| + 1e-6);   V'_r = (V_r + sum of w_e V_e) / (1 + sum of w_e),  over the e with r(e) = r
 *  Keys stay as they are. The fraction is a quantile, interpolated linearly, over the tokens that reach the threshold. compat "kvpress": over all that go, those below it
 *  counting as minus infinity; where the quantile falls among them it is no number, and the head merges nothing. */

import * as z from 'zod';
import { readFloats } from '../../worker/backend/backend.ts';
import type { Transform } from '../contract.ts';
import { fraction } from '../params.ts';

const params = z.strictObject({
  similarity_threshold: fraction(0, 'least cosine between two keys for one value to go into the other'),
  merge_fraction: fraction(1, 'how many of the tokens that reach the threshold are merged, the most alike first', { above0: true }),
});

const F32 = 4;
const UNREACHABLE = 2; // no cosine is

export const merge: Transform<typeof params> = {
  name: 'merge',
  summary: 'what goes leaves its value to the kept token of the most similar key',
  paper: 'arXiv 2406.13035',
  formula: "V'_r = (V_r + sum w_e V_e) / (1 + sum w_e), w_e = max(cosine(K_e,K_r), 0) |V_e| / (|V_e| + |V_r|), r = the kept token nearest to e",
  needs: 'keys, values',
  params,
  // norms, targets, cosines and thresholds; what nearest-kept and merge-values keep on either backend
  scratchBytes: ({ n, kvHeads: H, headDim: d }) =>
    3 * n * H * F32 + H * F32 + 4 * 64 + Math.max(8 * n + 256 * d + H * F32, Math.ceil(1.25 * n * H * F32) + 256),
  cost: 'the key of every token that goes is compared with every key that stays',
  async apply({ backend, scratch, n, k, v, shape, order, counts, among, compat }, { similarity_threshold, merge_fraction }) {
    const { kvHeads: H, headDim: d } = shape;
    const [norms, target, similarity] = ['norms', 'nearest kept rows', 'cosines to them'].map((label) => scratch(H * n * F32, label)); // [H, n]
    backend.keyNorm(norms, k, n, H, d, 1);
    backend.nearestKept(target, similarity, k, norms, { order, counts }, among, n, H, d);

    const thresholds = new Float32Array(H).fill(similarity_threshold);
    if (merge_fraction < 1) {
      const cosines = await readFloats(backend, similarity, H * n);
      for (let h = 0; h < H; h++) {
        const going = cosines.subarray(h * n, (h + 1) * n).filter((x) => x >= -1.5); // -2: stays
        const theta = quantile(candidates(going, thresholds[h], compat), 1 - merge_fraction);
        thresholds[h] = Number.isNaN(theta) ? UNREACHABLE : Math.max(thresholds[h], theta);
      }
    }
    const threshold = scratch(H * F32, 'similarity thresholds');
    backend.write(threshold, thresholds);
    backend.keyNorm(norms, v, n, H, d, 1);
    backend.mergeValues(v, target, similarity, norms, threshold, n, H, d);
  },
};

/** What the fraction is one of, ascending. */
function candidates(cosines: Float32Array, threshold: number, compat: boolean): Float32Array {
  return (compat ? cosines.map((x) => (x >= threshold ? x : -Infinity)) : cosines.filter((x) => x >= threshold)).sort();
}

/** In f32, as torch has it: interpolated from the nearer end, so that minus infinity gives NaN or itself. */
function quantile(ascending: Float32Array, q: number): number {
  if (ascending.length === 0) return NaN;
  const rank = Math.fround(Math.fround(q) * (ascending.length - 1));
  const [low, high] = [ascending[Math.floor(rank)], ascending[Math.ceil(rank)]];
  const weight = Math.fround(rank - Math.floor(rank));
  const step = Math.fround(high - low);
  return Math.fround(weight < 0.5 ? low + Math.fround(weight * step) : high - Math.fround(step * Math.fround(1 - weight)));
}
