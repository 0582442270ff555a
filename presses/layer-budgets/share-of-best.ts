/**
 * Of the `total` largest values of all lists, how many lie in each. Every list falls; equal values go to the earlier list.
 *   the cut is found in the order of the 32-bit patterns: 32 halvings, each a binary search in every list. No list is merged or copied.
 *   nests: with one list more, or a smaller total, no list that was there gets more
 */
export function shareOfBest(lists: readonly Float32Array[], total: number): number[] {
  const { above: counts, equal, left: rest } = cutOfBest(lists, total);
  let left = rest;
  for (const [i, ties] of equal.entries()) {
    const given = Math.min(left, ties);
    counts[i] += given;
    left -= given;
  }
  return counts;
}

/** How many values of each list lie above the cut, how many on it, and how many of those are among the `total` largest. */
export function cutOfBest(lists: readonly Float32Array[], total: number): { above: number[]; equal: number[]; left: number } {
  const all = lists.reduce((sum, list) => sum + list.length, 0);
  if (total >= all) return { above: lists.map(({ length }) => length), equal: lists.map(() => 0), left: 0 };
  // The largest pattern that at least `total` values reach: the value of the last one that is in.
  let cut = 0;
  for (let bit = 2 ** 31; bit >= 1; bit /= 2) {
    const tried = cut + bit;
    if (lists.reduce((sum, list) => sum + reaching(list, tried), 0) >= total) cut = tried;
  }
  const above = lists.map((list) => reaching(list, cut + 1));
  const equal = lists.map((list, i) => reaching(list, cut) - above[i]);
  return { above, equal, left: total - above.reduce((sum, count) => sum + count, 0) };
}

/** Scores in falling order, in place of themselves; what is no number ranks last. */
export function falling(scores: Float32Array): Float32Array {
  for (let i = 0; i < scores.length; i++) if (Number.isNaN(scores[i])) scores[i] = -Infinity;
  return scores.sort().reverse();
}

/** Values of a falling list whose pattern is at least `pattern`. */
function reaching(list: Float32Array, pattern: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (patternOf(list[middle]) >= pattern) low = middle + 1;
    else high = middle;
  }
  return low;
}

const value = new Float32Array(1);
const bits = new Uint32Array(value.buffer);

/** Unsigned numbers in the order of the values; -0 is 0, NaN below all. */
function patternOf(x: number): number {
  if (Number.isNaN(x)) return 0;
  value[0] = x + 0;
  return bits[0] >= 2 ** 31 ? 2 ** 32 - 1 - bits[0] : bits[0] + 2 ** 31;
}
