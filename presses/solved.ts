/** W with Wᵀ W = (M + ridge I)⁻¹ of positive matrices, so that xᵀ (M + ridge I)⁻¹ x = |W x|². */
import { readWords, type View } from '../worker/backend/backend.ts';
import type { ScoreContext } from './contract.ts';
import { InputError } from './input-error.ts';

const F32 = 4;
/** Ridges that are tried, each ten times the one before, as kvpress does. */
const TRIES = 5;

/** Of matrices [rows, d, d], which stay. Where f32 does not do with the first ridge, the report says so; where none does, the request fails. */
export function solved(
  { backend, scratch, layer, later, note, param }: ScoreContext,
  matrices: View,
  rows: number,
  d: number,
  ridge: number,
  scorer: string,
): View {
  const [out, tries] = [scratch(rows * d * d * F32, 'Cholesky inverses'), scratch(rows * F32, 'ridges tried')];
  backend.choleskyInverse(out, tries, matrices, rows, d, ridge, TRIES);
  const check = async (): Promise<void> => {
    const taken = await readWords(backend, tries, rows);
    if (taken.includes(0)) {
      const largest = ridge * 10 ** (TRIES - 1);
      throw new InputError(
        'press_numbers',
        param(),
        `${scorer}: layer ${layer} has keys or values too large or too much alike for 32-bit arithmetic: no ridge from ${ridge} to ${largest} makes their matrix one that can be solved; use another scorer for this prompt`,
      );
    }
    const most = Math.max(...taken);
    if (most > 1) note(`${scorer}: a ridge of ${ridge * 10 ** (most - 1)} in place of ${ridge} in layer ${layer}, where f32 is not enough`);
  };
  later(check());
  return out;
}
