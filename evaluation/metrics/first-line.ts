import type { Metric, MetricName } from '../contract.ts';
import { classification } from './classification.ts';
import { leftStripped } from './python-text.ts';
import { rougeLF } from './rouge-l.ts';
import { tokenF1 } from './token-f1.ts';

/** LongBench's few-shot tasks (trec, triviaqa, samsum, lsht): models go on with another example, so only the first line that is not empty counts. */
function firstLine(name: MetricName, metric: Metric): Metric {
  const of = (prediction: string): string => prediction.replace(/^\n+/, '').split('\n')[0];
  return {
    name,
    formula: `${metric.name} of the first line of the prediction, after leading line ends`,
    source: 'LongBench, arXiv 2308.14508, eval.py',
    score: (prediction, sample) => metric.score(of(prediction), sample),
    kvpress: (prediction, sample) => metric.score(of(leftStripped(prediction)), sample),
  };
}

export const classificationFirstLine = firstLine('classification_first_line', classification);
export const tokenF1FirstLine = firstLine('token_f1_first_line', tokenF1);
export const rougeLFirstLine = firstLine('rouge_l_first_line', rougeLF);
