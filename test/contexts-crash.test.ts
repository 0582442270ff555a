/**
 * A folder of contexts whose process ends: killed by SIGKILL at random moments of creating and deleting, CONTEXT_KILLS times (default 100); and, one after the other,
 * every call of the file system failing, alone or with all behind it.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';
import { afterAll, expect, test, vi } from 'vitest';
import { ownerOf } from '../worker/contexts/bounds.ts';
import { ContextDirectory } from '../worker/contexts/directory.ts';
import { blobOf, bytesOf, checkWhole, context } from './support/context-store-suite.ts';
import { QUOTA, Told } from './support/contexts-history.ts';
import { Random } from './support/random.ts';

/** The call with number `at` fails, and with `all` those behind it. */
const faults = vi.hoisted(() => ({ on: false, at: 0, all: false, steps: [] as string[] }));

vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>();
  const point = (step: string) => {
    if (!faults.on) return;
    const n = faults.steps.push(step) - 1;
    if (faults.all ? n >= faults.at : n === faults.at) throw Object.assign(new Error(`EIO: ${step}`), { code: 'EIO' });
  };
  const faulty =
    <A extends unknown[], R>(name: string, call: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      point(name);
      return call(...args);
    };
  const handle = (file: FileHandle) =>
    new Proxy(file, {
      get(_, name: string) {
        const method = Reflect.get(file, name, file);
        if (typeof method !== 'function') return method;
        // A file is closed whatever close says.
        if (name === 'close') return () => file.close().then(() => point('close'));
        return ['write', 'writeFile', 'sync', 'read'].includes(name) ? faulty(name, method.bind(file)) : method.bind(file);
      },
    });
  return {
    ...real,
    open: async (...args: Parameters<typeof real.open>) => {
      point('open');
      return handle(await real.open(...args));
    },
    mkdir: faulty('mkdir', real.mkdir),
    rename: faulty('rename', real.rename),
    rm: faulty('rm', real.rm),
    readdir: faulty('readdir', real.readdir as (path: string) => Promise<string[]>),
    readFile: faulty('readFile', real.readFile as (path: string) => Promise<string>),
    stat: faulty('stat', real.stat as (path: string) => Promise<unknown>),
  };
});

const work = mkdtempSync(join(tmpdir(), 'edgepress-contexts-crash-'));
afterAll(() => rmSync(work, { recursive: true }));

const LATER_MS = 3_600_000; // beyond every lease

function names(folder: string): string[] {
  return statSync(folder, { throwIfNoEntry: false }) ? readdirSync(folder) : [];
}

/** The folder as the next process finds it, when leases are over. */
function openLater(folder: string, owner: string) {
  return {
    store: new ContextDirectory(folder, { quota: QUOTA, now: () => Date.now() + LATER_MS }),
    blobs: async () => names(join(folder, owner)),
  };
}

for (const all of [false, true]) {
  test(`${all ? 'from any call of the file system on all' : 'any one call of the file system'} fails: contexts are whole or absent, nothing is left`, async () => {
    const owner = await ownerOf('a');
    const history = async (at: number) => {
      const folder = join(work, `faults-${all}-${at}`);
      const store = new ContextDirectory(folder, { quota: QUOTA });
      const ttlMs = 2 * LATER_MS;
      const [first, touched] = [
        await store.create(owner, context({ ttlMs }), blobOf(bytesOf(1, 500))),
        await store.create(owner, context({ ttlMs }), blobOf(bytesOf(2, 10))),
      ];
      Object.assign(faults, { on: true, at, all, steps: [] });
      const made = await store.create(owner, context({ ttlMs }), blobOf(bytesOf(3, 700))).catch(() => null);
      const deleted = await store.delete(owner, first.id).catch(() => null);
      const longer = await store.touch(owner, touched.id, 10 * ttlMs).catch(() => null);
      const collected = await store.collect().catch(() => null);
      faults.on = false;
      const { steps } = faults;
      const about = `${at}: ${steps[at]}`;
      const ids = async (of: ContextDirectory) => (await of.list(owner)).records.map(({ id }) => id);
      const now = await ids(store);
      if (made) expect(now, about).toContain(made.id);
      if (deleted !== null) expect([deleted, now.includes(first.id)], about).toEqual([true, false]);
      if (longer) expect(await store.get(owner, touched.id), about).toEqual(longer);
      const later = openLater(folder, owner);
      await later.store.collect();
      const records = await checkWhole(later, owner);
      expect(
        records.map(({ id }) => id),
        about,
      ).toEqual(now);
      expect(now, about).toContain(touched.id);
      return { steps, failed: [made, deleted, longer, collected].some((one) => one === null) };
    };
    const { steps } = await history(10_000);
    expect(steps.length).toBeGreaterThan(40);
    let felt = 0;
    for (let at = 0; at < steps.length; at++) if ((await history(at)).failed) felt++;
    expect(felt).toBeGreaterThan(steps.length * 0.8); // the rest is what is only tried
  });
}

const KILLS = Number(process.env.CONTEXT_KILLS ?? 100);

test(
  `a process that is killed at any moment, ${KILLS} times: every context is whole or absent, and nothing is left`,
  async () => {
    const victim = join(work, 'victim.mjs');
    await build({
      entryPoints: ['test/support/contexts-victim.ts'],
      outfile: victim,
      bundle: true,
      format: 'esm',
      platform: 'node',
      alias: { vitest: resolve('test/support/vitest-in-workerd.ts') }, // of which it uses nothing
    });
    const folder = join(work, 'killed');
    const owner = await ownerOf('a');
    const random = new Random(1);
    const told = new Told();
    const seen = { leftovers: 0, contexts: 0 };
    for (let kill = 0; kill < KILLS; kill++) {
      const text = await killed([victim, folder, String(kill)], random.int(0, 8), random.int(0, 50));
      told.add(text);
      seen.leftovers += names(join(folder, owner)).filter((name) => name.includes('.')).length;
      const later = openLater(folder, owner);
      await later.store.collect();
      const records = await checkWhole(later, owner);
      told.check(records, `kill ${kill}`);
      seen.contexts += records.length;
    }
    expect(told.steps).toBeGreaterThan(KILLS); // they did get to work
    expect(seen.contexts).toBeGreaterThan(KILLS);
    expect(seen.leftovers).toBeGreaterThan(KILLS / 10); // and were killed in the middle of it
  },
  60_000 + KILLS * 5000,
);

/** What it wrote until it was killed, `ms` after it had told of so many steps: a busy machine takes seconds for what an idle one does in no time. */
function killed(args: string[], steps: number, ms: number): Promise<string> {
  return new Promise((done, failed) => {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let [text, errors] = ['', ''];
    let timer: NodeJS.Timeout | null = null;
    child.stderr.on('data', (piece: Buffer) => {
      errors += piece;
    });
    child.stdout.on('data', (piece: Buffer) => {
      text += piece;
      if (text.split('\n').length > steps + 1) timer ??= setTimeout(() => child.kill('SIGKILL'), ms);
    });
    child.on('close', (code, signal) => {
      if (timer) clearTimeout(timer);
      if (signal === 'SIGKILL') done(text.slice(1));
      else failed(new Error(`it ended by itself with ${code}: ${errors}`));
    });
  });
}
