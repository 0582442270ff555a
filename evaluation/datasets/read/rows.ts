import { stat } from 'node:fs/promises';
import { extname } from 'node:path';
import { InputError } from '../../../presses/input-error.ts';
import { whyNoFile } from '../../../worker/regular-file.ts';
import { jsonArray, jsonLines } from './json-rows.ts';
import { parquetRows } from './parquet-rows.ts';
import type { Row } from './row.ts';

/** Kinds of files, the best first: where a folder has several, it has the same rows in each. */
export const EXTENSIONS = ['.parquet', '.jsonl', '.json'] as const;

/** `columns`: those that are needed at most; a parquet file is read for no others. */
export async function* rowsOf(file: string, columns: readonly string[]): AsyncGenerator<Row> {
  const why = await stat(file).then(whyNoFile, (error: Error) => error.message);
  if (why !== null) throw new InputError('dataset_file', null, `${file}: cannot be read: ${why}`); // to open a pipe waits for whoever writes it
  const extension = extname(file).toLowerCase();
  if (extension === '.parquet') yield* parquetRows(file, columns);
  else if (extension === '.jsonl') yield* jsonLines(file);
  else if (extension === '.json') yield* jsonArray(file);
  else throw new InputError('dataset_file', null, `${file}: a data set's file must be one of ${EXTENSIONS.join(', ')}`);
}
