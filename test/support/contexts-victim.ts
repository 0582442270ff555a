/** A process that test/contexts-crash.test.ts kills: works on the contexts of one folder, and writes what it does to its standard output, at once. */
import { writeSync } from 'node:fs';
import { ownerOf } from '../../worker/contexts/bounds.ts';
import { ContextDirectory } from '../../worker/contexts/directory.ts';
import { QUOTA, work } from './contexts-history.ts';

const [folder, seed] = process.argv.slice(2);
const store = new ContextDirectory(folder, { quota: QUOTA });
writeSync(1, '\n'); // it begins
await work(store, await ownerOf('a'), Number(seed), (line) => writeSync(1, `${line}\n`));
