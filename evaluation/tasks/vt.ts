/**
 * RULER's vt, variable tracking (arXiv 2404.06654):
 *   VAR A = 48213 ... VAR B = VAR A ... VAR C = VAR B ...        `hops` copies, each behind the one it copies, anywhere among stock sentences
 *   asked: all hops + 1 variables that hold 48213.
 * With `chains` > 1 the others have values of their own and are not asked. A worked example with shorter names may come before it: its chain, and
 * noise up to 1/8 of the length, 500 tokens at most.
 */
import { z } from 'zod';
import type { Random } from '../random.ts';
import type { Recipe, Setting, Task } from './contract.ts';
import { drawDistinct } from './draw-distinct.ts';
import { maxNewTokens, whole } from './params.ts';

const EXAMPLE_TOKENS = 500;
const EXAMPLE_LINES = 200;
const EXAMPLE_LETTERS = 3;

const params = z.strictObject({
  chains: whole(1, 50).default(1),
  hops: whole(1, 50).default(4),
  names: z.enum(['letters', 'words'], { error: 'must be letters or words' }).default('letters'),
  /** Capitals of a name. */
  letters: whole(3, 12).default(5),
  example: z.boolean({ error: 'must be true or false' }).default(true),
  max_new_tokens: maxNewTokens(30),
});

interface Chain {
  readonly value: string;
  readonly names: readonly string[];
}

export const vt: Task<typeof params> = {
  name: 'vt',
  summary: 'all variables that a number was handed on to',
  recipe: 'stock sentences; a number is assigned to a variable and copied from variable to variable, 4 hops, in order at random places',
  metric: 'string_match_all',
  params,
  plan(setting, { chains, hops, names, letters, example, max_new_tokens }): Recipe {
    const { phrasebook } = setting;
    const shown = example ? workedExample(setting, hops) : null;
    return {
      unit: 'stock sentences',
      min: chains * (hops + 1), // as many sentences as statements
      max: Number.POSITIVE_INFINITY,
      maxNewTokens: max_new_tokens,
      build(random, amount) {
        const draws = random.fork('chains');
        const all = drawChains(draws, chains, hops, () => (names === 'words' ? phrasebook.variable(draws) : capitals(draws, letters)));
        const stock = phrasebook.stock(draws);
        const [asked] = all;
        return {
          context: phrasebook.vt.frame(scattered(setting, all, stock, amount, random.fork('places')), shown),
          question: phrasebook.vt.question(asked.value),
          answerPrefix: phrasebook.vt.answerPrefix(asked.value, asked.names.length),
          answers: asked.names,
        };
      },
    };
  },
};

function drawChains(random: Random, chains: number, hops: number, name: () => string): Chain[] {
  const names = drawDistinct('names of variables', chains * (hops + 1), name, [], true);
  const values = drawDistinct('numbers', chains, () => String(random.int(10_000, 99_999)));
  return values.map((value, i) => ({ value, names: names.slice(i * (hops + 1), (i + 1) * (hops + 1)) }));
}

/** The chains' statements among `lines` stock sentences, one a line, each chain in its order. */
function scattered({ phrasebook }: Setting, chains: readonly Chain[], stock: readonly string[], lines: number, random: Random): string {
  const { assign, copy } = phrasebook.vt;
  const statements = chains.map(({ value, names }) => names.map((name, i) => (i === 0 ? assign(name, value) : copy(name, names[i - 1]))));
  // Which line is whose: null is noise. Every order of these is as likely as another.
  const owners = random.shuffled<string[] | null>([
    ...statements.flatMap((chain) => chain.map(() => chain)),
    ...Array.from({ length: lines }, () => null),
  ]);
  const next = new Map(statements.map((chain) => [chain, 0]));
  let noise = 0;
  return owners
    .map((chain) => {
      if (!chain) return stock[noise++ % stock.length];
      const at = next.get(chain)!;
      next.set(chain, at + 1);
      return chain[at];
    })
    .join('\n');
}

/** The same for every sample: one chain, with short names. */
function workedExample(setting: Setting, hops: number): string {
  const { phrasebook, count, length } = setting;
  const most = Math.min(EXAMPLE_TOKENS, length / 8);
  const draws = setting.random.fork('example');
  const [chain] = drawChains(draws, 1, hops, () => capitals(draws, EXAMPLE_LETTERS));
  const stock = phrasebook.stock(draws);
  const written = (lines: number) =>
    phrasebook.vt.example(scattered(setting, [chain], stock, lines, setting.random.fork('example places')), chain.value, chain.names);
  let lines = 0;
  while (lines < EXAMPLE_LINES && count(written(lines + 1)) <= most) lines++;
  return written(lines);
}

function capitals(random: Random, letters: number): string {
  return Array.from({ length: letters }, () => String.fromCharCode(65 + random.int(0, 25))).join('');
}
