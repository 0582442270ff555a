/** What a generated task is made of. A task says how one sample is built from a given amount of haystack; how much fits is found once, in generate.ts. */
import type { z } from 'zod';
import type { CountTokens, MetricName } from '../contract.ts';
import type { Random } from '../random.ts';
import type { Phrasebook } from './phrasebooks/phrasebook.ts';
import type { QuestionSet } from './question-set.ts';

export interface Task<S extends z.ZodObject = z.ZodObject> {
  readonly name: string; // snake_case, as on the command line
  readonly summary: string;
  /** How a sample is made, in one line. */
  readonly recipe: string;
  readonly metric: MetricName;
  /** All have defaults; a phrasebook may have others (`defaults`). */
  readonly params: S;
  plan(setting: Setting, params: z.infer<S>): Recipe;
}

/** What a task is given once per request. */
export interface Setting {
  readonly length: number;
  readonly count: CountTokens;
  readonly phrasebook: Phrasebook;
  /** Draws that all samples of the request share. */
  readonly random: Random;
  /** Sentences of the essay haystack, without end: the user's text, or the phrasebook's. */
  sentences(random: Random): Generator<string>;
  /** Questions whose answer takes one paragraph, or several: the user's file, or the phrasebook's. */
  questions(hops: 1 | 2): QuestionSet;
  /** A line for the report. Said twice, it stands there once. */
  note(text: string): void;
}

/** How samples of one request are built. Amounts count units of haystack: more of it is more tokens. */
export interface Recipe {
  readonly unit: string; // plural, for messages: "words of essay"
  readonly min: number;
  readonly max: number; // Infinity: the haystack has no end
  readonly maxNewTokens: number;
  /** Sample `index` with this amount. What is asked does not depend on the amount. */
  build(random: Random, amount: number, index: number): Draft;
}

export interface Draft {
  readonly context: string; // ends with what separates it from the question
  readonly question: string;
  readonly answerPrefix: string; // begins the model's turn: no space before it, none behind it
  readonly answers: readonly string[];
  readonly depth?: number;
}
