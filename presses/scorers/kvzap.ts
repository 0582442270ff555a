/** KVzap: a small network says of each token, by its hidden state alone, what KVzip+ would.          arXiv 2601.07891
 *      s_t = W_l x_t + b_l,   or   W_down gelu(W_up x_t + b_up) + b_down;   x_t = what goes into the layer's attention
 *  needs     the artefact, trained for the model; which of the two it is, is seen from its tensors
 *  Scores are logarithms (of KVzip+'s), so that a threshold of some -3 to -9 means the same in every layer. The hidden layer comes in slabs of tokens. */
import * as z from 'zod';
import { at, type View, type Weight } from '../../worker/backend/backend.ts';
import { type Artifact, type ArtifactNeed, anyTensor, artifactName, Misfit } from '../artifacts.ts';
import type { ScoreContext, Scorer } from '../contract.ts';
import { timesRows } from '../times-rows.ts';

const SLAB = 1024; // tokens whose hidden layer lies in memory at once
const MOST_HIDDEN = 65_536;

const about = {
  format: 'safetensors',
  what: "KVzap's linear maps or MLPs, one per layer, from the hidden state to a score per KV head",
  layout:
    'tensors layers.{l}.weight [KV heads, hidden size], layers.{l}.bias [KV heads]; or layers.{l}.up.weight [m, hidden size], .up.bias [m], .down.weight [KV heads, m], .down.bias (the released .0. and .2. are read as up and down)',
  source: 'model.safetensors of nvidia/KVzap-linear-<model> or nvidia/KVzap-mlp-<model> on the Hugging Face hub is one',
} as const;

const networks: ArtifactNeed = {
  param: 'artifact',
  ...about,
  check(artifact, { layers, kvHeads: H, hiddenSize: D }) {
    for (let l = 0; l < layers; l++) {
      const [weight, up] = [`layers.${l}.weight`, names(l, 'up', 'weight')];
      if (artifact.tensors.has(weight)) {
        anyTensor(artifact, [weight], [H, D]);
        anyTensor(artifact, [`layers.${l}.bias`], [H]);
        continue;
      }
      const found = up.map((name) => artifact.tensors.get(name)).find((tensor) => tensor !== undefined);
      if (!found) throw new Misfit(`layer ${l} of ${layers} has neither ${weight} nor ${up[0]}`);
      const m = found.shape[0] ?? 0;
      if (m < 1 || m > MOST_HIDDEN) throw new Misfit(`tensor ${up[0]} has ${m} rows, 1 to ${MOST_HIDDEN} are expected`);
      anyTensor(artifact, up, [m, D]);
      anyTensor(artifact, names(l, 'up', 'bias'), [m]);
      anyTensor(artifact, names(l, 'down', 'weight'), [H, m]);
      anyTensor(artifact, names(l, 'down', 'bias'), [H]);
    }
  },
};

const params = z.strictObject({ artifact: artifactName(about) });

export const kvzap: Scorer<typeof params> = {
  name: 'kvzap',
  summary: 'keeps what a small trained network takes for important, token by token',
  paper: 'arXiv 2601.07891',
  formula: 's[h,t] = net[l](x[t])[h], a linear map or an MLP with GELU',
  needs: "the attention's input",
  params,
  artifact: networks,
  hidden: true,
  comparable: true, // trained on one target
  perToken: true,
  massMap: 'exp', // scores are logarithms
  protectedBy: null,
  queries: () => 0,
  protect: () => ({ first: 0, last: 0 }),
  scratchBytes({ n, kvHeads: H, hiddenSize: D, artifact }, { artifact: name }) {
    const m = artifact ? widest(artifact(name)) : 0;
    const slab = Math.min(n, SLAB);
    return 4 * (m === 0 ? H * D : m * (D + 1) + H * m + slab * (m + H)) + 6 * 64; // six blocks round up
  },
  score(context, { artifact: name }) {
    const { backend, scratch, artifact, layer, n, shape } = context;
    const { kvHeads: H } = shape;
    const x = { x: context.hidden!, n, cols: context.model.hiddenSize };
    const { tensors } = artifact(name);
    const values = (...from: string[]): Float32Array => tensors.get(from.find((tensor) => tensors.has(tensor))!)!.values;
    const put = (data: Float32Array, label: string): View => {
      const block = scratch(data.byteLength, label);
      backend.write(block, data);
      return block;
    };
    const linear = tensors.has(`layers.${layer}.weight`);
    const bias = linear ? values(`layers.${layer}.bias`) : values(...names(layer, 'down', 'bias'));
    const scores = put(
      Float32Array.from({ length: H * n }, (_, i) => bias[Math.floor(i / n)]),
      'kvzap scores',
    ); // [H, n], the biases first
    if (linear) {
      timesRows(backend, scores, put(values(`layers.${layer}.weight`), 'kvzap weights'), H, x, true);
      return scores;
    }
    const upBias = values(...names(layer, 'up', 'bias'));
    const up: Weight = {
      ...view(put(values(...names(layer, 'up', 'weight')), 'kvzap up')),
      type: 'f32',
      rows: upBias.length,
      cols: x.cols,
    };
    const down = put(values(...names(layer, 'down', 'weight')), 'kvzap down');
    mlp(context, scores, up, put(upBias, 'kvzap up bias'), down);
    return scores;
  },
};

/** scores [H, n] += down gelu(up x + bias), a slab of tokens after the other. */
function mlp({ backend, scratch, hidden, n, shape: { kvHeads: H } }: ScoreContext, scores: View, up: Weight, bias: View, down: View): void {
  const most = Math.min(n, SLAB);
  const inner = scratch(most * up.rows * 4, 'kvzap hidden layer'); // [slab, m]
  const part = scratch(H * most * 4, 'kvzap scores of a slab'); // [H, slab]
  for (let start = 0; start < n; start += SLAB) {
    const rows = Math.min(SLAB, n - start);
    backend.linear([{ out: inner, weight: up, bias }], at(hidden!, start * up.cols * 4), rows);
    backend.gelu(inner, inner, rows * up.rows);
    const head = (h: number): [View, View] => [at(part, h * rows * 4), at(scores, (h * n + start) * 4)];
    for (let h = 0; h < H; h++) backend.copy(...head(h), rows * 4);
    timesRows(backend, part, down, H, { x: inner, n: rows, cols: up.rows }, true);
    for (let h = 0; h < H; h++) backend.copy(...(head(h).reverse() as [View, View]), rows * 4);
  }
}

/** Ours, and what the released files have. */
function names(layer: number, which: 'up' | 'down', part: 'weight' | 'bias'): string[] {
  return [`layers.${layer}.${which}.${part}`, `layers.${layer}.${which === 'up' ? 0 : 2}.${part}`];
}

/** m of the widest layer; 0 = all are linear. */
function widest({ tensors }: Artifact): number {
  return Math.max(0, ...[...tensors].map(([name, { shape }]) => (/^layers\.\d+\.(up|0)\.bias$/.test(name) ? shape[0] : 0)));
}

function view({ buffer, offset }: View): View {
  return { buffer, offset };
}
