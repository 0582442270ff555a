import { InputError } from '../../presses/input-error.ts';

/** Characters of one side: a line of code has hundreds. The time can grow with the square. */
const MOST_CHARACTERS = 20_000;
/** From this length on, characters that make up more than 1 % of b (and one more) are not looked for. */
const LONG = 200;

/**
 * ratio = 2M / (|a| + |b|), as Python's difflib.SequenceMatcher(None, a, b) counts M, in code points:
 * the longest block that both have (the first in a, then the first in b), then the same to the left and to the right of it, until nothing is left.
 * In a b of 200 characters and more, frequent ones only lengthen a block that others began ("autojunk").
 */
export function matchRatio(a: string, b: string): number {
  const x = [...a];
  const y = [...b];
  if (Math.max(x.length, y.length) > MOST_CHARACTERS) {
    throw new InputError(
      'metric_text_too_long',
      null,
      `edit similarity compares lines of at most ${MOST_CHARACTERS} characters, got ${x.length} and ${y.length}`,
    );
  }
  const total = x.length + y.length;
  return total === 0 ? 1 : (2 * matches(x, y)) / total;
}

function matches(x: readonly string[], y: readonly string[]): number {
  const places = placesOf(y);
  let sum = 0;
  const queue: [number, number, number, number][] = [[0, x.length, 0, y.length]];
  for (let area = queue.pop(); area !== undefined; area = queue.pop()) {
    const [xFrom, xTo, yFrom, yTo] = area;
    const [i, j, size] = longestBlock(x, y, places, area);
    if (size === 0) continue;
    sum += size;
    if (xFrom < i && yFrom < j) queue.push([xFrom, i, yFrom, j]);
    if (i + size < xTo && j + size < yTo) queue.push([i + size, xTo, j + size, yTo]);
  }
  return sum;
}

function placesOf(y: readonly string[]): Map<string, number[]> {
  const places = new Map<string, number[]>();
  y.forEach((character, j) => {
    const known = places.get(character);
    if (known) known.push(j);
    else places.set(character, [j]);
  });
  if (y.length < LONG) return places;
  const frequent = Math.floor(y.length / 100) + 1;
  for (const [character, at] of places) if (at.length > frequent) places.delete(character);
  return places;
}

/** [start in x, start in y, size]. `ending[j]` is the length of the block that ends at the x of this turn and at j. */
function longestBlock(
  x: readonly string[],
  y: readonly string[],
  places: ReadonlyMap<string, readonly number[]>,
  [xFrom, xTo, yFrom, yTo]: readonly [number, number, number, number],
): [number, number, number] {
  let [bestX, bestY, size] = [xFrom, yFrom, 0];
  let ending = new Map<number, number>();
  for (let i = xFrom; i < xTo; i++) {
    const now = new Map<number, number>();
    for (const j of places.get(x[i]) ?? []) {
      if (j < yFrom) continue;
      if (j >= yTo) break;
      const length = (ending.get(j - 1) ?? 0) + 1;
      now.set(j, length);
      if (length > size) [bestX, bestY, size] = [i - length + 1, j - length + 1, length];
    }
    ending = now;
  }
  while (bestX > xFrom && bestY > yFrom && x[bestX - 1] === y[bestY - 1]) {
    bestX--;
    bestY--;
    size++;
  }
  while (bestX + size < xTo && bestY + size < yTo && x[bestX + size] === y[bestY + size]) size++;
  return [bestX, bestY, size];
}
