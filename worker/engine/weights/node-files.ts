/** Files by node:fs, for Node and Deno. Not for workerd: only the CLI and the Node entry import this. */
import { open, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { invalidModel } from '../model/config.ts';
import type { ModelFiles, RangeReader } from './source.ts';

export async function openFile(path: string): Promise<RangeReader> {
  const handle = await open(path, 'r');
  const { size } = await handle.stat();
  const name = basename(path);
  return {
    name,
    size,
    async read(offset, length) {
      const bytes = new Uint8Array(length);
      let filled = 0;
      while (filled < length) {
        const { bytesRead } = await handle.read(bytes, filled, length - filled, offset + filled);
        if (bytesRead === 0) throw invalidModel(`${name} is truncated: ${length} bytes wanted at ${offset}, got ${filled}`);
        filled += bytesRead;
      }
      return bytes;
    },
    close: () => handle.close(),
  };
}

export function openFolder(folder: string): ModelFiles {
  return {
    async open(name) {
      const path = join(folder, name);
      const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null;
        throw error;
      });
      return found?.isFile() ? openFile(path) : null;
    },
  };
}
