/**
 * RULER's cwe, common words (arXiv 2404.06654): a list of words in random order; `common` of them stand there common_times each, all others
 * uncommon_times each. Asked: the common ones. A worked example, a short list of the same kind, may come before it.
 *                                        words of the example   its times
 *   length >= 4096   30 and 3 times      40                     10 and 3
 *   shorter           6 and 1 times      20                      3 and 1       (30 x 10 entries do not fit)
 * No common word is part of another word of its list: metrics look for substrings. Uncommon words are joined in pairs once all are used.
 */
import { z } from 'zod';
import { InputError } from '../../presses/input-error.ts';
import type { Random } from '../random.ts';
import type { Recipe, Setting, Task } from './contract.ts';
import { drawDistinct, overlap } from './draw-distinct.ts';
import { maxNewTokens, whole } from './params.ts';

const LONG = 4096;

const params = z
  .strictObject({
    common: whole(1, 50).default(10),
    /** null = by the length, see above. */
    common_times: whole(2, 1000).nullable().default(null),
    uncommon_times: whole(1, 999).nullable().default(null),
    /** Share of the list that the common words take, in place of common_times: as many times as that makes. */
    common_share: z.number({ error: 'must be a number from 0.05 to 0.95, or null' }).min(0.05).max(0.95).nullable().default(null),
    example: z.boolean({ error: 'must be true or false' }).default(true),
    max_new_tokens: maxNewTokens(120),
  })
  .refine(({ common_times, common_share }) => common_times === null || common_share === null, {
    path: ['common_share'],
    error: 'stands in place of common_times: one of them must be null',
  });

export const cwe: Task<typeof params> = {
  name: 'cwe',
  summary: 'the words of a list that stand there most often',
  recipe: 'a list in random order: 10 common words 30 times each, the others 3 times each (6 and 1 times below 4096 tokens)',
  metric: 'string_match_all',
  params,
  plan(setting, { common, common_times, uncommon_times, common_share, example, max_new_tokens }): Recipe {
    const { phrasebook, length } = setting;
    const long = length >= LONG;
    const rarely = uncommon_times ?? (long ? 3 : 1);
    const often = (uncommon: number) =>
      common_share === null
        ? (common_times ?? (long ? 30 : 6))
        : Math.max(rarely + 1, Math.round((common_share / (1 - common_share)) * ((rarely * uncommon) / common)));
    if (rarely >= often(common))
      throw new InputError(
        'task_param_range',
        'params.uncommon_times',
        `cwe: uncommon_times must be less than common_times, got ${rarely} and ${often(common)} at length ${length}; uncommon_times ${often(common) - 1} or less works`,
      );
    const shown = example ? workedExample(setting, common, long ? 40 : 20, long ? 10 : 3, long ? 3 : 1) : null;
    return {
      unit: 'uncommon words',
      min: common,
      max: Number.POSITIVE_INFINITY,
      maxNewTokens: max_new_tokens,
      build(random, amount) {
        const { list, words } = wordList(setting, random, common, amount, often(amount), rarely);
        return {
          context: phrasebook.cwe.frame(phrasebook.cwe.list(list), common, shown),
          question: phrasebook.cwe.question(common),
          answerPrefix: phrasebook.cwe.answerPrefix(common),
          answers: words,
        };
      },
    };
  },
};

/** `words` are the common ones, in the order of their first entry. */
function wordList({ phrasebook }: Setting, random: Random, common: number, uncommon: number, often: number, rarely: number) {
  const draws = random.fork('words');
  const words = drawDistinct('words', common, () => draws.pick(phrasebook.listWords), [], true);
  const apart = (word: string) => !words.some((other) => overlap(word, other));
  const single = draws.shuffled(phrasebook.listWords.filter(apart));
  // Where a long list uses up all words, two are joined: lampriver.
  const joined = () => {
    const word = `${draws.pick(single)}${draws.pick(single)}`;
    return apart(word) ? word : single[0]; // which is taken: drawn again
  };
  const more = Math.max(0, uncommon - single.length);
  const others = [...single.slice(0, uncommon), ...drawDistinct('words', more, joined, single)];
  const entries = [...words.map((word) => Array<string>(often).fill(word)), ...others.map((word) => Array<string>(rarely).fill(word))];
  const list = random.fork('order').shuffled(entries.flat());
  return { list, words: words.toSorted((a, b) => list.indexOf(a) - list.indexOf(b)) };
}

function workedExample(setting: Setting, common: number, different: number, often: number, rarely: number): string {
  const { cwe: phrases } = setting.phrasebook;
  const { list, words } = wordList(setting, setting.random.fork('example'), common, Math.max(different - common, common), often, rarely);
  return phrases.example(phrases.list(list), words);
}
