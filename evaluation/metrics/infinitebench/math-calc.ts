import type { Metric } from '../../contract.ts';

/** InfiniteBench's math_calc: how far a chain of intermediate results is right. Signs are no part of a number there, so a negative reference is never met. */
export const mathCalc: Metric = {
  name: 'math_calc',
  formula: 'length of the common beginning of the numbers in the prediction and the references / number of references',
  source: 'InfiniteBench, arXiv 2402.13718, get_score_one_math_calc',
  score: (prediction, { answers }) => {
    const numbers = prediction.match(/[0-9]+/g) ?? [];
    const wrong = answers.findIndex((answer, i) => numbers[i] === undefined || !equal(numbers[i], answer));
    return (wrong === -1 ? answers.length : wrong) / answers.length;
  },
};

function equal(digits: string, answer: string): boolean {
  return /^-?[0-9]+$/.test(answer) && BigInt(digits) === BigInt(answer);
}
