/**
 * RULER's qa tasks (arXiv 2404.06654), questions over numbered documents: the paragraphs that hold the answer, then others (of the same article first,
 * where asked), as many as fit, in random order. Each paragraph stands there once; when a file has no more, those that do not hold the answer come again.
 * Sample i asks question i mod their number, in an order drawn once.
 */
import { z } from 'zod';
import { InputError } from '../../presses/input-error.ts';
import type { Random } from '../random.ts';
import type { Recipe, Setting, Task } from './contract.ts';
import { maxNewTokens } from './params.ts';
import type { QuestionSet } from './question-set.ts';

export function qaTask(name: string, summary: string, recipe: string, hops: 1 | 2): Task {
  const params = z.strictObject({
    /** Other paragraphs of the same article come before those of others. */
    same_article_first: z.boolean({ error: 'must be true or false' }).default(hops === 1),
    max_new_tokens: maxNewTokens(32),
  });
  return {
    name,
    summary,
    recipe,
    metric: 'string_match_part',
    params,
    plan: (setting, given) => plan(setting, hops, given as z.infer<typeof params>),
  };
}

function plan(
  setting: Setting,
  hops: 1 | 2,
  { same_article_first, max_new_tokens }: { same_article_first: boolean; max_new_tokens: number },
): Recipe {
  const { phrasebook } = setting;
  const set = setting.questions(hops);
  if (set.questions.length === 0) throw new InputError('questions_empty', 'questions', `${set.name} has no questions; one or more works`);
  const order = setting.random.fork('questions').shuffled(set.questions);
  const most = Math.max(...order.map(({ paragraphs }) => paragraphs.length));
  const alone = order.some(({ paragraphs }) => paragraphs.length === set.paragraphs.length);
  return {
    unit: 'documents',
    min: most,
    max: alone ? most : Number.POSITIVE_INFINITY, // nothing to put beside it
    maxNewTokens: max_new_tokens,
    build(random, amount, index) {
      const { question, answers, paragraphs } = order[index % order.length];
      const others = distractors(set, paragraphs, same_article_first, random);
      const chosen = [...paragraphs];
      for (let i = 0; chosen.length < amount && others.length > 0; i++) chosen.push(others[i % others.length]);
      if (amount - paragraphs.length > others.length)
        setting.note(`${set.name}: documents repeat, ${set.paragraphs.length} paragraphs are fewer than fit`);
      const shuffled = random.fork('order').shuffled(chosen);
      return {
        context: phrasebook.qa.frame(shuffled.map((at, i) => phrasebook.qa.document(i + 1, set.paragraphs[at].text))),
        question: phrasebook.qa.question(question),
        answerPrefix: phrasebook.qa.answerPrefix,
        answers,
      };
    },
  };
}

/** Paragraphs that do not hold the answer, in the order in which they come. */
function distractors({ paragraphs }: QuestionSet, gold: readonly number[], sameFirst: boolean, random: Random): number[] {
  const articles = new Set(gold.map((at) => paragraphs[at].article));
  const others = random.fork('documents').shuffled(paragraphs.map((_, i) => i).filter((i) => !gold.includes(i)));
  if (!sameFirst) return others;
  const near = others.filter((i) => articles.has(paragraphs[i].article));
  return [...near, ...others.filter((i) => !articles.has(paragraphs[i].article))];
}
