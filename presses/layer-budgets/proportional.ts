/**
 * Budgets in proportion to one signal a layer, above the protected tokens:
 *      b_l = P + (T - L P) s_l / sum of s,   T = sum(even),   at least 1, at most what the layer has: what a full one cannot take goes to the others
 *  conserves sum(b_l) = T, in integers: math.allocate water-fills the caps and rounds by largest remainder, ties to the lower layer
 *  cascades  a new layer only raises the sum, so the earlier ones' limits only fall: ceilings until the last layer, exact budgets there
 *  A signal that is no finite number counts as 0; where all are 0, budgets are even.
 */
import type { BudgetContext } from '../contract.ts';
import { sum } from '../sum.ts';

/** Limits of layers 0..m, m + 1 = signals.length; `caps` where a rule has lower ones than the layers' lengths. */
export function proportional(signals: readonly number[], context: BudgetContext, caps: readonly number[] = context.caps): number[] {
  return dealt(toWeights(signals), context, caps);
}

/** The same of whole numbers below 2^53. */
export function dealt(weights: readonly number[], context: BudgetContext, caps: readonly number[]): number[] {
  const { layers, math } = context;
  const T = sum(context.even);
  const base = protectedTokens(context);
  const least = leastTokens(context);
  const room = caps.slice(0, weights.length);
  const ceiling = weights.length < layers;
  const budgets = math.allocate(weights, T, base, room, ceiling);
  if (ceiling || base === least) return budgets.map((b) => Math.max(b, least));
  // Nothing is protected, and a layer that got nothing keeps one token: the others share what is left, until all have one.
  const raised = new Set<number>();
  for (let open = [...weights.keys()]; open.some((l) => budgets[l] < least); ) {
    for (const l of open) if (budgets[l] < least) raised.add(l);
    for (const l of raised) budgets[l] = least;
    open = open.filter((l) => !raised.has(l));
    const shared = math.allocate(pick(weights, open), T - raised.size * least, base, pick(room, open), false);
    for (const [i, l] of open.entries()) budgets[l] = shared[i];
  }
  return budgets;
}

/** The least and the most that any layer can get, whatever the signals. */
export function proportionalBounds(context: BudgetContext): { min: number; max: number }[] {
  return boundsAbove(leastTokens(context), context);
}

/** The same, where every layer gets `least`. */
export function boundsAbove(least: number, { layers, caps, even }: BudgetContext): { min: number; max: number }[] {
  const T = sum(even);
  const room = sum(caps);
  return caps.map((cap) => ({ min: Math.min(cap, Math.max(least, T - (room - cap))), max: Math.min(cap, T - least * (layers - 1)) }));
}

/** Why signals said nothing, in words for the report; null where they did. */
export function proportionalFallback(signals: readonly number[]): string | null {
  const bad = [...signals.keys()].filter((l) => !Number.isFinite(signals[l]));
  const rest = signals.filter((signal) => Number.isFinite(signal));
  if (rest.every((signal) => signal <= 0)) return 'the signals of all layers are 0 or no numbers: every layer keeps as many';
  if (bad.length > 0) return `the signal of layer ${bad.join(', ')} is no finite number and counts as 0`;
  if (signals.length > 1 && signals.every((signal) => signal === signals[0])) return 'the signals of all layers are equal: every layer keeps as many';
  return null;
}

/** P, as far as it fits: under compat kvpress keeps some of the protected. */
export function protectedTokens({ protectedTokens, averageBudget, caps }: BudgetContext): number {
  return Math.min(protectedTokens, averageBudget, ...caps);
}

function leastTokens(context: BudgetContext): number {
  return Math.min(Math.max(1, protectedTokens(context)), context.averageBudget, ...context.caps);
}

/**
 * Whole numbers in the ratios of the signals: 53 bits of the largest. Rounded down, so that ratios to the largest are as good as exact; where a larger signal
 * comes, the others' shares fall by more than their rounding could raise them.
 */
function toWeights(signals: readonly number[]): number[] {
  const sound = signals.map((signal) => (signal > 0 && signal < Infinity ? signal : 0));
  const largest = Math.max(...sound);
  if (largest === 0) return sound;
  const unit = 2 ** (Math.floor(Math.log2(largest)) - 52);
  return sound.map((signal) => Math.min(2 ** 53 - 1, Math.floor(signal / unit)));
}

function pick(values: readonly number[], places: readonly number[]): number[] {
  return places.map((l) => values[l]);
}
