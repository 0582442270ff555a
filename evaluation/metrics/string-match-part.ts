import type { Metric } from '../contract.ts';
import { rulerText } from './ruler-text.ts';

/** RULER's metric for its question answering tasks: one reference is enough. */
export const stringMatchPart: Metric = {
  name: 'string_match_part',
  formula: 'max over references of [reference in prediction], in lower case',
  source: 'RULER, arXiv 2404.06654',
  score(prediction, { answers }) {
    const text = rulerText(prediction);
    return answers.some((answer) => text.includes(answer.toLowerCase())) ? 1 : 0;
  },
};
