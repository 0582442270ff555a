/** A process that test/worker/contexts-crash.test.ts kills, workerd with it: Miniflare with the worker of a bundle, its state in a folder. Tells its address. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Miniflare } from 'miniflare';

const [bundle, folder] = process.argv.slice(2);
const workerd = new Miniflare({
  modules: true,
  script: readFileSync(bundle, 'utf8'),
  compatibilityDate: '2026-04-26',
  durableObjects: { CONTEXTS: { className: 'TestedIndex', useSQLite: true } },
  durableObjectsPersist: join(folder, 'do'),
  r2Buckets: ['CONTEXT_BLOBS'],
  r2Persist: join(folder, 'r2'),
  cf: false,
  host: '127.0.0.1',
  port: 0,
});
console.log((await workerd.ready).href);
