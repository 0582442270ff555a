/**
 * Rows of a JSON file, one at a time: JSON lines, or one array of objects. Bytes are cut into texts first (at line ends, or where an element of the array ends),
 * so that no more than one row lies in memory.
 */
import { createReadStream } from 'node:fs';
import { InputError } from '../../../presses/input-error.ts';
import { Row } from './row.ts';

/** Of one row, all its columns. */
const MOST_ROW_BYTES = 64 * 2 ** 20;
const [NEWLINE, QUOTE, COMMA, OPEN_LIST, BACKSLASH, CLOSE_LIST, OPEN, CLOSE] = [...'\n",[\\]{}'].map((character) => character.charCodeAt(0));
const SPACES = [NEWLINE, 9, 13, 32];

export async function* jsonLines(file: string): AsyncGenerator<Row> {
  const part = new Part(file);
  let line = 0;
  for await (const chunk of chunks(file)) {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, from)) {
      part.add(chunk.subarray(from, end));
      from = end + 1;
      const row = part.row(line++);
      if (row) yield row;
    }
    part.add(chunk.subarray(from));
  }
  const last = part.row(line);
  if (last) yield last;
}

export async function* jsonArray(file: string): AsyncGenerator<Row> {
  const part = new Part(file);
  const cut = (why: string): InputError => new InputError('dataset_file', null, `${file}: must be one JSON array of objects; ${why}`);
  let [depth, inString, escaped, row] = [0, false, false, 0];
  let state = 'before' as 'before' | 'within' | 'after';
  for await (const chunk of chunks(file)) {
    let from = 0;
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i];
      if (state !== 'within') {
        if (SPACES.includes(byte) || (state === 'before' && [0xef, 0xbb, 0xbf].includes(byte))) continue;
        if (state === 'after' || byte !== OPEN_LIST)
          throw cut(`got ${JSON.stringify(String.fromCharCode(byte))} ${state === 'after' ? 'after its end' : 'first'}`);
        state = 'within';
        from = i + 1;
      } else if (inString) {
        if (escaped) escaped = false;
        else if (byte === BACKSLASH) escaped = true;
        else if (byte === QUOTE) inString = false;
      } else if (byte === QUOTE) inString = true;
      else if (byte === OPEN || byte === OPEN_LIST) depth++;
      else if (depth > 0 && (byte === CLOSE || byte === CLOSE_LIST)) depth--;
      else if (depth === 0 && (byte === COMMA || byte === CLOSE_LIST)) {
        part.add(chunk.subarray(from, i));
        from = i + 1;
        const element = part.row(row);
        if (element) row++;
        else if (byte === COMMA || row > 0) throw cut(`element ${row} is empty`);
        if (element) yield element;
        if (byte === CLOSE_LIST) state = 'after';
      }
    }
    if (state === 'within') part.add(chunk.subarray(from));
  }
  if (state !== 'after') throw cut('it ends before its "]": the file may be cut off');
}

async function* chunks(file: string): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: 2 ** 20 })) yield chunk;
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error)) throw error;
    throw new InputError('dataset_file', null, `${file}: cannot be read: ${error.message}`);
  }
}

/** The bytes of the row that is being read. */
class Part {
  private readonly file: string;
  private bytes: Uint8Array[] = [];
  private size = 0;

  constructor(file: string) {
    this.file = file;
  }

  add(bytes: Uint8Array): void {
    this.size += bytes.length;
    this.bytes.push(bytes);
    if (this.size > MOST_ROW_BYTES) {
      throw new InputError(
        'dataset_row',
        null,
        `${this.file}: a row has more than ${MOST_ROW_BYTES} bytes; this is no file of JSON lines, or one of its texts is too long`,
      );
    }
  }

  /** null of white space only. */
  row(number: number): Row | null {
    const joined = Buffer.concat(this.bytes);
    this.bytes = [];
    this.size = 0;
    const wrong = (why: string): InputError => new InputError('dataset_row', null, `${this.file}: row ${number} ${why}`);
    let text: string;
    try {
      text = new TextDecoder('utf-8', { fatal: true }).decode(joined);
    } catch {
      throw wrong('is not valid UTF-8');
    }
    if (text.trim() === '') return null;
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      throw wrong(`is not valid JSON (${error instanceof Error ? error.message.slice(0, 120) : error}); the file may be cut off`);
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(`must be a JSON object, got ${text.slice(0, 40)}`);
    return new Row(this.file, number, value as Record<string, unknown>);
  }
}
