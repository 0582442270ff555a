/**
 * Which held contexts a request may go on behind although it did not ask: those that leave its answer as it is.
 *
 *   the press removes nothing of the prompt    any context whose tokens begin the prompt's (sums come in another order)
 *   it removes something                       one that ends where the press's scope does: its entries are those that the press would keep, bit for bit
 *   never                                      a press that draws and has no seed of its own, that explains, or whose budget counts the answer (memory_budget)
 */
import { decodingPress } from '../../presses/check-schedule.ts';
import { isNoOp } from '../../presses/config.ts';
import { settingsText } from '../../presses/config-of.ts';
import type { Press, PressRequest } from '../../presses/contract.ts';
import { InputError } from '../../presses/input-error.ts';
import type { EntryType } from '../backend/backend.ts';
import type { HeldContext } from './held.ts';
import { pressed } from './job.ts';
import type { PromptTokens } from './prompt-tokens.ts';
import type { Held } from './types.ts';

export interface Reusable {
  /** Must be reuseKey of the context. */
  readonly key: string;
  /** Must begin with the context's tokens. */
  readonly tokens: readonly number[];
  /** They must be all of the context's, not only begin with them. */
  readonly whole: boolean;
}

/** `entryType`: of requests that name none. */
export function reusableBy({ tokens, boundary }: PromptTokens, press: PressRequest, entryType: EntryType): Reusable | null {
  if (press.explain || press.presses.some((one) => one.memoryBudgetBytes !== null || draws(one))) return null;
  const key = keyOf(press, press.entryType ?? entryType, null);
  if (isNoOp(press) && !decodingPress(press.presses)?.compat) return { key, tokens: tokens.slice(0, -1), whole: false };
  try {
    const { covered } = pressed(tokens.length, boundary, press);
    return covered < tokens.length ? { key, tokens: tokens.slice(0, covered), whole: true } : null;
  } catch (error) {
    if (error instanceof InputError) return null; // the request will be told
    throw error;
  }
}

/** What contexts have in common that stand for each other where they have the same tokens. One whose press left its end alone stands for no other. */
export function reuseKey(held: Held): string {
  const { press, entryType, covered, scope, tokens } = held as HeldContext;
  return keyOf(press, entryType, covered < tokens.length ? scope : null);
}

function keyOf(press: PressRequest, entryType: EntryType, scope: unknown): string {
  return JSON.stringify([entryType, scope, settingsText(press)]);
}

function draws({ scorer, layerBudget, headBudget, selection, transforms, schedule }: Press): boolean {
  return [scorer, layerBudget, headBudget, selection, ...transforms, schedule].some(
    ({ part, params }) => 'seed' in part.params.shape && params.seed === undefined,
  );
}
