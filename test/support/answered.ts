/** Answers as a run of `edgepress eval` would leave them, whose scores the test makes up. */
import { type Made, madeOf } from '../../evaluation/made-of.ts';
import { Random } from '../../evaluation/random.ts';
import type { Answer } from '../../evaluation/results.ts';
import { type NamedPress, variantsOf } from '../../evaluation/variants.ts';

const TASKS = ['vt', 'cwe', 'qa_1'];
const LENGTHS = [512, 1024];

export interface Asked {
  readonly presses: readonly NamedPress[];
  readonly ratios?: readonly number[];
  readonly samples?: number;
  /** Score, 0 to 1, and KL, of a variant on a sample; `draw` is the same for all variants of that sample. */
  answer(made: Made, draw: Random, task: string, ratio: number | null): { score: number | null; kl?: number; kept?: readonly number[] };
}

/** Answers as a run would leave them, and what their presses are made of. */
export function answered({ presses, ratios = [0.5], samples = 20, answer }: Asked): { answers: Answer[]; made: Map<string, Made> } {
  const { variants } = variantsOf(presses, ratios, false);
  const made = new Map(variants.map(({ key, request }) => [key, madeOf(request)]));
  const answers = TASKS.flatMap((task) =>
    LENGTHS.flatMap((length) =>
      Array.from({ length: samples }, (_, i) => `${task}/${length}/${i}`).flatMap((sample) =>
        variants.map(({ key, press, ratio }): Answer => {
          const { score, kl = null, kept = [1, 3] } = answer(made.get(key)!, new Random(sample), task, ratio);
          const told = { depth: null, words: null, groups: {}, prediction: '', answers: [], other_scores: {}, weight: 1, notes: [] };
          const size = { tokens: length, covered: length, compression_ratio: ratio ?? 0, bytes_kept: 1000, bytes_full: 2000 };
          const layers = { kept_per_layer: [...kept], lmba_per_layer: [length / 4, length / 2], retained_mass_per_layer: [1, 1] };
          return { sample, variant: key, task, length, press, ratio, score, kl, ...told, ...size, ...layers };
        }),
      ),
    ),
  );
  return { answers, made };
}
