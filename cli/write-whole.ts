/** Writes a file so that at every moment there is the old one, or none, or all of the new one: beside it, to the disk, then in its place. */
import { open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import process from 'node:process';
import { InputError } from '../presses/input-error.ts';
import { whyNoFile } from '../worker/regular-file.ts';

/** `option` names the file in errors. What a run that was killed leaves is <file>.<process id>.writing. */
export async function writeWhole(path: string, option: string, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  const folder = dirname(resolve(path));
  const writing = `${path}.${process.pid}.writing`;
  const found = await stat(path).catch(() => null);
  const why = found && whyNoFile(found);
  if (why) throw new InputError('file_unwritable', null, `${option} ${path}: ${why}`); // a device would be replaced
  try {
    const file = await named(open(writing, 'wx'));
    try {
      for await (const chunk of chunks) await named(file.writeFile(chunk));
      await named(file.sync());
    } finally {
      await file.close();
    }
    await named(rename(writing, path));
  } catch (error) {
    await rm(writing, { force: true });
    throw error;
  }
  // The new name, too. Windows opens no folders.
  const parent = await open(folder, 'r').catch(() => null);
  await parent?.sync().catch(() => {});
  await parent?.close();

  async function named<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      throw new InputError('file_unwritable', null, `${option} ${basename(path)} in ${folder}: ${(error as Error).message}`);
    }
  }
}
