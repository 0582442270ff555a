import type { Metric } from '../contract.ts';
import { bestOf } from './best-of.ts';
import { normalised, words } from './python-text.ts';

/** SQuAD's F1, of LongBench's and InfiniteBench's question answering. */
export const tokenF1: Metric = {
  name: 'token_f1',
  formula:
    'max over references of 2PR / (P + R); P, R: share of common words, counted as often as both have them, in prediction and reference; lower case, no punctuation, no a/an/the',
  source: 'SQuAD, arXiv 1606.05250; LongBench qa_f1_score',
  score: (prediction, sample) => {
    const predicted = words(normalised(prediction));
    return bestOf(sample, (answer) => f1(predicted, words(normalised(answer))));
  },
};

/** F1 of two multisets of tokens. */
export function f1(predicted: readonly string[], reference: readonly string[]): number {
  const left = new Map<string, number>();
  for (const token of reference) left.set(token, (left.get(token) ?? 0) + 1);
  let common = 0;
  for (const token of predicted) {
    const count = left.get(token) ?? 0;
    if (count === 0) continue;
    left.set(token, count - 1);
    common++;
  }
  if (common === 0) return 0;
  const precision = common / predicted.length;
  const recall = common / reference.length;
  return (2 * precision * recall) / (precision + recall);
}
