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
 * Of one group it is the plain mean. Empty groups do not count; NaN where there is no value at all. A group of one value has no spread of its own: such
 * groups are drawn from all of them together, which is rather too wide than too narrow.
 */
export function bootstrap(groups: readonly (readonly number[])[], { level = 0.95, resamples = 2000, seed = 1 }: BootstrapOptions = {}): Interval {
  const filled = groups.filter(({ length }) => length > 0).sort((a, b) => Number(a.length === 1) - Number(b.length === 1)); // those of one value last
  if (filled.length === 0) return { mean: Number.NaN, low: Number.NaN, high: Number.NaN };
  const centre = mean(filled.map(mean));
  const own = filled.filter(({ length }) => length > 1);
  if (filled.length - own.length < 2 && own.every((values) => values.every((value) => value === values[0])))
    return { mean: centre, low: centre, high: centre };
  const values = Float64Array.from(filled.flat());
  const sizes = filled.map(({ length }) => length);
  const drawn = drawsOf([...own.map(({ length }) => length), filled.length - own.length], resamples, seed);
  const means = new Float64Array(resamples);
  for (let r = 0; r < resamples; r++) {
    const places = drawn(r);
    let total = 0;
    let at = 0;
    for (const size of sizes) {
      let inGroup = 0;
      for (const end = at + size; at < end; at++) inGroup += values[places[at]];
      total += inGroup / size;
    }
    means[r] = total / sizes.length;
  }
  means.sort();
  const tail = (1 - level) / 2;
  return { mean: centre, low: quantile(means, tail), high: quantile(means, 1 - tail) };
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

/** Draws that are kept for the next call: a table of presses over the same samples asks for the same ones again and again. */
const kept = new Map<string, Uint32Array>();
const MOST_KEPT = 8;
const MOST_PLACES = 1 << 21; // 8 MiB each

/** By resample, a place among the values for each of them: every group's are drawn from its own, as they stand one group after the other. */
function drawsOf(sizes: readonly number[], resamples: number, seed: number): (resample: number) => Uint32Array {
  const random = new Random('bootstrap', seed);
  const total = sum(sizes);
  const draw = (places: Uint32Array, at: number): void => {
    let first = 0;
    for (const size of sizes) {
      for (const end = at + size; at < end; at++) places[at] = first + random.int(0, size - 1);
      first += size;
    }
  };
  if (total * resamples > MOST_PLACES) {
    const places = new Uint32Array(total);
    return () => {
      draw(places, 0);
      return places;
    };
  }
  const of = JSON.stringify([sizes, resamples, seed]);
  let all = kept.get(of);
  if (all === undefined) {
    all = new Uint32Array(total * resamples);
    for (let r = 0; r < resamples; r++) draw(all, r * total);
    if (kept.size === MOST_KEPT) kept.delete(kept.keys().next().value!);
    kept.set(of, all);
  }
  return (r) => all.subarray(r * total, (r + 1) * total);
}

/** Of ascending values, between its neighbours linearly. */
export function quantile(sorted: Float64Array, share: number): number {
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}
