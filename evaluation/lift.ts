/**
 * What a layer budget gains over uniform layers: differences between presses that are alike but for their layer budget, over the same samples.
 *   lift = mean over cells of mean over samples of [score under the layer budget - score under its twin],   percent points; a cell = a task at a length
 * and of KL alike, where less is better. Intervals are 95%, by bootstrap of the pairs. The twin has uniform layers; a layer budget that has a control
 * (zigzag: its own budgets on shuffled layers) is held against that too: what lies between the two is what its measure is worth, and not unevenness alone.
 * Where nothing differs, one comparison of 40 lies above its interval all the same, and one below.
 */
import type { LayerBudget } from '../presses/contract.ts';
import { layerBudgets } from '../presses/registry.ts';
import { sum } from '../presses/sum.ts';
import { labelsOf } from './labels.ts';
import type { Made, PartMade } from './made-of.ts';
import type { Answer } from './results.ts';
import { type Interval, pairedDifference } from './statistics.ts';
import { grouped, scoresOf } from './summary.ts';

/** Differences; null where fewer than two samples have both, or none was measured. */
export interface Difference {
  readonly samples: number;
  /** Percent points; more is better. */
  readonly score: Interval | null;
  /** Nats a token; less is better. */
  readonly kl: Interval | null;
}

export interface TaskLift extends Difference {
  readonly task: string;
}

export interface LengthLift extends Difference {
  /** Tokens asked for. */
  readonly length: number;
}

export interface Lift extends Difference {
  readonly variant: string;
  readonly twin: string; // a variant too
  /** The scorer, and whatever else tells the presses of these answers apart. */
  readonly scorer: string;
  readonly head_budget: string;
  readonly ratio: number | null;
  readonly layer_budget: string;
  readonly against: string; // the twin's layer budget
  /** The layer budget with its parameters; of presses in a row, the first one's. */
  readonly part: PartMade;
  /** Bytes kept over those of the twin, on the same samples: 1 but for the rounding to pages. */
  readonly bytes: number;
  readonly tasks: readonly TaskLift[];
  /** Ascending; none of samples that have no length of their own. */
  readonly lengths: readonly LengthLift[];
}

/** Answers of the same variant, by sample. */
type BySample = ReadonlyMap<string, Answer>;

export interface LiftOptions {
  readonly resamples?: number;
}

/** Of every variant that `made` knows, has unequal layers and a twin. In the order of the answers, controls last. */
export function liftsOf(answers: readonly Answer[], made: ReadonlyMap<string, Made>, { resamples = 2000 }: LiftOptions = {}): Lift[] {
  const of = new Map(
    [...grouped(answers, ({ variant }) => variant)].map(([variant, all]) => [variant, new Map(all.map((one) => [one.sample, one]))]),
  );
  const known = [...of.keys()].flatMap((variant) => {
    const parts = made.get(variant);
    return parts === undefined || parts.length === 0 ? [] : [{ variant, parts, rest: restOf(parts) }];
  });
  const label = labelsOf(known.map(({ parts }) => parts));
  const compare = (variant: string, twin: string): Lift => {
    const [parts, other] = [made.get(variant)!, made.get(twin)!];
    const others = label.others(parts);
    return {
      variant,
      twin,
      scorer: others === '' ? label.scorer(parts) : `${label.scorer(parts)}, ${others}`,
      head_budget: label.headBudget(parts),
      ratio: ratioOf(parts) ?? of.get(variant)!.values().next().value!.ratio,
      layer_budget: label.layerBudget(parts),
      against: isUniform(other) ? layerBudgets.uniform.name : label.layerBudget(other),
      part: parts[0].layer_budget,
      ...difference(of.get(variant)!, of.get(twin)!, resamples),
    };
  };
  const alike = grouped(known, ({ rest }) => rest);
  const against = (isTwin: (mine: Made, theirs: Made) => boolean): Lift[] =>
    known.flatMap(({ variant, parts, rest }) =>
      alike
        .get(rest)!
        .filter((other) => isTwin(parts, other.parts))
        .map((other) => compare(variant, other.variant)),
    );
  const all = [...against((mine, theirs) => !isUniform(mine) && isUniform(theirs)), ...against(isControl)];
  return all.filter(({ samples }) => samples > 0);
}

/** All but the layer budgets, in words that are the same for the same press. */
function restOf(made: Made): string {
  return JSON.stringify(made.map(({ layer_budget: _, ...rest }) => rest));
}

function isUniform(made: Made): boolean {
  return made.every(({ layer_budget }) => layer_budget.name === layerBudgets.uniform.name);
}

/** Whether `theirs` is the control of `mine`: of all its parameters, and of its own (a seed) any. */
function isControl(mine: Made, theirs: Made): boolean {
  const controls = ({ layer_budget: a }: Made[number], { layer_budget: b }: Made[number]): boolean =>
    budgetOf(b.name)?.controlOf === a.name &&
    Object.entries(a.params).every(([field, value]) => JSON.stringify(b.params[field]) === JSON.stringify(value));
  const same = (a: Made[number], b: Made[number]): boolean => JSON.stringify(a.layer_budget) === JSON.stringify(b.layer_budget);
  const pairs = mine.map((press, i) => [press, theirs[i]] as const);
  return pairs.some((pair) => controls(...pair)) && pairs.every((pair) => controls(...pair) || same(...pair));
}

/** Null where there is none of that name any more. */
function budgetOf(name: string): LayerBudget | null {
  return Object.hasOwn(layerBudgets, name) ? (layerBudgets[name as keyof typeof layerBudgets] as LayerBudget) : null;
}

function ratioOf(made: Made): number | null {
  return made.length === 1 && made[0].memory_budget === null ? made[0].compression_ratio : null;
}

function difference(mine: BySample, theirs: BySample, resamples: number): Pick<Lift, keyof Difference | 'bytes' | 'tasks' | 'lengths'> {
  const pairs = [...mine.values()].flatMap((a) => {
    const b = theirs.get(a.sample);
    return b === undefined ? [] : [{ a, b }];
  });
  const cells = [...grouped(pairs, ({ a: { task, length } }) => JSON.stringify([task, length])).values()];
  const tasks = [...grouped(cells, ([{ a }]) => a.task)];
  const lengths = [...new Set(cells.flatMap(([{ a }]) => a.length ?? []))].sort((one, other) => one - other);
  return {
    ...differenceOf(cells, resamples),
    bytes: sum(pairs.map(({ a }) => a.bytes_kept)) / sum(pairs.map(({ b }) => b.bytes_kept)),
    tasks: tasks.map(([task, own]) => ({ task, ...differenceOf(own, resamples) })),
    lengths: lengths.map((length) => ({
      length,
      ...differenceOf(
        cells.filter(([{ a }]) => a.length === length),
        resamples,
      ),
    })),
  };
}

interface Pair {
  readonly a: Answer;
  readonly b: Answer;
}

function differenceOf(cells: readonly (readonly Pair[])[], resamples: number): Difference {
  const scored = cells.map((cell) => cell.filter(({ a, b }) => a.score !== null && b.score !== null));
  const diverging = cells.map((cell) => cell.filter(({ a, b }) => a.kl !== null && b.kl !== null));
  const interval = (of: readonly (readonly Pair[])[], values: (answers: readonly Answer[]) => number[]): Interval | null =>
    sum(of.map(({ length }) => length)) < 2
      ? null
      : pairedDifference(
          of.map((cell) => values(cell.map(({ a }) => a))),
          of.map((cell) => values(cell.map(({ b }) => b))),
          { resamples },
        );
  return {
    samples: sum(cells.map(({ length }) => length)),
    score: interval(scored, scoresOf),
    kl: interval(diverging, (answers) => answers.map(({ kl }) => kl!)),
  };
}

/** How a comparison is called: after its layer budget, and after its twin where that is not uniform. */
export function comparisonOf({ layer_budget, against }: Pick<Lift, 'layer_budget' | 'against'>): string {
  return against === layerBudgets.uniform.name ? layer_budget : `${layer_budget} less ${against}`;
}

/** Whether a layer budget has the parameters that it takes where none are given. */
export function isDefault({ name, params }: PartMade): boolean {
  return JSON.stringify(budgetOf(name)?.params.safeParse({}).data) === JSON.stringify(params);
}

export type Verdict = 'better' | 'within' | 'worse';

/** On which side of nothing the whole interval lies. */
export function verdictOf({ low, high }: Interval, measure: 'score' | 'kl'): Verdict {
  const [above, below]: Verdict[] = measure === 'score' ? ['better', 'worse'] : ['worse', 'better'];
  return low > 0 ? above : high < 0 ? below : 'within';
}

/** How often a layer budget's intervals leave nothing out, and how often they would by chance. */
export interface Tally {
  readonly layer_budget: string;
  readonly against: string;
  readonly measure: 'score' | 'kl';
  /** Over all tasks, or by task. */
  readonly by: 'press' | 'task';
  readonly better: number;
  readonly within: number;
  readonly worse: number;
  /** Of so many comparisons, outside on one side where nothing differs: 2.5%. */
  readonly by_chance: number;
}

const BY_CHANCE = 0.025;

export function tally(lifts: readonly Lift[]): Tally[] {
  const budgets = [...grouped(lifts, ({ layer_budget, against }) => JSON.stringify([layer_budget, against])).values()];
  return (['score', 'kl'] as const).flatMap((measure) =>
    (['press', 'task'] as const).flatMap((by) =>
      budgets.flatMap((own) => {
        const compared: readonly Difference[] = by === 'press' ? own : own.flatMap(({ tasks }) => tasks);
        const verdicts = compared.flatMap((one) => one[measure] ?? []).map((interval) => verdictOf(interval, measure));
        if (verdicts.length === 0) return [];
        const count = (verdict: Verdict): number => verdicts.filter((one) => one === verdict).length;
        const { layer_budget, against } = own[0];
        return [
          {
            layer_budget,
            against,
            measure,
            by,
            better: count('better'),
            within: count('within'),
            worse: count('worse'),
            by_chance: BY_CHANCE * verdicts.length,
          },
        ];
      }),
    ),
  );
}
