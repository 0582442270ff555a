import type { Metric, MetricName } from '../contract.ts';
import { bestOf } from './best-of.ts';
import { loogleText } from './loogle-text.ts';
import { words } from './python-text.ts';

/**
 * LooGLE's BLEU of one sentence.
 *     BP * p_n,   BP = 1 if c > r else exp(1 - r/c)
 *     p_n = n-grams of the prediction that the reference has, counted at most as often as it has them / n-grams of the prediction
 * c, r: words of prediction and reference. What LooGLE calls BLEU-4 has weight on the 4-grams only, so it is not the geometric mean of p_1 to p_4.
 */
export function bleu(n: number, prediction: string, reference: string): number {
  const [c, r] = [loogleText(prediction), reference].map((text) => words(text));
  if (c.length === 0 || clipped(1, c, r) === 0) return 0;
  const brevity = c.length > r.length ? 1 : Math.exp(1 - r.length / c.length);
  return (brevity * clipped(n, c, r)) / Math.max(1, c.length - n + 1);
}

function clipped(n: number, predicted: readonly string[], reference: readonly string[]): number {
  const left = new Map<string, number>();
  for (const gram of grams(n, reference)) left.set(gram, (left.get(gram) ?? 0) + 1);
  let common = 0;
  for (const gram of grams(n, predicted)) {
    const count = left.get(gram) ?? 0;
    if (count === 0) continue;
    left.set(gram, count - 1);
    common++;
  }
  return common;
}

function grams(n: number, tokens: readonly string[]): string[] {
  return Array.from({ length: Math.max(0, tokens.length - n + 1) }, (_, i) => tokens.slice(i, i + n).join(' '));
}

function metric(name: MetricName, n: number): Metric {
  return {
    name,
    formula: `max over references of BP * p_${n}; p_${n}: clipped share of the prediction's ${n}-grams, BP = min(1, exp(1 - r/c))`,
    source: 'LooGLE, arXiv 2311.04939, get_bleu_score (nltk sentence_bleu without smoothing)',
    score: (prediction, sample) => bestOf(sample, (answer) => bleu(n, prediction, answer)),
  };
}

export const bleu1 = metric('bleu_1', 1);
export const bleu4 = metric('bleu_4', 4);
