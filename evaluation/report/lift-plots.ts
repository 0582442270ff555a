/** What layer budgets gain over uniform, as plots: by ratio, by task, and by their own parameters. */
import { comparisonOf, isDefault, type Lift, verdictOf } from '../lift.ts';
import { grouped } from '../summary.ts';
import { COLOURS, cellConfig, distinct, fileName, inPanels, legendBelow, type Plot } from './plot.ts';

const MEASURES = [
  { measure: 'score', name: 'lift', unit: 'percent points', of: 'score', good: 'above 0 is better' },
  { measure: 'kl', name: 'lift-kl', unit: 'nats a token', of: 'KL divergence from the full cache', good: 'below 0 is better' },
] as const;
type Measure = (typeof MEASURES)[number];

export function liftPlots(lifts: readonly Lift[]): Plot[] {
  return MEASURES.flatMap((measure) => {
    const measured = lifts.filter((one) => one[measure.measure] !== null);
    if (measured.length === 0) return [];
    const heads = [...grouped(measured, ({ head_budget }) => head_budget)];
    return heads.flatMap(([head, own]) => {
      const of = heads.length > 1 ? { name: [measure.name, head], words: `, head budget ${head}` } : { name: [measure.name], words: '' };
      return [byRatio(own, measure, of), byTask(own, measure, of), ...sensitivities(own, measure, of)].flatMap((plot) => plot ?? []);
    });
  });
}

interface Of {
  readonly name: readonly string[];
  readonly words: string;
}

function byRatio(lifts: readonly Lift[], { measure, unit, of, good }: Measure, { name, words }: Of): Plot {
  const { shown, left } = most(lifts);
  const values = shown.map((one) => ({ scorer: one.scorer, ratio: ratioOf(one), comparison: comparisonOf(one), ...one[measure] }));
  const comparisons = distinct(values.map(({ comparison }) => comparison));
  const scorers = distinct(values.map(({ scorer }) => scorer));
  const x = {
    x: { field: 'ratio', type: 'ordinal', title: 'compression ratio', axis: { labelAngle: 0, grid: false } },
    xOffset: { field: 'comparison', sort: comparisons },
    y: { type: 'quantitative', title: unit, axis: { tickCount: 6 } },
  };
  return {
    name: fileName(...name),
    title: `Lift over uniform layers: ${of}${words}`,
    caption: `Difference of ${of} to the same press with uniform layers (or to the control that is named), over the same samples; bars are 95% bootstrap intervals; ${good}.${left}`,
    ...inPanels('scorer', scorers, values, (narrow) => ({
      width: 150,
      height: 150,
      encoding: {
        color: {
          field: 'comparison',
          type: 'nominal',
          sort: comparisons,
          scale: { domain: comparisons, range: COLOURS },
          title: 'layer budget',
          legend: legendBelow(comparisons, narrow),
        },
      },
      layer: [
        { mark: { type: 'rule', color: '#888888' }, encoding: { y: { datum: 0 }, color: { value: '#888888' } } },
        { mark: { type: 'rule', strokeWidth: 1.5 }, encoding: { ...x, y: { ...x.y, field: 'low' }, y2: { field: 'high' } } },
        { mark: { type: 'point', filled: true, size: 28, opacity: 1 }, encoding: { ...x, y: { ...x.y, field: 'mean' } } },
      ],
    })),
  };
}

/** Where there are more than colours tell apart, one setting of each: the default one, or the first. */
function most(lifts: readonly Lift[]): { shown: readonly Lift[]; left: string } {
  const all = [...grouped(lifts, comparisonOf)];
  if (all.length <= COLOURS.length) return { shown: lifts, left: '' };
  const kinds = [...grouped(all, ([, [{ part, against }]]) => JSON.stringify([part.name, against])).values()];
  const chosen = kinds.map((own) => own.find(([, [{ part }]]) => isDefault(part)) ?? own[0]).slice(0, COLOURS.length);
  return { shown: chosen.flatMap(([, own]) => own), left: ` ${chosen.length} of ${all.length} layer budgets are shown: of each one setting.` };
}

/** Tasks by scorers, at the ratio with most outside their intervals. */
function byTask(lifts: readonly Lift[], { measure, unit, of }: Measure, { name, words }: Of): Plot | null {
  const outside = (all: readonly Lift[]): number =>
    all.flatMap(({ tasks }) => tasks.flatMap((task) => task[measure] ?? [])).filter((one) => verdictOf(one, measure) !== 'within').length;
  const { shown, left } = most(lifts);
  const ratios = [...grouped(shown, ratioOf)].sort(([, a], [, b]) => outside(b) - outside(a));
  const [ratio, own] = ratios[0];
  const values = own.flatMap((one) =>
    one.tasks.flatMap((task) => {
      const interval = task[measure];
      if (interval === null) return [];
      return [
        {
          comparison: comparisonOf(one),
          scorer: one.scorer,
          task: task.task,
          lift: interval.mean,
          outside: verdictOf(interval, measure) !== 'within',
        },
      ];
    }),
  );
  if (distinct(values.map(({ task }) => task)).length < 2) return null;
  const comparisons = distinct(values.map(({ comparison }) => comparison));
  const bound = Math.max(...values.map(({ lift }) => Math.abs(lift))) || 1; // where all are 0, any scale is right
  const at = ratios.length > 1 ? ` at ratio ${ratio}` : '';
  return {
    name: fileName(...name, 'by-task'),
    title: `Lift by task: ${of}${at}${words}`,
    caption: `Difference of ${of} to uniform layers, by task; a dot marks those whose 95% interval leaves out 0.${ratios.length > 1 ? ` Of the ratios, the one with most of them.` : ''}${left}`,
    ...inPanels(
      'comparison',
      comparisons,
      values,
      () => ({
        width: { step: 22 },
        height: { step: 18 },
        encoding: {
          x: { field: 'scorer', type: 'nominal', title: null, sort: distinct(values.map(({ scorer }) => scorer)), axis: { labelAngle: -45 } },
          y: { field: 'task', type: 'nominal', title: null, sort: distinct(values.map(({ task }) => task)) },
        },
        layer: [
          {
            mark: 'rect',
            encoding: {
              color: {
                field: 'lift',
                type: 'quantitative',
                title: unit,
                scale: { scheme: 'redblue', domain: [-bound, bound], domainMid: 0, reverse: measure === 'kl' },
                legend: { orient: 'bottom' },
              },
            },
          },
          { transform: [{ filter: 'datum.outside' }], mark: { type: 'point', filled: true, size: 18, color: '#000000', opacity: 1 } },
        ],
      }),
      { look: cellConfig, most: { wide: 3, narrow: 1 } },
    ),
  };
}

/** Where answers hold several values of a layer budget's parameters: the lift against the one with most values, a colour for every combination of the others. */
function sensitivities(lifts: readonly Lift[], { measure, unit, of, good }: Measure, { name, words }: Of): Plot[] {
  const toUniform = lifts.filter((one) => comparisonOf(one) === one.layer_budget);
  return [...grouped(toUniform, ({ part }) => part.name)].flatMap(([budget, own]) => {
    const valuesOf = (field: string): string[] => distinct(own.map(({ part }) => JSON.stringify(part.params[field])));
    const fields = distinct(own.flatMap(({ part }) => Object.keys(part.params))).filter((field) => valuesOf(field).length > 1);
    const numeric = fields.filter((field) => own.every(({ part }) => typeof part.params[field] === 'number'));
    const [along] = [...numeric].sort((a, b) => valuesOf(b).length - valuesOf(a).length);
    if (along === undefined) return [];
    const others = fields.filter((field) => field !== along);
    const settings = (one: Lift): string => others.map((field) => `${field} ${one.part.params[field]}`).join(', ') || budget;
    const values = own.map((one) => ({
      panel: `${one.scorer} at ${ratioOf(one)}`,
      along: one.part.params[along],
      settings: settings(one),
      ...one[measure],
    }));
    const colours = distinct(values.map((value) => value.settings)).sort();
    const panels = distinct(values.map(({ panel }) => panel));
    const x = { field: 'along', type: 'quantitative', title: along, scale: { zero: false, padding: 8 }, axis: { tickCount: 4 } };
    return [
      {
        name: fileName(...name, 'sensitivity', budget),
        title: `How sensitive ${budget} is: ${of}${words}`,
        caption: `Difference of ${of} to uniform layers, by the parameters of ${budget}; bars are 95% bootstrap intervals; ${good}.`,
        ...inPanels('panel', panels, values, (narrow) => ({
          width: 150,
          height: 130,
          encoding: {
            color: {
              field: 'settings',
              type: 'nominal',
              sort: colours,
              scale: { range: COLOURS },
              title: null,
              legend: legendBelow(colours, narrow),
            },
          },
          layer: [
            { mark: 'rule', encoding: { y: { datum: 0 }, color: { value: '#888888' } } },
            {
              mark: { type: 'rule', opacity: 0.5 },
              encoding: { x, y: { field: 'low', type: 'quantitative', title: unit }, y2: { field: 'high' } },
            },
            { mark: { type: 'line', point: { size: 28 } }, encoding: { x, y: { field: 'mean', type: 'quantitative', title: unit } } },
          ],
        })),
      },
    ];
  });
}

function ratioOf({ ratio }: Lift): string {
  return ratio === null ? 'its own' : String(ratio);
}
