/** Scores of the kinds that an order can go wrong with: ties, NaN, infinities, zeros of both signs, a few large among many tiny. */
import type { Random } from './random.ts';

export function randomScores(random: Random, n: number): Float32Array {
  const kind = random.int(0, 6);
  return Float32Array.from({ length: n }, () => {
    if (kind === 0) return random.normal();
    if (kind === 1) return random.int(-3, 3); // ties
    if (kind === 2) return 0.25; // all equal
    if (kind === 3) return random.pick([0, -0, 1e-45, -1e-45, 1]);
    if (kind === 4) return random.pick([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3.4e38, -3.4e38, 1, -1]);
    if (kind === 5) return random.next() ** 20; // attention: a few large, most tiny
    return -random.next();
  });
}
