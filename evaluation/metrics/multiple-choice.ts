import type { Metric } from '../contract.ts';
import { bestOf } from './best-of.ts';

/** LongBench v2: the answer must be in the phrase that the question asks for. */
export const multipleChoice: Metric = {
  name: 'multiple_choice',
  formula: '[first letter after "The correct answer is (", or else after "The correct answer is ", is the reference\'s]; asterisks removed',
  source: 'LongBench v2, arXiv 2412.15204, extract_answer',
  score: (prediction, sample) => {
    const text = prediction.replaceAll('*', '');
    const letter = /The correct answer is \(([A-D])\)/.exec(text) ?? /The correct answer is ([A-D])/.exec(text);
    return bestOf(sample, (answer) => (letter?.[1] === answer ? 1 : 0));
  },
  /** Any such phrase with the right letter is enough, even after one with a wrong letter. */
  kvpress: (prediction, sample) => {
    const text = prediction.replaceAll('*', '');
    const phrases = (answer: string): string[] => [`The correct answer is (${answer})`, `The correct answer is ${answer}`];
    return bestOf(sample, (answer) => (phrases(answer).some((phrase) => text.includes(phrase)) ? 1 : 0));
  },
};
