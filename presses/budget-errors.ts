/** What is told when a press cannot work on a prompt of this length: what is wrong, the value seen, what would work. */
import type { Press } from './contract.ts';
import { InputError } from './input-error.ts';
import { partParam } from './part-param.ts';

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

/** Whether the same press would be taken with these values in place of its own. What a message suggests was tried. */
export type Tries = (changed: Partial<Press>) => boolean;

/** What everything would take, where a press goes by memory. */
export interface WholeCache {
  readonly pageBytes: number;
  readonly pages: number;
}

export function emptyBudget(
  press: Press,
  n: number,
  ratio: number,
  budgets: readonly number[] | null,
  cache: WholeCache | null,
  tries: Tries,
): InputError {
  const where = budgets && Math.max(...budgets) > 0 ? ` in layer ${budgets.findIndex((b) => b < 1)}` : '';
  const message = `${ratioText(press, ratio)} leaves none of ${n} tokens${where}${besideAdded(press)}; ${otherTotal(press, ratio, cache, tries)} would work`;
  return new InputError('press_budget_empty', ratioParam(press), message);
}

export function shortPrompt(press: Press, n: number, wanted: number, tries: Tries): InputError {
  const by = smallerParam(press, tries);
  const ways = [...(by === null ? [] : [by]), ...(press.compat ? [] : ['"on_tight": "uniform"'])];
  const works = ways.length === 0 ? '' : `; ${ways[0]} would work${ways.slice(1).map((way) => `, or ${way}`)}`;
  const message = `${protectors(press, n)} ${wanted} tokens, but only ${n} are to be pressed${works}`;
  const field = by === null ? null : press.scorer.part.protectedBy;
  return new InputError('press_prompt_short', field === null ? press.path : partParam(press, 'scorer', field), message);
}

export function tightBudget(
  press: Press,
  n: number,
  wanted: number,
  ratio: number,
  budget: number,
  budgets: readonly number[] | null,
  cache: WholeCache | null,
  tries: Tries,
): InputError {
  const where = budgets && Math.max(...budgets) > budget ? ` in layer ${budgets.indexOf(budget)}` : ' per layer';
  const ways = [otherTotal(press, ratio, cache, tries), smallerParam(press, tries)].filter((way) => way !== null).join(' or ');
  const message = `${ratioText(press, ratio)} keeps ${budget} of ${n} tokens${where}${besideAdded(press)}, fewer than the ${wanted} that ${protectors(press, n)}; ${ways} would work, or "on_tight": "uniform"`;
  return new InputError('press_budget_tight', ratioParam(press), message);
}

/** "snapkv protects"; a selection may protect tokens of its own. */
export function protectors({ scorer, selection, compat }: Press, n: number): string {
  const own = scorer.part.protect(scorer.params, n, compat);
  const more = selection.part.protect?.(selection.params, n) ?? { first: 0, last: 0 };
  if (more.first <= own.first && more.last <= own.last) return `${scorer.part.name} protects`;
  return own.first + own.last === 0
    ? `selection "${selection.part.name}" protects`
    : `${scorer.part.name} and selection "${selection.part.name}" protect`;
}

function besideAdded({ transforms }: Press): string {
  const adding = transforms.find(({ part }) => part.adds);
  return adding === undefined ? '' : ` beside the rows that transform "${adding.part.name}" adds`;
}

/** What decided, as it was asked for. */
function ratioText({ layerBudget: { part }, memoryBudgetBytes: bytes }: Press, ratio: number): string {
  if (bytes !== null) return `memory_budget of ${bytes} bytes`;
  return part.ownRatio ? part.ownRatio.param : `compression_ratio ${Number(ratio.toFixed(4))}`;
}

function ratioParam(press: Press): string {
  const { ownRatio } = press.layerBudget.part;
  if (ownRatio) return partParam(press, 'layer_budget', ownRatio.param);
  return `${press.path}.${press.memoryBudgetBytes === null ? 'compression_ratio' : 'memory_budget'}`;
}

/** A smaller ratio, four digits of it, or more memory, whole pages of it. */
function otherTotal(press: Press, ratio: number, cache: WholeCache | null, tries: Tries): string {
  const { layerBudget, memoryBudgetBytes } = press;
  const { ownRatio } = layerBudget.part;
  if (memoryBudgetBytes !== null) {
    const { pageBytes, pages } = cache!;
    const fewer = most(pages, (fewer) => tries({ memoryBudgetBytes: (pages - fewer) * pageBytes }));
    return `a memory_budget of ${(pages - (fewer ?? 0)) * pageBytes} bytes`;
  }
  if (ownRatio) {
    const ratios = layerBudget.params[ownRatio.param] as readonly number[];
    const steps = most(RATIO_STEPS - 1, (step) => {
      const params = { ...layerBudget.params, [ownRatio.param]: ratios.map((one) => Math.min(one, step / RATIO_STEPS)) };
      return tries({ layerBudget: { part: layerBudget.part, params }, compressionRatio: ownRatio.mean(params) });
    });
    return `a ratio in ${ownRatio.param} up to ${(steps ?? 0) / RATIO_STEPS}`;
  }
  const steps = most(Math.floor(ratio * RATIO_STEPS), (step) => tries({ compressionRatio: step / RATIO_STEPS }));
  return `a compression_ratio up to ${(steps ?? 0) / RATIO_STEPS}`;
}

const RATIO_STEPS = 10000;

/** A value of the parameter that says how much the scorer protects; null where none helps, since something else protects too. */
export function smallerParam({ scorer: { part, params } }: Press, tries: Tries): string | null {
  const by = part.protectedBy;
  if (by === null) return null;
  const takes = (value: number): boolean => part.params.shape[by].safeParse(value).success;
  const steps = takes(0.5) ? RATIO_STEPS : 1; // a fraction, or a number of tokens
  const least = takes(0) ? 0 : 1;
  const found = most(Math.floor((params[by] as number) * steps) - least, (step) =>
    tries({ scorer: { part, params: { ...params, [by]: (least + step) / steps } } }),
  );
  return found === null ? null : `${by} up to ${(least + found) / steps}`;
}

/** The largest whole number up to `limit` that works, where smaller ones do if any does. */
function most(limit: number, works: (value: number) => boolean): number | null {
  if (limit < 0 || !works(0)) return null;
  let [low, high] = [0, limit + 1];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (works(middle)) low = middle;
    else high = middle;
  }
  return low;
}
