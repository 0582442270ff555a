import { niahTask } from './niah.ts';

/** RULER's niah_single_2: essay; 1 needle. */
export const niahSingle2 = niahTask('niah_single_2', 'one number in an essay', 'essay; 1 needle', {
  haystack: 'essay',
  key_kind: 'word',
  value_kind: 'number',
  keys: 1,
  values: 1,
  queries: 1,
});
