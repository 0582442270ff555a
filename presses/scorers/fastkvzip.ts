/** Fast KVzip: a trained gate with a few channels says of each token, by its hidden state, whether KVzip would keep it.          arXiv 2601.17668
 *      q = rms(W_q x + b_q) [G, e],  k = rms(W_k x) [e];   z = k.q_g / sqrt e + b_g,   z0_s = base_s.q_g / sqrt e
 *      s = mean over g of 1 / (1 + sum over s of exp(z0_s - z))
 *  needs     the artefact, trained for the model. Scores are probabilities: one cut through all layers and heads (layer_budget "global")
 *  Protected are the first n_sink tokens and the last window_ratio of the prompt, from 32,000 tokens on window_size.
 *  A window of no tokens (n < 50) protects none; kvpress's slice "-0:" then is the whole prompt, and all scores are 1: so under compat. */
import * as z from 'zod';
import { at, type View, type Weight } from '../../worker/backend/backend.ts';
import { type Artifact, type ArtifactNeed, anyTensor, artifactName, Misfit } from '../artifacts.ts';
import type { Scorer } from '../contract.ts';
import { fraction, wholeNumber } from '../params.ts';

const SLAB = 1024; // tokens whose gates lie in memory at once
const LONG = 32_000;
const EPS = 1e-6;
const MOST_WIDTH = 1024; // channels, and base keys

const about = {
  format: 'safetensors',
  what: "Fast KVzip's gates, one per layer",
  layout:
    'tensors layers.{l}.q_proj.weight [query heads e, hidden size], .q_proj.bias [query heads e], .k_proj.weight [KV heads e, hidden size], .q_norm.weight [e], .k_norm.weight [e], .k_base [KV heads, 1, sinks, e], .b [KV heads, 1, query heads per KV head]; e a multiple of 4',
  source: 'Jang-Hyun/Fast-KVzip on the Hugging Face hub has them as .pt files, to be converted',
} as const;

const gates: ArtifactNeed = {
  param: 'artifact',
  ...about,
  check(artifact, { layers, queryHeads: Hq, kvHeads: H, hiddenSize: D }) {
    for (let l = 0; l < layers; l++) {
      const of = (part: string, shape: number[]) => anyTensor(artifact, [`layers.${l}.${part}`], shape);
      const { width: e, sinks } = sizesOf(artifact, l);
      if (e < 4 || e % 4 !== 0 || e > MOST_WIDTH)
        throw new Misfit(`layers.${l}.q_norm.weight has ${e} channels, a multiple of 4 up to ${MOST_WIDTH} is expected`);
      if (sinks < 1 || sinks > MOST_WIDTH) throw new Misfit(`layers.${l}.k_base has ${sinks} base keys, 1 to ${MOST_WIDTH} are expected`);
      of('q_proj.weight', [Hq * e, D]);
      of('q_proj.bias', [Hq * e]);
      of('k_proj.weight', [H * e, D]);
      of('q_norm.weight', [e]);
      of('k_norm.weight', [e]);
      of('k_base', [H, 1, sinks, e]);
      of('b', [H, 1, Hq / H]);
    }
  },
};

const params = z.strictObject({
  artifact: artifactName(about),
  n_sink: wholeNumber(0, 4096, 4, 'how many of the first tokens are always kept'),
  window_size: wholeNumber(0, 65_536, 4096, 'how many of the last tokens are always kept, from 32,000 tokens on'),
  window_ratio: fraction(0.02, 'the fraction of a shorter prompt whose last tokens are always kept'),
});

export const fastkvzip: Scorer<typeof params> = {
  name: 'fastkvzip',
  summary: 'keeps what a trained gate takes for needed, and the last tokens',
  paper: 'arXiv 2601.17668',
  formula: 's[h,t] = mean over the group of 1/(1 + sum over s of exp(z0[s] - z)), by a gate on x[t]',
  needs: "the attention's input",
  cost: 'the trained gate: products of every hidden state with its matrices, and of every query with its base keys',
  params,
  artifact: gates,
  hidden: true,
  comparable: true, // probabilities
  perToken: true,
  massMap: 'identity',
  protectedBy: 'window_ratio',
  queries: () => 0,
  protect: ({ n_sink, ...window }, n) => ({ first: n_sink, last: windowOf(window, n) }),
  scratchBytes({ n, queryHeads: Hq, kvHeads: H, hiddenSize: D, artifact }, { artifact: name }) {
    const { width: e, sinks } = artifact ? sizesOf(artifact(name), 0) : { width: 0, sinks: 0 };
    const weights = (Hq + H) * e * D + Hq * e + 2 * e + H * sinks * e + Hq;
    return 4 * (weights + Math.min(n, SLAB) * ((Hq + H) * e + H)) + 10 * 64; // ten blocks round up
  },
  score(context, { artifact: name, ...window }) {
    const { backend, scratch, artifact, layer, n, hidden, compat, shape, model } = context;
    const { queryHeads: Hq, kvHeads: H } = shape;
    const scores = scratch(H * n * 4, 'fastkvzip scores'); // [H, n]
    if (compat && windowOf(window, n) === 0) {
      backend.write(scores, new Float32Array(H * n).fill(1));
      return scores;
    }
    const file = artifact(name);
    const { width: e, sinks } = sizesOf(file, layer);
    const put = (part: string): View => {
      const { values } = file.tensors.get(`layers.${layer}.${part}`)!;
      const block = scratch(values.byteLength, `gate ${part}`);
      backend.write(block, values);
      return { buffer: block.buffer, offset: block.offset };
    };
    const matrix = (part: string, rows: number): Weight => ({ ...put(part), type: 'f32', rows, cols: model.hiddenSize });
    const [wq, bq, wk] = [matrix('q_proj.weight', Hq * e), put('q_proj.bias'), matrix('k_proj.weight', H * e)];
    const [qNorm, kNorm, base, bias] = [put('q_norm.weight'), put('k_norm.weight'), put('k_base'), put('b')];
    const most = Math.min(n, SLAB);
    const q = scratch(most * Hq * e * 4, 'gate queries'); // [slab, H, G, e]
    const k = scratch(most * H * e * 4, 'gate keys'); // [slab, H, e]
    const part = scratch(H * most * 4, 'fastkvzip scores of a slab'); // [H, slab]
    for (let start = 0; start < n; start += SLAB) {
      const rows = Math.min(SLAB, n - start);
      const x = at(hidden!, start * model.hiddenSize * 4);
      backend.linear(
        [
          { out: q, weight: wq, bias: bq },
          { out: k, weight: wk },
        ],
        x,
        rows,
      );
      backend.rmsNorm(
        [
          { out: q, x: q, weight: qNorm, rows: rows * Hq },
          { out: k, x: k, weight: kNorm, rows: rows * H },
        ],
        e,
        EPS,
      );
      backend.gateScore(part, q, k, base, bias, rows, { kvHeads: H, group: Hq / H, width: e, sinks });
      for (let h = 0; h < H; h++) backend.copy(at(scores, (h * n + start) * 4), at(part, h * rows * 4), rows * 4);
    }
    return scores;
  },
};

/** w of the last tokens. */
function windowOf({ window_size, window_ratio }: { window_size: number; window_ratio: number }, n: number): number {
  return n < LONG ? Math.floor(n * window_ratio) : window_size;
}

/** e and the number of base keys, as the layer's tensors have them; 0 where there are none. */
function sizesOf({ tensors }: Artifact, layer: number): { width: number; sinks: number } {
  return { width: tensors.get(`layers.${layer}.q_norm.weight`)?.shape[0] ?? 0, sinks: tensors.get(`layers.${layer}.k_base`)?.shape[2] ?? 0 };
}
