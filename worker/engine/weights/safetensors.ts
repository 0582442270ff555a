/** Safetensors, one file or several with an index. Layout: u64 header length, JSON header, data; offsets count from the data on. */
import * as z from 'zod';
import { shownName } from '../../../presses/did-you-mean.ts';
import { firstIssue, invalidModel } from '../model/config.ts';
import { huggingFaceNames } from '../model/families.ts';
import { type ModelFiles, parseJson, type RangeReader, readJson, type SourceTensor, type WeightSource } from './source.ts';

const maxHeaderBytes = 100_000_000; // the format's own limit
const maxIndexBytes = 64 << 20;
const METADATA = '__metadata__';

const elementBytes: Readonly<Record<string, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
};

const size = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const entrySchema = z.object({ dtype: z.string().max(32), shape: z.array(size).max(8), data_offsets: z.tuple([size, size]) });

/** The tensors of one file, checked: known types, sizes that match shapes, data that fills the file without holes or overlap. */
export async function readSafetensorsHeader(file: RangeReader): Promise<SourceTensor[]> {
  return (await openSafetensorsFile(file)).tensors;
}

/** The same, with what the file says of itself, whatever that is, and where its data begin. */
export async function openSafetensorsFile(
  file: RangeReader,
  most = maxHeaderBytes,
): Promise<{ readonly tensors: SourceTensor[]; readonly metadata: unknown; readonly dataStart: number }> {
  const bad = (what: string) => invalidModel(`${file.name}: ${what}`);
  if (file.size < 8) throw bad(`truncated: ${file.size} bytes, a header needs 8`);
  const headerBytes = new DataView((await file.read(0, 8)).buffer).getBigUint64(0, true);
  if (headerBytes > BigInt(most)) throw bad(`header of ${headerBytes} bytes, at most ${most} are allowed`);
  const dataStart = 8 + Number(headerBytes);
  if (dataStart > file.size) throw bad(`truncated: header ends at byte ${dataStart}, the file has ${file.size}`);
  const header = parseJson(`${file.name} (header)`, new TextDecoder().decode(await file.read(8, dataStart - 8)));
  if (typeof header !== 'object' || header === null || Array.isArray(header)) throw bad('header is not a JSON object');

  const tensors: SourceTensor[] = [];
  const { [METADATA]: metadata = {}, ...entries } = header as Record<string, unknown>;
  for (const [name, value] of Object.entries(entries)) {
    const entry = entrySchema.safeParse(value);
    if (!entry.success) throw bad(`tensor ${shownName(name)}: ${firstIssue(entry.error)}`);
    const {
      dtype: type,
      shape,
      data_offsets: [begin, end],
    } = entry.data;
    const each = elementBytes[type];
    if (each === undefined) throw bad(`tensor ${shownName(name)} has unknown type ${type}`);
    const bytes = shape.reduce((product, n) => product * n, each);
    if (end - begin !== bytes)
      throw bad(
        `tensor ${shownName(name)}: data_offsets [${begin}, ${end}] hold ${end - begin} bytes, shape [${shape.join(', ')}] of ${type} needs ${bytes}`,
      );
    tensors.push({ name, type, shape, bytes, file, offset: dataStart + begin });
  }

  let reached = dataStart;
  let last = 'the header';
  for (const tensor of [...tensors].sort((a, b) => a.offset - b.offset || a.bytes - b.bytes)) {
    if (tensor.offset < reached) throw bad(`tensors ${last} and ${shownName(tensor.name)} overlap at byte ${tensor.offset}`);
    if (tensor.offset > reached) throw bad(`${tensor.offset - reached} bytes between ${last} and tensor ${shownName(tensor.name)} belong to nothing`);
    reached = tensor.offset + tensor.bytes;
    last = shownName(tensor.name);
    if (reached > file.size) throw bad(`truncated: tensor ${last} ends at byte ${reached}, the file has ${file.size}`);
  }
  if (reached < file.size) throw bad(`${file.size - reached} bytes after ${last} belong to nothing`);
  return { tensors, metadata, dataStart };
}

const indexSchema = z.object({ weight_map: z.record(z.string(), z.string()) });

/** model.safetensors, or the files that model.safetensors.index.json names. */
export async function openSafetensors(files: ModelFiles): Promise<WeightSource> {
  const single = await files.open('model.safetensors');
  const index = single ? null : await readJson(files, 'model.safetensors.index.json', maxIndexBytes);
  if (!single && index === null) throw invalidModel('no weights: neither model.safetensors nor model.safetensors.index.json is there');
  const opened: RangeReader[] = single ? [single] : [];
  const close = async () => void (await Promise.all(opened.map((reader) => reader.close?.())));
  try {
    const tensors = new Map<string, SourceTensor>();
    if (single) {
      for (const tensor of await readSafetensorsHeader(single)) tensors.set(tensor.name, tensor);
    } else {
      const parsed = indexSchema.safeParse(index);
      if (!parsed.success) throw invalidModel(`model.safetensors.index.json: ${firstIssue(parsed.error)}`);
      const weightMap = new Map(Object.entries(parsed.data.weight_map));
      for (const name of [...new Set(weightMap.values())].sort()) {
        if (!/^[\w.-]+\.safetensors$/.test(name))
          throw invalidModel(`model.safetensors.index.json names a file "${name}" outside the folder or of another kind`);
        const reader = await files.open(name);
        if (!reader) throw invalidModel(`${name} is missing; model.safetensors.index.json names it`);
        opened.push(reader);
        // A tensor that the index puts elsewhere is not taken from here.
        for (const tensor of await readSafetensorsHeader(reader)) if (weightMap.get(tensor.name) === name) tensors.set(tensor.name, tensor);
      }
      for (const [tensor, file] of weightMap)
        if (!tensors.has(tensor)) throw invalidModel(`${file} has no tensor ${tensor}; model.safetensors.index.json says so`);
    }
    return { format: 'safetensors', names: huggingFaceNames, tensors, close };
  } catch (error) {
    await close();
    throw error;
  }
}

export interface TensorEntry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
}

/** What stands before the data of these tensors, which follow one after the other. Data begin at a multiple of 8. */
export function safetensorsHeader(
  tensors: readonly TensorEntry[],
  metadata: Readonly<Record<string, string>> | null = null,
): Uint8Array<ArrayBuffer> {
  let end = 0;
  const entries = tensors.map(({ name, dtype, shape }) => {
    const begin = end;
    end += tensorBytes({ dtype, shape });
    return [name, { dtype, shape, data_offsets: [begin, end] }] as const;
  });
  const text = new TextEncoder().encode(JSON.stringify({ ...(metadata && { [METADATA]: metadata }), ...Object.fromEntries(entries) }));
  const header = new Uint8Array(8 + Math.ceil(text.length / 8) * 8).fill(0x20); // spaces
  new DataView(header.buffer).setBigUint64(0, BigInt(header.length - 8), true);
  header.set(text, 8);
  return header;
}

export function tensorBytes({ dtype, shape }: Omit<TensorEntry, 'name'>): number {
  return shape.reduce((product, n) => product * n, elementBytes[dtype]);
}

/** A file of f32 tensors, in the order given. */
export function writeSafetensors(
  tensors: Readonly<Record<string, { readonly shape: readonly number[]; readonly values: Float32Array }>>,
): Uint8Array {
  const all = Object.entries(tensors);
  const header = safetensorsHeader(all.map(([name, { shape }]) => ({ name, dtype: 'F32', shape })));
  const file = new Uint8Array(all.reduce((sum, [, { values }]) => sum + values.byteLength, header.length));
  file.set(header);
  let end = header.length;
  for (const [, { values }] of all) {
    file.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), end);
    end += values.byteLength;
  }
  return file;
}
