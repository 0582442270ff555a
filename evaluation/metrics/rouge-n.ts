import type { Metric, MetricName } from '../contract.ts';
import { bestOf } from './best-of.ts';
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

function metric(name: MetricName, n: number, statistic: 'f' | 'recall', formula: string): Metric {
  return {
    name,
    formula: `${formula}; P, R: share of the distinct ${n === 1 ? 'words' : 'pairs of words'} of prediction and reference that the other has`,
    source: SOURCE,
    score: (prediction, sample) => bestOf(sample, (answer) => rougeN(n, prediction, answer)[statistic]),
  };
}

export const rouge1 = metric('rouge_1', 1, 'f', '2PR / (P + R + 1e-8)');
export const rouge2 = metric('rouge_2', 2, 'f', '2PR / (P + R + 1e-8)');
export const rouge1Recall = metric('rouge_1_recall', 1, 'recall', 'R');
export const rouge2Recall = metric('rouge_2_recall', 2, 'recall', 'R');
