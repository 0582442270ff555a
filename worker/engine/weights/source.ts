/** Where weights come from: files read by ranges, tensors found in them. Nothing here trusts what a file says of itself. */

import { MOST_LEVELS, nestedTooDeep } from '../../../presses/nesting.ts';
import { invalidModel } from '../model/config.ts';
import type { TensorNames } from '../model/families.ts';

/** A file, read piecewise. `read` gives exactly `length` bytes or throws; the bytes are the caller's to keep. */
export interface RangeReader {
  readonly name: string;
  readonly size: number;
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
  close?(): Promise<void>;
}

/** A folder (local, remote, in a browser) by file names; null = no such file. */
export interface ModelFiles {
  open(name: string): Promise<RangeReader | null>;
}

export interface SourceTensor {
  /** The name in the file. */
  readonly name: string;
  /** The element or block type in the format's own words: F32, BF16, Q4_K, I64, … */
  readonly type: string;
  /** Rows first; [n] for a vector. */
  readonly shape: readonly number[];
  readonly bytes: number;
  readonly file: RangeReader;
  readonly offset: number;
}

export interface WeightSource {
  readonly format: 'safetensors' | 'gguf';
  readonly names: TensorNames;
  readonly tensors: ReadonlyMap<string, SourceTensor>;
  close(): Promise<void>;
}

/** Bytes of the tensor from `offset` on, within the tensor. */
export function readTensor(tensor: SourceTensor, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  if (offset < 0 || length < 0 || offset + length > tensor.bytes)
    throw new RangeError(`${tensor.name}: bytes ${offset}..${offset + length} of ${tensor.bytes}`);
  return tensor.file.read(tensor.offset + offset, length);
}

function exactly(bytes: Uint8Array<ArrayBuffer>, length: number, name: string, offset: number): Uint8Array<ArrayBuffer> {
  if (bytes.length !== length) throw invalidModel(`${name} is truncated: ${length} bytes wanted at ${offset}, got ${bytes.length}`);
  return bytes;
}

export function readerOfBytes(name: string, bytes: Uint8Array<ArrayBuffer>): RangeReader {
  return {
    name,
    size: bytes.length,
    read: async (offset, length) => exactly(bytes.slice(offset, offset + length), length, name, offset),
  };
}

/** Files that are in memory already, by name. */
export function filesOfBytes(files: Readonly<Record<string, Uint8Array>>): ModelFiles {
  return { open: async (name) => (Object.hasOwn(files, name) ? readerOfBytes(name, new Uint8Array(files[name])) : null) };
}

/** A Blob or File of a browser; only the ranges asked for come into memory. */
export function readerOfBlob(name: string, blob: Blob): RangeReader {
  return {
    name,
    size: blob.size,
    read: async (offset, length) => exactly(new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()), length, name, offset),
  };
}

/** A small text file as a whole. */
export async function readText(reader: RangeReader, maxBytes: number): Promise<string> {
  if (reader.size > maxBytes) throw invalidModel(`${reader.name} has ${reader.size} bytes, at most ${maxBytes} are read`);
  return new TextDecoder().decode(await reader.read(0, reader.size));
}

export function parseJson(name: string, text: string): unknown {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    // It quotes the file's beginning, whatever that is.
    const why = (error as Error).message.replace(/\p{Cc}/gu, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
    throw invalidModel(`${name} is not JSON: ${why}`);
  }
  if (nestedTooDeep(json))
    throw invalidModel(`${name} has lists or objects in each other more than ${MOST_LEVELS} deep; ${MOST_LEVELS} at most are read`);
  return json;
}

/** Null when there is no such file. */
export async function readJson(files: ModelFiles, name: string, maxBytes: number): Promise<unknown> {
  const reader = await files.open(name);
  if (!reader) return null;
  try {
    return parseJson(name, await readText(reader, maxBytes));
  } finally {
    await reader.close?.();
  }
}
