/** Every part that can be named in a press config. Adding one = one file, one line here. */
import type * as z from 'zod';
import type { HeadBudget, LayerBudget, PartInfo, Scorer } from './contract.ts';
import { adakv } from './head-budgets/adakv.ts';
import { uniform as uniformHeads } from './head-budgets/uniform.ts';
import { perLayer } from './layer-budgets/per-layer.ts';
import { pyramid } from './layer-budgets/pyramid.ts';
import { uniform as uniformLayers } from './layer-budgets/uniform.ts';
import { zigzag } from './layer-budgets/zigzag.ts';
import { noParams } from './params.ts';
import { cur } from './scorers/cur.ts';
import { keydiff } from './scorers/keydiff.ts';
import { knorm } from './scorers/knorm.ts';
import { lagkv } from './scorers/lagkv.ts';
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
  cur,
  lagkv,
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
