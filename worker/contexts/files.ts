/** The files of one context's folder, for directory.ts: written so that they outlive a power cut, read so that what is broken is told. For Node and Deno. */
import { createHash } from 'node:crypto';
import { type FileHandle, open, readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import process from 'node:process';
import { type BlobSource, ContextDamaged, type ContextRecord } from './contract.ts';
import type { Digests } from './prefix.ts';

/** record.json. */
export type Kept = Omit<ContextRecord, 'expiresAt'> & Digests;

const CHUNK_BYTES = 1 << 20;
const EXPIRES = /^expires\.(\d{1,16})$/;

/** On the disk when it returns; the hash of what was written. */
export async function writeBlob(path: string, { bytes, chunks }: BlobSource): Promise<string> {
  const file = await open(path, 'wx', 0o600);
  try {
    const hash = createHash('sha256');
    let done = 0;
    for await (const chunk of chunks) {
      if (done + chunk.length > bytes) throw new Error(`the blob has more than the ${bytes} bytes that were announced`);
      hash.update(chunk);
      for (let at = 0; at < chunk.length; ) at += (await file.write(chunk, at, chunk.length - at)).bytesWritten;
      done += chunk.length;
    }
    if (done !== bytes) throw new Error(`the blob has ${done} bytes, ${bytes} were announced`);
    await file.sync();
    return hash.digest('hex');
  } finally {
    await file.close();
  }
}

/** In pieces; throws ContextDamaged behind the last one where it is not what was written. */
export async function* readBlob(file: FileHandle, { id, bytes, sha256 }: Pick<ContextRecord, 'id' | 'bytes' | 'sha256'>): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  let done = 0;
  for (;;) {
    const { bytesRead, buffer } = await file.read(new Uint8Array(CHUNK_BYTES), 0, CHUNK_BYTES, null);
    if (bytesRead === 0) break;
    done += bytesRead;
    if (done > bytes) break; // of a longer one no more is read than needed
    const chunk = buffer.subarray(0, bytesRead);
    hash.update(chunk);
    yield chunk;
  }
  if (done !== bytes) throw new ContextDamaged(id, `its blob has ${done > bytes ? `more than ${bytes}` : done} bytes, its record says ${bytes}`);
  const seen = hash.digest('hex');
  if (seen !== sha256) throw new ContextDamaged(id, `its blob's SHA-256 is ${seen}, its record says ${sha256}`);
}

export async function writeWhole(path: string, text: string, flags: 'wx' | 'w' = 'wx'): Promise<void> {
  const file = await open(path, flags, 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** So that names outlive a power cut. Windows opens no folders, and has no need. */
export async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Not empty; rejects with ENOENT where there is no such folder, and ContextDamaged where no name tells. */
export async function expiriesOf(path: string): Promise<number[]> {
  const found = (await readdir(path)).flatMap((name) => EXPIRES.exec(name)?.slice(1).map(Number) ?? []);
  if (found.length === 0) throw new ContextDamaged(basename(path), 'nothing in its folder says until when it lives');
  return found;
}

export async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/** Rejects with ENOENT where there is no such file. */
export async function readKept(path: string, id: string): Promise<Kept> {
  const text = await readFile(join(path, 'record.json'), 'utf8');
  try {
    const kept = JSON.parse(text) as Kept;
    const numbers = [kept.tokens, kept.bytes, kept.createdAt];
    const texts = [kept.model, kept.press, kept.sha256, kept.head, kept.whole];
    if (kept.id === id && numbers.every(Number.isSafeInteger) && texts.every((one) => typeof one === 'string') && typeof kept.meta === 'object')
      return kept;
  } catch {
    // not JSON
  }
  throw new ContextDamaged(id, 'its record.json is not what was written');
}

/** Not there, or a file where a folder should be. */
export const isMissing = (error: unknown): boolean => ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');
