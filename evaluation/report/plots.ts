/** The plots of a report, as Vega-Lite specifications: what is shown is read off them without knowing how it is drawn. */
import type { TopLevelSpec } from 'vega-lite';
import type { Answer } from '../results.ts';
import { mean } from '../statistics.ts';
import { grouped, type VariantSummary } from '../summary.ts';

export interface Plot {
  /** File name without its ending. */
  readonly name: string;
  readonly title: string;
  /** One sentence on what is seen. */
  readonly caption: string;
  readonly spec: TopLevelSpec;
}

/** Colours and signs that are told apart by most eyes (Okabe and Ito 2008). */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000', '#999999'];
const SHAPES = ['circle', 'square', 'triangle-up', 'diamond', 'cross', 'triangle-down'];

const FONT = 'system-ui, sans-serif';
/** Of cells side by side: lines between them would cut them. */
const cellConfig = { font: FONT, background: '#ffffff', axis: { grid: false, domain: false, ticks: false }, view: { stroke: null } } as const;
const config = { font: FONT, background: '#ffffff', axis: { grid: true, gridColor: '#e5e5e5' }, view: { stroke: null } } as const;

/** Every plot that these answers have something to show in. */
export function plotsOf(summaries: readonly VariantSummary[], answers: readonly Answer[]): Plot[] {
  return [scoreByBytes(summaries), klByBytes(summaries), budgets(summaries), needleGrid(answers)].flatMap((plot) => plot ?? []);
}

function scoreByBytes(summaries: readonly VariantSummary[]): Plot | null {
  const values = summaries.flatMap((one) => (one.score === null ? [] : [{ ...point(one), ...one.score }]));
  if (values.length === 0) return null;
  return {
    name: 'score-by-bytes',
    title: 'Score by bytes kept',
    caption: 'Mean score over tasks and lengths against the share of the full cache that is really held; bars are 95% bootstrap intervals.',
    spec: lines(values, 'mean', 'score, %', [0, 100]),
  };
}

function klByBytes(summaries: readonly VariantSummary[]): Plot | null {
  const values = summaries.flatMap((one) => (one.kl === null || one.bytes_kept === one.bytes_full ? [] : [{ ...point(one), ...one.kl }]));
  if (values.length === 0) return null;
  return {
    name: 'kl-by-bytes',
    title: 'Divergence from the full cache by bytes kept',
    caption: 'Mean KL divergence of next-token distributions from those of the full cache, along its own answers, in nats a token; less is better.',
    spec: lines(values, 'mean', 'KL, nats a token'),
  };
}

function point({ press, ratio, bytes_kept, bytes_full }: VariantSummary) {
  return { press, ratio: ratio ?? 'its own', kept: (100 * bytes_kept) / bytes_full };
}

function lines(values: readonly object[], y: string, title: string, domain?: [number, number]): TopLevelSpec {
  const presses = [...new Set(values.map((value) => (value as { press: string }).press))];
  const colour = { field: 'press', type: 'nominal' as const, sort: presses, scale: { range: COLOURS }, title: 'press' };
  const x = { field: 'kept', type: 'quantitative' as const, title: 'bytes kept, % of the full cache', scale: { zero: true } };
  return {
    config,
    width: 560,
    height: 340,
    data: { values: values as Record<string, unknown>[] },
    layer: [
      {
        mark: { type: 'rule', opacity: 0.5 },
        encoding: { x, y: { field: 'low', type: 'quantitative', title }, y2: { field: 'high' }, color: colour },
      },
      {
        mark: { type: 'line', strokeWidth: 1.5, opacity: 0.8 },
        encoding: { x, y: { field: y, type: 'quantitative', title, scale: domain ? { domain } : {} }, color: colour, order: { field: 'kept' } },
      },
      {
        mark: { type: 'point', filled: true, size: 60 },
        encoding: {
          x,
          y: { field: y, type: 'quantitative', title },
          color: colour,
          shape: { field: 'press', type: 'nominal', sort: presses, scale: { range: SHAPES } },
        },
      },
    ],
  };
}

/** What presses with unequal layers dealt. */
function budgets(summaries: readonly VariantSummary[]): Plot | null {
  const uneven = summaries.filter(({ kept_per_layer }) => kept_per_layer.some((kept) => Math.abs(kept - kept_per_layer[0]) > 0.5));
  if (uneven.length === 0) return null;
  const values = uneven.flatMap(({ variant, kept_per_layer }) => {
    const average = mean(kept_per_layer);
    return kept_per_layer.map((kept, layer) => ({ variant, layer, kept: (100 * kept) / average }));
  });
  return {
    name: 'layer-budgets',
    title: 'Budgets by layer',
    caption:
      "What each layer keeps, in percent of the average layer of the same press; means over the samples. Presses whose layers are all equal aren't shown.",
    spec: {
      config: cellConfig,
      data: { values },
      mark: 'rect',
      width: { step: 22 },
      height: { step: 18 },
      encoding: {
        x: { field: 'layer', type: 'ordinal', title: 'layer', axis: { labelAngle: 0 } },
        y: { field: 'variant', type: 'nominal', title: null, sort: uneven.map(({ variant }) => variant), axis: { labelLimit: 320 } },
        color: { field: 'kept', type: 'quantitative', title: '% of average', scale: { scheme: 'blueorange', domainMid: 100 } },
      },
    },
  };
}

/** Score by depth of the needle and length of the context. */
function needleGrid(answers: readonly Answer[]): Plot | null {
  const placed = answers.filter(
    ({ depth, length, score, task }) => depth !== null && length !== null && score !== null && task === 'needle_in_haystack',
  );
  if (placed.length === 0) return null;
  const cells = grouped(placed, ({ variant, depth, length }) => JSON.stringify([variant, depth, length]));
  const values = [...cells.values()].map((cell) => ({
    variant: cell[0].variant,
    depth: cell[0].depth,
    length: cell[0].length,
    score: 100 * mean(cell.map(({ score }) => score!)),
  }));
  return {
    name: 'needle-grid',
    title: 'Needle in a haystack',
    caption: 'Mean score by where the needle stands (0% is the beginning) and how long the context is.',
    spec: {
      config: cellConfig,
      data: { values },
      facet: { field: 'variant', type: 'nominal', title: null, sort: [...new Set(values.map(({ variant }) => variant))] },
      columns: 3,
      spec: {
        mark: 'rect',
        width: { step: 36 },
        height: { step: 22 },
        encoding: {
          x: { field: 'length', type: 'ordinal', title: 'tokens', axis: { labelAngle: 0 } },
          y: { field: 'depth', type: 'ordinal', title: 'depth, %' },
          color: { field: 'score', type: 'quantitative', title: 'score, %', scale: { domain: [0, 100], scheme: 'redyellowgreen' } },
        },
      },
    },
  };
}
