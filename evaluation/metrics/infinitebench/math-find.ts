import type { Metric } from '../../contract.ts';

/**
 * InfiniteBench's math_find. An integer reference needs a prediction without a point: Python's int("5.0") raises, and so ends the official run; here it scores 0.
 * kvpress's copy of the data has references as text, which its copy of this rule refuses.
 */
export const mathFind: Metric = {
  name: 'math_find',
  formula: '[first number in the prediction, without sign, = first reference]',
  source: 'InfiniteBench, arXiv 2402.13718, get_score_one_math_find',
  score: (prediction, { answers }) => {
    const first = /\p{Nd}+\.\p{Nd}+|\p{Nd}+/u.exec(prediction)?.[0];
    if (first === undefined || (first.includes('.') && !answers[0].includes('.'))) return 0;
    return Number(first) === Number(answers[0]) ? 1 : 0;
  },
};
