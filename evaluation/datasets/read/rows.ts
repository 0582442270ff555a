import { extname } from 'node:path';
import { InputError } from '../../../presses/input-error.ts';
import { jsonArray, jsonLines } from './json-rows.ts';
import { parquetRows } from './parquet-rows.ts';
import type { Row } from './row.ts';

/** Kinds of files, the best first: where a folder has several, it has the same rows in each. */
export const EXTENSIONS = ['.parquet', '.jsonl', '.json'] as const;

/** `columns`: those that are needed at most; a parquet file is read for no others. */
export function rowsOf(file: string, columns: readonly string[]): AsyncGenerator<Row> {
  const extension = extname(file).toLowerCase();
  if (extension === '.parquet') return parquetRows(file, columns);
  if (extension === '.jsonl') return jsonLines(file);
  if (extension === '.json') return jsonArray(file);
  throw new InputError('dataset_file', null, `${file}: a data set's file must be one of ${EXTENSIONS.join(', ')}`);
}
