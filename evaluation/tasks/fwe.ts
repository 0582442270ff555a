/**
 * RULER's fwe, frequent words (arXiv 2404.06654): made-up words in random order, of which the k-th stands there
 *   f(k) = floor(n * k^-alpha / zeta(alpha))   times,   k = 1 .. vocabulary,   vocabulary = length / 50
 * With `noise`, dots take the place of the word of rank 1. Asked: the `top` most frequent words, dots aside.
 * n is at least so large that the last of these is more frequent than the next: n * (k^-alpha - (k+1)^-alpha) / zeta(alpha) >= 1.
 */
import { z } from 'zod';
import type { Recipe, Task } from './contract.ts';
import { drawDistinct } from './draw-distinct.ts';
import { maxNewTokens, whole } from './params.ts';

const DOTS = '...';
const MOST_WORDS = 10_000;

const params = z.strictObject({
  top: whole(1, 10).default(3),
  alpha: z.number({ error: 'must be a number from 1.1 to 4' }).min(1.1).max(4).default(2),
  /** Different words; null = length / 50. */
  vocabulary: whole(2, MOST_WORDS).nullable().default(null),
  noise: z.boolean({ error: 'must be true or false' }).default(true),
  max_new_tokens: maxNewTokens(50),
});

export const fwe: Task<typeof params> = {
  name: 'fwe',
  summary: 'the most frequent of made-up words',
  recipe: 'made-up words, the k-th floor(n k^-2 / zeta(2)) times, in random order; the first is dots, asked are the three after it',
  metric: 'string_match_all',
  params,
  plan({ phrasebook, length }, { top, alpha, vocabulary, noise, max_new_tokens }): Recipe {
    const last = top + (noise ? 1 : 0); // rank of the last word that is asked
    const ranks = Math.max(last + 1, Math.min(MOST_WORDS, vocabulary ?? Math.floor(length / 50)));
    const total = zeta(alpha);
    return {
      unit: 'coded words',
      min: Math.ceil(total / (last ** -alpha - (last + 1) ** -alpha)),
      max: Number.POSITIVE_INFINITY,
      maxNewTokens: max_new_tokens,
      build(random, n) {
        const draws = random.fork('words');
        const times = Array.from({ length: ranks }, (_, i) => Math.floor((n * (i + 1) ** -alpha) / total)).filter((f) => f > 0);
        const words = drawDistinct('coded words', times.length, () => phrasebook.codedWord(draws), [], times.length < 1000);
        if (noise) words[0] = DOTS;
        const text = random.fork('order').shuffled(words.flatMap((word, i) => Array<string>(times[i]).fill(word)));
        return {
          context: phrasebook.fwe.frame(text, top),
          question: phrasebook.fwe.question(top),
          answerPrefix: phrasebook.fwe.answerPrefix(top),
          answers: words.slice(last - top, last),
        };
      },
    };
  },
};

/** Riemann's zeta for s > 1: 1000 terms, and the integral and half a term of the rest (Euler-Maclaurin; error below 1e-6). */
function zeta(s: number): number {
  const N = 1000;
  let sum = 0;
  for (let k = 1; k < N; k++) sum += k ** -s;
  return sum + N ** (1 - s) / (s - 1) + N ** -s / 2;
}
