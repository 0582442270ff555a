/**
 * What a parquet file says of its own sizes, checked before hyparquet allocates and counts by it: in a damaged file a run of levels or of dictionary indices can ask for
 * 2^31 values, and hyparquet writes them all. So each page is decompressed once more than decoding takes.
 */
import type { ColumnMetaData, Compressors, DataReader, SchemaElement } from 'hyparquet';
import { parquetHeader } from 'hyparquet/src/column.js';
import { getMaxDefinitionLevel, getMaxRepetitionLevel, getSchemaPath } from 'hyparquet/src/schema.js';
import { readVarInt } from 'hyparquet/src/thrift.js';
import { compressors as decompressors } from 'hyparquet-compressors';

/** Of one page, decompressed: what its header asks for is allocated at once. */
const MOST_PAGE_BYTES = 2 ** 28;
/** The last run of bits is padded: writers fill up to 63 groups of eight. */
const MOST_PADDING = 504;

export const compressors: Compressors = Object.fromEntries(
  Object.entries(decompressors).map(([codec, decompress]) => [
    codec,
    (input: Uint8Array, size: number): Uint8Array => {
      if (!(size >= 0 && size <= MOST_PAGE_BYTES)) throw new Error(`a page of ${size} bytes, at most ${MOST_PAGE_BYTES} are read`);
      return decompress(input, size);
    },
  ]),
);

interface Levels {
  readonly repetition: number; // bits of one
  readonly definition: number;
}

/** All pages of a column in one row group, whose bytes are `chunk`. */
export function checkPages(chunk: ArrayBuffer, column: ColumnMetaData, schema: SchemaElement[]): void {
  const values = Number(column.num_values);
  const path = getSchemaPath(schema, column.path_in_schema);
  const levels = { repetition: bits(getMaxRepetitionLevel(path)), definition: bits(getMaxDefinitionLevel(path)) };
  const reader = { view: new DataView(chunk), offset: 0 };
  let counted = 0;
  while (reader.offset < chunk.byteLength - 1 && counted < values) {
    const header = parquetHeader(reader);
    const size = header.compressed_page_size;
    if (!(size >= 0 && reader.offset + size <= chunk.byteLength)) throw new Error(`a page of ${size} bytes reaches beyond its column`);
    const bytes = new Uint8Array(chunk, reader.offset, size);
    reader.offset += size;
    const [v1, v2, dictionary] = [header.data_page_header, header.data_page_header_v2, header.dictionary_page_header];
    const count = { DATA_PAGE: v1, DATA_PAGE_V2: v2, DICTIONARY_PAGE: dictionary, INDEX_PAGE: undefined }[header.type]?.num_values;
    if (count === undefined || !(count >= 0 && count <= values)) throw new Error(`a page of ${count} values, the column has ${values}`);
    if (header.type === 'DICTIONARY_PAGE') continue;
    counted += count;
    if (header.type === 'DATA_PAGE' && v1) checkPage(decompressed(bytes, header.uncompressed_page_size, column), count, v1.encoding, levels);
    if (header.type === 'DATA_PAGE_V2' && v2) {
      const [repetition, definition] = [v2.repetition_levels_byte_length, v2.definition_levels_byte_length];
      if (!(repetition >= 0 && definition >= 0 && repetition + definition <= size))
        throw new Error(`levels of ${repetition} and ${definition} bytes in a page of ${size}`);
      if (!(v2.num_nulls >= 0 && v2.num_nulls <= count && v2.num_rows >= 0 && v2.num_rows <= count))
        throw new Error(`${v2.num_nulls} nulls in ${count} values`);
      if (levels.repetition) checkRuns(readerOf(bytes), repetition, levels.repetition, count);
      if (levels.definition) checkRuns({ ...readerOf(bytes), offset: repetition }, repetition + definition, levels.definition, count);
      const data = bytes.subarray(repetition + definition);
      const whole = v2.is_compressed === false ? data : decompressed(data, header.uncompressed_page_size - repetition - definition, column);
      checkPage(whole, count, v2.encoding, { repetition: 0, definition: 0 });
    }
  }
}

function decompressed(bytes: Uint8Array, size: number, { codec, type }: ColumnMetaData): Uint8Array {
  if (type === 'BOOLEAN') throw new Error('a column of booleans, where none is needed');
  if (codec === 'UNCOMPRESSED') return bytes;
  const decompress = compressors[codec];
  if (!decompress) throw new Error(`compression ${codec} is not known`);
  return decompress(bytes, size);
}

/** Levels come first, each with its length; then values, which are runs where they are indices of a dictionary. */
function checkPage(page: Uint8Array, count: number, encoding: string, { repetition, definition }: Levels): void {
  const reader = readerOf(page);
  for (const width of [repetition, definition]) {
    if (width === 0) continue;
    const end = reader.view.getUint32(reader.offset, true) + reader.offset + 4;
    if (end > page.byteLength) throw new Error(`levels reach ${end - page.byteLength} bytes beyond their page`);
    reader.offset += 4;
    checkRuns(reader, end, width, count);
    reader.offset = end;
  }
  if (encoding !== 'PLAIN_DICTIONARY' && encoding !== 'RLE_DICTIONARY' && encoding !== 'RLE') return;
  if (reader.offset < page.byteLength) checkRuns(reader, page.byteLength, reader.view.getUint8(reader.offset++), count, false);
}

/** Runs of one value, and of values packed into bits. `all`: there must be `count` values before `end`; where some are null, there are fewer indices. */
function checkRuns(reader: DataReader, end: number, width: number, count: number, all = true): void {
  for (let seen = 0; seen < count; ) {
    if (reader.offset >= end) {
      if (all) throw new Error(`${seen} levels for ${count} values`);
      return;
    }
    const header = readVarInt(reader);
    const packed = (header & 1) === 1;
    const run = packed ? (header >> 1) << 3 : header >>> 1;
    if (!(run >= 0 && run <= count - seen + (packed ? MOST_PADDING : 0))) throw new Error(`a run of ${run} values, ${count - seen} are left`);
    reader.offset += packed ? (run / 8) * width : (width + 7) >> 3;
    seen += run;
  }
}

function readerOf({ buffer, byteOffset, byteLength }: Uint8Array): DataReader {
  return { view: new DataView(buffer, byteOffset, byteLength), offset: 0 };
}

function bits(level: number): number {
  return 32 - Math.clz32(level);
}
