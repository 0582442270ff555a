/**
 * Rows of a parquet file, some at a time, by hyparquet. A row group's columns are read from disk once (compressed) and decoded by batches of rows, so that what lies
 * in memory is one compressed row group and one batch.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { type AsyncBuffer, type FileMetaData, parquetMetadataAsync, parquetReadObjects, parquetSchema } from 'hyparquet';
import { InputError } from '../../../presses/input-error.ts';
import { checkPages, compressors } from './parquet-pages.ts';
import { decodedText, Row } from './row.ts';

const MOST_METADATA_BYTES = 64 * 2 ** 20;
/** Of the columns that are read, compressed. */
const MOST_GROUP_BYTES = 2 ** 30;
/** Of a column in a row group: items of its lists count. */
const MOST_VALUES = 10_000_000;
/** Rows are decoded in batches of about so much text, and of no more than so many. */
const BATCH_BYTES = 16 * 2 ** 20;
const BATCH_ROWS = 4096;

/** The rows, with those of `columns` that the file has. */
export async function* parquetRows(file: string, columns: readonly string[]): AsyncGenerator<Row> {
  const handle = await open(file).catch((error: Error) => {
    throw fault(file, error);
  });
  try {
    const source = new Source(file, handle, (await handle.stat()).size);
    const metadata = await told(file, () => checkedMetadata(source));
    const known = await told(file, async () => parquetSchema(metadata).children.map(({ element }) => String(element.name)));
    const present = known.filter((name) => columns.includes(name));
    let first = 0;
    for (const group of metadata.row_groups) {
      const rows = Number(group.num_rows);
      const batch = await told(file, async () => rowsPerBatch(source, metadata, group, present));
      for (let at = 0; at < rows; at += batch) {
        const range = { rowStart: first + at, rowEnd: first + Math.min(rows, at + batch) };
        const read = await told(file, () => parquetReadObjects({ file: source, metadata, columns: present, ...range, compressors, parsers }));
        if (read.length !== range.rowEnd - range.rowStart)
          throw fault(file, `row group of ${rows} rows gives ${read.length} of ${range.rowEnd - range.rowStart}`);
        for (const [i, values] of read.entries()) yield new Row(file, range.rowStart + i, values, known);
      }
      first += rows;
      source.forget();
    }
  } finally {
    await handle.close();
  }
}

async function checkedMetadata(source: Source): Promise<FileMetaData> {
  if (source.byteLength < 12) throw new Error(`has ${source.byteLength} bytes`);
  const tail = new DataView(await source.slice(source.byteLength - 8));
  const length = tail.getUint32(0, true);
  if (tail.getUint32(4, true) === 0x31524150 && length > MOST_METADATA_BYTES)
    throw new Error(`has ${length} bytes of metadata, at most ${MOST_METADATA_BYTES} are read`);
  const metadata = await parquetMetadataAsync(source, { parsers });
  source.forget();
  return metadata;
}

type RowGroup = FileMetaData['row_groups'][number];

/** What the file says of its own sizes is checked before anything is allocated or counted by it. */
async function rowsPerBatch(source: Source, { schema }: FileMetaData, { columns, num_rows }: RowGroup, names: readonly string[]): Promise<number> {
  const rows = Number(num_rows);
  let [compressed, uncompressed] = [0, 0];
  for (const { meta_data } of columns) {
    if (!meta_data || !names.includes(meta_data.path_in_schema[0])) continue;
    compressed += Number(meta_data.total_compressed_size);
    uncompressed += Number(meta_data.total_uncompressed_size);
    if (!(compressed >= 0 && compressed <= MOST_GROUP_BYTES))
      throw new Error(`has a row group of ${compressed} bytes, at most ${MOST_GROUP_BYTES} are read: write it with fewer rows a group`);
    const [name, ...inner] = meta_data.path_in_schema;
    const values = Number(meta_data.num_values);
    if (!(values >= rows && values <= MOST_VALUES) || (inner.length === 0 && values !== rows))
      throw new Error(`column "${name}" has ${values} values in a row group of ${rows} rows`);
    const start = Number(meta_data.dictionary_page_offset || meta_data.data_page_offset);
    checkPages(await source.slice(start, start + Number(meta_data.total_compressed_size)), meta_data, schema);
    source.forget(); // hyparquet asks for other ranges
  }
  return Math.min(BATCH_ROWS, Math.max(1, rows), Math.max(1, Math.floor((BATCH_BYTES * rows) / Math.max(1, uncompressed))));
}

/** The file for hyparquet. What was read of a row group is kept until it is done with: each batch asks for the same ranges. */
class Source implements AsyncBuffer {
  readonly byteLength: number;
  private readonly file: string;
  private readonly handle: FileHandle;
  private kept = new Map<string, ArrayBuffer>();

  constructor(file: string, handle: FileHandle, byteLength: number) {
    this.file = file;
    this.handle = handle;
    this.byteLength = byteLength;
  }

  /** hyparquet asks for several ranges before it waits for the first: another's failure must not count as one that nobody handles. */
  slice(start: number, end: number = this.byteLength): Promise<ArrayBuffer> {
    const bytes = this.read(start, end);
    bytes.catch(() => {});
    return bytes;
  }

  private async read(start: number, end: number): Promise<ArrayBuffer> {
    const key = `${start}-${end}`;
    const known = this.kept.get(key);
    if (known) return known;
    if (!(start >= 0 && end >= start && end <= this.byteLength)) throw new Error(`bytes ${start} to ${end} are not in it; it has ${this.byteLength}`);
    if (end - start > MOST_GROUP_BYTES) throw new Error(`asks for ${end - start} bytes at once, at most ${MOST_GROUP_BYTES} are read`);
    const buffer = new ArrayBuffer(end - start);
    for (let at = 0; at < buffer.byteLength; ) {
      const { bytesRead } = await this.handle.read(new Uint8Array(buffer, at), 0, buffer.byteLength - at, start + at);
      if (bytesRead === 0) throw new Error(`${this.file} became shorter while it was read`);
      at += bytesRead;
    }
    this.kept.set(key, buffer);
    return buffer;
  }

  forget(): void {
    this.kept = new Map();
  }
}

const parsers = { stringFromBytes: (bytes: Uint8Array | undefined) => bytes && decodedText(bytes) };

/** What hyparquet throws on damaged files says nothing of the file. */
async function told<T>(file: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw fault(file, error);
  }
}

function fault(file: string, error: unknown): InputError {
  const why = error instanceof Error ? error.message : String(error);
  return new InputError('dataset_file', null, `${file}: cannot be read as parquet: ${why.slice(0, 200)}; the file may be cut off or damaged`);
}
