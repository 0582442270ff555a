/** What layer budgets gain over uniform, as tables for the page and for Markdown. */
import { comparisonOf, type Difference, type Lift, type Tally, tally, type Verdict, verdictOf } from '../lift.ts';
import type { Interval } from '../statistics.ts';
import { grouped } from '../summary.ts';
import { distinct } from './plot.ts';

export interface Table {
  readonly title: string;
  /** What is read off it. */
  readonly words: string;
  readonly head: readonly string[];
  /** How many columns hold words. */
  readonly left: number;
  readonly rows: readonly (readonly Cell[])[];
}

export interface Cell {
  readonly text: string;
  /** Its interval leaves out 0. */
  readonly strong?: boolean;
  readonly verdict?: Verdict;
}

const MEASURES = [
  { measure: 'score', title: 'Score, percent points', digits: 1 },
  { measure: 'kl', title: 'KL divergence, nats a token: below 0 is better', digits: 3 },
] as const;
type Measure = (typeof MEASURES)[number];

/** Cells have few samples where a mean of this many would still be told too surely. */
const FEW = 10;

export function liftTables(lifts: readonly Lift[]): Table[] {
  const measured = MEASURES.filter(({ measure }) => lifts.some((one) => one[measure] !== null));
  return [
    ...measured.map((measure) => byPress(lifts, measure)),
    tallies(lifts),
    ...measured.flatMap((measure) => byLength(lifts, measure)),
    ...measured.flatMap((measure) => outside(lifts, measure)),
  ];
}

/** What stands above all of them. */
export function liftWords(lifts: readonly Lift[]): string {
  const bytes = lifts.map(({ bytes }) => bytes);
  const [least, most] = [Math.min(...bytes), Math.max(...bytes)].map((ratio) => `${(100 * ratio).toFixed(1)}%`);
  const few = lifts.filter(({ samples, tasks }) => samples < FEW * tasks.length).length;
  return [
    `${lifts.length} ${lifts.length === 1 ? 'pair' : 'pairs'} of presses that are alike but for their layer budget, over the same samples: what the one scores less what the other scores, means over tasks and lengths, 95% bootstrap intervals.`,
    `They hold ${least} to ${most} of the bytes of the other.`,
    ...(few > 0 ? [`${few} of the pairs have fewer than ${FEW} samples a task: their intervals are too narrow to trust.`] : []),
  ].join(' ');
}

function byPress(lifts: readonly Lift[], { measure, title, digits }: Measure): Table {
  const comparisons = distinct(lifts.map(comparisonOf));
  const withHead = distinct(lifts.map(({ head_budget }) => head_budget)).length > 1;
  const presses = [...grouped(lifts, ({ scorer, head_budget, ratio }) => JSON.stringify([scorer, head_budget, ratio])).values()];
  return {
    title,
    words: 'By the same press with uniform layers, or, where one is named, by the control. Bold: the interval leaves out 0.',
    head: ['scorer', ...(withHead ? ['head budget'] : []), 'ratio', ...comparisons],
    left: withHead ? 2 : 1,
    rows: presses.map((own) => [
      { text: own[0].scorer },
      ...(withHead ? [{ text: own[0].head_budget }] : []),
      { text: String(own[0].ratio ?? '-') },
      ...comparisons.map((comparison) => cell(own.find((one) => comparisonOf(one) === comparison) ?? null, measure, digits)),
    ]),
  };
}

/** Where there are several. */
function byLength(lifts: readonly Lift[], { measure, title, digits }: Measure): Table[] {
  const lengths = distinct(lifts.flatMap((one) => one.lengths.map(({ length }) => length))).sort((a, b) => a - b);
  if (lengths.length < 2) return [];
  return [
    {
      title: `By length: ${title.toLowerCase().replace('kl', 'KL')}`,
      words: 'Means over the tasks, by how many tokens the samples have at most. Bold: the interval leaves out 0.',
      head: ['layer budget', 'scorer', 'head budget', 'ratio', ...lengths.map(String)],
      left: 3,
      rows: lifts.map((lift) => [
        { text: comparisonOf(lift) },
        { text: lift.scorer },
        { text: lift.head_budget },
        { text: String(lift.ratio ?? '-') },
        ...lengths.map((length) => cell(lift.lengths.find((one) => one.length === length) ?? null, measure, digits)),
      ]),
    },
  ];
}

function tallies(lifts: readonly Lift[]): Table {
  const what = ({ measure, by }: Tally): string => `${measure === 'score' ? 'score' : 'KL'}, ${by === 'press' ? 'over all tasks' : 'task by task'}`;
  return {
    title: 'How many lie outside their interval',
    words:
      'Where nothing differs, 2.5% of the comparisons lie outside their interval on either side by chance. They share samples: those outside come in clusters.',
    head: ['layer budget', 'measured', 'better', 'within', 'worse', 'by chance on either side'],
    left: 2,
    rows: tally(lifts).map((one) => [
      { text: comparisonOf(one) },
      { text: what(one) },
      { text: String(one.better) },
      { text: String(one.within) },
      { text: String(one.worse) },
      { text: one.by_chance.toFixed(1) },
    ]),
  };
}

/** Of single tasks, the largest first. */
function outside(lifts: readonly Lift[], { measure, title, digits }: Measure): Table[] {
  const found = lifts.flatMap((lift) =>
    lift.tasks.flatMap((task) => {
      const interval = task[measure];
      return interval === null || verdictOf(interval, measure) === 'within' ? [] : [{ lift, task, interval }];
    }),
  );
  if (found.length === 0) return [];
  found.sort((a, b) => Math.abs(b.interval.mean) - Math.abs(a.interval.mean));
  return [
    {
      title: `Tasks outside their interval: ${title.toLowerCase().replace('kl', 'KL')}`,
      words: `${found.length} of single tasks, the largest first.`,
      head: ['task', 'layer budget', 'scorer', 'head budget', 'ratio', 'difference', 'samples'],
      left: 4,
      rows: found.map(({ lift, task }) => [
        { text: task.task },
        { text: comparisonOf(lift) },
        { text: lift.scorer },
        { text: lift.head_budget },
        { text: String(lift.ratio ?? '-') },
        cell(task, measure, digits),
        { text: String(task.samples) },
      ]),
    },
  ];
}

function cell(one: Difference | null, measure: Measure['measure'], digits: number): Cell {
  const interval = one?.[measure] ?? null;
  if (interval === null) return { text: '-' };
  const verdict = verdictOf(interval, measure);
  return { text: signed(interval, digits), strong: verdict !== 'within', verdict };
}

function signed({ mean, low, high }: Interval, digits: number): string {
  const [m, l, h] = [mean, low, high].map((value) => {
    const text = Math.abs(value).toFixed(digits);
    return Number(text) === 0 ? text : `${value < 0 ? '-' : '+'}${text}`;
  });
  return `${m} [${l}, ${h}]`;
}
