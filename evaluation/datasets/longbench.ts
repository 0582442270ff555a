/** LongBench, 16 English tasks, and LongBench-E, 13 of them with lengths spread evenly: a configuration is a task, with "_e" of LongBench-E. */
import type { MetricName, Sample } from '../contract.ts';
import { type Dataset, known, type Place, PREPARED, prepared } from './dataset.ts';
import { longBenchPrompt } from './longbench-prompts.ts';
import type { Row } from './read/row.ts';

/** New tokens of the paper; 20 more are given, so that no answer is cut off (kvpress). */
const TASKS: Readonly<Record<string, { readonly metric: MetricName; readonly newTokens: number }>> = {
  narrativeqa: { metric: 'token_f1', newTokens: 128 },
  qasper: { metric: 'token_f1', newTokens: 128 },
  multifieldqa_en: { metric: 'token_f1', newTokens: 64 },
  hotpotqa: { metric: 'token_f1', newTokens: 32 },
  '2wikimqa': { metric: 'token_f1', newTokens: 32 },
  musique: { metric: 'token_f1', newTokens: 32 },
  gov_report: { metric: 'rouge_l', newTokens: 512 },
  qmsum: { metric: 'rouge_l', newTokens: 512 },
  multi_news: { metric: 'rouge_l', newTokens: 512 },
  trec: { metric: 'classification_first_line', newTokens: 64 },
  triviaqa: { metric: 'token_f1_first_line', newTokens: 32 },
  samsum: { metric: 'rouge_l_first_line', newTokens: 128 },
  passage_count: { metric: 'count', newTokens: 32 },
  passage_retrieval_en: { metric: 'retrieval', newTokens: 32 },
  lcc: { metric: 'code_similarity', newTokens: 64 },
  'repobench-p': { metric: 'code_similarity', newTokens: 64 },
};
const MORE_TOKENS = 20;
const NOT_IN_E = ['narrativeqa', 'musique', 'qmsum'];

const COLUMNS = [...PREPARED, 'answers', 'all_classes', 'length', 'input', 'dataset'];

export const longbench: Dataset = {
  name: 'longbench',
  about: '16 English tasks: question answering, summaries, few-shot learning, retrieval, code; a configuration is a task',
  hub: 'Xnhyacinth/LongBench',
  configs: Object.keys(TASKS),
  split: 'test',
  columns: COLUMNS,
  samples: (row, place) => [sample(row, place, '')],
};

export const longbenchE: Dataset = {
  name: 'longbench-e',
  about: '13 tasks of LongBench with lengths spread evenly; scores are split at 4000 and 8000 words',
  hub: 'Xnhyacinth/LongBench',
  configs: Object.keys(TASKS)
    .filter((task) => !NOT_IN_E.includes(task))
    .map((task) => `${task}_e`),
  split: 'test',
  columns: COLUMNS,
  samples: (row, place) => [{ ...sample(row, place, '_e'), words: row.integer('length') }],
};

/** Rows that are prepared have a question; those of the benchmark itself an input, and are put into words of our own. */
function sample(row: Row, { config, index }: Place, suffix: '' | '_e'): Sample {
  const column = row.has('task') ? 'task' : 'dataset';
  const task = (row.has(column) ? row.text(column) : (config ?? row.text('dataset'))).replace(/(?:_e|-e)$/, '');
  const { metric, newTokens } = known(TASKS, task, row, column);
  const raw = !row.has('question') && row.has('input');
  return {
    ...(raw ? { ...longBenchPrompt(task, row.text('context'), row.text('input')), maxNewTokens: newTokens + MORE_TOKENS } : prepared(row)),
    id: `longbench/${task}${suffix}/${index}`,
    task: `${task}${suffix}`,
    answers: row.answers(row.has('answers') ? 'answers' : 'answer'),
    metric,
    ...(metric === 'classification_first_line' ? { classes: row.texts('all_classes') } : {}),
  };
}
