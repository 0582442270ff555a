/** A press that acts while decoding, checked against one request before any compute. */
import type { Protected } from '../worker/backend/backend.ts';
import { type ArtifactOf, noArtifacts } from './artifacts.ts';
import { protectors, smallerParam } from './budget-errors.ts';
import type { BudgetMath } from './budget-math.ts';
import { countingSelection, slidingBudget } from './check-parts.ts';
import { protectedBy, queriesOf } from './check-press.ts';
import type { Press } from './contract.ts';
import { InputError } from './input-error.ts';
import { partParam } from './part-param.ts';
import { protectedCount } from './protected-count.ts';

export interface CheckedDecoding {
  readonly press: Press;
  /** I: tokens that are read between two compressions. */
  readonly interval: number;
  /** How many of the last queries of every layer are remembered. */
  readonly queries: number;
  /** How many of them parts look at. */
  readonly window: number;
  /** How many of the last hidden states of every layer are remembered; 0 = the scorer reads none. */
  readonly hidden: number;
  /** How many of the last tokens stay whatever the scores say, wherever and whenever it acts. */
  readonly sure: number;
  /** T: what a compression leaves in a layer, mean over its KV heads, when so many tokens were read in all; at most, where the selection counts. */
  target(tokens: number): number;
  /** What is kept of n rows whatever the scores say, where T stay: of too many the most recent ones first. */
  keep(n: number, target: number): Protected;
  /** What a compression leaves at most, mean over layers and KV heads of such a model. */
  average(tokens: number, model: { readonly layers: number; readonly kvHeads: number }): number;
  readonly math: BudgetMath;
  readonly artifact: ArtifactOf;
  readonly notes: readonly string[];
}

export function checkDecoding(press: Press, size: { tokens: number; math: BudgetMath; artifact?: ArtifactOf }): CheckedDecoding {
  const { part, params } = press.schedule;
  const { interval, target, buffer } = part.decoding!;
  const { math, artifact = noArtifacts } = size;
  const sliding = slidingBudget(press);
  const counts = countingSelection(press) !== null || sliding !== null; // no target then: all may pass
  const targetAt = (tokens: number): number => (counts ? tokens : target(params, tokens, math, press.compat));
  const keep = (n: number, T: number): Protected => {
    const { first, last } = protectedBy(press, n);
    const lastKept = Math.min(last, T);
    return { first: Math.min(first, T - lastKept), last: lastKept };
  };
  const notes: string[] = [];
  const first = size.tokens + interval(params); // tokens at the first compression, where a target that grows is lowest
  const least = targetAt(first);
  const rows = least + interval(params); // before the first compression
  const protect = protectedBy(press, rows);
  const wanted = protect.first + protect.last;
  if (least < wanted && !press.compat && !counts) {
    if (press.onTight === 'reject') throw tightTarget(press, least, wanted, rows);
    notes.push(
      `the target of ${least} entries is below the ${wanted} that ${protectors(press, rows)}: the most recent of them are kept (on_tight "uniform")`,
    );
  }
  if (press.headBudget.part.ragged && !press.scorer.part.comparable) {
    notes.push(
      `head_budget "${press.headBudget.part.name}" compares scores between heads, and those of ${press.scorer.part.name} have no common unit`,
    );
  }
  const asked = queriesOf(press, Infinity);
  const window = asked === Infinity ? buffer(params) : asked;
  // Attention since the last compression is that of all tokens since.
  const queries = press.transforms.length > 0 ? Math.max(window, interval(params)) : window;
  const sure = counts ? (press.selection.part.protect?.(press.selection.params, 1).last ?? 0) : 0; // a target may leave less
  // A token's score is asked for when it has left the window: until then it can wait, so that many are scored at once.
  const hidden = press.scorer.part.hidden ? Math.min(buffer(params), Math.max(interval(params), sure)) : 0;
  return {
    press,
    interval: interval(params),
    queries,
    window,
    hidden,
    sure,
    target: targetAt,
    average: (tokens, model) => (sliding === null ? targetAt(tokens) : slidingAverage(press, tokens, model, math, artifact)),
    keep,
    math,
    artifact,
    notes,
  };
}

/** Of a head budget that counts by lengths. */
function slidingAverage(
  press: Press,
  tokens: number,
  { layers, kvHeads }: { readonly layers: number; readonly kvHeads: number },
  math: BudgetMath,
  artifact: ArtifactOf,
): number {
  const { part, params } = press.headBudget;
  const all = Array<number>(layers).fill(tokens);
  const protectedTokens = protectedCount(protectedBy(press, tokens), tokens);
  const context = { layers, tokens, caps: all, even: all, averageBudget: tokens, protectedTokens, compressionRatio: 0, compat: press.compat };
  const bounds = part.bounds!({ ...context, kvHeads, math, artifact }, params);
  return bounds.reduce((sum, { max }) => sum + max, 0) / layers;
}

function tightTarget(press: Press, target: number, wanted: number, rows: number): InputError {
  const { target_compression_ratio: ratio } = press.schedule.params;
  const field = ratio === undefined ? 'target_size' : 'target_compression_ratio';
  const what = ratio === undefined ? `target_size ${target}` : `target_compression_ratio ${ratio} leaves ${target} entries at first, and that`;
  const larger = ratio === undefined ? `a target_size of ${wanted} or more` : 'a smaller ratio';
  const way = smallerParam(press, (changed) => {
    const { first, last } = protectedBy({ ...press, ...changed }, rows);
    return first + last <= target;
  });
  const smaller = way === null ? '' : ` or ${way}`;
  const message = `${what} is below the ${wanted} tokens that ${protectors(press, rows)}; ${larger}${smaller} would work, or "on_tight": "uniform"`;
  return new InputError('press_budget_tight', partParam(press, 'schedule', field), message);
}
