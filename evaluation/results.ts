/**
 * Results as JSON lines, appended as they come. The first line says what was evaluated; each of the others is one answer, or what the press of a variant is made of.
 *
 * A run that ends anywhere leaves whole lines and at most one broken one, the last: opening the file again cuts that off and tells which answers are there.
 * Every line carries a check of its bytes, so that one which the disk gives back changed is refused, not counted. Lines without one are taken as they are.
 * One run at a time writes: <file>.lock names it while it does. What a run that was killed left there is taken over.
 */
import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, ftruncateSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import * as z from 'zod';
import { InputError } from '../presses/input-error.ts';
import { makeFolder, whyNoFile } from '../worker/regular-file.ts';
import { releaseLock, takeLock } from './lock.ts';
import { type Made, madeSchema } from './made-of.ts';

const FORMAT = 1;
const CHUNK_BYTES = 1 << 20;
/** No answer is so long: a file with such a line is something else. */
const MOST_LINE_BYTES = 1 << 26;
const NEWLINE = 10;

/** What answers must have in common to be compared: all that a sample's prompt and its greedy answer follow from, but for the press. */
export const setupSchema = z.strictObject({
  model: z.string(),
  fingerprint: z.string(),
  backend: z.string(),
  entry_type: z.string(),
  query_aware: z.boolean(),
  /** Of the tasks or the dataset: their parameters and seed, whatever tells them apart. */
  samples: z.record(z.string(), z.json()),
});
export type Setup = z.infer<typeof setupSchema>;

export const answerSchema = z.strictObject({
  sample: z.string(), // Sample.id
  variant: z.string(), // Variant.key
  task: z.string(),
  length: z.number().nullable(), // the most tokens that were asked for
  depth: z.number().nullable(), // of a needle, percent
  words: z.number().nullable(), // LongBench-E
  groups: z.record(z.string(), z.string()), // Sample.groups
  press: z.string(), // Variant.press
  ratio: z.number().nullable(), // asked for; null where the press decides
  prediction: z.string(),
  answers: z.array(z.string()),
  score: z.number().nullable(), // 0..1; null where there are no public answers
  weight: z.number(), // in the mean of its task
  other_scores: z.record(z.string(), z.number()), // by Sample.alsoMetrics
  /** Mean over the answer's tokens of KL(full cache || this one), nats; null where it was not asked for. */
  kl: z.number().nullable(),
  tokens: z.number(), // of the prompt
  covered: z.number(), // of which the press saw these
  compression_ratio: z.number(), // really removed
  bytes_kept: z.number(),
  bytes_full: z.number(),
  kept_per_layer: z.array(z.number()),
  lmba_per_layer: z.array(z.number().nullable()),
  retained_mass_per_layer: z.array(z.number().nullable()),
  notes: z.array(z.string()),
});
export type Answer = z.infer<typeof answerSchema>;

const headerSchema = z.strictObject({ edgepress_eval: z.literal(FORMAT), setup: setupSchema });

const pressSchema = z.strictObject({ variant: z.string(), made_of: madeSchema }); // before the answers of that variant; results of earlier versions have none

/** One answer, as far as telling what is missing goes. */
export function keyOf({ sample, variant }: Pick<Answer, 'sample' | 'variant'>): string {
  return `${variant} ${sample}`;
}

/** A results file that is open for more. */
export class ResultsFile {
  readonly path: string;
  /** Whether there is a KL too. */
  readonly #done = new Map<string, boolean>();
  readonly #described = new Set<string>();
  readonly #fd: number;
  #end = 0; // bytes of whole lines

  /** Opens or makes the file, and drops a broken last line. Throws InputError where it holds something else, or answers of another setup. */
  constructor(path: string, setup: Setup) {
    this.path = path;
    makeFolderOf(path);
    checkFile(path);
    lock(path);
    try {
      this.#fd = openSync(path, 'a+');
    } catch (error) {
      releaseLock(path);
      throw unwritable(path, error);
    }
    try {
      for (const { setup: other, answer, press, end } of rows(this.#fd, path)) {
        if (other) checkSame(path, other, setup);
        if (answer) this.#note(answer);
        if (press) this.#described.add(press.variant);
        this.#end = end;
      }
      ftruncateSync(this.#fd, this.#end);
      if (this.#end === 0) this.#write(`${checked(JSON.stringify({ edgepress_eval: FORMAT, setup }))}\n`);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Whether it is there; `kl`: with its KL. */
  has(answer: Pick<Answer, 'sample' | 'variant'>, kl = false): boolean {
    const known = this.#done.get(keyOf(answer));
    return known !== undefined && (known || !kl);
  }

  get size(): number {
    return this.#done.size;
  }

  /** Answers that it has already are left out, but for those that have a KL now: of two lines the later one counts. The others are on the disk when it returns. */
  append(answers: readonly Answer[]): void {
    const fresh = answers.filter((answer) => !this.has(answer, answer.kl !== null));
    this.#write(fresh.map((answer) => `${checked(JSON.stringify(answer))}\n`).join(''));
    for (const answer of fresh) this.#note(answer);
  }

  /** What variants are made of, each told once. */
  describe(variants: Iterable<readonly [variant: string, made: Made]>): void {
    const fresh = [...variants].filter(([variant]) => !this.#described.has(variant));
    this.#write(fresh.map(([variant, made_of]) => `${checked(JSON.stringify({ variant, made_of }))}\n`).join(''));
    for (const [variant] of fresh) this.#described.add(variant);
  }

  close(): void {
    closeSync(this.#fd);
    releaseLock(this.path);
  }

  #note(answer: Answer): void {
    this.#done.set(keyOf(answer), answer.kl !== null);
  }

  #write(text: string): void {
    const bytes = Buffer.from(text);
    try {
      for (let written = 0; written < bytes.length; ) written += writeSync(this.#fd, bytes, written);
      fsyncSync(this.#fd);
    } catch (error) {
      ftruncateSync(this.#fd, this.#end); // of these answers none is there; they are made again
      throw unwritable(this.path, error);
    }
    this.#end += bytes.length;
  }
}

/** Throws InputError where a file of that name could not be read: a device or a pipe may never end. */
function checkFile(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  const why = found ? whyNoFile(found) : null;
  if (why !== null) throw new InputError('file_unwritable', null, `${path}: ${why}; name another folder`);
}

function makeFolderOf(path: string): void {
  try {
    makeFolder(dirname(path));
  } catch (error) {
    throw new InputError('file_unwritable', null, `the folder ${dirname(path)} cannot be made: ${(error as Error).message}; name another one`);
  }
}

function unwritable(path: string, error: unknown): InputError {
  const { code, message } = error as NodeJS.ErrnoException;
  const why = code === 'ENOSPC' || code === 'EDQUOT' ? 'the disk, or what may be used of it, is full' : message;
  return new InputError(
    'file_unwritable',
    null,
    `${path} cannot be written: ${why}; once it can, the same command goes on after the last answer there`,
  );
}

/** The line with a check of its bytes as its last field. */
function checked(line: string): string {
  return `${line.slice(0, -1)},"check":"${checkOf(line)}"}`;
}

function checkOf(line: string): string {
  return createHash('sha256').update(line).digest('hex').slice(0, 8);
}

/** The line as it was before it got its check, or as it is without one. Throws Error where it is another one. */
function unchecked(line: string): string {
  const [end, check] = /,"check":"([0-9a-f]{8})"\}$/.exec(line) ?? [];
  if (end === undefined) return line;
  const bare = `${line.slice(0, -end.length)}}`;
  if (checkOf(bare) !== check) throw new Error('its bytes are not those that were written');
  return bare;
}

/** Throws InputError while another run writes there. */
function lock(path: string): void {
  let holder: string | null;
  try {
    holder = takeLock(path);
  } catch (error) {
    throw unwritable(`${path}.lock`, error);
  }
  if (holder !== null)
    throw new InputError(
      'results_busy',
      null,
      `${path} is being written by ${holder}: wait for it, give both runs a --shard, or name another folder; if there is no such run, remove ${path}.lock`,
    );
}

export interface Results {
  readonly setup: Setup;
  readonly answers: Answer[];
  /** By variant. */
  readonly made: ReadonlyMap<string, Made>;
}

/** What a results file was begun with; null where it has no whole line yet. Throws InputError. */
export function setupOf(path: string): Setup | null {
  return opened(path, (fd) => rows(fd, path).next().value?.setup ?? null);
}

/** What a results file holds; a broken last line is not among it. Throws InputError. */
export function readResults(path: string): Results {
  return opened(path, (fd) => {
    const answers = new Map<string, Answer>();
    const made = new Map<string, Made>();
    let setup: Setup | null = null;
    for (const row of rows(fd, path)) {
      setup ??= row.setup;
      if (row.press) made.set(row.press.variant, row.press.made_of);
      if (row.answer) answers.set(keyOf(row.answer), row.answer);
    }
    if (setup === null) throw new InputError('results_invalid', null, `${path} holds no whole line: it is no results file, or its run ended at once`);
    return { setup, answers: [...answers.values()], made };
  });
}

function opened<T>(path: string, read: (fd: number) => T): T {
  let fd: number;
  try {
    const why = whyNoFile(statSync(path));
    if (why !== null) throw new Error(why);
    fd = openSync(path, 'r');
  } catch (error) {
    throw new InputError('file_unreadable', null, `${path}: ${(error as Error).message}`);
  }
  try {
    return read(fd);
  } finally {
    closeSync(fd);
  }
}

interface Row {
  readonly setup: Setup | null;
  readonly answer: Answer | null;
  readonly press: z.infer<typeof pressSchema> | null;
  readonly end: number; // bytes up to here
}

/** Whole lines from the beginning. */
function* rows(fd: number, path: string): Generator<Row> {
  let number = 0;
  for (const { bytes, end } of lines(fd, path)) {
    number++;
    let json: unknown;
    try {
      json = JSON.parse(unchecked(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
    } catch (error) {
      throw broken(path, number, (error as Error).message);
    }
    const row: Row = { setup: null, answer: null, press: null, end };
    if (number === 1) yield { ...row, setup: validated(headerSchema, json, path, number).setup };
    else if (typeof json === 'object' && json !== null && 'made_of' in json) yield { ...row, press: validated(pressSchema, json, path, number) };
    else yield { ...row, answer: validated(answerSchema, json, path, number) };
  }
}

function validated<T>(schema: z.ZodType<T>, json: unknown, path: string, line: number): T {
  const { success, data, error } = schema.safeParse(json);
  if (!success) throw broken(path, line, z.prettifyError(error).replaceAll('\n', ' '));
  return data;
}

function* lines(fd: number, path: string): Generator<{ bytes: Uint8Array; end: number }> {
  const chunk = Buffer.alloc(CHUNK_BYTES);
  let rest = Buffer.alloc(0);
  let end = 0;
  for (let at = 0, read = 0; (read = readSync(fd, chunk, 0, CHUNK_BYTES, at)) > 0; at += read) {
    let bytes = Buffer.concat([rest, chunk.subarray(0, read)]);
    for (let stop = bytes.indexOf(NEWLINE); stop >= 0; stop = bytes.indexOf(NEWLINE)) {
      end += stop + 1;
      yield { bytes: bytes.subarray(0, stop), end };
      bytes = bytes.subarray(stop + 1);
    }
    rest = Buffer.from(bytes);
    if (rest.length > MOST_LINE_BYTES)
      throw new InputError('results_invalid', null, `${path}: a line of more than ${MOST_LINE_BYTES} bytes: this is no results file`);
  }
}

function broken(path: string, line: number, why: string): InputError {
  const first =
    line === 1 ? 'this is no results file of this version; name another folder, or remove it' : 'remove the line, and its answer is made again';
  return new InputError('results_invalid', null, `${path}, line ${line}: ${why}: ${first}`);
}

/** Throws InputError where two setups differ. */
export function checkSame(path: string, there: Setup, asked: Setup): void {
  const different = (Object.keys(asked) as (keyof Setup)[]).filter((key) => canonical(there[key]) !== canonical(asked[key]));
  if (different.length === 0) return;
  const words = different.map((key) => `${key} ${canonical(there[key])}, now ${canonical(asked[key])}`).join('; ');
  throw new InputError(
    'results_setup',
    null,
    `${path} holds answers of another setup (${words}): go on with the same options, or name another folder`,
  );
}

/** JSON with its keys in order. */
function canonical(value: unknown): string {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return JSON.stringify(value);
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, inner]) => `${JSON.stringify(key)}:${canonical(inner)}`).join(',')}}`;
}
