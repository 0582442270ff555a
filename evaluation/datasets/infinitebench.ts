import { shownName } from '../../presses/did-you-mean.ts';
import type { MetricName } from '../contract.ts';
import { type Dataset, known, PREPARED, prepared, taskOf } from './dataset.ts';
import type { Row } from './read/row.ts';

const METRICS: Readonly<Record<string, MetricName>> = {
  passkey: 'first_integer',
  kv_retrieval: 'word_match',
  number_string: 'first_integer',
  longdialogue_qa_eng: 'character_name',
  longbook_qa_eng: 'token_f1',
  longbook_choice_eng: 'choice',
  longbook_sum_eng: 'rouge_l_sum',
  longbook_qa_chn: 'character_f1',
  code_run: 'code_run',
  code_debug: 'code_debug',
  math_find: 'math_find',
  math_calc: 'math_calc',
};
const WITH_OPTIONS = ['longbook_choice_eng', 'code_debug'];

/** InfiniteBench: texts of some 100,000 tokens. */
export const infinitebench: Dataset = {
  name: 'infinitebench',
  about: 'twelve tasks on texts of some 100,000 tokens: retrieval, books, dialogue, code, arithmetic; a configuration is a task',
  hub: 'MaxJeblick/InfiniteBench',
  configs: Object.keys(METRICS),
  split: 'test',
  columns: PREPARED,
  samples: (row, place) => {
    const task = taskOf(row, place);
    const metric = known(METRICS, task, row, 'task');
    const answers = WITH_OPTIONS.includes(task) ? option(row) : row.answers('answer');
    return [{ ...prepared(row), id: `infinitebench/${task}/${place.index}`, task, answers, metric }];
  },
};

/** The official rules want an option's text and its letter. The prepared rows have the letter only, and the options at the end of the question, a line each. */
function option(row: Row): string[] {
  const answers = row.answers('answer');
  const letter = answers.at(-1)!;
  if (!/^[A-D]$/.test(letter)) throw row.wrong('answer', `must end in one of A, B, C, D, got ${JSON.stringify(shownName(letter))}`);
  if (answers.length > 1) return [answers[0], letter];
  const text = new RegExp(`\n${letter}\\. ([^\n]*)(?![^]*\n${letter}\\. )`).exec(row.text('question'))?.[1];
  if (text === undefined) throw row.wrong('question', `must have a line "${letter}. …", the option that is right`);
  return [text, letter];
}
