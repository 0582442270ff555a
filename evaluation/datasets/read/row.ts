/** One row of a data set's file, and its columns by type. What is not as it should be is told with file, row and column. */
import { InputError } from '../../../presses/input-error.ts';

/** Of one text: the longest of the benchmarks here have 3 MB. */
export const MOST_TEXT_BYTES = 32 * 2 ** 20;
const MOST_ITEMS = 100_000;
const SHOWN = 60;

/** Stands where a text was that cannot be given. */
export class Unreadable {
  readonly why: string;
  constructor(why: string) {
    this.why = why;
  }
}

const decoder = new TextDecoder('utf-8', { fatal: true });

export function decodedText(bytes: Uint8Array): string | Unreadable {
  if (bytes.byteLength > MOST_TEXT_BYTES) return tooLong(bytes.byteLength);
  try {
    return decoder.decode(bytes);
  } catch {
    return new Unreadable('is not valid UTF-8');
  }
}

function tooLong(bytes: number): Unreadable {
  return new Unreadable(`has ${bytes} bytes; a text has at most ${MOST_TEXT_BYTES}`);
}

export class Row {
  readonly file: string;
  /** From 0 on, in its file. */
  readonly number: number;
  private readonly values: Readonly<Record<string, unknown>>;
  private readonly columns: readonly string[];

  /** `columns`: all that the file has, where `values` are some of them. */
  constructor(file: string, number: number, values: Readonly<Record<string, unknown>>, columns: readonly string[] = Object.keys(values)) {
    this.file = file;
    this.number = number;
    this.values = values;
    this.columns = columns;
  }

  has(column: string): boolean {
    const value = Object.hasOwn(this.values, column) ? this.values[column] : undefined;
    return value !== undefined && value !== null;
  }

  text(column: string): string {
    return this.asText(this.value(column), column);
  }

  /** '' where the column is missing or null. */
  optionalText(column: string): string {
    return this.has(column) ? this.text(column) : '';
  }

  integer(column: string): number {
    const value = this.value(column);
    const number = typeof value === 'bigint' ? Number(value) : value;
    if (typeof number !== 'number' || !Number.isSafeInteger(number)) throw this.wrong(column, `must be an integer, got ${shown(value)}`);
    return number;
  }

  /** A list of texts or numbers, or one of them; lists in it are its items. */
  texts(column: string): string[] {
    const value = this.value(column);
    const items = Array.isArray(value) ? value.flat() : [value];
    if (items.length > MOST_ITEMS) throw this.wrong(column, `has ${items.length} items; a list has at most ${MOST_ITEMS}`);
    return items.map((item) => (typeof item === 'number' || typeof item === 'bigint' ? String(item) : this.asText(item, column)));
  }

  /** At least one. */
  answers(column: string): string[] {
    const texts = this.texts(column);
    if (texts.length === 0) throw this.wrong(column, 'must have at least one answer, got an empty list');
    return texts;
  }

  /** A value as it was read: for columns with a structure of their own. */
  value(column: string): unknown {
    if (this.has(column)) return this.values[column];
    throw Object.hasOwn(this.values, column) ? this.wrong(column, 'must have a value, got null') : this.missing(column);
  }

  wrong(column: string, what: string): InputError {
    return new InputError('dataset_row', null, `${this.file}: row ${this.number}: column "${column}" ${what}`);
  }

  private missing(column: string): InputError {
    const known =
      this.columns
        .slice(0, 20)
        .map((name) => name.slice(0, SHOWN))
        .join(', ') || 'none';
    return new InputError('dataset_column', null, `${this.file}: row ${this.number} has no column "${column}"; its columns: ${known}`);
  }

  private asText(value: unknown, column: string): string {
    if (value instanceof Unreadable) throw this.wrong(column, value.why);
    if (typeof value !== 'string') throw this.wrong(column, `must be text, got ${shown(value)}`);
    // a string of half as many units cannot be longer in UTF-8 than 3/2 of that; only what may be too long is counted
    const bytes = value.length * 3 > MOST_TEXT_BYTES ? Buffer.byteLength(value) : 0;
    if (bytes > MOST_TEXT_BYTES) throw this.wrong(column, tooLong(bytes).why);
    return value;
  }
}

function shown(value: unknown): string {
  if (value === null || value === undefined) return 'null';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object') return 'an object';
  return `${typeof value} ${String(value).slice(0, SHOWN)}`;
}
