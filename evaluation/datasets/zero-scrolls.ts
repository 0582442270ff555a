import { type Dataset, PREPARED, prepared } from './dataset.ts';

/** ZeroSCROLLS: its answers are not public. Predictions are written for its server to score. */
export const zeroScrolls: Dataset = {
  name: 'zero_scrolls',
  about: 'ten tasks of summaries, questions and sorting; predictions only, for its own server to score',
  hub: 'simonjegou/zero_scrolls',
  configs: null,
  split: 'test',
  columns: PREPARED,
  samples: (row, { index }) => {
    const task = row.text('task');
    return [{ ...prepared(row), id: `zero_scrolls/${task}/${index}`, task, answers: [], metric: null }];
  },
};
