/** Files by node:fs, for Node and Deno. Not for workerd: only the CLI and the Node entry import this. */
import { open, readdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { ARTIFACTS_FOLDER } from '../../../presses/artifacts.ts';
import { InputError } from '../../../presses/input-error.ts';
import { whyNoFile } from '../../regular-file.ts';
import { invalidModel } from '../model/config.ts';
import { manifestFile } from './manifest.ts';
import { type OpenedModel, openGgufModel, openHuggingFaceModel } from './open-model.ts';
import type { FetchAsset } from './packed.ts';
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

/** The files of a packed model's folder. */
export function packedFolder(folder: string): FetchAsset {
  return async (name) => {
    const what = `${name.startsWith('weights-') ? 'shard ' : ''}${name}`;
    const path = join(folder, name);
    const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR')
        throw invalidModel(`${what} is missing in ${folder}${name === manifestFile ? '' : `, whose ${manifestFile} names it`}`);
      throw invalidModel(`${what} in ${folder} cannot be read: ${error.message}`);
    });
    if (!found.isFile()) throw invalidModel(`${what} in ${folder} is ${found.isDirectory() ? 'a folder' : 'something else'}, a file is expected`);
    const handle = await open(path, 'r').catch((error: Error) => {
      throw invalidModel(`${what} in ${folder} cannot be read: ${error.message}`);
    });
    return Readable.toWeb(handle.createReadStream()) as ReadableStream<Uint8Array>;
  };
}

/** The folder artifacts/ of a model's folder, or beside a .gguf file. */
export async function artifactsFolder(model: string): Promise<ModelFiles> {
  return openFolder(await folderBeside(model, ARTIFACTS_FOLDER));
}

/** The folder of this name in a model's folder, or beside a .gguf file, where there is one. */
export async function folderBeside(model: string, name: string): Promise<string> {
  const found = await stat(model).catch(() => null);
  return join(found?.isFile() ? dirname(model) : model, name);
}

/** A Hugging Face folder or a .gguf file. Close `source` when done. */
export async function openModelPath(path: string): Promise<OpenedModel> {
  const found = await stat(path).catch(() => null);
  if (!found)
    throw new InputError('model_not_found', 'model', `there is no model at ${path}; give a Hugging Face folder, a .gguf file or a packed model`);
  if (found.isDirectory()) {
    await checkFolder(path);
    return openHuggingFaceModel(openFolder(path));
  }
  const why = whyNoFile(found);
  if (why !== null) throw new InputError('model_not_found', 'model', `${path} is no model: ${why}`);
  const file = await openFile(path);
  return openGgufModel(file).catch(async (error: unknown) => {
    await file.close?.();
    throw error;
  });
}

/** A folder that is no model is told from one, and what may have been meant. */
async function checkFolder(path: string): Promise<void> {
  const names = await readdir(path);
  if (names.includes('config.json')) return;
  const gguf = names.find((name) => /\.gguf$/i.test(name));
  const instead = names.includes(manifestFile)
    ? 'it is packed already, which every command but pack takes'
    : gguf
      ? `name the file in it: ${join(path, gguf)}`
      : 'give a Hugging Face folder, with config.json, or a .gguf file';
  throw new InputError('model_not_found', 'model', `the folder ${path} holds no config.json and so no model to read; ${instead}`);
}

export function modelNameOf(path: string): string {
  return basename(resolve(path)).replace(/\.gguf$/i, '');
}
