import { niahTask } from './niah.ts';

/** RULER's niah_multiquery: essay; 4 keys with 1 value each, all asked. */
export const niahMultiquery = niahTask('niah_multiquery', 'the numbers of four keys', 'essay; 4 keys with 1 value each, all asked', {
  haystack: 'essay',
  key_kind: 'word',
  value_kind: 'number',
  keys: 4,
  values: 1,
  queries: 4,
});
