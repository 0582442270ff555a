/** The plots of a report, as Vega-Lite specifications: what is shown is read off them without knowing how it is drawn. */
import { labelsOf } from '../labels.ts';
import type { Made } from '../made-of.ts';
import type { Answer } from '../results.ts';
import { mean } from '../statistics.ts';
import { grouped, type VariantSummary } from '../summary.ts';
import { COLOURS, cellConfig, config, distinct, inPanels, inRows, legendBelow, type Plot, SHAPES } from './plot.ts';

/** More presses than this cannot be told apart by colour and sign: they are shown in panels, or the best of them by name. */
const MOST_NAMED = 12;
/** More rows than this are no longer read: they are shown as means, in panels. */
const MOST_ROWS = 40;

type MadeOf = ReadonlyMap<string, Made>;

/** Every plot that these answers have something to show in. */
export function plotsOf(summaries: readonly VariantSummary[], answers: readonly Answer[], made: MadeOf): Plot[] {
  return [scoreByBytes(summaries, made), klByBytes(summaries, made), budgets(summaries, made), needleGrid(summaries, answers)].flatMap(
    (plot) => plot ?? [],
  );
}

function scoreByBytes(summaries: readonly VariantSummary[], made: MadeOf): Plot | null {
  const measured = summaries.flatMap((one) => (one.score === null ? [] : [{ summary: one, ...point(one), ...one.score }]));
  if (measured.length === 0) return null;
  const { words, ...drawn } = points(measured, made, { title: 'score, %', best: 'high', domain: [0, 100] });
  return {
    name: 'score-by-bytes',
    title: 'Score by bytes kept',
    caption: `Mean score over tasks and lengths against the share of the full cache that is really held; bars are 95% bootstrap intervals.${words}`,
    ...drawn,
  };
}

function klByBytes(summaries: readonly VariantSummary[], made: MadeOf): Plot | null {
  const measured = summaries.flatMap((one) =>
    one.kl === null || one.bytes_kept === one.bytes_full ? [] : [{ summary: one, ...point(one), ...one.kl }],
  );
  if (measured.length === 0) return null;
  const { words, ...drawn } = points(measured, made, { title: 'KL, nats a token', best: 'low' });
  return {
    name: 'kl-by-bytes',
    title: 'Divergence from the full cache by bytes kept',
    caption: `Mean KL divergence of next-token distributions from those of the full cache, along its own answers, in nats a token; less is better.${words}`,
    ...drawn,
  };
}

interface Point {
  readonly summary: VariantSummary;
  readonly press: string;
  readonly kept: number; // percent
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

function point({ press, bytes_kept, bytes_full }: VariantSummary): Pick<Point, 'press' | 'kept'> {
  return { press, kept: (100 * bytes_kept) / bytes_full };
}

interface Scale {
  readonly title: string;
  readonly best: 'high' | 'low';
  readonly domain?: [number, number];
}

/** Few presses by name; those of a grid in panels, one a scorer; of others the best by name among the rest. */
function points(measured: readonly Point[], made: MadeOf, scale: Scale): Pick<Plot, 'spec' | 'narrow'> & { words: string } {
  const presses = distinct(measured.map(({ press }) => press));
  if (presses.length <= MOST_NAMED)
    return {
      ...named(
        measured.map(({ summary: _, ...shown }) => shown),
        presses,
        scale,
      ),
      words: '',
    };
  const panels = pointsInPanels(measured, made, scale);
  if (panels !== null) return panels;
  const name = shortNames(measured, made);
  const all = measured.map(({ summary: _, ...shown }) => ({ ...shown, press: name(shown.press) }));
  const sign = scale.best === 'high' ? -1 : 1;
  const meanOf = [...grouped(all, ({ press }) => press)].map(([press, own]) => ({ press, mean: sign * mean(own.map((one) => one.mean)) }));
  const best = meanOf
    .sort((a, b) => a.mean - b.mean)
    .slice(0, MOST_NAMED)
    .map(({ press }) => press);
  const words = ` The best ${best.length} of ${presses.length} presses, by their mean over the ratios, have names and bars; the others are grey.`;
  return { ...named(all, best, scale), words };
}

/** Names of presses without what all have alike, where that is shorter; as they are where it is not known what presses are made of, or two would be called the same. */
function shortNames(measured: readonly Point[], made: MadeOf): (press: string) => string {
  const parts = [...grouped(measured, ({ press }) => press)].map(([press, [{ summary }]]) => ({ press, parts: made.get(summary.variant) }));
  const label = labelsOf(parts.flatMap(({ parts }) => (parts && parts.length > 0 ? [parts] : [])));
  const heads = distinct(parts.flatMap(({ parts }) => (parts && parts.length > 0 ? label.headBudget(parts) : [])));
  const short = parts.map(({ press, parts }): [string, string] => {
    if (parts === undefined || parts.length === 0) return [press, press];
    const words = [label.scorer(parts), label.layerBudget(parts), heads.length > 1 ? label.headBudget(parts) : '', label.others(parts)];
    const short = words.filter((word) => word !== '').join(' ');
    return [press, short.length < press.length ? short : press];
  });
  const names = new Map(
    parts.some(({ parts }) => parts === undefined) || distinct(short.map(([, words]) => words)).length < short.length ? [] : short,
  );
  return (press) => names.get(press) ?? press;
}

function named(values: readonly Omit<Point, 'summary'>[], presses: readonly string[], { title, domain }: Scale): Pick<Plot, 'spec' | 'narrow'> {
  const x = { field: 'kept', type: 'quantitative', title: 'bytes kept, % of the full cache', scale: { zero: true } };
  const y = { type: 'quantitative', title, scale: domain ? { domain } : {} };
  const own = { transform: [{ filter: { field: 'press', oneOf: presses } }] };
  const others = { transform: [{ filter: { not: { field: 'press', oneOf: presses } } }] };
  return inRows(1, (_, narrow) => {
    const legend = legendBelow(presses, narrow);
    const color = { field: 'press', type: 'nominal', sort: presses, scale: { domain: presses, range: COLOURS }, title: null, legend };
    const shape = { field: 'press', type: 'nominal', sort: presses, scale: { domain: presses, range: SHAPES }, title: null, legend };
    return {
      config,
      width: narrow ? 300 : 640,
      height: narrow ? 300 : 360,
      data: { values },
      layer: [
        { ...others, mark: { type: 'point', filled: true, size: 14, color: '#bbbbbb' }, encoding: { x, y: { ...y, field: 'mean' } } },
        { ...own, mark: { type: 'rule', opacity: 0.5 }, encoding: { x, y: { ...y, field: 'low' }, y2: { field: 'high' }, color } },
        {
          ...own,
          mark: { type: 'line', strokeWidth: 1.5, opacity: 0.8 },
          encoding: { x, y: { ...y, field: 'mean' }, color, order: { field: 'kept' } },
        },
        { ...own, mark: { type: 'point', filled: true, size: 60 }, encoding: { x, y: { ...y, field: 'mean' }, color, shape } },
      ],
    };
  });
}

/** Null where presses are no grid, or one of more layer budgets than there are colours. */
function pointsInPanels(
  measured: readonly Point[],
  made: MadeOf,
  { title, domain }: Scale,
): (Pick<Plot, 'spec' | 'narrow'> & { words: string }) | null {
  const isWhole = ({ summary }: Point): boolean => made.get(summary.variant)?.length === 0;
  const whole = measured.filter(isWhole);
  const pressed = measured.filter((one) => !isWhole(one));
  const parts = pressed.map(({ summary }) => made.get(summary.variant));
  if (!parts.every((one) => one !== undefined)) return null;
  const label = labelsOf(parts);
  const values = pressed.map(({ summary: _, press: __, ...shown }, i) => ({
    ...shown,
    scorer: [label.scorer(parts[i]), label.others(parts[i])].filter((words) => words !== '').join(', '),
    layers: label.layerBudget(parts[i]),
    heads: label.headBudget(parts[i]),
  }));
  const [scorers, layers, heads] = (['scorer', 'layers', 'heads'] as const).map((field) => distinct(values.map((value) => value[field])));
  if (scorers.length > MOST_ROWS || layers.length > COLOURS.length || heads.length > SHAPES.length) return null;
  const x = { field: 'kept', type: 'quantitative', title: 'bytes kept, %', scale: { zero: true }, axis: { tickCount: 4 } };
  const y = { type: 'quantitative', title, scale: domain ? { domain } : {} };
  const drawn = inPanels('scorer', scorers, values, (narrow) => {
    const legend = legendBelow([...layers, ...heads], narrow);
    const shape = { field: 'heads', type: 'nominal', sort: heads, scale: { domain: heads, range: SHAPES }, title: 'head budget', legend };
    return {
      width: 150,
      height: 150,
      encoding: {
        color: { field: 'layers', type: 'nominal', sort: layers, scale: { domain: layers, range: COLOURS }, title: 'layer budget', legend },
      },
      layer: [
        ...whole
          .slice(0, 1)
          .map((full) => ({ mark: { type: 'rule', strokeDash: [3, 3] }, encoding: { y: { datum: full.mean }, color: { value: '#666666' } } })),
        { mark: { type: 'rule', opacity: 0.4 }, encoding: { x, y: { ...y, field: 'low' }, y2: { field: 'high' } } },
        {
          mark: { type: 'line', strokeWidth: 1, opacity: 0.8 },
          encoding: { x, y: { ...y, field: 'mean' }, order: { field: 'kept' }, detail: { field: 'heads' } },
        },
        { mark: { type: 'point', filled: true, size: 24 }, encoding: { x, y: { ...y, field: 'mean' }, shape } },
      ],
    };
  });
  return { ...drawn, words: whole.length > 0 ? ' The broken line is the full cache.' : '' };
}

/** What presses with unequal layers dealt. */
function budgets(summaries: readonly VariantSummary[], made: MadeOf): Plot | null {
  const uneven = summaries.filter(({ kept_per_layer }) => kept_per_layer.some((kept) => Math.abs(kept - kept_per_layer[0]) > 0.5));
  if (uneven.length === 0) return null;
  const shares = ({ kept_per_layer }: VariantSummary): number[] => kept_per_layer.map((kept) => (100 * kept) / mean(kept_per_layer));
  const panels = uneven.length > MOST_ROWS ? byLayerBudget(uneven, made, shares) : null;
  const rows = panels ?? uneven.map((one) => ({ panel: '', row: one.variant, shares: shares(one) }));
  const values = rows.flatMap(({ panel, row, shares }) => shares.map((kept, layer) => ({ panel, row, layer, kept })));
  const count = uneven[0].kept_per_layer.length;
  const cells = {
    mark: 'rect',
    width: { step: count > 16 ? 8 : 22 },
    height: { step: 18 },
    encoding: {
      x: { field: 'layer', type: 'ordinal', title: 'layer', axis: { labelAngle: 0, labelOverlap: true } },
      y: { field: 'row', type: 'nominal', title: null, sort: distinct(values.map(({ row }) => row)) },
      color: {
        field: 'kept',
        type: 'quantitative',
        title: '% of average',
        scale: { scheme: 'blueorange', domainMid: 100 },
        legend: { orient: 'bottom' },
      },
    },
  };
  const names = distinct(values.map(({ panel }) => panel));
  return {
    name: 'layer-budgets',
    title: 'Budgets by layer',
    caption: `What each layer keeps, in percent of the average layer of the same press; means over the samples${panels ? ', ratios and head budgets' : ''}. Presses whose layers are all equal aren't shown.`,
    ...(panels
      ? inPanels('panel', names, values, () => cells, { look: cellConfig, most: { wide: 3, narrow: 1 } })
      : { spec: { config: cellConfig, data: { values }, ...cells } as Plot['spec'] }),
  };
}

/** A panel a layer budget, a row a scorer. Null where it is not known what presses are made of. */
function byLayerBudget(
  uneven: readonly VariantSummary[],
  made: MadeOf,
  shares: (one: VariantSummary) => number[],
): { panel: string; row: string; shares: number[] }[] | null {
  const parts = uneven.map(({ variant }) => made.get(variant));
  if (!parts.every((one) => one !== undefined)) return null;
  const label = labelsOf(parts);
  const own = uneven.map((one, i) => ({ panel: label.layerBudget(parts[i]), row: label.scorer(parts[i]), shares: shares(one) }));
  return [...grouped(own, ({ panel, row }) => JSON.stringify([panel, row])).values()].map((alike) => ({
    ...alike[0],
    shares: alike[0].shares.map((_, layer) => mean(alike.map(({ shares }) => shares[layer]))),
  }));
}

/** Score by depth of the needle and length of the context. */
function needleGrid(summaries: readonly VariantSummary[], answers: readonly Answer[]): Plot | null {
  const placed = answers.filter(
    ({ depth, length, score, task }) => depth !== null && length !== null && score !== null && task === 'needle_in_haystack',
  );
  if (placed.length === 0) return null;
  const meanOf = ([, own]: [string, Answer[]]): number => mean(own.map(({ score }) => score!));
  const all = [...grouped(placed, ({ variant }) => variant)];
  const best = new Set(
    all.length > MOST_NAMED
      ? [...all]
          .sort((a, b) => meanOf(b) - meanOf(a))
          .slice(0, MOST_NAMED)
          .map(([variant]) => variant)
      : all.map(([variant]) => variant),
  );
  const cells = grouped(
    placed.filter(({ variant }) => best.has(variant)),
    ({ variant, depth, length }) => JSON.stringify([variant, depth, length]),
  );
  const values = [...cells.values()].map((cell) => ({
    variant: cell[0].variant,
    depth: cell[0].depth,
    length: cell[0].length,
    score: 100 * mean(cell.map(({ score }) => score!)),
  }));
  return {
    name: 'needle-grid',
    title: 'Needle in a haystack',
    caption: `Mean score by where the needle stands (0% is the beginning) and how long the context is.${best.size < all.length ? ` The best ${best.size} of ${all.length} presses and ratios.` : ''}`,
    ...inPanels(
      'variant',
      summaries.map(({ variant }) => variant).filter((variant) => best.has(variant)),
      values,
      () => ({
        mark: 'rect',
        width: { step: 36 },
        height: { step: 22 },
        encoding: {
          x: { field: 'length', type: 'ordinal', title: 'tokens', axis: { labelAngle: 0 } },
          y: { field: 'depth', type: 'ordinal', title: 'depth, %' },
          color: {
            field: 'score',
            type: 'quantitative',
            title: 'score, %',
            scale: { domain: [0, 100], scheme: 'redyellowgreen' },
            legend: { orient: 'bottom' },
          },
        },
      }),
      { look: cellConfig, most: { wide: 3, narrow: 1 } },
    ),
  };
}
