/** What a press has read over the prompt before it scores: token lists, checked against the model before any compute. */

import type { CheckedPress } from '../../presses/check-press.ts';
import { InputError } from '../../presses/input-error.ts';
import { partParam } from '../../presses/part-param.ts';
import type { TokenList } from './forward-bytes.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';
import type { ModelInfo } from './types.ts';

/** What is asked comes on top of the prompt's own tokens. */
const ASKED_TOKENS = 1024;

/** `tokens` are those that the press covers. Throws InputError. */
export function passesOf(
  { info, tokenizer }: { readonly info: ModelInfo; readonly tokenizer: Tokenizer | null },
  { stages }: CheckedPress,
  tokens: readonly number[],
): readonly TokenList[] {
  const press = stages.at(0)?.press;
  const passes = press?.scorer.part.passes;
  if (!press || !passes) return [];
  const { name } = press.scorer.part;
  const param = partParam(press, 'scorer');
  const encode = (text: string): readonly number[] => {
    if (tokenizer) return tokenizer.encode(text);
    throw new InputError(
      'no_tokenizer',
      param,
      `scorer "${name}" asks the model something in words, and ${info.id} came without a tokenizer: give those of its parameters that take text as token ids`,
    );
  };
  const answerStart = tokenizer?.chat.answerStart() ?? '\n';
  const lists = passes.tokens({ tokens, encode, answerStart, param: (field) => partParam(press, 'scorer', field) }, press.scorer.params);

  const given = Object.entries(press.scorer.params);
  const paramOf = (is: (words: readonly unknown[] | string) => boolean): string => {
    const found = given.find(([, value]) => (typeof value === 'string' || Array.isArray(value)) && is(value));
    return partParam(press, 'scorer', found?.[0]);
  };
  if (lists.length === 0 || lists.some(({ length }) => length === 0))
    throw new InputError(
      'press_param_range',
      paramOf(({ length }) => length === 0),
      `scorer "${name}" reads something over the prompt: give it one token at least`,
    );
  const unknown = lists.flatMap((list) => list.filter((id) => id >= info.vocabSize)).at(0);
  if (unknown !== undefined)
    throw new InputError(
      'token_unknown',
      paramOf((words) => Array.isArray(words) && words.includes(unknown)),
      `scorer "${name}" is to read token ${unknown}, which is not in the vocabulary of ${info.vocabSize}`,
    );
  const { shape } = press.scorer.part.params;
  const texts = Object.keys(shape).filter((field) => shape[field].safeParse([]).success); // what is read, in words or as token ids
  const helps = (chunks: string): string => {
    const ways = [...('chunk_size' in shape ? [`a ${chunks} chunk_size`] : []), ...(texts.length > 0 ? [`a shorter ${texts.join(', ')}`] : [])];
    return ways.length === 0 ? '' : `; ${ways.join(' or ')} would work`;
  };
  const all = lists.reduce((sum, { length }) => sum + length, 0);
  const most = 2 * tokens.length + ASKED_TOKENS;
  if (all > most) {
    throw new InputError(
      'press_passes_long',
      param,
      `scorer "${name}" is to read ${all} further tokens over the prompt of ${tokens.length}, ${most} at most are read${helps('larger')}`,
    );
  }
  const longest = lists.reduce((most, { length }) => Math.max(most, length), 0);
  // kvpress reads on beyond it, and so does its compat.
  if (tokens.length + longest > info.contextLength && !press.compat) {
    throw new InputError(
      'press_passes_long',
      param,
      `scorer "${name}" reads ${longest} further tokens over the prompt of ${tokens.length}, ${tokens.length + longest} in all; the context length is ${info.contextLength}${helps('smaller')}; or a shorter prompt, or a scorer that reads it once, such as "snapkv"`,
    );
  }
  return lists;
}
