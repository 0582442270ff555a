import type { Metric, MetricName } from '../contract.ts';
import { bestOf } from './best-of.ts';
import { loogleText } from './loogle-text.ts';
import { stripped } from './python-text.ts';
import { NO_ROUGE, type Rouge, rougeOf, sentences } from './rouge-sentences.ts';

const SOURCE = 'ROUGE (Lin 2004), as the Python package rouge 1.0.1 computes it';

/** ROUGE-N over sets of n-grams, each counted once; they cross the ends of sentences. 0 where either text has no sentence (the package raises). */
export function rougeN(n: number, prediction: string, reference: string): Rouge {
  const [predicted, expected] = [prediction, reference].map((text) => sentences(text).flat());
  if (predicted.length === 0 || expected.length === 0) return NO_ROUGE;
  const [p, r] = [predicted, expected].map((tokens) => nGrams(n, tokens));
  let overlap = 0;
  for (const gram of p) if (r.has(gram)) overlap++;
  return rougeOf(overlap, p.size, r.size);
}

/** Words have no spaces in them, so a space keeps n-grams apart. */
function nGrams(n: number, tokens: readonly string[]): Set<string> {
  return new Set(Array.from({ length: Math.max(0, tokens.length - n + 1) }, (_, i) => tokens.slice(i, i + n).join(' ')));
}

const over = (n: number): string =>
  `P, R: share of the distinct ${n === 1 ? 'words' : 'pairs of words'} of prediction and reference that the other has`;

/** Both texts without the white space around them, as needle_in_haystack of kvpress has it: a space after the last "." would be a sentence. */
function fOf(name: MetricName, n: number): Metric {
  return {
    name,
    formula: `max over references of 2PR / (P + R + 1e-8); ${over(n)}`,
    source: SOURCE,
    score: (prediction, sample) => bestOf(sample, (answer) => rougeN(n, stripped(prediction), stripped(answer)).f),
  };
}

/** LooGLE's. */
function recallOf(name: MetricName, n: number): Metric {
  return {
    name,
    formula: `max over references of R; ${over(n)}`,
    source: SOURCE,
    score: (prediction, sample) => bestOf(sample, (answer) => rougeN(n, loogleText(prediction), answer).recall),
  };
}

export const rouge1 = fOf('rouge_1', 1);
export const rouge2 = fOf('rouge_2', 2);
export const rouge1Recall = recallOf('rouge_1_recall', 1);
export const rouge2Recall = recallOf('rouge_2_recall', 2);
