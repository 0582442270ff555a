/**
 * Contexts in workerd, which is killed by SIGKILL at random moments of creating and deleting and started again on the same state, WORKERD_KILLS times (default 12; a start
 * takes a second or two). test/worker/contexts.test.ts has every single step fail.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { QuotaError } from '../../worker/contexts/quota.ts';
import { contextsWorker } from '../support/contexts-bundle.ts';
import { QUOTA, Told, work } from '../support/contexts-history.ts';
import type { Found } from '../support/contexts-worker.ts';
import { Random } from '../support/random.ts';
import { OWN_CONNECTION } from '../support/worker.ts';

const KILLS = Number(process.env.WORKERD_KILLS ?? 12);

const folder = mkdtempSync(join(tmpdir(), 'edgepress-contexts-crash-'));
let host: ChildProcess | null = null;
afterAll(async () => {
  if (host) await kill(host);
  rmSync(folder, { recursive: true });
});

test(
  `workerd is killed at any moment, ${KILLS} times: every context is whole or absent, and nothing is left`,
  async () => {
    const bundle = join(folder, 'worker.mjs');
    writeFileSync(bundle, await contextsWorker());
    const random = new Random(2);
    const told = new Told();
    const seen = { contexts: 0, leftovers: 0 };
    for (let round = 0; ; round++) {
      const url = await start(bundle);
      const response = await fetch(new URL('/found', url), { headers: OWN_CONNECTION });
      if (!response.ok) throw new Error(await response.text());
      const { records, leftovers } = (await response.json()) as Found;
      told.check(records, `kill ${round}`);
      seen.contexts += records.length;
      seen.leftovers += leftovers;
      if (round === KILLS) break;
      told.add(await killedAt(url, round, random.int(5, 25), random.int(0, 50)));
    }
    expect(told.steps).toBeGreaterThan(4 * KILLS);
    expect(seen.contexts).toBeGreaterThan(KILLS);
    if (KILLS >= 40) expect(seen.leftovers).toBeGreaterThan(KILLS / 10); // it was killed in the middle of its work; of few kills chance may spare all
  },
  60_000 + KILLS * 20_000,
);

/** A process group of its own: the host and workerd. */
async function start(bundle: string): Promise<string> {
  host = spawn(process.execPath, ['--import', 'tsx', 'test/support/contexts-host.ts', bundle, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  });
  const [line] = (await Promise.race([
    once(host.stdout!, 'data'),
    once(host, 'exit').then(([code]) => Promise.reject(new Error(`the host ended with ${code}`))),
  ])) as [Buffer];
  return line.toString().trim();
}

async function kill(process_: ChildProcess): Promise<void> {
  const ended = once(process_, 'close');
  process.kill(-process_.pid!, 'SIGKILL');
  await ended;
  host = null;
}

/** What was told until both were killed, `ms` after so many steps. */
async function killedAt(url: string, seed: number, steps: number, ms: number): Promise<string> {
  let text = '';
  let killing: Promise<void> | null = null;
  const working = work(remote(url), '', seed, (line) => {
    text += `${line}\n`;
    if (text.split('\n').length > steps) killing ??= new Promise((resolve) => setTimeout(resolve, ms)).then(() => kill(host!));
  });
  const failure: unknown = await working.catch((error: unknown) => error);
  if (!killing) throw failure; // else it failed as it had to
  await killing;
  return text;
}

/** The store that test/support/contexts-worker.ts has. */
function remote(url: string): Parameters<typeof work>[0] {
  const step = async (name: string, body?: BodyInit) => {
    const response = await fetch(new URL(`/step/${name}`, url), { headers: OWN_CONNECTION, method: body ? 'POST' : 'GET', body });
    if (response.status === 413) throw new QuotaError(await response.json(), 0, QUOTA);
    if (!response.ok) throw new Error(await response.text());
    return response.json();
  };
  return {
    list: () => step('list'),
    create: async (_, __, { chunks }) => {
      const pieces: Uint8Array<ArrayBuffer>[] = [];
      for await (const chunk of chunks) pieces.push(chunk.slice());
      return step('create', new Blob(pieces));
    },
    delete: (_, id) => step(`delete?id=${id}`),
    touch: (_, id) => step(`touch?id=${id}`),
    collect: () => step('collect'),
  } as Parameters<typeof work>[0];
}
