import type { Metric } from '../contract.ts';
import { bestOf } from './best-of.ts';

/** Share of the numbers in a text that are written as `number` is; digits of any script are numbers, as in Python's \d. */
export function shareOfNumbers(text: string, number: string): number {
  const numbers = text.match(/\p{Nd}+/gu) ?? [];
  return numbers.length === 0 ? 0 : numbers.filter((found) => found === number).length / numbers.length;
}

/** LongBench's passage_count. */
export const count: Metric = {
  name: 'count',
  formula: 'max over references of numbers in the prediction equal to the reference / numbers in the prediction',
  source: 'LongBench, arXiv 2308.14508, count_score',
  score: (prediction, sample) => bestOf(sample, (reference) => shareOfNumbers(prediction, reference)),
};
