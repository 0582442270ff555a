import type { Metric } from '../contract.ts';
import { bestOf } from './best-of.ts';
import { leftStripped, roundedToEven } from './python-text.ts';
import { matchRatio } from './sequence-matcher.ts';

/**
 * LongBench's score of lcc and repobench-p. fuzzywuzzy's ratio without python-Levenshtein, as LongBench's requirements install it: with that package it would be
 * another number.
 */
export const codeSimilarity: Metric = {
  name: 'code_similarity',
  formula:
    'max over references of round(100 * 2M / (|a| + |b|)) / 100; a: first line of the prediction without `, # and //, b: reference, M: matching characters of difflib',
  source: 'LongBench, arXiv 2308.14508, code_sim_score',
  score: (prediction, sample) => {
    const line = codeLine(prediction);
    return bestOf(sample, (reference) => fuzzyRatio(line, reference) / 100);
  },
  kvpress: (prediction, sample) => codeSimilarity.score(leftStripped(prediction), sample),
};

function codeLine(prediction: string): string {
  const lines = prediction.replace(/^\n+/, '').split('\n');
  return lines.find((line) => !line.includes('`') && !line.includes('#') && !line.includes('//')) ?? '';
}

/** Whole percent; equal texts are 100 even when empty, any other empty one is 0. */
function fuzzyRatio(a: string, b: string): number {
  if (a === b) return 100;
  if (a === '' || b === '') return 0;
  return roundedToEven(100 * matchRatio(a, b));
}
