import type { Metric } from '../contract.ts';
import { bestOf } from './best-of.ts';
import { checkLengths, commonSubsequence } from './common-subsequence.ts';
import { loogleText } from './loogle-text.ts';
import { stripped } from './python-text.ts';
import { NO_ROUGE, type Rouge, rougeOf, sentences } from './rouge-sentences.ts';

const SOURCE = 'ROUGE (Lin 2004), as the Python package rouge 1.0.1 computes it';
const OVER =
  'P, R: |U| / distinct words of prediction, of reference; U: the distinct words of the longest common subsequences of each sentence of one with each of the other';

/**
 * ROUGE-L on the level of summaries, over sets of words. 0 where either text has no sentence (the package raises).
 *     U = union over reference sentences r and predicted sentences p of set(LCS(r, p))
 * The package walks the table back by recursion: on sentences of some 1,000 words together it runs out of Python's stack, and LongBench then scores 0.
 * How many depends on the interpreter, so that is not reproduced.
 */
export function rougeL(prediction: string, reference: string): Rouge {
  const predicted = sentences(prediction);
  const expected = sentences(reference);
  if (predicted.length === 0 || expected.length === 0) return NO_ROUGE;
  checkLengths(expected, predicted);
  const union = new Set<string>();
  for (const r of expected) {
    for (const p of predicted) for (const position of commonSubsequence(r, p, 'y')) union.add(r[position]);
  }
  return rougeOf(union.size, new Set(predicted.flat()).size, new Set(expected.flat()).size);
}

export const rougeLF: Metric = {
  name: 'rouge_l',
  formula: `max over references of 2PR / (P + R + 1e-8); ${OVER}`,
  source: SOURCE,
  score: (prediction, sample) => bestOf(sample, (answer) => rougeL(prediction, answer).f),
};

/** LooGLE's. */
export const rougeLRecall: Metric = {
  name: 'rouge_l_recall',
  formula: `max over references of R; ${OVER}`,
  source: SOURCE,
  score: (prediction, sample) => bestOf(sample, (answer) => rougeL(loogleText(prediction), answer).recall),
};

/** needle_in_haystack scores the needle against the answer, arguments exchanged: the same F, but for which of several equally long subsequences is taken. */
export const needleRougeL: Metric = {
  name: 'needle_rouge_l',
  formula: `rouge_l of the needle as prediction and the answer as reference, both without the white space around them; ${OVER}`,
  source: `${SOURCE}; needle_in_haystack of kvpress`,
  score: (prediction, sample) => bestOf(sample, (needle) => rougeL(stripped(needle), stripped(prediction)).f),
};
