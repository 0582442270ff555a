/** Presets: kvpress's registry names as far as these parts can express them, and our own compositions. Parameters are the parts' defaults. */
import type { headBudgets, layerBudgets, scorers } from './registry.ts';

export type Preset =
  | { readonly summary: string; readonly scorer: null }
  | {
      readonly summary: string;
      readonly scorer: keyof typeof scorers;
      readonly layer_budget: keyof typeof layerBudgets;
      readonly head_budget: keyof typeof headBudgets;
    };

export const presets = {
  no_press: { summary: 'keeps everything', scorer: null },

  // kvpress's names
  random: { summary: 'tokens by lot: the baseline', scorer: 'random', layer_budget: 'uniform', head_budget: 'uniform' },
  knorm: { summary: 'keys of small norm', scorer: 'knorm', layer_budget: 'uniform', head_budget: 'uniform' },
  streaming_llm: { summary: 'first and most recent tokens', scorer: 'streaming_llm', layer_budget: 'uniform', head_budget: 'uniform' },
  tova: { summary: 'what the last token attends to', scorer: 'tova', layer_budget: 'uniform', head_budget: 'uniform' },
  snapkv: { summary: 'what the last queries attend to', scorer: 'snapkv', layer_budget: 'uniform', head_budget: 'uniform' },
  keydiff: { summary: 'keys unlike the mean key', scorer: 'keydiff', layer_budget: 'uniform', head_budget: 'uniform' },
  cur: { summary: 'keys and values long among their neighbours', scorer: 'cur', layer_budget: 'uniform', head_budget: 'uniform' },
  lagkv: { summary: 'tokens unlike what follows them', scorer: 'lagkv', layer_budget: 'uniform', head_budget: 'uniform' },
  pyramidkv: { summary: 'SnapKV, lower layers keep more', scorer: 'snapkv', layer_budget: 'pyramid', head_budget: 'uniform' },
  adakv_snapkv: { summary: 'SnapKV, heads share by score', scorer: 'snapkv', layer_budget: 'uniform', head_budget: 'adakv' },

  // layers by how widely their attention spreads
  zigzag_snapkv: { summary: 'SnapKV, layers by LMBA: ZigZagKV', scorer: 'snapkv', layer_budget: 'zigzag', head_budget: 'uniform' },
  zigzag_tova: { summary: 'TOVA, layers by LMBA', scorer: 'tova', layer_budget: 'zigzag', head_budget: 'uniform' },
  zigzag_knorm: { summary: 'Knorm, layers by LMBA', scorer: 'knorm', layer_budget: 'zigzag', head_budget: 'uniform' },
  zigzag_keydiff: { summary: 'KeyDiff, layers by LMBA', scorer: 'keydiff', layer_budget: 'zigzag', head_budget: 'uniform' },
  zigzag_cur: { summary: 'CurDKV, layers by LMBA', scorer: 'cur', layer_budget: 'zigzag', head_budget: 'uniform' },

  // heads by score, under other layer budgets or scorers
  adakv_keydiff: { summary: 'KeyDiff, heads share by score', scorer: 'keydiff', layer_budget: 'uniform', head_budget: 'adakv' },
  adakv_pyramidkv: { summary: 'PyramidKV, heads share by score', scorer: 'snapkv', layer_budget: 'pyramid', head_budget: 'adakv' },
  zigzag_adakv_snapkv: { summary: 'SnapKV, layers by LMBA, heads by score', scorer: 'snapkv', layer_budget: 'zigzag', head_budget: 'adakv' },
} satisfies Record<string, Preset>;
