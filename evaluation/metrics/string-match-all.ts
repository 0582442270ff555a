import type { Metric } from '../contract.ts';
import { rulerText } from './ruler-text.ts';

/** RULER's metric for retrieval, tracing and counting: all references count. A substring is enough, so "12" is found in "3124". */
export const stringMatchAll: Metric = {
  name: 'string_match_all',
  formula: 'sum over references of [reference in prediction] / number of references, in lower case',
  source: 'RULER, arXiv 2404.06654',
  score(prediction, { answers }) {
    const text = rulerText(prediction);
    return answers.filter((answer) => text.includes(answer.toLowerCase())).length / answers.length;
  },
};
