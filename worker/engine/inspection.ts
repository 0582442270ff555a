/** What a press kept of one prompt, entry by entry. */
import { protectedCount } from '../../presses/protected-count.ts';
import type { Job } from './job.ts';
import type { KvSequence, KvShape } from './kv-cache.ts';
import type { Explanation, KvCacheUsage } from './types.ts';

/** Kept positions and budgets of one prompt, as `edgepress inspect` writes them. */
export interface Inspection {
  tokens: number;
  /** Rows that the press added to every layer and head; they are not among the kept. */
  added_per_layer?: number;
  layers: {
    budget: number;
    lmba: number | null;
    /** Share of the observation window's attention mass that the kept entries hold. */
    retained_mass: number | null;
    heads: { kept: number[]; scores: (number | null)[] }[];
  }[];
  /** What each other layer budget would have dealt; where the press says "explain": true. */
  other_layer_budgets?: Explanation['other_layer_budgets'];
}

export function inspection(
  { checked, covered, added }: Job,
  { usage, sequence }: { readonly usage: KvCacheUsage; readonly sequence: KvSequence },
  { layers, kvHeads }: KvShape,
): Inspection {
  // Protected tokens come first and were not ranked by their scores; where nothing was pressed there are none.
  const stage = checked?.stages.at(-1);
  const unscored = stage ? protectedCount(stage.keep, covered) : covered;
  const head = (layer: number, h: number) => {
    const all = sequence.entries(layer, h);
    const pressed = added ? all.positions.findIndex((position) => position >= covered) : all.positions.length; // added rows come next
    const [positions, scores] = [all.positions.subarray(0, pressed), all.scores.subarray(0, pressed)];
    return { kept: [...positions], scores: Array.from(scores, (score, rank) => (rank < unscored ? null : score)) };
  };
  return {
    tokens: covered,
    ...(added && { added_per_layer: added.rows }),
    layers: Array.from({ length: layers }, (_, layer) => ({
      budget: usage.kept_per_layer[layer],
      lmba: usage.lmba_per_layer[layer],
      retained_mass: usage.retained_mass_per_layer[layer],
      heads: Array.from({ length: kvHeads }, (_, h) => head(layer, h)),
    })),
    ...(usage.explain && { other_layer_budgets: usage.explain.other_layer_budgets }),
  };
}
