import { InputError } from '../../presses/input-error.ts';

/** Table cells of all pairs of sentences of two texts: about a second, and texts of 11,000 words each. */
const MOST_CELLS = 2 ** 27;
/** Of one pair of sentences: what lies in memory at once. */
const MOST_TABLE = 2 ** 25;

/**
 * Positions in x of a longest common subsequence of x and y. Of several equally long ones, walking back from the ends, the one that steps back in `x`,
 * or in `y`, where both ways are as good: ROUGE's sets of words depend on it.
 *     t[i, j] = t[i-1, j-1] + 1                  where x_i = y_j
 *               max(t[i-1, j], t[i, j-1])        else
 */
export function commonSubsequence(x: readonly string[], y: readonly string[], stepBackIn: 'x' | 'y'): number[] {
  const row = y.length + 1;
  const cells = (x.length + 1) * row;
  if (cells > MOST_TABLE) throw tooLong(x.length, y.length);
  const table = new Uint32Array(cells);
  for (let i = 1; i <= x.length; i++) {
    for (let j = 1; j <= y.length; j++) {
      table[i * row + j] = x[i - 1] === y[j - 1] ? table[(i - 1) * row + j - 1] + 1 : Math.max(table[(i - 1) * row + j], table[i * row + j - 1]);
    }
  }
  const positions: number[] = [];
  let i = x.length;
  let j = y.length;
  while (i > 0 && j > 0) {
    const withoutX = table[(i - 1) * row + j];
    const withoutY = table[i * row + j - 1];
    if (x[i - 1] === y[j - 1]) {
      positions.push(i - 1);
      i--;
      j--;
    } else if (stepBackIn === 'x' ? withoutX >= withoutY : withoutX > withoutY) i--;
    else j--;
  }
  return positions.reverse();
}

/** Sentences are compared each with each: refused where that takes longer than any answer is worth. */
export function checkLengths(x: readonly (readonly string[])[], y: readonly (readonly string[])[]): void {
  const words = (sentences: readonly (readonly string[])[]): number => sentences.reduce((sum, { length }) => sum + length + 1, 0);
  if (words(x) * words(y) > MOST_CELLS) throw tooLong(words(x), words(y));
}

function tooLong(x: number, y: number): InputError {
  return new InputError(
    'metric_text_too_long',
    null,
    `ROUGE compares each word with each: ${x} and ${y} words are too many; their product must stay below ${MOST_CELLS}`,
  );
}
