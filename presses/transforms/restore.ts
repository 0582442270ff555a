/** RestoreKV: R trained rows, read over the whole prompt by an adapted model, stand for what goes.          arXiv 2608.01247
 *      rows n..n+R-1 = E [R, D] through every layer over the full cache, causally;   for them W x is W x + scaling B A x where the artefact has A and B
 *      their K,V are kept in every layer and head;   what follows stands at n + R;   b = keptCount(n, r) - R tokens stay beside them
 *  needs     the artefact: E, A, B and scaling. Goes with any scorer: kvzip's scores are what the published ones were trained with
 *  costs     R tokens more of reading; one layer of A and B on the device at a time
 *  Where a press removes nothing, nothing is added. kvpress (0.5.5) evicts trunc(L H n min(1, r + R/n)) entries: under compat. It clamps that ratio and may be left
 *  with the R rows alone, also where the ratio leaves fewer than R; refused here, under compat too. It takes no other press beside it: rows are no tokens. */
import * as z from 'zod';
import { type Artifact, type ArtifactModel, type ArtifactNeed, artifactName, Misfit, tensorOf } from '../artifacts.ts';
import type { AddedRows, LowRank, PressParts, Projection, Transform } from '../contract.ts';

/** More than are published (8 rows, ranks of some 16 to 128): bounds of what one file can ask for. */
const MOST_ROWS = 256;
const MOST_RANK = 1024;

/** PEFT's names, without what stands before "layers", e.g. base_model.model.model. */
const LOW_RANK = /(?:^|\.)layers\.(\d{1,4})\.(?:self_attn\.([qkvo])|mlp\.(gate|up|down))_proj\.lora_([AB])(?:\.\w+)?\.weight$/;

const about = {
  format: 'safetensors',
  what: 'the trained rows of RestoreKV and the LoRA adapter that reads them',
  layout:
    'tensor restore_embeddings [rows, hidden size], tensor scaling [1] (lora_alpha / r), and per adapted projection base_model.model.model.layers.{l}.self_attn.{q,k,v,o}_proj or .mlp.{gate,up,down}_proj with .lora_A.weight [r, in features] and .lora_B.weight [out features, r]',
  source: 'higokri/RestoreKV-<model> or RestoreKV-<model>_plus on the Hugging Face hub has them in three files, joined as presses/artifacts.md shows',
} as const;

const need: ArtifactNeed = { param: 'adapter', ...about, check: (artifact, model) => void rowsOf(artifact, model) };

const params = z.strictObject({ adapter: artifactName(about) });

export const restore: Transform<typeof params> = {
  name: 'restore',
  summary: 'keeps trained rows beside what stays, which an adapted model read over the whole prompt',
  paper: 'arXiv 2608.01247',
  formula: 'K,V of R trained rows at n..n+R-1, read by W + scaling B A over all of the prompt, are added; R fewer tokens of the prompt stay',
  needs: 'the model itself, adapted, on R tokens more',
  params,
  artifact: need,
  anyBudget: true,
  refuses: whyNot,
  adds: (artifact, { adapter }) => checked.get(artifact(adapter))!,
};

/** What was found right, read once. */
const checked = new WeakMap<Artifact, AddedRows>();

function whyNot(press: PressParts): string | null {
  const { scorer, layerBudget, headBudget, selection, transforms } = press;
  const moves = transforms.find(({ part }) => part.renumbers);
  if (moves)
    return `transform "restore" adds rows that stand right behind the prompt, and transform "${moves.part.name}" gives what stays other positions than they were read at; leave one of them out`;
  const settles = [scorer, layerBudget, headBudget, selection].find(({ part }) => part.decidesTotal !== undefined)?.part;
  const what = settles ? `"${settles.name}" settles by its ${settles.decidesTotal}` : `layer_budget "${layerBudget.part.name}" says by its ratios`;
  if (settles || layerBudget.part.ownRatio)
    return `transform "restore" keeps as many fewer tokens as it adds rows, and ${what} how many are kept; use parts that go by compression_ratio`;
  return null;
}

function rowsOf(artifact: Artifact, model: ArtifactModel): AddedRows {
  const { tensors } = artifact;
  const rows = tensors.get('restore_embeddings')?.shape[0] ?? 1;
  if (rows < 1 || rows > MOST_ROWS) throw new Misfit(`tensor restore_embeddings has ${rows} rows; 1 to ${MOST_ROWS} would work`);
  const embeddings = tensorOf(artifact, 'restore_embeddings', [rows, model.hiddenSize]);
  const [scale] = tensorOf(artifact, 'scaling', [1]);

  const adapters: Partial<Record<Projection, LowRank>>[] = [];
  for (const [name, { shape, values: a }] of tensors) {
    if (name === 'restore_embeddings' || name === 'scaling') continue;
    const [, layerText, attention, mlp, letter] = LOW_RANK.exec(name) ?? [];
    const projection = (attention ?? mlp) as Projection | undefined;
    if (projection === undefined)
      throw new Misfit(`tensor ${name.slice(0, 100)} is no lora_A or lora_B of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj or down_proj`);
    const layer = Number(layerText);
    if (layer >= model.layers) throw new Misfit(`tensor ${name} is of layer ${layer}; this model has layers 0 to ${model.layers - 1}`);
    const other = name.replace(/lora_[AB](?=(?:\.\w+)?\.weight$)/, letter === 'A' ? 'lora_B' : 'lora_A');
    if (!tensors.has(other)) throw new Misfit(`tensor ${name} stands without ${other}`);
    if (letter === 'B') continue;
    const rank = shape[0] ?? 0;
    if (rank < 1 || rank > MOST_RANK) throw new Misfit(`tensor ${name} has rank ${rank}; 1 to ${MOST_RANK} would work`);
    const { into, out } = features(projection, model);
    tensorOf(artifact, name, [rank, into]);
    adapters[layer] ??= {};
    if (projection in adapters[layer]) throw new Misfit(`tensor ${name} adapts a projection that another one adapts already`);
    adapters[layer][projection] = { rank, a, b: tensorOf(artifact, other, [out, rank]) };
  }
  const added = { rows, embeddings, scale, adapters };
  checked.set(artifact, added);
  return added;
}

function features(
  projection: Projection,
  { queryHeads: Hq, kvHeads: H, headDim: d, hiddenSize: D, intermediateSize: I }: ArtifactModel,
): { into: number; out: number } {
  switch (projection) {
    case 'q':
      return { into: D, out: Hq * d };
    case 'k':
    case 'v':
      return { into: D, out: H * d };
    case 'o':
      return { into: Hq * d, out: D };
    case 'down':
      return { into: I, out: D };
    default:
      return { into: D, out: I };
  }
}
