import type { Metric } from '../../contract.ts';
import { stripped } from '../python-text.ts';
import { afterPrefix, oneSpace } from './after-prefix.ts';
import { lastLetterAlone } from './last-letter.ts';

const PREFIXES = ['answer is:', 'is:', 'answer:', 'correct option is:'];
const LAST_LETTER = lastLetterAlone('A-J');

/** InfiniteBench's code_debug. References: the function's name, then the option's letter. */
export const codeDebug: Metric = {
  name: 'code_debug',
  formula:
    '[the prediction begins with "letter." or "letter:", or letter or function name follow the first of "answer is:", "is:", "answer:", "correct option is:" found]',
  source: 'InfiniteBench, arXiv 2402.13718, get_score_one_code_debug',
  score: (prediction, { answers: [name, letter] }) => {
    const text = stripped(prediction);
    if (text.startsWith(`${letter}.`) || text.startsWith(`${letter}:`)) return 1;
    return afterPrefix(cleaned(text), PREFIXES, [letter, name]) ? 1 : 0;
  },
  /** Also the last capital A to J that stands alone on the first line that has one, and what the prediction begins with. */
  kvpress: (prediction, { answers: [name, letter] }) => {
    const text = stripped(prediction);
    if (LAST_LETTER.exec(text)?.[0] === letter) return 1;
    const clean = cleaned(text);
    return clean.startsWith(letter) || clean.startsWith(name) || afterPrefix(clean, PREFIXES, [letter, name]) ? 1 : 0;
  },
};

function cleaned(text: string): string {
  return oneSpace(text.replace(/[\n`'"*-]|Option|option/g, ' '));
}
