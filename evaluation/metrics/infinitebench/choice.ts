import type { Metric } from '../../contract.ts';
import { stripped, words } from '../python-text.ts';
import { afterPrefix, oneSpace } from './after-prefix.ts';
import { lastLetterAlone } from './last-letter.ts';

const PREFIXES = ['answer is:', 'answer:', 'answer is', 'option is'];
const LAST_LETTER = lastLetterAlone('A-D');

/** InfiniteBench's longbook_choice_eng. References: the option's text, then its letter. Words such as "AB" pass for a letter in the last step, as there. */
export const choice: Metric = {
  name: 'choice',
  formula:
    '[first character, if one of A to D, is a reference], else [whole prediction is one], else [one follows the first of "answer is:", "answer:", "answer is", "option is" found], else [first word among A to D is one]',
  source: 'InfiniteBench, arXiv 2402.13718, get_score_one_longbook_choice_eng',
  score: (prediction, { answers }) => (chosen(stripped(prediction), answers) ? 1 : 0),
  /** First of all, the last capital A to D that stands alone on the first line that has one. */
  kvpress: (prediction, { answers }) => {
    const text = stripped(prediction);
    const letter = LAST_LETTER.exec(text)?.[0];
    return (letter !== undefined && answers.includes(letter)) || chosen(text, answers) ? 1 : 0;
  },
};

function chosen(text: string, answers: readonly string[]): boolean {
  if (text === '') return false;
  if ('ABCD'.includes(text[0])) return answers.includes(text[0]);
  if (answers.includes(text)) return true;
  const clean = oneSpace(text.replace(/[\n"'.,?!{}]/g, ' '));
  if (PREFIXES.some((prefix) => clean.includes(prefix))) return afterPrefix(clean, PREFIXES, answers);
  const letter = words(clean).find((word) => 'ABCD'.includes(word));
  return letter !== undefined && answers.includes(letter);
}
