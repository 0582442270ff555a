import { niahTask } from './niah.ts';

/** The depth x length grid: sample i has the needle at depth 10 * (i mod 11) %, so 11 samples (22, 33, ...) make a column of the grid, each length another. */
export const needleInHaystack = niahTask(
  'needle_in_haystack',
  'one number in an essay, depth by depth',
  'essay; 1 needle, at 0, 10, ... 100 % of the sentences in turn',
  {
    haystack: 'essay',
    key_kind: 'word',
    value_kind: 'number',
    keys: 1,
    values: 1,
    queries: 1,
    depths: [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100],
  },
);
