/** Every part that can be named in a press config, and what /v1/presses says of them. Adding one = one file, one line here. */
import * as z from 'zod';
import type { HeadBudget, LayerBudget, PartInfo, Scorer } from './contract.ts';
import { adakv } from './head-budgets/adakv.ts';
import { uniform as uniformHeads } from './head-budgets/uniform.ts';
import { perLayer } from './layer-budgets/per-layer.ts';
import { pyramid } from './layer-budgets/pyramid.ts';
import { uniform as uniformLayers } from './layer-budgets/uniform.ts';
import { zigzag } from './layer-budgets/zigzag.ts';
import { noParams } from './params.ts';
import { presets } from './presets.ts';
import { keydiff } from './scorers/keydiff.ts';
import { knorm } from './scorers/knorm.ts';
import { random } from './scorers/random.ts';
import { snapkv } from './scorers/snapkv.ts';
import { streamingLlm } from './scorers/streaming-llm.ts';
import { tova } from './scorers/tova.ts';

export const scorers = {
  random,
  knorm,
  streaming_llm: streamingLlm,
  tova,
  snapkv,
  keydiff,
} satisfies Record<string, Scorer>;

export const layerBudgets = {
  uniform: uniformLayers,
  pyramid,
  per_layer: perLayer,
  zigzag,
} satisfies Record<string, LayerBudget>;

export const headBudgets = {
  uniform: uniformHeads,
  adakv,
} satisfies Record<string, HeadBudget>;

export const selections = {
  top_k: {
    name: 'top_k',
    summary: 'the protected tokens, then the best scores of each head; equal scores go to the lower position',
    paper: null,
    formula: 'kept[h] = protected + the b[l,h] - P largest s[h,t]',
    needs: 'nothing',
    params: noParams,
  },
} satisfies Record<string, PartInfo<z.ZodObject>>;

export type PartList = readonly {
  name: string;
  summary: string;
  paper: string | null;
  formula: string;
  needs: string;
  parameters: unknown;
  streams?: boolean;
}[];

/** What GET /v1/presses answers. `streams`: earlier layers can be shrunk while later ones are read, so that the whole cache never exists at once. */
export function listPresses() {
  return {
    presets: Object.entries(presets).map(([name, { summary, ...parts }]) => {
      if (parts.scorer === null)
        return { name, summary, paper: null, formula: 'nothing is removed', scorer: null, layer_budget: null, head_budget: null };
      const named = [scorers[parts.scorer], layerBudgets[parts.layer_budget], headBudgets[parts.head_budget]];
      const own = named.filter((part) => part.name !== 'uniform'); // a uniform budget has no formula of its own to show
      return {
        name,
        summary,
        paper:
          own
            .map((part) => part.paper)
            .filter((paper) => paper !== null)
            .join(', ') || null,
        formula: own.map((part) => part.formula).join('; '),
        ...parts,
      };
    }),
    scorers: Object.values(scorers).map(describe) as PartList,
    layer_budgets: Object.values(layerBudgets).map((part) => ({ ...describe(part), streams: true })) as PartList,
    head_budgets: Object.values(headBudgets).map((part) => ({ ...describe(part), streams: true })) as PartList,
    selections: Object.values(selections).map(describe) as PartList,
  };
}

function describe({ name, summary, paper, formula, needs, params }: PartInfo<z.ZodObject>) {
  const { $schema: _, ...parameters } = z.toJSONSchema(params, { io: 'input' });
  return { name, summary, paper, formula, needs, parameters };
}
