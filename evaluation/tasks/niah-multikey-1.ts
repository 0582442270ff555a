import { niahTask } from './niah.ts';

/** RULER's niah_multikey_1: essay; 4 needles with different keys, 1 of them asked. */
export const niahMultikey1 = niahTask(
  'niah_multikey_1',
  'one number in an essay, three others beside it',
  'essay; 4 needles with different keys, 1 of them asked',
  {
    haystack: 'essay',
    key_kind: 'word',
    value_kind: 'number',
    keys: 4,
    values: 1,
    queries: 1,
  },
);
