/** CriticalAdaKV: heads share by score, as under AdaKV; within a head the two stages of CriticalKV are of the head's own count.          arXiv 2502.03805
 *      b[h] = how many of the H b best scores of the layer are in head h, at least alpha b
 *      of head h stay: its max(alpha b, first_stage_ratio b[h]) best by s, then the best (s + epsilon) w until there are b[h]: selection "two_stage"
 *  needs     scores that can be compared between heads; the layer's budget before it is ranked
 *  conserves sum over heads = H b
 *  kvpress adds up the heads of all sequences of a batch, and fails with more than one. Here every sequence has lists of its own. */
import type { HeadBudget } from '../contract.ts';
import { adakv, safeguard } from './adakv.ts';

export const criticalAdakv: HeadBudget<typeof adakv.params> = {
  name: 'critical_adakv',
  summary: "a layer's budget goes to the heads whose scores are highest; each head spends its own in two stages",
  paper: 'arXiv 2502.03805',
  formula: 'b[l,h] = how many of the H b[l] best scores of the layer are in head h, at least alpha b[l]; two stages within b[l,h]',
  needs: 'scores of all heads, sorted, on the host; planned layer budgets; selection "two_stage"',
  params: adakv.params,
  ragged: true,
  refuses({ layerBudget: { part: layers }, selection: { part: selection } }) {
    if (selection.name !== 'two_stage') {
      return `head_budget "critical_adakv" leaves the order within a head to two stages, and selection "${selection.name}" has none; use selection "two_stage", or head_budget "adakv"`;
    }
    if (layers.signal === 'none') return null;
    return `head_budget "critical_adakv" sets a head's first stage by its final count, and layer_budget "${layers.name}" settles that after the last layer; use "uniform", "pyramid" or "per_layer", or head_budget "uniform"`;
  },
  counts(layer, budget, context, params) {
    // In two-stage order as they come; the heads compete by their best scores.
    const sorted = layer.sorted.map((scores) => scores.slice().sort().reverse());
    return adakv.counts({ ...layer, sorted }, budget, context, params);
  },
  sure: safeguard,
};
