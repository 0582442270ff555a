/** Every generated task, and every style of words they can be written in. */
import type { Task } from './contract.ts';
import { cwe } from './cwe.ts';
import { fwe } from './fwe.ts';
import { needleInHaystack } from './needle-in-haystack.ts';
import { niahMultikey1 } from './niah-multikey-1.ts';
import { niahMultikey2 } from './niah-multikey-2.ts';
import { niahMultikey3 } from './niah-multikey-3.ts';
import { niahMultiquery } from './niah-multiquery.ts';
import { niahMultivalue } from './niah-multivalue.ts';
import { niahSingle1 } from './niah-single-1.ts';
import { niahSingle2 } from './niah-single-2.ts';
import { niahSingle3 } from './niah-single-3.ts';
import { needle } from './phrasebooks/needle.ts';
import type { Phrasebook } from './phrasebooks/phrasebook.ts';
import { ruler } from './phrasebooks/ruler.ts';
import { qa1 } from './qa-1.ts';
import { qa2 } from './qa-2.ts';
import { vt } from './vt.ts';

/** RULER's 13; their mean is the RULER average. */
export const rulerTasks: readonly Task[] = [
  niahSingle1,
  niahSingle2,
  niahSingle3,
  niahMultikey1,
  niahMultikey2,
  niahMultikey3,
  niahMultivalue,
  niahMultiquery,
  vt as Task,
  cwe as Task,
  fwe as Task,
  qa1,
  qa2,
];

export const tasks: readonly Task[] = [...rulerTasks, needleInHaystack];

export const styles: readonly Phrasebook[] = [ruler, needle];
