/** The folder in which a Node or Deno server keeps contexts, and who clears up in it. */
import { setInterval } from 'node:timers'; // Deno's own has no unref
import { InputError } from '../presses/input-error.ts';
import type { ContextStore } from './contexts/contract.ts';
import { ContextDirectory } from './contexts/directory.ts';
import type { Quota } from './contexts/quota.ts';

/** Where the server is started, as wrangler keeps those of workerd in .wrangler. */
export const CONTEXTS_FOLDER = '.edgepress/contexts';
const COLLECT_MS = 3_600_000;

/** Of no folder: the usual one; where that cannot be made, none are kept, and standard error says so. Throws InputError where the folder that is named cannot be. */
export async function openContexts(folder: string | undefined, quota: Quota): Promise<ContextStore | null> {
  let store: ContextStore;
  try {
    store = new ContextDirectory(folder || CONTEXTS_FOLDER, { quota });
  } catch (error) {
    if (folder || !(error instanceof InputError)) throw error;
    console.error(`edgepress: no contexts are kept: ${error.message}`);
    return null;
  }
  await collect(store); // what an earlier process left in the middle
  setInterval(() => void collect(store), COLLECT_MS).unref();
  return store;
}

/** What cannot be removed now is tried again. */
async function collect(store: ContextStore): Promise<void> {
  await store.collect().catch((error: Error) => console.error(`edgepress: contexts that are over could not be removed: ${error.message}`));
}
