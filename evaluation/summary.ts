/** Answers to tables: the score of every variant, by task and length, with its interval; and how far it is from the full cache on the same samples. */
import type { Answer } from './results.ts';
import { bootstrap, type Interval, mean, pairedDifference } from './statistics.ts';

/** One task at one length; scores in percent. */
export interface Cell extends Interval {
  readonly task: string;
  readonly length: number | null;
  readonly samples: number;
}

export interface VariantSummary {
  readonly variant: string;
  readonly press: string;
  readonly ratio: number | null;
  readonly samples: number;
  /** Unweighted mean over the cells, in percent: RULER's average where they are its 13 tasks. Null where no sample has a public answer. */
  readonly score: Interval | null;
  /** Of the samples that the full cache answered too: this score less that one, by pairs. */
  readonly against_full: Interval | null;
  /** Nats a token. Null where it was not measured. */
  readonly kl: Interval | null;
  /** Really removed, mean over the samples. */
  readonly compression_ratio: number;
  readonly bytes_kept: number;
  readonly bytes_full: number;
  /** Means over the samples. */
  readonly kept_per_layer: readonly number[];
  readonly lmba_per_layer: readonly (number | null)[];
  readonly retained_mass_per_layer: readonly (number | null)[];
  readonly cells: readonly Cell[];
  /** Means of Sample.alsoMetrics, in percent. */
  readonly other_scores: Readonly<Record<string, number>>;
}

export interface SummaryOptions {
  /** What everything is compared with. */
  readonly reference?: string;
  readonly resamples?: number;
}

export function summarise(answers: readonly Answer[], { reference = 'no_press', resamples = 2000 }: SummaryOptions = {}): VariantSummary[] {
  const of = grouped(answers, ({ variant }) => variant);
  const full = new Map((of.get(reference) ?? []).map((answer) => [answer.sample, answer]));
  return [...of].map(([variant, all]) => {
    const cells = [...grouped(all, ({ task, length }) => JSON.stringify([task, length])).values()];
    const scores = cells.map((cell) => scoresOf(cell));
    const pairs = cells.map((cell) => cell.filter(({ sample, score }) => score !== null && typeof full.get(sample)?.score === 'number'));
    const both = pairs.some(({ length }) => length > 0) && variant !== reference;
    const kls = cells.map((cell) => cell.flatMap(({ kl }) => kl ?? []));
    return {
      variant,
      press: all[0].press,
      ratio: all[0].ratio,
      samples: all.length,
      score: scores.some(({ length }) => length > 0) ? bootstrap(scores, { resamples }) : null,
      against_full: both
        ? pairedDifference(
            pairs.map(scoresOf),
            pairs.map((cell) => scoresOf(cell.map(({ sample }) => full.get(sample)!))),
            { resamples },
          )
        : null,
      kl: kls.some(({ length }) => length > 0) ? bootstrap(kls, { resamples }) : null,
      compression_ratio: mean(all.map((answer) => answer.compression_ratio)),
      bytes_kept: mean(all.map((answer) => answer.bytes_kept)),
      bytes_full: mean(all.map((answer) => answer.bytes_full)),
      kept_per_layer: byLayer(all.map((answer) => answer.kept_per_layer)) as number[],
      lmba_per_layer: byLayer(all.map((answer) => answer.lmba_per_layer)),
      retained_mass_per_layer: byLayer(all.map((answer) => answer.retained_mass_per_layer)),
      cells: cells.map((cell, i) => ({ task: cell[0].task, length: cell[0].length, samples: cell.length, ...bootstrap([scores[i]], { resamples }) })),
      other_scores: otherScores(all),
    };
  });
}

/** Best first; without a score last. */
export function ranked(summaries: readonly VariantSummary[]): VariantSummary[] {
  const score = ({ score }: VariantSummary): number => score?.mean ?? Number.NEGATIVE_INFINITY;
  return [...summaries].sort((a, b) => score(b) - score(a));
}

/** In percent. A weight counts as so many samples. */
export function scoresOf(answers: readonly Answer[]): number[] {
  const scored = answers.filter(({ score }) => score !== null);
  const most = Math.max(...scored.map(({ weight }) => weight), 1);
  const weights = mean(scored.map(({ weight }) => weight));
  return most === 1 && weights === 1 ? scored.map(({ score }) => 100 * score!) : scored.map(({ score, weight }) => (100 * score! * weight) / weights);
}

function otherScores(answers: readonly Answer[]): Record<string, number> {
  const names = [...new Set(answers.flatMap(({ other_scores }) => Object.keys(other_scores)))];
  return Object.fromEntries(names.map((name) => [name, 100 * mean(answers.flatMap(({ other_scores }) => other_scores[name] ?? []))]));
}

/** Mean of every layer; null where it is not known. */
function byLayer(lists: readonly (readonly (number | null)[])[]): (number | null)[] {
  return lists[0].map((_, layer) => {
    const known = lists.flatMap((list) => list[layer] ?? []);
    return known.length === 0 ? null : mean(known);
  });
}

export function grouped<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(key(item));
    if (group) group.push(item);
    else groups.set(key(item), [item]);
  }
  return groups;
}
