import type { Metric } from '../../contract.ts';

/** InfiniteBench's passkey and number_string. */
export const firstInteger: Metric = {
  name: 'first_integer',
  formula: '[first run of digits 0-9 in the prediction = first reference]',
  source: 'InfiniteBench, arXiv 2402.13718, get_score_one_passkey and _number_string',
  score: (prediction, { answers }) => ((/[0-9]+/.exec(prediction)?.[0] ?? '') === answers[0] ? 1 : 0),
};
