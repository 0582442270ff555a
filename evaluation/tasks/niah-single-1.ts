import { niahTask } from './niah.ts';

/** RULER's niah_single_1: stock sentences, one a line; 1 needle. */
export const niahSingle1 = niahTask('niah_single_1', 'one number among stock sentences', 'stock sentences, one a line; 1 needle', {
  haystack: 'stock',
  key_kind: 'word',
  value_kind: 'number',
  keys: 1,
  values: 1,
  queries: 1,
});
