import { niahTask } from './niah.ts';

/** RULER's niah_multikey_2: a haystack of needles, one a line; 1 of them asked. */
export const niahMultikey2 = niahTask(
  'niah_multikey_2',
  'one number among nothing but others',
  'a haystack of needles, one a line; 1 of them asked',
  {
    haystack: 'needles',
    key_kind: 'word',
    value_kind: 'number',
    keys: 1,
    values: 1,
    queries: 1,
  },
);
