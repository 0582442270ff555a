/** Presets: kvpress's registry names, and our own compositions. Parameters are the parts' defaults, but for those named here. */
import type { z } from 'zod';
import type { HeadBudget, LayerBudget, PartInfo, Schedule, Scorer, Selection, Transform } from './contract.ts';
import { headBudgets, layerBudgets, schedules, scorers, selections, transforms } from './registry.ts';

export type Preset =
  | { readonly summary: string; readonly scorer: null }
  | {
      readonly summary: string;
      readonly scorer: keyof typeof scorers;
      readonly layer_budget?: keyof typeof layerBudgets; // default uniform
      readonly head_budget?: keyof typeof headBudgets; // default uniform
      readonly selection?: keyof typeof selections; // default top_k
      readonly transforms?: readonly (keyof typeof transforms)[]; // default none
      readonly schedule?: keyof typeof schedules; // default prefill, and then the caller may name another
      /** Defaults of parameters and fields, where they are not the parts' own; what the caller says goes before. */
      readonly params?: Readonly<Record<string, unknown>>;
    };

/** The best entries of the whole model, whichever layer and head they lie in. */
const oneCut = { layer_budget: 'global', head_budget: 'adakv', params: { alpha_safeguard: 0 } } as const;

const named = {
  no_press: { summary: 'keeps everything', scorer: null },

  // kvpress's names
  random: { summary: 'tokens by lot: the baseline', scorer: 'random' },
  knorm: { summary: 'keys of small norm', scorer: 'knorm' },
  streaming_llm: { summary: 'first and most recent tokens', scorer: 'streaming_llm' },
  tova: { summary: 'what the last token attends to', scorer: 'tova' },
  snapkv: { summary: 'what the last queries attend to', scorer: 'snapkv' },
  keydiff: { summary: 'keys unlike the mean key', scorer: 'keydiff' },
  cur: { summary: 'keys and values long among their neighbours', scorer: 'cur' },
  observed_attention: { summary: 'what all queries attended to', scorer: 'observed_attention' },
  lagkv: { summary: 'tokens unlike what follows them', scorer: 'lagkv' },
  expected_attention: {
    summary: 'what queries yet to come are expected to attend to, heads share by score',
    scorer: 'expected_attention',
    head_budget: 'adakv',
    params: { epsilon: 0.01 },
  },
  compactor: { summary: 'keys that stand apart, and what neighbours attend to', scorer: 'compactor' },
  adakv_compactor: { summary: 'Compactor, heads share by score', scorer: 'compactor', head_budget: 'adakv' },
  pyramidkv: { summary: 'SnapKV, lower layers keep more', scorer: 'snapkv', layer_budget: 'pyramid' },
  chunkkv: { summary: 'SnapKV, by whole chunks', scorer: 'snapkv', selection: 'chunks' },
  block_keydiff: { summary: 'KeyDiff, block after block', scorer: 'keydiff', selection: 'blocks' },
  critical_snapkv: { summary: 'SnapKV, then what the values weigh in the output', scorer: 'snapkv', selection: 'two_stage' },
  critical_adakv_snapkv: {
    summary: 'SnapKV, heads share by score, then what the values weigh in the output',
    scorer: 'snapkv',
    head_budget: 'critical_adakv',
    selection: 'two_stage',
  },
  critical_expected_attention: {
    summary: 'expected attention, then what the values weigh in the output',
    scorer: 'expected_attention',
    selection: 'two_stage',
    params: { use_vnorm: false }, // values count in the second stage
  },
  critical_adakv_expected_attention: {
    summary: 'expected attention, heads share by score, then what the values weigh in the output',
    scorer: 'expected_attention',
    head_budget: 'critical_adakv',
    selection: 'two_stage',
    params: { use_vnorm: false },
  },
  adakv_snapkv: { summary: 'SnapKV, heads share by score', scorer: 'snapkv', head_budget: 'adakv' },

  finch: {
    summary: 'what the question, the last tokens, attends to; keys turned to positions without gaps',
    scorer: 'finch',
    transforms: ['rerotate'],
  },
  finch_chunks: {
    summary: 'FINCH, the same share of every stretch of the prompt',
    scorer: 'finch',
    selection: 'score_segments',
    transforms: ['rerotate'],
  },
  merging_knorm: { summary: 'Knorm; what goes leaves its value to the most similar key', scorer: 'knorm', transforms: ['merge'] },
  merging_snapkv: { summary: 'SnapKV; what goes leaves its value to the most similar key', scorer: 'snapkv', transforms: ['merge'] },
  merging_expected_attention: {
    summary: 'expected attention; what goes leaves its value to the most similar key',
    scorer: 'expected_attention',
    transforms: ['merge'],
    params: { epsilon: 0.01 },
  },
  think: {
    summary: 'sets key channels to zero and removes no tokens, so that it frees no memory',
    scorer: 'knorm',
    transforms: ['think'],
    params: { compression_ratio: 0 },
  },
  snap_think: { summary: 'SnapKV, then key channels of what stays set to zero, which frees nothing more', scorer: 'snapkv', transforms: ['think'] },

  // keys turned to positions without gaps: kvpress's KeyRerotationPress
  key_rerotation_knorm: { summary: 'Knorm; keys turned to positions without gaps', scorer: 'knorm', transforms: ['rerotate'] },
  key_rerotation_snapkv: { summary: 'SnapKV; keys turned to positions without gaps', scorer: 'snapkv', transforms: ['rerotate'] },
  kvzip: { summary: 'what repeating the prompt looks at', scorer: 'kvzip', ...oneCut },
  kvzip_plus: {
    summary: 'what repeating the prompt looks at, by what it changes',
    scorer: 'kvzip',
    ...oneCut,
    params: { ...oneCut.params, plus_normalization: true },
  },
  RestoreKV: { summary: 'KVzip; trained rows, read by an adapted model, stand for what goes', scorer: 'kvzip', ...oneCut, transforms: ['restore'] },
  RestoreKV_plus: {
    summary: 'KVzip+; trained rows, read by an adapted model, stand for what goes',
    scorer: 'kvzip',
    ...oneCut,
    transforms: ['restore'],
    params: { ...oneCut.params, plus_normalization: true },
  },
  kvcompose: { summary: 'what a second reading looks at; ranks of all heads together', scorer: 'kvcompose', layer_budget: 'composite' },
  kvcompose_unstructured: { summary: 'what a second reading looks at, every head for itself', scorer: 'kvcompose', ...oneCut },
  // layers by what they show
  cake: {
    summary: 'CAKE: what is attended to much or by turns; layers whose attention spreads and shifts keep more',
    scorer: 'cake',
    layer_budget: 'cake',
  },
  lava: {
    summary: 'LAVa: attention by the length of values; layers and heads by how their scores spread',
    scorer: 'lava',
    layer_budget: 'lava',
    head_budget: 'adakv',
  },
  dynamickv: {
    summary: 'DynamicKV: SnapKV of a short window, layers by their share of the best scores',
    scorer: 'snapkv',
    layer_budget: 'dynamickv',
    params: { window_size: 8, kernel_size: 7 },
  },
  squeezeattention: {
    summary: 'SqueezeAttention: first and most recent tokens, fewer where attention changes little',
    scorer: 'streaming_llm',
    layer_budget: 'squeeze',
  },

  simlayerkv: {
    summary: 'SimLayerKV: lazy layers keep the first and the most recent tokens, the others everything',
    scorer: 'streaming_llm',
    layer_budget: 'lazy',
  },

  // kvpress's names that read a trained file
  qfilter: { summary: 'keys that point along the queries of their head', scorer: 'qfilter' },
  kvzap_mlp_head: { summary: 'what a trained network takes for important', scorer: 'kvzap' },
  kvzap_mlp_layer: { summary: 'KVzap, heads share by score', scorer: 'kvzap', head_budget: 'adakv' },
  lukv: {
    summary: 'expected attention, layers and heads by curves measured offline',
    scorer: 'expected_attention',
    layer_budget: 'curves',
    head_budget: 'curves',
    params: { epsilon: 0.02, protect_last: 1 },
  },
  kvzap_linear: { summary: 'KVzap by a linear map, every token above a threshold', scorer: 'kvzap', selection: 'threshold' },
  kvzap_mlp: { summary: 'KVzap by an MLP, every token above a threshold', scorer: 'kvzap', selection: 'threshold' },
  merging_kvzap_mlp: { summary: 'KVzap; what goes leaves its value to the most similar key', scorer: 'kvzap', transforms: ['merge'] },
  fastkvzip: {
    summary: 'what a trained gate takes for needed, one cut through all layers and heads',
    scorer: 'fastkvzip',
    layer_budget: 'global',
    head_budget: 'adakv',
    params: { alpha_safeguard: 0 },
  },
  duo_attention: {
    summary: 'heads that retrieve keep everything, the others the first and the most recent tokens',
    scorer: 'sink_recent',
    head_budget: 'duo',
  },
  duo_attention_on_the_fly: {
    summary: 'duo_attention by a pattern that edgepress calibrate made',
    scorer: 'sink_recent',
    head_budget: 'duo',
    params: { artifact: 'duo-on-the-fly.json' },
  },

  // while the answer grows
  cam_knorm: { summary: 'decoding_knorm; what goes leaves its value to what follows it', scorer: 'knorm', transforms: ['cam'], schedule: 'decoding' },
  cam_streaming_llm: {
    summary: 'decoding_streaming_llm; what goes leaves its value to what follows it',
    scorer: 'streaming_llm',
    transforms: ['cam'],
    schedule: 'decoding',
  },
  cam_tova: { summary: 'decoding_tova; what goes leaves its value to what follows it', scorer: 'tova', transforms: ['cam'], schedule: 'decoding' },
  cam_adakv_snapkv: {
    summary: 'decoding_adakv_snapkv; what goes leaves its value to what follows it, in its own head',
    scorer: 'snapkv',
    head_budget: 'adakv',
    transforms: ['cam'],
    schedule: 'decoding',
  },
  decoding_knorm: { summary: 'keys of small norm, while the answer grows', scorer: 'knorm', schedule: 'decoding' },
  decoding_streaming_llm: { summary: 'first and most recent tokens, while the answer grows', scorer: 'streaming_llm', schedule: 'decoding' },
  decoding_tova: { summary: 'what the last token attends to, while the answer grows', scorer: 'tova', schedule: 'decoding' },
  decoding_qfilter: { summary: 'keys that point along the queries of their head, while the answer grows', scorer: 'qfilter', schedule: 'decoding' },
  decoding_keydiff: { summary: 'keys unlike the mean key, while the answer grows', scorer: 'keydiff', schedule: 'decoding' },
  decoding_adakv_expected_attention_e2: {
    summary: 'what queries yet to come will attend to, heads share by score, while the answer grows',
    scorer: 'expected_attention',
    head_budget: 'adakv',
    schedule: 'decoding',
    params: { epsilon: 0.01 },
  },
  decoding_adakv_snapkv: {
    summary: 'SnapKV, heads share by score, while the answer grows',
    scorer: 'snapkv',
    head_budget: 'adakv',
    schedule: 'decoding',
  },

  // heads by score, under other layer budgets or scorers
  adakv_keydiff: { summary: 'KeyDiff, heads share by score', scorer: 'keydiff', head_budget: 'adakv' },
  adakv_pyramidkv: { summary: 'PyramidKV, heads share by score', scorer: 'snapkv', layer_budget: 'pyramid', head_budget: 'adakv' },
  zigzag_chunkkv: { summary: 'SnapKV by whole chunks, layers by LMBA', scorer: 'snapkv', layer_budget: 'zigzag', selection: 'chunks' },
  zigzag_adakv_snapkv: { summary: 'SnapKV, layers by LMBA, heads by score', scorer: 'snapkv', layer_budget: 'zigzag', head_budget: 'adakv' },
} satisfies Record<string, Preset>;

/** Layer budgets that go with any scorer which they do not refuse: zigzag_snapkv, cake_keydiff, ... */
export const FAMILIES = ['zigzag', 'cake', 'lava', 'dynamickv', 'squeeze'] as const satisfies readonly (keyof typeof layerBudgets)[];

function families(): Record<string, Preset> {
  const made: Record<string, Preset> = {};
  for (const layer_budget of FAMILIES) {
    for (const scorer of Object.keys(scorers) as (keyof typeof scorers)[]) {
      if (`${layer_budget}_${scorer}` in named || whyNot(scorers[scorer], layerBudgets[layer_budget]) !== null) continue;
      made[`${layer_budget}_${scorer}`] = { summary: `${scorer}; ${layerBudgets[layer_budget].summary}`, scorer, layer_budget };
    }
  }
  return made;
}

/** Why there is no preset of such a name, where it names a layer budget of FAMILIES and a scorer that do not go together; else null. */
export function whyNoFamily(name: string): string | null {
  const family = FAMILIES.find((one) => name.startsWith(`${one}_`) && Object.hasOwn(scorers, name.slice(one.length + 1)));
  return family === undefined ? null : whyNot(scorers[name.slice(family.length + 1) as keyof typeof scorers], layerBudgets[family]);
}

function whyNot(scorer: Scorer, budget: LayerBudget): string | null {
  const scored = { part: scorer, params: {} };
  const parts = {
    scorer: scored,
    layerBudget: { part: budget, params: budget.params.parse({}) },
    headBudget: { part: headBudgets.uniform, params: {} },
    selection: { part: selections.top_k, params: selections.top_k.params.parse({}) },
    transforms: [],
    schedule: { part: schedules.prefill, params: {} },
  };
  return budget.refuses?.(parts, parts.layerBudget.params) ?? scorer.refuses?.(parts, {}) ?? null;
}

export const presets: Readonly<Record<string, Preset>> = { ...named, ...families() };

/** The parts of a preset, in the order scorer, layer budget, head budget, selection, transforms, schedule; null for no_press. */
export interface PresetParts {
  readonly scorer: Scorer;
  readonly layerBudget: LayerBudget;
  readonly headBudget: HeadBudget;
  readonly selection: Selection;
  readonly transforms: readonly Transform[];
  readonly schedule: Schedule;
}

export function presetParts(name: string): PresetParts | null {
  const preset = presets[name];
  if (preset.scorer === null) return null;
  return {
    scorer: scorers[preset.scorer],
    layerBudget: layerBudgets[preset.layer_budget ?? 'uniform'],
    headBudget: headBudgets[preset.head_budget ?? 'uniform'],
    selection: selections[preset.selection ?? 'top_k'],
    transforms: (preset.transforms ?? []).map((name) => transforms[name]),
    schedule: schedules[preset.schedule ?? 'prefill'],
  };
}

export function partList({ scorer, layerBudget, headBudget, selection, transforms, schedule }: PresetParts): PartInfo<z.ZodObject>[] {
  return [scorer, layerBudget, headBudget, selection, ...transforms, schedule];
}
