import type { Metric } from '../../contract.ts';
import { words } from '../python-text.ts';

/** What Python's int() reads, in ASCII: a sign, digits, single underscores between them. */
const INTEGER = /^[+-]?[0-9]+(?:_[0-9]+)*$/;

/** InfiniteBench's code_run. kvpress's copy of the data has references as text, which never equal a number there: 0 for every answer. Here they are compared as numbers. */
export const codeRun: Metric = {
  name: 'code_run',
  formula: '[last word of the prediction, as an integer, = first reference], words separated by white space and . ` \' " :',
  source: 'InfiniteBench, arXiv 2402.13718, get_score_one_code_run',
  score: (prediction, { answers }) => {
    const last = words(prediction.replace(/[\n.`'":]/g, ' ')).at(-1) ?? '';
    const label = answers[0];
    return INTEGER.test(last) && INTEGER.test(label) && BigInt(digits(last)) === BigInt(digits(label)) ? 1 : 0;
  },
};

/** BigInt reads no underscores and no plus. */
function digits(integer: string): string {
  return integer.replaceAll('_', '').replace('+', '');
}
