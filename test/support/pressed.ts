/** *.pressed.safetensors files, read and written by the letter of worker/engine/pressed/format.md and with nothing of the engine. */
import { createHash } from 'node:crypto';

export interface PlainTensor {
  dtype: string;
  shape: number[];
  data: Uint8Array;
}

export interface PlainFile {
  metadata: Record<string, string>;
  tensors: Record<string, PlainTensor>;
}

/** As any safetensors reader does; one that maps the file wants data at a multiple of 8. */
export function plainRead(file: Uint8Array): PlainFile {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const headerBytes = Number(view.getBigUint64(0, true));
  if (headerBytes % 8 !== 0) throw new Error(`data begin at byte ${8 + headerBytes}, which numbers of 8 bytes may not`);
  const header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(file.subarray(8, 8 + headerBytes)));
  const { __metadata__: metadata, ...entries } = header as { __metadata__: Record<string, string> } & Record<string, unknown>;
  const tensors = Object.entries(entries as Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>).map(
    ([name, { dtype, shape, data_offsets: offsets }]) => {
      const [begin, end] = offsets.map((at) => 8 + headerBytes + at);
      return [name, { dtype, shape, data: file.slice(begin, end) }] as const;
    },
  );
  return { metadata, tensors: Object.fromEntries(tensors) };
}

/** The numbers of a tensor. */
export function numbers({ dtype, data }: PlainTensor): number[] {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const size = { F32: 4, I32: 4, F16: 2, I8: 1, U8: 1 }[dtype]!;
  const of = { F32: 'getFloat32', I32: 'getInt32', F16: 'getUint16', I8: 'getInt8', U8: 'getUint8' }[dtype] as 'getFloat32';
  return Array.from({ length: data.length / size }, (_, i) => view[of](i * size, true));
}

/** A file of these tensors, in their order, with the digest that they should have. */
export function plainWrite(
  { metadata, tensors: { digest: _, ...tensors } }: PlainFile,
  tell: (header: Record<string, unknown>) => void = () => {},
): Uint8Array {
  const data = Buffer.concat(Object.values(tensors).map((tensor) => tensor.data));
  const pieces = Math.ceil(data.length / 2 ** 22);
  const header: Record<string, unknown> = { __metadata__: metadata };
  let end = 0;
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) header[name] = { dtype, shape, data_offsets: [end, (end += data.length)] };
  header.digest = { dtype: 'U8', shape: [1 + pieces, 32], data_offsets: [end, end + (1 + pieces) * 32] };
  tell(header);
  const text = Buffer.from(JSON.stringify(header));
  const start = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, ' ');
  start.writeBigUInt64LE(BigInt(start.length - 8));
  text.copy(start, 8);
  const sha = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();
  const digest = [sha(start), ...Array.from({ length: pieces }, (_, i) => sha(data.subarray(i * 2 ** 22, (i + 1) * 2 ** 22)))];
  return new Uint8Array(Buffer.concat([start, data, ...digest]));
}
