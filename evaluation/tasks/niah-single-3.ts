import { niahTask } from './niah.ts';

/** RULER's niah_single_3: essay; 1 needle, its value a UUID. */
export const niahSingle3 = niahTask('niah_single_3', 'one UUID in an essay', 'essay; 1 needle, its value a UUID', {
  haystack: 'essay',
  key_kind: 'word',
  value_kind: 'uuid',
  keys: 1,
  values: 1,
  queries: 1,
});
