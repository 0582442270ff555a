import type { Metric } from '../contract.ts';

/** What stands after `boxed{` up to the next }, so that braces within cut it short: kvpress's rule. The reference must be equal as text. */
const SOURCE = 'kvpress, evaluation of MATH-500 and AIME 2025';

/** MATH-500 takes the first box; without one it scores 0 (kvpress's loop ends in an error that it catches). */
export const boxedFirst: Metric = {
  name: 'boxed_first',
  formula: '[text in the first boxed{...} = reference]',
  source: SOURCE,
  score: (prediction, sample) => equal(prediction.split('boxed{')[1], sample.answers),
};

/** AIME takes the last; without one, the whole text up to the first } counts, so a bare "204" is right. */
export const boxedLast: Metric = {
  name: 'boxed_last',
  formula: '[text in the last boxed{...} = reference]',
  source: SOURCE,
  score: (prediction, sample) => equal(prediction.split('boxed{').at(-1), sample.answers),
};

function equal(from: string | undefined, answers: readonly string[]): number {
  return from !== undefined && answers.includes(from.split('}')[0]) ? 1 : 0;
}
