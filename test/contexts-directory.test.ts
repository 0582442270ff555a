/** Contexts in a folder: what every store does, and what only a folder can suffer. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ownerOf } from '../worker/contexts/bounds.ts';
import { ContextDirectory } from '../worker/contexts/directory.ts';
import type { Quota } from '../worker/contexts/quota.ts';
import { blobOf, bytesOf, checkWhole, context, contextStoreSuite, failureOf, type StoreUnderTest } from './support/context-store-suite.ts';

const work = mkdtempSync(join(tmpdir(), 'edgepress-contexts-'));
afterAll(() => rmSync(work, { recursive: true }));

let folders = 0;
async function open(quota?: Quota): Promise<StoreUnderTest & { folder: string }> {
  const folder = join(work, String(folders++), 'contexts');
  let ahead = 0;
  return {
    folder,
    store: new ContextDirectory(folder, { quota, now: () => Date.now() + ahead }),
    advance: (ms) => {
      ahead += ms;
    },
    // Every folder and file of the owner, by what stands before the first dot: nothing may hide.
    blobs: async (owner) => names(join(folder, owner)).map((name) => name.split('.')[0]),
    async plant(owner, id) {
      mkdirSync(join(folder, owner, `${id}.writing.100.${Date.now() - 1}`), { recursive: true });
      writeFileSync(join(folder, owner, names(join(folder, owner)).find((name) => name.startsWith(id))!, 'blob'), 'half');
    },
    async damage(owner, id, bytes) {
      const blob = join(folder, owner, id, 'blob');
      if (bytes) writeFileSync(blob, bytes);
      else rmSync(blob);
    },
  };
}

function names(folder: string): string[] {
  return statSync(folder, { throwIfNoEntry: false }) ? readdirSync(folder) : [];
}

contextStoreSuite(open);

test('two processes on one folder see the same, and together keep the quota', async () => {
  const { folder, store } = await open({ count: 5, bytes: 1e6 });
  const others = [1, 2, 3].map(() => new ContextDirectory(folder, { quota: { count: 5, bytes: 1e6 } }));
  const owner = await ownerOf('a');
  for (let round = 0; round < 5; round++) {
    await Promise.allSettled(others.flatMap((other, i) => [0, 1, 2].map((j) => other.create(owner, context(), blobOf(bytesOf(i + j, 10))))));
    const { count } = (await store.usage(owner)).held;
    expect(count).toBeLessThanOrEqual(5);
    for (const other of others) expect((await other.usage(owner)).held.count).toBe(count);
    const { records } = await store.list(owner);
    // One deletes what another touches and the third reads: each finds it whole or not at all.
    await Promise.all(records.flatMap(({ id }) => [others[0].delete(owner, id), others[1].touch(owner, id, 5000), others[2].get(owner, id)]));
    expect((await store.list(owner)).records).toEqual([]);
  }
  await checkWhole({ store, blobs: async () => names(join(folder, owner)) }, owner);
});

test('of two who touch a context at once neither loses time', async () => {
  const { folder, store } = await open();
  const others = [1, 2, 3, 4].map(() => new ContextDirectory(folder));
  const owner = await ownerOf('a');
  const kept = await store.create(owner, context(), blobOf(bytesOf(1, 1)));
  const told = await Promise.all(others.flatMap((other, i) => [1, 2, 3].map((j) => other.touch(owner, kept.id, 1e8 + 1000 * ((7 * i + j) % 12)))));
  const longest = Math.max(...told.map((record) => record!.expiresAt));
  expect((await store.get(owner, kept.id))!.expiresAt).toBe(longest);
});

test('what is not the store’s stays, and is in nobody’s way', async () => {
  const under = await open();
  const { folder, store } = under;
  const owner = await ownerOf('a');
  const { id } = await store.create(owner, context(), blobOf(bytesOf(1, 10)));
  writeFileSync(join(folder, 'README'), 'x');
  writeFileSync(join(folder, owner, 'notes.txt'), 'x');
  writeFileSync(join(folder, owner, `ctx_${'2'.repeat(32)}`), 'a file by that name');
  expect(await store.collect()).toEqual({ expired: 0, blobs: 0 });
  expect((await store.list(owner)).records.map((record) => record.id)).toEqual([id]);
  expect(readdirSync(join(folder, owner)).length).toBe(3);
});

test('a record that cannot be read is damaged, takes no quota and is collected', async () => {
  const { folder, store } = await open();
  const owner = await ownerOf('a');
  const { id } = await store.create(owner, context(), blobOf(bytesOf(1, 10)));
  writeFileSync(join(folder, owner, id, 'record.json'), '{"id": "ctx_');
  const again = new ContextDirectory(folder); // that has not read it yet
  expect((await failureOf(again.get(owner, id))).message).toContain(`context ${id} cannot be used`);
  expect((await again.usage(owner)).held).toEqual({ count: 0, bytes: 0 });
  expect(await again.collect()).toEqual({ expired: 0, blobs: 1 });
  expect(names(join(folder, owner))).toEqual([]);
});

test('a folder that cannot be made is refused by its name', async () => {
  writeFileSync(join(work, 'file'), '');
  expect(() => new ContextDirectory(join(work, 'file', 'contexts'))).toThrow(
    /the folder .*file.contexts for contexts cannot be made: .*; name another one/,
  );
});

test('contexts are for the user who runs the server, and for nobody else', async () => {
  const { folder, store } = await open();
  const owner = await ownerOf('a');
  const { id } = await store.create(owner, context(), blobOf(bytesOf(1, 10)));
  if (process.platform === 'win32') return;
  for (const path of [owner, join(owner, id), join(owner, id, 'blob'), join(owner, id, 'record.json')])
    expect(statSync(join(folder, path)).mode & 0o077, path).toBe(0);
});
