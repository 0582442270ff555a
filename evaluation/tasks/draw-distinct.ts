import { InputError } from '../../presses/input-error.ts';

const MOST_TRIES = 1000;

/**
 * `count` different draws, none of which is in `taken`. `apart`: nor does one hold another, which a metric that looks for substrings would count for both.
 * `draw` is told how often it was drawn in vain, so that it may draw from more.
 */
export function drawDistinct(what: string, count: number, draw: (tries: number) => string, taken: Iterable<string> = [], apart = false): string[] {
  const before = new Set(taken);
  const drawn: string[] = [];
  for (let i = 0; i < count; i++) {
    let found: string | undefined;
    for (let tries = 0; found === undefined && tries < MOST_TRIES; tries++) {
      const candidate = draw(tries);
      if (before.has(candidate) || (apart && [...before].some((other) => overlap(other, candidate)))) continue;
      found = candidate;
    }
    if (found === undefined)
      throw new InputError(
        'words_used_up',
        null,
        `there are not enough different ${what}: ${i} of ${count} were found; a shorter length or fewer of them work`,
      );
    before.add(found);
    drawn.push(found);
  }
  return drawn;
}

export function overlap(a: string, b: string): boolean {
  const [short, long] = a.length < b.length ? [a, b] : [b, a];
  return long.toLowerCase().includes(short.toLowerCase());
}
