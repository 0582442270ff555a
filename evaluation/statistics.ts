/** Means, and how sure they are: the percentile bootstrap (Efron 1979). Seeded, so that a table made twice is the same table. */
import { sum } from '../presses/sum.ts';
import { Random } from './random.ts';

export interface Interval {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

export interface BootstrapOptions {
  /** Share of resampled means that lie between `low` and `high`. */
  readonly level?: number;
  readonly resamples?: number;
  readonly seed?: number;
}

/**
 * The unweighted mean of the groups' means, as RULER's average over tasks is, and its interval: each group is drawn anew from itself, with replacement.
 * Of one group it is the plain mean. Empty groups do not count; NaN where there is no value at all.
 */
export function bootstrap(groups: readonly (readonly number[])[], { level = 0.95, resamples = 2000, seed = 1 }: BootstrapOptions = {}): Interval {
  const filled = groups.filter(({ length }) => length > 0);
  if (filled.length === 0) return { mean: Number.NaN, low: Number.NaN, high: Number.NaN };
  const random = new Random('bootstrap', seed);
  const means = Float64Array.from({ length: resamples }, () => mean(filled.map((values) => meanOfDraws(values, random)))).sort();
  const tail = (1 - level) / 2;
  return { mean: mean(filled.map(mean)), low: quantile(means, tail), high: quantile(means, 1 - tail) };
}

/** The interval of a - b over the same samples: groups of pairs, so that what a sample is worth to both cancels. */
export function pairedDifference(a: readonly (readonly number[])[], b: readonly (readonly number[])[], options: BootstrapOptions = {}): Interval {
  const differences = a.map((values, group) => {
    if (values.length !== b[group]?.length) throw new Error(`group ${group} has ${values.length} and ${b[group]?.length} samples: pairs are needed`);
    return values.map((value, i) => value - b[group][i]);
  });
  return bootstrap(differences, options);
}

export function mean(values: readonly number[]): number {
  return sum(values) / values.length;
}

function meanOfDraws(values: readonly number[], random: Random): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[random.int(0, values.length - 1)];
  return total / values.length;
}

/** Of ascending values, between its neighbours linearly. */
function quantile(sorted: Float64Array, share: number): number {
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}
