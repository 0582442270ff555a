/**
 * Text as Python's str sees it, since the official metrics are written in Python and their scores depend on it: what is white space (U+001C..U+001F and U+0085 are,
 * U+FEFF is not, unlike in JavaScript), what is a letter of a word (\w knows no combining marks), and the ASCII punctuation of `string.punctuation`.
 */
const SPACE = String.raw`\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000`;
const LEADING = new RegExp(`^[${SPACE}]+`);
const WORDS = new RegExp(`[^${SPACE}]+`, 'g');
const PUNCTUATION = /[!-/:-@[-`{-~]/g;
const ARTICLE = /(?<![\p{L}\p{N}_])(?:a|an|the)(?![\p{L}\p{N}_])/gu;

/** str.lstrip() */
export function leftStripped(text: string): string {
  return text.replace(LEADING, '');
}

/** str.strip(). From the end by hand: a pattern that ends in $ takes quadratic time. */
export function stripped(text: string): string {
  const kept = leftStripped(text);
  let end = kept.length;
  while (end > 0 && LEADING.test(kept[end - 1])) end--;
  return kept.slice(0, end);
}

/** str.split() */
export function words(text: string): string[] {
  return text.match(WORDS) ?? [];
}

export function withoutPunctuation(text: string): string {
  return text.replace(PUNCTUATION, '');
}

/** Lower case, without ASCII punctuation and the words a, an, the, one space between words: what SQuAD's metric compares. */
export function normalised(text: string): string {
  return words(withoutPunctuation(text.toLowerCase()).replace(ARTICLE, ' ')).join(' ');
}

/** round(x): halves go to the even neighbour. */
export function roundedToEven(x: number): number {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}
