/** Every data set by its name. */

import { didYouMean, shownName } from '../../presses/did-you-mean.ts';
import { InputError } from '../../presses/input-error.ts';
import { aime25, math500 } from './boxed.ts';
import type { Dataset } from './dataset.ts';
import { infinitebench } from './infinitebench.ts';
import { longbench, longbenchE } from './longbench.ts';
import { longbenchV2 } from './longbench-v2.ts';
import { loogle } from './loogle.ts';
import { needleInHaystack } from './needle-in-haystack.ts';
import { ruler } from './ruler.ts';
import { zeroScrolls } from './zero-scrolls.ts';

export const DATASETS: readonly Dataset[] = [
  ruler,
  needleInHaystack,
  longbench,
  longbenchE,
  longbenchV2,
  loogle,
  infinitebench,
  zeroScrolls,
  math500,
  aime25,
];

export function datasetNamed(name: string): Dataset {
  const found = DATASETS.find((dataset) => dataset.name === name);
  if (found) return found;
  throw new InputError(
    'dataset_unknown',
    'dataset',
    `unknown dataset "${shownName(name)}"${didYouMean(
      name,
      DATASETS.map((dataset) => dataset.name),
    )}`,
  );
}
