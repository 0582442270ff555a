import { niahTask } from './niah.ts';

/** RULER's niah_multivalue: essay; 1 key with 4 values in 4 needles, all asked. */
export const niahMultivalue = niahTask('niah_multivalue', 'all four numbers of one key', 'essay; 1 key with 4 values in 4 needles, all asked', {
  haystack: 'essay',
  key_kind: 'word',
  value_kind: 'number',
  keys: 1,
  values: 4,
  queries: 1,
});
