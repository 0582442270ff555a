/** The words of a style. A task has the structure, a phrasebook every word that a model reads; another style is another object like these. */
import type { Random } from '../../random.ts';
import type { QuestionSet } from '../question-set.ts';

/** What a needle's value is. */
export type ValueKind = 'number' | 'uuid' | 'word';

export interface Phrasebook {
  readonly name: string;
  readonly summary: string;
  /** Parameters by task, where this style wants others than the task has. */
  readonly defaults: Readonly<Record<string, Readonly<Record<string, unknown>>>>;

  /** A needle's key: so many adjectives and a noun. */
  key(random: Random, adjectives: number): string;
  /** A value, where values are words. */
  word(random: Random): string;
  /** A variable's name, where names are words. */
  variable(random: Random): string;
  /** A made-up word of the coded text. */
  codedWord(random: Random): string;
  /** Words for lists. */
  readonly listWords: readonly string[];
  /** The stock sentences that the plain haystack repeats. */
  stock(random: Random): readonly string[];
  /** Sentences of the essay haystack, where the user brings no text: without end. */
  prose(random: Random): Generator<string>;
  /** Questions, where the user brings none. */
  questions(random: Random, hops: 1 | 2): QuestionSet;

  readonly niah: {
    needle(kind: ValueKind, key: string, value: string): string;
    /** The whole context, around the haystack with its needles. */
    frame(text: string, kind: ValueKind, many: boolean): string;
    /** `several`: there are several values for a key. */
    question(kind: ValueKind, keys: readonly string[], several: boolean): string;
    answerPrefix(kind: ValueKind, keys: readonly string[], several: boolean): string;
  };
  readonly vt: {
    assign(name: string, value: string): string; // a number, or "VAR name"
    copy(name: string, from: string): string;
    frame(text: string, example: string | null): string;
    /** A worked example: text, question and answer. */
    example(text: string, value: string, names: readonly string[]): string;
    question(value: string): string;
    answerPrefix(value: string, count: number): string;
  };
  readonly cwe: {
    list(words: readonly string[]): string;
    frame(list: string, common: number, example: string | null): string;
    example(list: string, common: readonly string[]): string;
    question(common: number): string;
    answerPrefix(common: number): string;
  };
  readonly fwe: {
    frame(words: readonly string[], top: number): string;
    question(top: number): string;
    answerPrefix(top: number): string;
  };
  readonly qa: {
    document(number: number, text: string): string;
    frame(documents: readonly string[]): string;
    question(question: string): string;
    answerPrefix: string;
  };
}

/** "a, b and c" */
export function listed(items: readonly string[]): string {
  return items.length === 1 ? items[0] : `${items.slice(0, -1).join(', ')} and ${items.at(-1)}`;
}

const NUMBER_WORDS = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'];
/** "three"; digits from 11 on. */
export function numberWord(n: number): string {
  return NUMBER_WORDS[n] ?? String(n);
}
