import { type Dataset, PREPARED, prepared } from './dataset.ts';

/** RULER as published, 13 tasks of 500 samples a length (Llama 3.1's tokenizer). For other lengths and tokenizers its tasks are made anew: evaluation/tasks. */
export const ruler: Dataset = {
  name: 'ruler',
  about: '13 tasks of retrieval, tracing, counting and question answering; a configuration is a length in tokens',
  hub: 'simonjegou/ruler',
  configs: ['4096', '8192', '16384'],
  split: 'test',
  columns: PREPARED,
  samples: (row, { config = 'ruler', index }) => {
    const task = row.text('task');
    return [
      {
        ...prepared(row),
        id: `ruler/${task}/${config}/${index}`,
        task,
        answers: row.answers('answer'),
        metric: task.startsWith('qa') ? 'string_match_part' : 'string_match_all',
      },
    ];
  },
};
