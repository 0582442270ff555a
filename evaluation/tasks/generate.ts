/**
 * Samples of a task, as many tokens long as asked. For each sample the largest amount of haystack with
 *     count(context) + count(question) + count(answerPrefix) + count(answer) + maxNewTokens + reserve <= length
 * is found by doubling and halving; one unit more would not fit. Sample i depends on the seed, the task and i: not on how many there are, and what is
 * asked is the same at every length.
 */
import type { z } from 'zod';
import { didYouMean, shownName } from '../../presses/did-you-mean.ts';
import { InputError } from '../../presses/input-error.ts';
import type { CountTokens, MetricName, Sample } from '../contract.ts';
import { Random } from '../random.ts';
import type { Draft, Recipe, Setting, Task } from './contract.ts';
import { sentencesOf, withoutEnd } from './essay.ts';
import type { Phrasebook } from './phrasebooks/phrasebook.ts';
import type { QuestionSet } from './question-set.ts';
import { styles, tasks } from './registry.ts';

export interface SamplesRequest {
  readonly task: string;
  /** Tokens of prompt, answer and generation together. */
  readonly length: number;
  readonly samples: number;
  readonly seed: number;
  readonly count: CountTokens;
  /** Tokens kept free for what stands around context, question and the answer's beginning: BOS, the chat template, a newline. */
  readonly reserve?: number;
  readonly style?: string;
  /** The task's parameters, where they are not its defaults. */
  readonly params?: Readonly<Record<string, unknown>>;
  /** Text of the essay haystack. */
  readonly essay?: string;
  /** What the QA tasks ask. */
  readonly questions?: QuestionSet;
}

export interface GeneratedSamples {
  readonly samples: Sample[];
  /** The task's parameters, all filled in. */
  readonly params: Readonly<Record<string, unknown>>;
  /** What is not as the task usually has it, in words. */
  readonly notes: string[];
}

export const LONGEST = 4_194_304; // tokens of a sample; a bound, so that a slip of the finger does not fill the memory
export const MOST_SAMPLES = 100_000;
/** Draws for one sample before there are no more different ones. */
const MOST_DRAWS = 50;
/** No unit is shorter than a quarter of a token (the coded words of fwe, where rare ones come out as none). */
const UNITS_PER_TOKEN = 4;

export function generateSamples(request: SamplesRequest): GeneratedSamples {
  const { length, samples: wanted, seed, reserve = 0, style = 'ruler' } = request;
  const task = tasks.find(({ name }) => name === request.task);
  if (!task)
    throw new InputError(
      'task_unknown',
      'task',
      `unknown task "${shownName(request.task)}"${didYouMean(
        request.task,
        tasks.map(({ name }) => name),
      )}`,
    );
  const phrasebook = styles.find(({ name }) => name === style);
  if (!phrasebook)
    throw new InputError(
      'style_unknown',
      'style',
      `unknown style "${shownName(style)}"${didYouMean(
        style,
        styles.map(({ name }) => name),
      )}`,
    );
  wholeNumber('length', length, 1, LONGEST);
  wholeNumber('samples', wanted, 1, MOST_SAMPLES);
  wholeNumber('seed', seed, -Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  wholeNumber('reserve', reserve, 0, LONGEST);
  const params = parseParams(task, phrasebook, request.params ?? {});
  const notes = new Set<string>();
  const setting = (tokens: number): Setting => settingOf(task, phrasebook, request, tokens, (text) => notes.add(text));
  const recipe = task.plan(setting(length), params);
  const size = (draft: Draft, budget: number) => tokensOf(draft, task.metric, request.count) + budget + reserve;

  const seen = new Set<string>();
  const samples: Sample[] = [];
  let hint = recipe.min;
  let shortest = length;
  for (let index = 0; index < wanted; index++) {
    let draft: Draft | undefined;
    for (let attempt = 0; !draft && attempt < MOST_DRAWS; attempt++) {
      const random = () => new Random(seed, task.name, index, attempt);
      const build = (amount: number) => recipe.build(random(), amount, index);
      const amount = mostThatFits(recipe, length, hint, (amount) => size(build(amount), recipe.maxNewTokens));
      if (amount === null) throw tooShort(task, recipe, request, (tokens) => task.plan(setting(tokens), params), size);
      const built = build(amount);
      const text = `${built.context}\n${built.question}`;
      if (seen.has(text)) continue;
      seen.add(text);
      draft = built;
      if (index === 0) hint = amount; // of the first only, so that sample i does not depend on those before it
      if (amount === mostUnits(recipe, length)) shortest = Math.min(shortest, size(built, recipe.maxNewTokens));
    }
    if (!draft)
      throw new InputError(
        'samples_alike',
        'samples',
        `${task.name} at length ${length} has fewer different samples than ${wanted}: ${index} were found; ${index} or fewer, or a longer length work`,
      );
    samples.push({ id: `${task.name}/${length}/${index}`, task: task.name, ...draft, maxNewTokens: recipe.maxNewTokens, metric: task.metric });
  }
  if (shortest < 0.9 * length)
    notes.add(`${task.name} fills ${shortest} of ${length} tokens: there are no more than ${mostUnits(recipe, length)} ${recipe.unit}`);
  return { samples, params, notes: [...notes] };
}

/** What one sample takes of the length, without the generation budget. Where one of several answers will do, the longest counts. */
export function tokensOf({ context, question, answerPrefix, answers }: Draft, metric: MetricName, count: CountTokens): number {
  const answer = metric === 'string_match_part' ? Math.max(...answers.map((one) => count(` ${one}`))) : count(` ${answers.join(', ')}`);
  const tokens = count(context) + count(question) + count(answerPrefix) + answer;
  if (!Number.isSafeInteger(tokens) || tokens < 0) throw new TypeError(`count() must give whole numbers of tokens, got ${tokens} for a sample`);
  return tokens;
}

/** All there are, or more than can ever fit. */
function mostUnits({ min, max }: Recipe, length: number): number {
  return Math.min(max, Math.max(min, UNITS_PER_TOKEN * length));
}

/**
 * The largest amount whose next does not fit, looked for around `hint`; null where the least does not fit. Sizes are nearly linear, so the next guess is
 * where the line through the nearest known ones meets the length; every third is the middle, so that a bent line costs no more than twice the halvings.
 */
function mostThatFits(recipe: Recipe, length: number, hint: number, sizeAt: (amount: number) => number): number | null {
  const { min } = recipe;
  const end = mostUnits(recipe, length);
  let low = { at: min - 1, size: Number.NaN }; // fits; NaN: not looked at
  let high = { at: end + 1, size: Number.NaN }; // does not
  let at = Math.min(Math.max(hint, min), end);
  for (let round = 1; high.at - low.at > 1; round++) {
    const size = sizeAt(at);
    if (size === length) return at; // full
    if (size <= length) low = { at, size };
    else high = { at, size };
    const perUnit = size / at;
    let guess = Number.isNaN(low.size)
      ? high.at - (4 ** (round - 1) * (high.size - length)) / perUnit
      : low.at + (4 ** (round - 1) * (length - low.size)) / perUnit;
    if (!Number.isNaN(low.size + high.size))
      guess = low.at + (high.at - low.at) * (round % 3 === 0 ? 0.5 : (length - low.size) / (high.size - low.size));
    at = Math.max(low.at + 1, Math.min(high.at - 1, Math.floor(guess)));
  }
  return low.at < min ? null : low.at;
}

/** The error names a length that works: what the longest of these samples needs at least. A task may need more at a greater length, so that is looked at again. */
function tooShort(
  task: Task,
  first: Recipe,
  { length, samples, seed }: SamplesRequest,
  planAt: (length: number) => Recipe,
  size: (draft: Draft, budget: number) => number,
): InputError {
  const least = (recipe: Recipe) => {
    let most = 0;
    for (let i = 0; i < samples; i++)
      most = Math.max(most, size(recipe.build(new Random(seed, task.name, i, 0), recipe.min, i), recipe.maxNewTokens));
    return most;
  };
  const needed = least(first);
  let works = needed;
  for (let round = 0; round < 8; round++) {
    const again = least(planAt(works));
    if (again <= works) break;
    works = again;
  }
  return new InputError(
    'length_too_short',
    'length',
    `${task.name} needs ${needed} tokens at least (${first.maxNewTokens} of them to be generated), length is ${length}; ${works} or more works, or a smaller max_new_tokens`,
  );
}

function settingOf(task: Task, phrasebook: Phrasebook, request: SamplesRequest, length: number, note: (text: string) => void): Setting {
  const random = new Random(request.seed, task.name);
  const essay = request.essay === undefined ? null : sentencesOf(request.essay, 'essay');
  const sets = new Map<number, QuestionSet>();
  return {
    length,
    count: request.count,
    phrasebook,
    random,
    note,
    sentences: (draws) => (essay ? withoutEnd(essay, draws) : phrasebook.prose(draws)),
    questions(hops) {
      if (request.questions) return request.questions;
      if (!sets.has(hops)) sets.set(hops, phrasebook.questions(random.fork('questions'), hops));
      return sets.get(hops)!;
    },
  };
}

function parseParams(task: Task, phrasebook: Phrasebook, given: Readonly<Record<string, unknown>>): z.infer<Task['params']> {
  const known = Object.keys(task.params.shape);
  const other = Object.keys(given).find((name) => !known.includes(name));
  if (other !== undefined)
    throw new InputError(
      'task_param_unknown',
      `params.${shownName(other)}`,
      `${task.name} has no parameter "${shownName(other)}"${didYouMean(other, known)}`,
    );
  const parsed = task.params.safeParse({ ...phrasebook.defaults[task.name], ...given });
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0];
  const name = path.join('.');
  throw new InputError(
    'task_param_range',
    `params.${name}`,
    `${task.name}: ${name || 'parameters'}: ${message}, got ${shown(path.length ? given[String(path[0])] : given)}`,
  );
}

function wholeNumber(name: string, value: number, low: number, high: number): void {
  if (!Number.isSafeInteger(value) || value < low || value > high)
    throw new InputError('number_range', name, `${name} must be a whole number from ${low} to ${high}, got ${shown(value)}`);
}

function shown(value: unknown): string {
  return shownName(JSON.stringify(value) ?? String(value));
}
