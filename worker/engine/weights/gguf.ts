/**
 * GGUF 2 and 3: magic, version, counts; metadata (key, type, value); tensor list (name, shape, type, offset); data from the next multiple
 * of the alignment on. Read piecewise over any RangeReader, with every length checked against the file before it is used.
 *
 * @huggingface/gguf reads the same and is what the tests compare with. It is not used here: its build for Node cannot be bundled for
 * browsers, it pads a header that is cut short with zeros, and it cuts strings that cross the end of its buffer.
 */

import { invalidModel } from '../model/config.ts';
import { ggufNames } from '../model/families.ts';
import type { GgufMetadata } from '../model/from-gguf.ts';
import { fileTypes } from './repack.ts';
import type { RangeReader, SourceTensor, WeightSource } from './source.ts';

export interface GgufFile {
  readonly metadata: GgufMetadata;
  readonly source: WeightSource;
}

/** ggml's numbers of the tensor types; those without a layout of ours are here to be refused by name. */
const typeNames: Readonly<Record<number, string>> = {
  0: 'F32',
  1: 'F16',
  2: 'Q4_0',
  3: 'Q4_1',
  6: 'Q5_0',
  7: 'Q5_1',
  8: 'Q8_0',
  9: 'Q8_1',
  10: 'Q2_K',
  11: 'Q3_K',
  12: 'Q4_K',
  13: 'Q5_K',
  14: 'Q6_K',
  15: 'Q8_K',
  16: 'IQ2_XXS',
  17: 'IQ2_XS',
  18: 'IQ3_XXS',
  19: 'IQ1_S',
  20: 'IQ4_NL',
  21: 'IQ3_S',
  22: 'IQ2_S',
  23: 'IQ4_XS',
  24: 'I8',
  25: 'I16',
  26: 'I32',
  27: 'I64',
  28: 'F64',
  29: 'IQ1_M',
  30: 'BF16',
  34: 'TQ1_0',
  35: 'TQ2_0',
  39: 'MXFP4',
};

export async function openGguf(file: RangeReader): Promise<GgufFile> {
  const bad = (what: string) => invalidModel(`${file.name}: ${what}`);
  const { metadata, infos, headerEnd } = await readHeader(new Cursor(file));
  const parts = Number(metadata.get('split.count') ?? 1);
  if (parts > 1) throw bad(`one of ${parts} parts of a split GGUF; merge them first (llama-gguf-split --merge)`);
  const alignment = Number(metadata.get('general.alignment') ?? 32);
  if (!(Number.isInteger(alignment) && alignment >= 8 && alignment <= 65536)) throw bad(`general.alignment is ${alignment}, 8 to 65536 is expected`);
  const dataStart = Math.ceil(headerEnd / alignment) * alignment;

  const tensors = new Map<string, SourceTensor>();
  for (const { name, shape, type: number, at } of infos) {
    const type = typeNames[number] ?? `number ${number}`;
    const format = fileTypes.get(type);
    const offset = dataStart + at;
    if (tensors.has(name)) throw bad(`tensor ${name} appears twice`);
    if (at % alignment !== 0) throw bad(`tensor ${name}: offset ${at} is not a multiple of ${alignment}`);
    if (format && (shape.at(-1) ?? 1) % format.count !== 0)
      throw bad(`tensor ${name}: rows of ${shape.at(-1)} do not fill ${type} blocks of ${format.count}`);
    // Of a type that we cannot size, only the start can be checked; a plan that needs it refuses it by name.
    const bytes = format ? (shape.reduce((product, n) => product * n, 1) / format.count) * format.bytes : 0;
    if (offset + bytes > file.size) throw bad(`truncated: tensor ${name} ends at byte ${offset + bytes}, the file has ${file.size}`);
    tensors.set(name, { name, type, shape, bytes, file, offset });
  }
  // Behind a type that we cannot size, no gap can be told.
  const sized = [...tensors.values()].every(({ type }) => fileTypes.has(type));
  let reached = dataStart;
  let last = 'the header';
  for (const tensor of [...tensors.values()].sort((a, b) => a.offset - b.offset || a.bytes - b.bytes)) {
    if (sized && tensor.offset - reached >= Math.max(alignment, 32))
      throw bad(`${tensor.offset - reached} bytes between ${last} and tensor ${tensor.name} belong to nothing`);
    if (tensor.offset < reached) throw bad(`tensors ${last} and ${tensor.name} overlap at byte ${tensor.offset}`);
    reached = tensor.offset + tensor.bytes;
    last = tensor.name;
  }
  // A tensor that the list leaves out shows as bytes that belong to nothing, and shifts the data of all others.
  if (sized && file.size - reached > alignment)
    throw bad(
      `${file.size - reached} bytes after ${last} belong to nothing, at most ${alignment} are expected; the header lists ${infos.length} tensors`,
    );
  return { metadata, source: { format: 'gguf', names: ggufNames, tensors, close: async () => file.close?.() } };
}

interface TensorInfo {
  readonly name: string;
  readonly shape: number[]; // rows first; the file has columns first
  readonly type: number;
  readonly at: number; // from the start of the data
}

const maxStringBytes = 16 << 20;

async function readHeader(cursor: Cursor): Promise<{ metadata: Map<string, unknown>; infos: TensorInfo[]; headerEnd: number }> {
  if (cursor.left < 24) throw cursor.bad(`truncated: ${cursor.left} bytes, a header needs 24`);
  await cursor.fill(24);
  const magic = cursor.uint32();
  if (magic === 0x47475546) throw cursor.bad('big-endian GGUF is not supported');
  if (magic !== 0x46554747) throw cursor.bad('not a GGUF file');
  const version = cursor.uint32();
  if (version !== 2 && version !== 3) throw cursor.bad(`GGUF version ${version} is not supported; 2 and 3 are`);
  const tensorCount = cursor.count(24); // of a tensor: name length, rank, type, offset
  const keyCount = cursor.count(13);

  const metadata = new Map<string, unknown>();
  for (let i = 0; i < keyCount; i++) {
    const key = await readString(cursor);
    if (metadata.has(key)) throw cursor.bad(`metadata ${key} appears twice`);
    await cursor.fill(4);
    metadata.set(key, await readValue(cursor, cursor.uint32(), key, 0));
  }
  const infos: TensorInfo[] = [];
  for (let i = 0; i < tensorCount; i++) {
    const name = await readString(cursor);
    await cursor.fill(4);
    const rank = cursor.uint32();
    if (rank < 1 || rank > 4) throw cursor.bad(`tensor ${name} has ${rank} dimensions, 1 to 4 are expected`);
    await cursor.fill(rank * 8 + 12);
    const shape = Array.from({ length: rank }, () => cursor.size(`tensor ${name}`)).reverse();
    infos.push({ name, shape, type: cursor.uint32(), at: cursor.size(`tensor ${name}`) });
  }
  return { metadata, infos, headerEnd: cursor.position };
}

async function readString(cursor: Cursor): Promise<string> {
  await cursor.fill(8);
  const length = cursor.size('a string');
  if (length > maxStringBytes) throw cursor.bad(`a string of ${length} bytes, at most ${maxStringBytes} are allowed`);
  await cursor.fill(length);
  return cursor.text(length);
}

/** Bytes and reading of the fixed types, by their number. */
const scalars: Readonly<Record<number, readonly [bytes: number, read: (view: DataView, at: number) => number | boolean]>> = {
  0: [1, (v, at) => v.getUint8(at)],
  1: [1, (v, at) => v.getInt8(at)],
  2: [2, (v, at) => v.getUint16(at, true)],
  3: [2, (v, at) => v.getInt16(at, true)],
  4: [4, (v, at) => v.getUint32(at, true)],
  5: [4, (v, at) => v.getInt32(at, true)],
  6: [4, (v, at) => v.getFloat32(at, true)],
  7: [1, (v, at) => v.getUint8(at) !== 0],
  10: [8, (v, at) => Number(v.getBigUint64(at, true))],
  11: [8, (v, at) => Number(v.getBigInt64(at, true))],
  12: [8, (v, at) => v.getFloat64(at, true)],
};
const stringType = 8;
const arrayType = 9;

async function readValue(cursor: Cursor, type: number, key: string, depth: number): Promise<unknown> {
  if (type === stringType) return readString(cursor);
  if (type !== arrayType) {
    const scalar = scalars[type];
    if (!scalar) throw cursor.bad(`metadata ${key} has unknown type ${type}`);
    await cursor.fill(scalar[0]);
    return cursor.take(...scalar);
  }
  if (depth === 3) throw cursor.bad(`metadata ${key} is nested too deep`);
  await cursor.fill(12);
  const itemType = cursor.uint32();
  const scalar = scalars[itemType];
  const length = cursor.count(scalar ? scalar[0] : itemType === stringType ? 8 : 12);
  const items: unknown[] = [];
  if (scalar) {
    const most = Math.floor(pieceBytes / scalar[0]);
    for (let left = length; left > 0; ) {
      const n = Math.min(left, most);
      await cursor.fill(n * scalar[0]);
      for (let i = 0; i < n; i++) items.push(cursor.take(...scalar));
      left -= n;
    }
    return items;
  }
  for (let i = 0; i < length; i++) items.push(await readValue(cursor, itemType, key, depth + 1));
  return items;
}

const pieceBytes = 1 << 20;

/** A place in the file, and the piece of the file around it. `fill` before reading; it throws at the file's end. */
class Cursor {
  readonly #file: RangeReader;
  #piece = new DataView(new ArrayBuffer(0));
  #start = 0; // of the piece, in the file
  #at = 0; // in the piece

  constructor(file: RangeReader) {
    this.#file = file;
  }

  get position(): number {
    return this.#start + this.#at;
  }

  get left(): number {
    return this.#file.size - this.position;
  }

  bad(what: string): Error {
    return invalidModel(`${this.#file.name}: ${what}`);
  }

  /** The next `bytes` bytes are in memory afterwards. */
  fill(bytes: number): Promise<void> | undefined {
    return this.#piece.byteLength - this.#at >= bytes ? undefined : this.#refill(bytes);
  }

  async #refill(bytes: number): Promise<void> {
    if (bytes > this.left) throw this.bad(`truncated: the header needs ${bytes} bytes at ${this.position}, the file has ${this.#file.size}`);
    this.#start = this.position;
    this.#at = 0;
    this.#piece = new DataView((await this.#file.read(this.#start, Math.min(Math.max(bytes, pieceBytes), this.left))).buffer);
  }

  take<T>(bytes: number, read: (view: DataView, at: number) => T): T {
    this.#at += bytes;
    return read(this.#piece, this.#at - bytes);
  }

  uint32(): number {
    return this.take(4, (view, at) => view.getUint32(at, true));
  }

  /** A u64 that is a size or an offset. */
  size(what: string): number {
    const value = this.take(8, (view, at) => view.getBigUint64(at, true));
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw this.bad(`${what}: ${value} is beyond any file`);
    return Number(value);
  }

  /** A u64 that counts things of at least `bytesEach` bytes which follow. */
  count(bytesEach: number): number {
    const value = this.size('a count');
    if (value * bytesEach > this.left)
      throw this.bad(`truncated: ${value} entries of at least ${bytesEach} bytes at ${this.position}, the file has ${this.#file.size}`);
    return value;
  }

  text(bytes: number): string {
    this.#at += bytes;
    return utf8.decode(new Uint8Array(this.#piece.buffer, this.#at - bytes, bytes));
  }
}

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
