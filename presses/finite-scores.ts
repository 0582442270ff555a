/** Scores must be numbers: f32 ends at 3.4e38, and what trained data, keys or values of such a size are multiplied to is infinite, or no number at all. */
import type { Protected } from '../worker/backend/backend.ts';
import type { ScoreContext } from './contract.ts';
import { InputError } from './input-error.ts';

/** Of the scores [H] of [n] that decide: infinite ones rank as the best or the worst, all alike, which is said; what is no number cannot be ranked. */
export function checkScores(
  scorer: string,
  { layer, note, param }: Pick<ScoreContext, 'layer' | 'note' | 'param'>,
  scores: readonly Float32Array[],
  { first, last }: Protected,
): void {
  const why = 'keys, values or the file that it reads hold numbers too large for 32-bit arithmetic';
  const evictable = scores.map((all) => all.subarray(first, Math.max(first, all.length - last)));
  if (evictable.some((some) => some.some(Number.isNaN))) {
    throw new InputError(
      'press_numbers',
      param(),
      `${scorer}: scores of layer ${layer} are not numbers: ${why}; a file of smaller ones, or another scorer, would work`,
    );
  }
  const infinite = evictable.reduce((sum, some) => sum + some.filter((score) => !Number.isFinite(score)).length, 0);
  const of = evictable.reduce((sum, { length }) => sum + length, 0);
  if (infinite > 0) note(`${scorer}: ${infinite} of ${of} scores of layer ${layer} are infinite, so that which of them stay says nothing: ${why}`);
}
