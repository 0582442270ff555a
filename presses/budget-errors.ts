/** What is told when a press cannot work on a prompt of this length: what is wrong, the value seen, what would work. */
import type { BudgetMath } from './budget-math.ts';
import type { PartKind } from './check-parts.ts';
import type { Press } from './contract.ts';
import { InputError } from './input-error.ts';
import { presets } from './presets.ts';

export function lostQueries(name: string, queries: number, last: number, after: string, path: string): InputError {
  const message =
    queries === Infinity
      ? `"${name}" reads all tokens of the prompt, and "${after}" before it removes some; put "${name}" first`
      : `"${name}" reads the last ${queries} queries, but "${after}" before it protects only the last ${last} tokens, so their keys may be gone; put "${name}" first, or before it a press that protects at least ${queries} tokens`;
  return new InputError('press_composition', path, message);
}

export function memoryTooSmall(
  bytes: number,
  { least, extraTokens, lists, needed }: { least: number; extraTokens: number; lists: number; needed: number },
  path: string,
): InputError {
  const held = extraTokens > 0 ? ` and ${extraTokens} that follow (the rest of the prompt, and max_tokens, which count too)` : '';
  const message = `memory_budget of ${bytes} bytes is too small: ${least} kept token${least > 1 ? 's' : ''}${held} in each of ${lists} lists need ${needed} bytes; that much${extraTokens > 0 ? ', or a smaller max_tokens,' : ''} would work`;
  return new InputError('memory_budget_too_small', `${path}.memory_budget`, message);
}

export function emptyBudget(press: Press, n: number, ratio: number, budgets: readonly number[] | null, math: BudgetMath, path: string): InputError {
  const largest = largestRatio(n, 1, press.compat, math);
  const works = `${oneRatio(press)} up to ${largest} keeps at least one`;
  const where = budgets && Math.max(...budgets) > 0 ? ` in layer ${budgets.findIndex((b) => b < 1)}` : '';
  return new InputError('press_budget_empty', ratioParam(press, path), `${ratioText(press, ratio)} leaves none of ${n} tokens${where}; ${works}`);
}

export function shortPrompt(press: Press, n: number, wanted: number, budget: number): InputError {
  const by = press.scorer.part.protectedBy;
  const ways = [...(by === null ? [] : [`${by} up to ${Math.min(budget, n - 1)}`]), ...(press.compat ? [] : ['"on_tight": "uniform"'])];
  const works = ways.length === 0 ? '' : `; ${ways[0]} would work${ways.slice(1).map((way) => `, or ${way}`)}`;
  const message = `${press.scorer.part.name} protects ${wanted} tokens, but only ${n} are to be pressed${works}`;
  return new InputError('press_prompt_short', by === null ? press.path : partParam(press, 'scorer', by), message);
}

export function tightBudget(
  press: Press,
  n: number,
  wanted: number,
  budget: number,
  ratio: number,
  budgets: readonly number[] | null,
  math: BudgetMath,
  path: string,
): InputError {
  const by = press.scorer.part.protectedBy;
  const where = budgets && Math.max(...budgets) > budget ? ` in layer ${budgets.indexOf(budget)}` : ' per layer';
  const largest = largestRatio(n, wanted, false, math);
  const smaller = by === null ? '' : ` or ${by} up to ${budget}`;
  const message = `${ratioText(press, ratio)} keeps ${budget} of ${n} tokens${where}, fewer than the ${wanted} that ${press.scorer.part.name} protects; ${oneRatio(press)} up to ${largest}${smaller} would work, or "on_tight": "uniform"`;
  return new InputError('press_budget_tight', ratioParam(press, path), message);
}

/** The field that a caller can set for a part: beside a preset's name its parameters stand alone, and the part itself is the preset's. */
export function partParam({ name, path }: Pick<Press, 'name' | 'path'>, kind: PartKind, field?: string): string {
  const preset = Object.hasOwn(presets, name) ? presets[name] : null;
  const chosen = preset !== null && !(kind === 'schedule' && preset.scorer !== null && preset.schedule === undefined);
  const steps = chosen ? [path, field] : [path, kind, field];
  return steps.filter((step) => step !== undefined).join('.');
}

/** What decided, as it was asked for. */
function ratioText({ layerBudget: { part } }: Press, ratio: number): string {
  return part.ownRatio ? part.ownRatio.param : `compression_ratio ${Number(ratio.toFixed(4))}`;
}

function oneRatio({ layerBudget: { part } }: Press): string {
  return part.ownRatio ? `a ratio in ${part.ownRatio.param}` : 'a compression_ratio';
}

function ratioParam({ layerBudget: { part } }: Press, path: string): string {
  return part.ownRatio ? `${path}.layer_budget.${part.ownRatio.param}` : `${path}.compression_ratio`;
}

/** The largest ratio (four digits) that keeps at least `least` of n tokens. */
function largestRatio(n: number, least: number, compat: boolean, math: BudgetMath): number {
  let steps = Math.max(0, Math.ceil((1 - least / n) * 10000));
  while (steps > 0 && math.keptCount(n, steps / 10000, compat) < least) steps--;
  return steps / 10000;
}
