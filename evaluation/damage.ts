/**
 * What the answers lose when one layer alone is pressed, and whether layer budgets give most to the layers where most is lost.
 *   damage[l] = KL(full cache || layer l alone pressed), nats a token, on the same samples: presses of layer budget "per_layer" with one ratio above 0
 *   agreement = mean over the samples of Spearman's rho over the layers of tokens kept[l] and damage[l]: 1 where the order is the same, 0 by chance
 */
import { isDeepStrictEqual } from 'node:util';
import { layerBudgets } from '../presses/registry.ts';
import { sum } from '../presses/sum.ts';
import { labelsOf } from './labels.ts';
import type { Made } from './made-of.ts';
import type { Answer } from './results.ts';
import { bootstrap, type Interval } from './statistics.ts';
import { grouped } from './summary.ts';

export interface LayerDamage {
  /** The scorer, and whatever else tells the presses of these answers apart. */
  readonly scorer: string;
  readonly head_budget: string;
  /** Of the one layer that is pressed. */
  readonly ratio: number;
  readonly samples: number;
  /** By layer, nats a token. */
  readonly damage: readonly Interval[];
  readonly agreements: readonly Agreement[];
}

export interface Agreement {
  readonly layer_budget: string;
  /** Those in which not all layers keep alike: of the others there is no order to tell. */
  readonly samples: number;
  /** Null of fewer than two of them. */
  readonly rho: Interval | null;
  /** By layer, mean share of what the press saw, 0 to 1. */
  readonly kept: readonly number[];
}

/** Of every scorer whose layers were each pressed alone. */
export function damagesOf(answers: readonly Answer[], made: ReadonlyMap<string, Made>): LayerDamage[] {
  const presses = [...grouped(answers, ({ variant }) => variant)].flatMap(([variant, all]) => {
    const parts = made.get(variant);
    return parts?.length === 1
      ? [{ parts, ratio: parts[0].compression_ratio ?? all[0].ratio, alone: aloneOf(parts), of: new Map(all.map((one) => [one.sample, one])) }]
      : [];
  });
  const label = labelsOf(presses.map(({ parts }) => parts));
  const singles = presses.flatMap(({ alone, ...press }) => (alone === null ? [] : [{ ...press, ...alone }]));
  return [...grouped(singles, ({ parts, ratio, layers }) => JSON.stringify([ratio, layers, restOf(parts)])).values()].flatMap((own) => {
    const [{ parts, ratio, layers }] = own;
    const byLayer = Array.from({ length: layers }, (_, layer) => own.find((one) => one.layer === layer)?.of);
    const samples = [...own[0].of.values()].filter(({ sample }) => byLayer.every((of) => typeof of?.get(sample)?.kl === 'number'));
    if (samples.length < 2) return []; // a layer was not pressed, or KL not measured, or of one sample alone
    const damageOf = ({ sample }: Answer): number[] => byLayer.map((of) => of!.get(sample)!.kl!);
    const over = (some: readonly Answer[], value: (answer: Answer) => number): Interval =>
      bootstrap([...grouped(some, ({ task, length }) => JSON.stringify([task, length])).values()].map((cell) => cell.map(value)));
    const rivals = presses.filter(
      (one, i) =>
        isUneven(one.parts) && restOf(one.parts) === restOf(parts) && presses.findIndex((other) => isDeepStrictEqual(other.parts, one.parts)) === i,
    );
    return [
      {
        scorer: [label.scorer(parts), label.others(parts)].filter((words) => words !== '').join(', '),
        head_budget: label.headBudget(parts),
        ratio,
        samples: samples.length,
        damage: byLayer.map((_, layer) => over(samples, (answer) => damageOf(answer)[layer])),
        agreements: rivals.flatMap(({ parts: theirs, of, ...rival }) => {
          const both = samples.filter(({ sample }) => of.has(sample));
          const kept = (answer: Answer): readonly number[] => of.get(answer.sample)!.kept_per_layer;
          const rho = (answer: Answer): number => rankCorrelation(kept(answer), damageOf(answer));
          const told = both.filter((answer) => !Number.isNaN(rho(answer)));
          if (both.length === 0) return [];
          return [
            {
              layer_budget: rivals.some((one) => one.ratio !== rivals[0].ratio)
                ? `${label.layerBudget(theirs)} at ${rival.ratio}`
                : label.layerBudget(theirs),
              samples: told.length,
              rho: told.length < 2 ? null : over(told, rho),
              kept: byLayer.map((_, l) => sum(both.map((answer) => kept(answer)[l] / of.get(answer.sample)!.covered)) / both.length),
            },
          ];
        }),
      },
    ];
  });
}

/** Which layer it is that is pressed alone, and by how much; null where it is not one alone. */
export function aloneOf(made: Made): { layer: number; ratio: number; layers: number } | null {
  if (made.length !== 1 || made[0].layer_budget.name !== layerBudgets.per_layer.name) return null;
  const ratios = made[0].layer_budget.params.compression_ratios as number[] | string; // a long list is told by its digest
  if (typeof ratios === 'string') return null;
  const pressed = ratios.flatMap((ratio, layer) => (ratio > 0 ? [{ layer, ratio, layers: ratios.length }] : []));
  return pressed.length === 1 ? pressed[0] : null;
}

function isUneven([{ layer_budget }]: Made): boolean {
  return layer_budget.name !== layerBudgets.uniform.name && layer_budget.name !== layerBudgets.per_layer.name;
}

/** What does the scoring, in words that are the same for the same: all but the layer budget and the ratio. */
function restOf(made: Made): string {
  return JSON.stringify(made.map(({ layer_budget: _, compression_ratio: __, ...rest }) => rest));
}

/** Spearman's rho (1904): the correlation of ranks, equal values sharing the mean of theirs. NaN where all values of one are equal. */
export function rankCorrelation(a: readonly number[], b: readonly number[]): number {
  const [x, y] = [ranks(a), ranks(b)];
  const middle = (a.length - 1) / 2;
  const covariance = (p: readonly number[], q: readonly number[]): number => sum(p.map((rank, i) => (rank - middle) * (q[i] - middle)));
  return covariance(x, y) / Math.sqrt(covariance(x, x) * covariance(y, y));
}

function ranks(values: readonly number[]): number[] {
  return values.map((value) => {
    const below = values.filter((other) => other < value).length;
    const equal = values.filter((other) => other === value).length;
    return below + (equal - 1) / 2;
  });
}
