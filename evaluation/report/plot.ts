/** What plots have in common: how they look, and how they are cut to size. */
import type { TopLevelSpec } from 'vega-lite';

export interface Plot {
  /** File name without its ending. */
  readonly name: string;
  readonly title: string;
  /** One sentence on what is seen. */
  readonly caption: string;
  readonly spec: TopLevelSpec;
  /** The same for a narrow screen; where there is none the plot scrolls in its own box. */
  readonly narrow?: TopLevelSpec;
}

/** Colours and signs that are told apart by most eyes (Okabe and Ito 2008). */
export const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000', '#999999'];
export const SHAPES = ['circle', 'square', 'triangle-up', 'diamond', 'cross', 'triangle-down'];

const FONT = 'system-ui, sans-serif';
const common = { font: FONT, background: '#ffffff', aria: false, legend: { labelLimit: 400 } } as const; // the page reads out title and caption
export const config = { ...common, view: { stroke: null }, axis: { grid: true, gridColor: '#e5e5e5' } } as const;
/** Of cells side by side: lines between them would cut them. */
export const cellConfig = {
  ...common,
  view: { stroke: null, fill: '#f4f4f4' },
  axis: { grid: false, domain: false, ticks: false, labelLimit: 320 },
} as const;

/** Panels side by side on a page, and on a phone. */
export const PANELS = { wide: 4, narrow: 2 };

/** `draw` for both, of so many panels: in rows that are about as long as each other. */
export function inRows(
  panels: number,
  draw: (columns: number, narrow: boolean) => unknown,
  { wide, narrow }: { wide: number; narrow: number } = PANELS,
): Pick<Plot, 'spec' | 'narrow'> {
  const columns = (most: number): number => Math.ceil(panels / Math.ceil(panels / most));
  return { spec: draw(columns(wide), false) as TopLevelSpec, narrow: draw(columns(narrow), true) as TopLevelSpec };
}

/** A panel for each of `panels`, told apart by `field` of the values, side by side as inRows does. */
export function inPanels(
  field: string,
  panels: readonly string[],
  values: readonly object[],
  spec: (narrow: boolean) => object,
  { look = config, most = PANELS }: { look?: typeof config | typeof cellConfig; most?: typeof PANELS } = {},
): Pick<Plot, 'spec' | 'narrow'> {
  const facet = { field, type: 'nominal', title: null, sort: panels };
  return inRows(panels.length, (columns, narrow) => ({ config: look, data: { values }, facet, columns, spec: spec(narrow) }), most);
}

/** Below the plot, so that it takes no room beside it; as many columns as these labels leave room for. */
export function legendBelow(labels: readonly string[], narrow: boolean) {
  const longest = Math.max(...labels.map(({ length }) => length), 1);
  return { orient: 'bottom', columns: Math.max(1, Math.floor((narrow ? 300 : 640) / (6 * longest + 30))), symbolOpacity: 1 } as const; // in pixels
}

export function distinct<T>(values: readonly T[]): T[] {
  return [...new Set(values)];
}

/** Of a label, what a file name can hold. */
export function fileName(...words: readonly string[]): string {
  return words.join('-').replaceAll(/[^\w.-]+/g, '-');
}
