/** needle_in_haystack: one sentence put into an essay at some depth. kvpress uses the first row of its data set only; so does this. */

import { InputError } from '../../presses/input-error.ts';
import type { Sample } from '../contract.ts';
import { type Dataset, prepared } from './dataset.ts';

/** The haystack and what is asked, before the needle is put in. */
export const needleInHaystack: Dataset = {
  name: 'needle_in_haystack',
  about: "a sentence put into Paul Graham's essays at a depth in percent, cut to a length in tokens",
  hub: 'alessiodevoto/paul_graham_essays',
  configs: null,
  split: 'test',
  columns: ['context', 'needle', 'question', 'answer_prefix', 'max_new_tokens'],
  samples: (row, { index }) => {
    if (index > 0) return [];
    const needle = row.text('needle');
    return [
      {
        ...prepared(row),
        id: 'needle_in_haystack',
        task: 'needle_in_haystack',
        answers: [needle],
        metric: 'needle_rouge_l',
        alsoMetrics: ['rouge_1', 'rouge_2'],
      },
    ];
  },
};

export interface Tokens {
  encode(text: string): readonly number[];
  decode(tokens: readonly number[]): string;
}

/** Room for the chat template and the words around the essay, as kvpress leaves it. */
const OVERHEAD = 150;

/**
 * The sample with its needle in the haystack, in tokens as kvpress does it:
 *     haystack = first (length - |needle| - 150) tokens of the essay;  at = floor(|haystack| * depth / 100)
 * `wrap` puts words around it; the ones here are our own.
 */
export function withNeedle(
  sample: Sample,
  tokens: Tokens,
  length: number,
  depth: number,
  wrap: (text: string) => string = (text) => `What follows is a very long book of stories: <book> ${text} </book>.`,
): Sample {
  if (!(depth >= 0 && depth <= 100))
    throw new InputError('needle_depth', 'needle_depth', `a needle's depth must be between 0 and 100 percent, got ${depth}`);
  const needle = tokens.encode(sample.answers[0]);
  const room = length - needle.length - OVERHEAD;
  if (room < 0) {
    throw new InputError(
      'needle_length',
      'length',
      `the needle has ${needle.length} tokens and ${OVERHEAD} are left free, so lengths from ${needle.length + OVERHEAD} on have room for it; got ${length}`,
    );
  }
  const haystack = tokens.encode(sample.context).slice(0, room);
  const at = Math.floor((haystack.length * depth) / 100);
  const context = wrap(tokens.decode([...haystack.slice(0, at), ...needle, ...haystack.slice(at)]));
  return { ...sample, id: `${sample.id}/${length}/${depth}`, context, depth };
}
