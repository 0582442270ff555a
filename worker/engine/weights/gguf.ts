/** GGUF: metadata and tensor list by @huggingface/gguf over our ranges; what it takes on trust is checked here. */
import { gguf, GGMLQuantizationType, GGUFValueType } from '@huggingface/gguf';
import { invalidModel, type GgufMetadata } from '../model/config.ts';
import { ggufNames } from '../model/families.ts';
import { fileTypes } from './repack.ts';
import type { RangeReader, SourceTensor, WeightSource } from './source.ts';

export interface GgufFile {
  readonly metadata: GgufMetadata;
  readonly source: WeightSource;
}

/** The parser reads its header in pieces of this many bytes. */
const parserPiece = 2_000_000;

export async function openGguf(file: RangeReader): Promise<GgufFile> {
  const bad = (what: string) => invalidModel(`${file.name}: ${what}`);
  const parsed = await parseHeader(file).catch((error: unknown) => {
    // A header that is cut short makes the parser run out of its buffer.
    throw bad(error instanceof RangeError ? `truncated or damaged header (${error.message})` : (error as Error).message);
  });
  if (!parsed.littleEndian) throw bad('big-endian GGUF is not supported');
  const dataStart = Number(parsed.tensorDataOffset);
  const headerEnd = parsed.tensorInfoByteRange[1];
  if (headerEnd > file.size) throw bad(`truncated: the header ends at byte ${headerEnd}, the file has ${file.size}`);
  // A string that runs over the end of the parser's buffer is cut silently. It cannot within the first piece.
  if (headerEnd > parserPiece && metadataBytes(parsed.typedMetadata) !== parsed.tensorInfoByteRange[0]) {
    throw bad('metadata strings do not add up to the length of the header: text that is not UTF-8, or a damaged file');
  }
  const metadata = new Map<string, unknown>(Object.entries(parsed.metadata));
  const parts = Number(metadata.get('split.count') ?? 1);
  if (parts > 1) throw bad(`one of ${parts} parts of a split GGUF; merge them first (llama-gguf-split --merge)`);
  const alignment = Number(metadata.get('general.alignment') ?? 32);

  const tensors = new Map<string, SourceTensor>();
  for (const info of parsed.tensorInfos) {
    const type = GGMLQuantizationType[info.dtype] ?? `number ${info.dtype}`;
    const block = fileTypes.get(type);
    const shape = info.shape.map(Number).reverse();
    const elements = shape.reduce((product, n) => product * n, 1);
    const offset = dataStart + Number(info.offset);
    if (tensors.has(info.name)) throw bad(`tensor ${info.name} appears twice`);
    if (Number(info.offset) % alignment !== 0) throw bad(`tensor ${info.name}: offset ${info.offset} is not a multiple of ${alignment}`);
    // Of a type that we cannot size, only the start can be checked; a plan that needs it refuses it by name.
    const bytes = block ? (elements / block.count) * block.bytes : 0;
    if (block && (shape.at(-1) ?? 1) % block.count !== 0) throw bad(`tensor ${info.name}: rows of ${shape.at(-1)} do not fill ${type} blocks of ${block.count}`);
    if (!(offset + bytes <= file.size)) throw bad(`truncated: tensor ${info.name} ends at byte ${offset + bytes}, the file has ${file.size}`);
    tensors.set(info.name, { name: info.name, type, shape, bytes, file, offset });
  }
  let reached = dataStart;
  let last = 'the header';
  for (const tensor of [...tensors.values()].sort((a, b) => a.offset - b.offset || a.bytes - b.bytes)) {
    if (tensor.offset < reached) throw bad(`tensors ${last} and ${tensor.name} overlap at byte ${tensor.offset}`);
    reached = tensor.offset + tensor.bytes;
    last = tensor.name;
  }
  return { metadata, source: { format: 'gguf', names: ggufNames, tensors, close: async () => file.close?.() } };
}

async function parseHeader(file: RangeReader) {
  const magic = file.size >= 24 ? new TextDecoder().decode(await file.read(0, 4)) : '';
  if (magic !== 'GGUF') throw new Error(file.size < 24 ? `truncated: ${file.size} bytes` : 'not a GGUF file');
  const serve = async (_: unknown, init?: { headers?: unknown }): Promise<Response> => {
    const [, from, to] = /bytes=(\d+)-(\d+)/.exec(String((init?.headers as { Range?: string })?.Range)) ?? [];
    const begin = Number(from);
    const end = Math.min(Number(to) + 1, file.size);
    // The parser pads with zeros, and would read on through any length of them.
    if (begin >= file.size) throw new Error(`truncated: the header runs past the end of the file (${file.size} bytes)`);
    return new Response(await file.read(begin, end - begin), { headers: { 'content-range': `bytes ${begin}-${end - 1}/${file.size}` } });
  };
  // The address is a form: every byte comes from `serve`.
  return gguf('https://localhost/model.gguf', { fetch: serve as typeof fetch, typedMetadata: true });
}

const fixedBytes: Readonly<Record<number, number>> = {
  [GGUFValueType.UINT8]: 1, [GGUFValueType.INT8]: 1, [GGUFValueType.BOOL]: 1, [GGUFValueType.UINT16]: 2, [GGUFValueType.INT16]: 2,
  [GGUFValueType.UINT32]: 4, [GGUFValueType.INT32]: 4, [GGUFValueType.FLOAT32]: 4,
  [GGUFValueType.UINT64]: 8, [GGUFValueType.INT64]: 8, [GGUFValueType.FLOAT64]: 8,
};

/** Bytes from the start of the file to the end of the metadata, if every string is whole (GGUF 2 and 3). */
function metadataBytes(typed: Readonly<Record<string, { value: unknown; type: GGUFValueType; subType?: GGUFValueType }>>): number {
  const utf8 = new TextEncoder();
  const stringBytes = (text: unknown) => 8 + utf8.encode(String(text)).length;
  let total = 24;
  for (const [key, { value, type, subType }] of Object.entries(typed)) {
    if (key === 'version' || key === 'tensor_count' || key === 'kv_count') continue; // of the fixed header
    total += stringBytes(key) + 4;
    if (type === GGUFValueType.STRING) total += stringBytes(value);
    else if (type !== GGUFValueType.ARRAY) total += fixedBytes[type];
    else {
      const items = value as unknown[];
      total += 12;
      total += subType === GGUFValueType.STRING ? items.reduce<number>((sum, item) => sum + stringBytes(item), 0) : items.length * (fixedBytes[subType ?? -1] ?? Number.NaN);
    }
  }
  return total;
}
