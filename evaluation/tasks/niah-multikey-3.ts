import { niahTask } from './niah.ts';

/** RULER's niah_multikey_3: a haystack of needles, keys and values UUIDs; 1 of them asked. */
export const niahMultikey3 = niahTask(
  'niah_multikey_3',
  'one UUID among nothing but others, keys UUIDs too',
  'a haystack of needles, keys and values UUIDs; 1 of them asked',
  {
    haystack: 'needles',
    key_kind: 'uuid',
    value_kind: 'uuid',
    keys: 1,
    values: 1,
    queries: 1,
  },
);
