/** Files that a person names: a device or a pipe may never end, or never begin, and is none. Node and Deno only. */
import { closeSync, existsSync, mkdirSync, openSync, readSync, type Stats, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

const CHUNK_BYTES = 1 << 20;

/** Why it cannot be read as a file; null where it can. */
export function whyNoFile(found: Stats): string | null {
  if (found.isFile()) return null;
  return found.isDirectory() ? 'it is a folder' : 'it is no file, but a device, a pipe or a socket; write its content to a file';
}

/** All bytes of a file. Throws an Error that says why not, without its name. */
export function readFileUpTo(path: string, most: number): Uint8Array {
  const why = whyNoFile(statSync(path));
  if (why !== null) throw new Error(why);
  const fd = openSync(path, 'r');
  try {
    return readUpTo(fd, most);
  } finally {
    closeSync(fd);
  }
}

/** All bytes to the end of an open file or of standard input; the size that a file says it has may be another. Throws where there are more. */
export function readUpTo(fd: number, most: number): Uint8Array {
  const chunk = new Uint8Array(CHUNK_BYTES);
  const chunks: Uint8Array[] = [];
  for (let size = 0; ; ) {
    const read = readSync(fd, chunk);
    if (read === 0) return Buffer.concat(chunks, size);
    chunks.push(chunk.slice(0, read)); // a pipe gives less than a chunk
    size += read;
    if (size > most) throw new Error(`it has more than ${most} bytes; ${most} or fewer are read`);
  }
}

/** mkdir -p. Node's own goes round for ever where a file system takes no folders, as /proc does. Throws an Error that says why not. */
export function makeFolder(folder: string): void {
  const missing: string[] = [];
  for (let at = resolve(folder); !existsSync(at) && dirname(at) !== at; at = dirname(at)) missing.push(at);
  for (const one of missing.reverse()) {
    try {
      mkdirSync(one);
    } catch (error) {
      if (!isFolder(one)) throw error; // else another run was quicker
    }
  }
  if (!isFolder(folder)) throw new Error('it is a file');
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
