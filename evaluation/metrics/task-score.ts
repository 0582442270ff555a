import type { Metric, Sample } from '../contract.ts';
import { METRICS } from './registry.ts';

export interface Scored {
  readonly sample: Sample;
  /** 0..1 by the sample's metric. */
  readonly score: number;
}

/**
 * 100 * sum(w * score) / sum(w), to two decimals as the official tables are; w = 1 but for metrics that weigh their samples. null of no sample, where numpy says nan.
 * (Python's round() and this one may differ in the last digit, on exact halves.)
 */
export function taskScore(scored: readonly Scored[]): number | null {
  let sum = 0;
  let weights = 0;
  for (const { sample, score } of scored) {
    const metric: Metric | null = sample.metric && METRICS[sample.metric];
    const weight = metric?.weight?.(sample) ?? 1;
    sum += weight * score;
    weights += weight;
  }
  return weights === 0 ? null : Math.round((10_000 * sum) / weights) / 100;
}

/** LongBench-E: the score of the samples with fewer than 4000 words, fewer than 8000, and the rest. */
export function scoresByLength(scored: readonly Scored[]): Record<'0-4k' | '4-8k' | '8k+', number | null> {
  const between = (from: number, to: number) => taskScore(scored.filter(({ sample: { words = 0 } }) => words >= from && words < to));
  return { '0-4k': between(0, 4000), '4-8k': between(4000, 8000), '8k+': between(8000, Number.POSITIVE_INFINITY) };
}

/** LongBench v2: the score for each value of a group, as difficulty: easy, hard. */
export function scoresByGroup(scored: readonly Scored[], group: string): Record<string, number | null> {
  const values = [...new Set(scored.flatMap(({ sample }) => sample.groups?.[group] ?? []))].sort();
  return Object.fromEntries(values.map((value) => [value, taskScore(scored.filter(({ sample }) => sample.groups?.[group] === value))]));
}
