import { shownName } from '../../presses/did-you-mean.ts';
import type { Sample } from '../contract.ts';
import type { Row } from './read/row.ts';

/** Where a row stands: what its samples' ids and tasks come from. */
export interface Place {
  readonly config: string | undefined;
  /** Of the row, from 0 on over all the files of a configuration. */
  readonly index: number;
}

/** A published benchmark: where it is, and what its rows mean. */
export interface Dataset {
  readonly name: string;
  readonly about: string;
  /** The data set on the Hugging Face hub whose rows are as kvpress's evaluation reads them. */
  readonly hub: string;
  /** The folder in it: a task, or a length. None: one configuration only. */
  readonly configs: readonly string[] | null;
  readonly split: string;
  /** All columns that `samples` may ask for, of every layout. */
  readonly columns: readonly string[];
  /** Most rows are one sample. */
  samples(row: Row, place: Place): Sample[];
}

/** Columns of the layout that kvpress's evaluation reads. */
export const PREPARED = ['context', 'question', 'answer_prefix', 'answer', 'max_new_tokens', 'task'] as const;
/** No answer needs more. */
const MOST_NEW_TOKENS = 100_000;

/** What every prepared row says, but for its answers. */
export function prepared(row: Row): Pick<Sample, 'context' | 'question' | 'answerPrefix' | 'maxNewTokens'> {
  return {
    context: row.text('context'),
    question: row.optionalText('question'),
    answerPrefix: row.optionalText('answer_prefix'),
    maxNewTokens: newTokens(row),
  };
}

function newTokens(row: Row): number {
  const tokens = row.integer('max_new_tokens');
  if (tokens < 1 || tokens > MOST_NEW_TOKENS) throw row.wrong('max_new_tokens', `must be between 1 and ${MOST_NEW_TOKENS}, got ${tokens}`);
  return tokens;
}

/** The task that a row names; where it names none, its configuration is one. */
export function taskOf(row: Row, { config }: Place): string {
  return config === undefined || row.has('task') ? row.text('task') : config;
}

/** The value of a table that a row names, or an error that tells what there is. */
export function known<T>(table: Readonly<Record<string, T>>, name: string, row: Row, column: string): T {
  if (Object.hasOwn(table, name)) return table[name];
  throw row.wrong(column, `must be one of ${Object.keys(table).join(', ')}, got ${JSON.stringify(shownName(name))}`);
}
