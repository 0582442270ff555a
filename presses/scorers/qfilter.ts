/** Q-Filters: keys that point away from the main direction of a head's queries go.          arXiv 2503.02812
 *      s_t = -f_h . k_t,   f trained for the model, K after RoPE
 *  needs     the artefact `filters`; no queries
 *  One product for all heads: the rows of F [H, H d] hold -f_h in the columns of head h and 0 elsewhere, so that F Kᵀ = s [H, n]. */
import * as z from 'zod';
import type { ArtifactNeed } from '../artifacts.ts';
import { anyTensor, artifactName } from '../artifacts.ts';
import type { Scorer } from '../contract.ts';
import { timesRows } from '../times-rows.ts';

const NAMES = ['filters', 'q_filters'] as const;

const about = {
  format: 'safetensors',
  what: 'Q-filters, one vector per layer and KV head',
  layout: 'tensor filters (or q_filters) [layers, KV heads, head_dim]',
  source: 'model.safetensors of nthngdy/<model>_qfilt on the Hugging Face hub is one',
} as const;

const filters: ArtifactNeed = {
  param: 'artifact',
  ...about,
  check(artifact, { layers, kvHeads, headDim }) {
    anyTensor(artifact, NAMES, [layers, kvHeads, headDim]);
  },
};

const params = z.strictObject({ artifact: artifactName(about) });

export const qfilter: Scorer<typeof params> = {
  name: 'qfilter',
  summary: 'keeps keys that point along the queries of their head',
  paper: 'arXiv 2503.02812',
  formula: 's[t] = -f[h].K[t]',
  needs: 'keys',
  params,
  artifact: filters,
  comparable: false, // filters are of unit length, keys of different heads are not
  perToken: true,
  massMap: 'softmax', // like logits, in no known unit
  protectedBy: null,
  queries: () => 0,
  protect: () => ({ first: 0, last: 0 }),
  scratchBytes: ({ kvHeads: H, headDim: d }) => H * H * d * 4,
  score({ backend, scratch, artifact, layer, firstHead = 0, k, n, shape: { kvHeads: H, headDim: d } }, { artifact: name }) {
    const { tensors } = artifact(name);
    const { shape, values } = tensors.get(NAMES.find((tensor) => tensors.has(tensor))!)!; // [L, KV heads, d]
    const own = values.subarray((layer * shape[1] + firstHead) * d);
    const rows = new Float32Array(H * H * d);
    for (let h = 0; h < H; h++) for (let c = 0; c < d; c++) rows[h * (H * d) + h * d + c] = -own[h * d + c];
    const weights = scratch(rows.byteLength, 'q-filters'); // [H, H d]
    const scores = scratch(H * n * 4, 'qfilter scores'); // [H, n]
    backend.write(weights, rows);
    timesRows(backend, scores, weights, H, { x: k, n, cols: H * d });
    return scores;
  },
};
