import type { Metric } from '../contract.ts';
import { bestOf } from './best-of.ts';
import { checkLengths, commonSubsequence } from './common-subsequence.ts';

/** ROUGE-Lsum of Google's package: lines are sentences, words are runs of a-z and 0-9, and no word counts more often than either text has it. */
export const rougeLSum: Metric = {
  name: 'rouge_l_sum',
  formula:
    'max over references of 2PR / (P + R); P, R: hits / words of prediction, of reference; hits: words of the union, per line of the reference, of its LCS with each line of the prediction',
  source: 'ROUGE (Lin 2004), as the Python package rouge-score 0.1.2 computes it; InfiniteBench longbook_sum_eng',
  score: (prediction, sample) => bestOf(sample, (answer) => fMeasure(lines(prediction), lines(answer))),
};

function fMeasure(predicted: string[][], reference: string[][]): number {
  checkLengths(predicted, reference);
  const left = [predicted, reference].map(counts);
  let hits = 0;
  for (const line of reference) {
    const union = new Set(predicted.flatMap((other) => commonSubsequence(line, other, 'x')));
    for (const position of [...union].sort((a, b) => a - b)) {
      const word = line[position];
      if (left.some((of) => (of.get(word) ?? 0) === 0)) continue;
      for (const of of left) of.set(word, of.get(word)! - 1);
      hits++;
    }
  }
  if (hits === 0) return 0;
  const precision = hits / predicted.flat().length;
  const recall = hits / reference.flat().length;
  return (2 * precision * recall) / (precision + recall);
}

function lines(text: string): string[][] {
  return text
    .split('\n')
    .filter((line) => line.length > 0)
    .map((line) => line.toLowerCase().match(/[a-z0-9]+/g) ?? []);
}

function counts(sentences: readonly (readonly string[])[]): Map<string, number> {
  const of = new Map<string, number>();
  for (const word of sentences.flat()) of.set(word, (of.get(word) ?? 0) + 1);
  return of;
}
