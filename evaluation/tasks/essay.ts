/** A text as a haystack: its sentences, repeated where it is too short. */
import { InputError } from '../../presses/input-error.ts';
import type { Random } from '../random.ts';

/** Longer sentences, and texts without any full stop, are cut into pieces of so many words: needles go between sentences. */
const MOST_WORDS = 60;

/** White space becomes one space; a sentence ends at . ! ? with what closes behind them. */
export function sentencesOf(text: string, from: string): string[] {
  const sentences: string[] = [];
  for (const sentence of text
    .replace(/\s+/g, ' ')
    .trim()
    .split(/(?<=[.!?]["'”’)\]]*) /)) {
    const words = sentence.split(' ');
    for (let i = 0; i < words.length; i += MOST_WORDS) sentences.push(words.slice(i, i + MOST_WORDS).join(' '));
  }
  if (sentences.length === 1 && sentences[0] === '')
    throw new InputError('essay_empty', 'essay', `${from} has no words; a text of some thousand words works`);
  return sentences;
}

/** From a random sentence on, and again from the first. */
export function* withoutEnd(sentences: readonly string[], random: Random): Generator<string> {
  for (let i = random.int(0, sentences.length - 1); ; i = (i + 1) % sentences.length) yield sentences[i];
}

/** The first `words` words of what comes. The last sentence may be cut, and ends with a full stop all the same. */
export function takeWords(sentences: Iterable<string>, words: number): string[] {
  const taken: string[] = [];
  if (words <= 0) return taken;
  let left = words;
  for (const sentence of sentences) {
    const parts = sentence.split(' ');
    taken.push(
      parts.length <= left
        ? sentence
        : `${parts
            .slice(0, left)
            .join(' ')
            .replace(/[^\p{L}\p{N}]+$/u, '')}.`,
    );
    left -= parts.length;
    if (left <= 0) break;
  }
  return taken;
}
