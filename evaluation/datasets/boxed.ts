import type { MetricName } from '../contract.ts';
import { type Dataset, PREPARED, prepared } from './dataset.ts';

/** Mathematics with long answers, for presses that compress while decoding: kvpress's copies. */
function mathematics(name: string, about: string, metric: MetricName): Dataset {
  return {
    name,
    about,
    hub: `alessiodevoto/${name}`,
    configs: null,
    split: 'test',
    columns: PREPARED,
    samples: (row, { index }) => [{ ...prepared(row), id: `${name}/${index}`, task: name, answers: row.answers('answer'), metric }],
  };
}

export const math500 = mathematics('math500', '500 problems of MATH; the first boxed answer counts', 'boxed_first');
export const aime25 = mathematics('aime25', 'the American Invitational Mathematics Examination of 2025; the last boxed answer counts', 'boxed_last');
