/**
 * Needles in a haystack, RULER's recipe (arXiv 2404.06654): a needle is a sentence "the special magic KIND of KEY is VALUE"; the eight niah tasks and
 * needle_in_haystack are this with other parameters.
 *   haystack  stock    five short stock sentences over and over, one a line
 *             essay    the words of an essay, cut to length, split in sentences
 *             needles  other needles, one a line: nothing but distractors
 *   needles   keys x values of them, at different places of 40, evenly spaced over 0..100 % of the haystack's sentences; needle at depth d % stands
 *             before sentence floor(sentences * d / 100)
 *   asked     all values of the first `queries` keys
 */
import { z } from 'zod';
import type { Random } from '../random.ts';
import type { Draft, Recipe, Setting, Task } from './contract.ts';
import { drawDistinct } from './draw-distinct.ts';
import { takeWords } from './essay.ts';
import { maxNewTokens, whole } from './params.ts';
import type { ValueKind } from './phrasebooks/phrasebook.ts';

/** Percentages where needles may stand. */
export const DEPTHS = Array.from({ length: 40 }, (_, i) => (100 * i) / 39);
/** Fewer words make no haystack with a middle. */
const LEAST_WORDS = 20;
const LEAST_LINES = 5;
const LEAST_DISTRACTORS = 2;
const TRIES_OF_ONE = 20;

const kind = z.enum(['word', 'number', 'uuid'], { error: 'must be word, number or uuid' });
const niahParams = z.strictObject({
  haystack: z.enum(['stock', 'essay', 'needles'], { error: 'must be stock, essay or needles' }),
  key_kind: kind,
  value_kind: kind,
  /** Digits of a number. */
  digits: whole(4, 15).default(7),
  keys: whole(1, DEPTHS.length),
  values: whole(1, DEPTHS.length),
  queries: whole(1, DEPTHS.length),
  /** Where the needle stands, percent: sample i has depths[i mod their number]. null = drawn. */
  depths: z
    .array(z.number().min(0).max(100), { error: 'must be a list of percentages from 0 to 100, or null' })
    .min(1)
    .max(1001)
    .nullable()
    .default(null),
  max_new_tokens: maxNewTokens(128),
});
type NiahParams = z.infer<typeof niahParams>;

type Fixed = Pick<NiahParams, 'haystack' | 'key_kind' | 'value_kind' | 'keys' | 'values' | 'queries'> & { readonly depths?: number[] };

/** One of the niah tasks: its parameters' defaults. */
export function niahTask(name: string, summary: string, recipe: string, fixed: Fixed): Task {
  const { shape } = niahParams;
  const params = niahParams
    .extend({
      haystack: shape.haystack.default(fixed.haystack),
      key_kind: shape.key_kind.default(fixed.key_kind),
      value_kind: shape.value_kind.default(fixed.value_kind),
      keys: shape.keys.default(fixed.keys),
      values: shape.values.default(fixed.values),
      queries: shape.queries.default(fixed.queries),
      depths: shape.depths.default(fixed.depths ?? null),
    })
    .refine(({ keys, queries }) => queries <= keys, { path: ['queries'], error: 'must be at most the number of keys' })
    .refine(({ keys, values }) => keys * values <= DEPTHS.length, {
      path: ['values'],
      error: `keys x values must be at most ${DEPTHS.length}, the places for needles`,
    })
    .refine(({ keys, values, depths }) => !depths || keys * values === 1, {
      path: ['depths'],
      error: 'depths are for one needle: keys and values must be 1',
    });
  return { name, summary, recipe, metric: 'string_match_all', params, plan: (setting, given) => plan(setting, given as NiahParams) };
}

function plan({ phrasebook, sentences }: Setting, params: NiahParams): Recipe {
  const { haystack, key_kind, value_kind, keys: keyCount, values: valueCount, queries, depths } = params;
  const { niah } = phrasebook;
  /** Haystacks of some hundred thousand needles use up adjective and noun; then there are two adjectives. */
  const drawKey = (random: Random) => (tries: number) =>
    key_kind === 'word' ? phrasebook.key(random, tries < TRIES_OF_ONE ? 1 : 2) : draw(random, key_kind);
  const draw = (random: Random, kind: ValueKind) =>
    kind === 'uuid' ? uuid(random) : kind === 'number' ? digits(random, params.digits) : phrasebook.word(random);

  function hay(random: Random, amount: number, keys: readonly string[], values: readonly string[]): string[] {
    if (haystack === 'essay') return takeWords(sentences(random), amount);
    if (haystack === 'stock') {
      const stock = phrasebook.stock(random);
      return Array.from({ length: amount }, (_, i) => stock[i % stock.length]);
    }
    const others = drawDistinct('keys', amount, drawKey(random), keys);
    return others.map((key) => niah.needle(value_kind, key, drawDistinct('values', 1, () => draw(random, value_kind), values)[0]));
  }

  return {
    unit: { essay: 'words of essay', stock: 'stock sentences', needles: 'distracting needles' }[haystack],
    min: { essay: LEAST_WORDS, stock: LEAST_LINES, needles: LEAST_DISTRACTORS }[haystack],
    max: Number.POSITIVE_INFINITY,
    maxNewTokens: params.max_new_tokens,
    build(random, amount, index): Draft {
      const draws = random.fork('needles');
      const keys = drawDistinct('keys', keyCount, drawKey(draws), [], true);
      const values = drawDistinct('values', keyCount * valueCount, () => draw(draws, value_kind), [], true);
      const sentences = hay(random.fork('haystack'), amount, keys, values);
      const places = depths ? [depths[index % depths.length]] : draws.sample(DEPTHS, keyCount * valueCount);
      const needles = places.map((depth, i) => ({ depth, text: niah.needle(value_kind, keys[Math.floor(i / valueCount)], values[i]) }));
      const several = valueCount > 1;
      const many = queries > 1 || several;
      const asked = keys.slice(0, queries);
      return {
        context: niah.frame(withNeedles(sentences, needles).join(haystack === 'essay' ? ' ' : '\n'), value_kind, many),
        question: niah.question(value_kind, asked, several),
        answerPrefix: niah.answerPrefix(value_kind, asked, several),
        answers: values.slice(0, queries * valueCount),
        ...(many ? {} : { depth: places[0] }),
      };
    },
  };
}

function withNeedles(sentences: readonly string[], needles: readonly { depth: number; text: string }[]): string[] {
  const before = new Map<number, string[]>();
  for (const { depth, text } of needles.toSorted((a, b) => a.depth - b.depth)) {
    const place = Math.floor((sentences.length * depth) / 100);
    before.set(place, [...(before.get(place) ?? []), text]);
  }
  return [...sentences.flatMap((sentence, i) => [...(before.get(i) ?? []), sentence]), ...(before.get(sentences.length) ?? [])];
}

function digits(random: Random, count: number): string {
  return `${random.int(1, 9)}${Array.from({ length: count - 1 }, () => random.int(0, 9)).join('')}`;
}

/** Version 4: 122 random bits. */
function uuid(random: Random): string {
  const hex = Array.from({ length: 4 }, () => random.bits().toString(16).padStart(8, '0')).join('');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-${'89ab'[random.int(0, 3)]}${hex.slice(17, 20)}-${hex.slice(20)}`;
}
