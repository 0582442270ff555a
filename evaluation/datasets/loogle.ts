import type { MetricName } from '../contract.ts';
import { type Dataset, known, PREPARED, prepared, taskOf } from './dataset.ts';

/** What LooGLE reports of free answers; METEOR (of sets of words, in an order that changes from run to run) and BERTScore (a model of its own) are not built. */
const FREE: readonly MetricName[] = ['rouge_l_recall', 'rouge_1_recall', 'rouge_2_recall', 'bleu_1', 'bleu_4'];
const METRICS: Readonly<Record<string, readonly MetricName[]>> = {
  shortdep_qa: FREE,
  longdep_qa: FREE,
  longdep_summarization: FREE,
  shortdep_cloze: ['exact_match', 'partial_match'],
};

/** LooGLE: long documents published after 2022. */
export const loogle: Dataset = {
  name: 'loogle',
  about: 'questions with near and far evidence, clozes and summaries of documents published after 2022; a configuration is a task',
  hub: 'simonjegou/loogle',
  configs: Object.keys(METRICS),
  split: 'test',
  columns: PREPARED,
  samples: (row, place) => {
    const task = taskOf(row, place);
    const [metric, ...alsoMetrics] = known(METRICS, task, row, 'task');
    return [{ ...prepared(row), id: `loogle/${task}/${place.index}`, task, answers: row.answers('answer'), metric, alsoMetrics }];
  },
};
