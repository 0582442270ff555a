/**
 * What a press kept, as a heat map: one row per layer and KV head, the prompt's tokens from left to right, as dark as the share of them that is kept.
 * On a terminal in letters, in a file as SVG, there with the budgets that other layer budgets would have dealt.
 */
import type { Inspection } from '../worker/engine/inspection.ts';

export interface HeatMap {
  readonly tokens: number;
  readonly columns: number;
  readonly rows: readonly HeatRow[];
}

interface HeatRow {
  readonly layer: number;
  readonly head: number | null; // null = mean over the layer's heads
  readonly shares: readonly number[]; // [columns] of the column's tokens, how many are kept: 0 to 1
}

/** Column c holds the tokens from floor(c n / columns) to floor((c + 1) n / columns) - 1. */
export function heatMap({ tokens, layers }: Inspection, mostColumns: number, mostRows = Infinity): HeatMap {
  const columns = Math.max(1, Math.min(tokens, mostColumns));
  const sizes = new Float64Array(columns);
  const columnOf = (position: number): number => Math.min(columns - 1, Math.floor(((position + 0.5) * columns) / tokens));
  for (let t = 0; t < tokens; t++) sizes[columnOf(t)]++;
  const shares = (heads: readonly { kept: readonly number[] }[]): number[] => {
    const kept = new Float64Array(columns);
    for (const head of heads) for (const position of head.kept) kept[columnOf(position)]++;
    return Array.from(kept, (count, c) => count / (sizes[c] * heads.length));
  };
  const perHead = layers.reduce((sum, { heads }) => sum + heads.length, 0) <= mostRows;
  const rows = layers.flatMap<HeatRow>(({ heads }, layer) =>
    perHead ? heads.map((one, head) => ({ layer, head, shares: shares([one]) })) : [{ layer, head: null, shares: shares(heads) }],
  );
  return { tokens, columns, rows };
}

const SHADES = ' ·░▒▓█';

/** For a terminal of `width` characters. */
export function heatMapText(inspection: Inspection, width: number): string {
  const left = 11;
  const right = 22;
  const { columns, rows } = heatMap(inspection, Math.max(10, width - left - right), 96);
  const shade = (share: number): string => SHADES[share === 0 ? 0 : 1 + Math.min(SHADES.length - 2, Math.floor(share * (SHADES.length - 1)))];
  const lines = rows.map(({ layer, head, shares }) => {
    const { budget, retained_mass, heads } = inspection.layers[layer];
    const name = head === null ? `layer ${layer}` : `layer ${layer}.${head}`;
    const kept = head === null ? budget : heads[head].kept.length;
    const mass = head || retained_mass === null ? '' : `  mass ${percent(retained_mass)}`;
    return `${name.padEnd(left)}${shares.map(shade).join('')} ${String(round(kept)).padStart(6)}${mass}`;
  });
  const end = `token ${inspection.tokens - 1}`;
  const scale = `${''.padEnd(left)}${columns >= end.length + 8 ? `token 0${end.padStart(columns - 7)}` : ''} ${'kept'.padStart(6)}`;
  const legend = `${''.padEnd(left)}share of the tokens kept: ${[...SHADES].map((glyph, i) => `${glyph === ' ' ? '(blank)' : glyph} ${i === 0 ? 'none' : `to ${Math.round((100 * i) / (SHADES.length - 1))}%`}`).join('  ')}`;
  const added = inspection.added_per_layer ? [`${''.padEnd(left)}${ownRows(inspection.added_per_layer)}`] : [];
  return [scale, ...lines, legend, ...added, ...otherBudgetLines(inspection)].join('\n');
}

function ownRows(count: number): string {
  return `and in every layer ${count} rows of the press's own`;
}

/** The budgets of every other layer budget, a line each. */
function otherBudgetLines({ other_layer_budgets: others, layers }: Inspection): string[] {
  if (others === undefined) return [];
  const width = Math.max(9, ...others.map(({ layer_budget }) => layer_budget.length)) + 2;
  const line = (name: string, budgets: readonly number[]): string =>
    `  ${name.padEnd(width)}${budgets.map((b) => String(round(b)).padStart(8)).join('')}`;
  const dealt = others.flatMap(({ layer_budget, budgets, why }) =>
    budgets ? [line(layer_budget, budgets)] : [`  ${layer_budget.padEnd(width)}  ${why}`],
  );
  return [
    '',
    'tokens per layer, here and by other layer budgets:',
    line(
      'this one',
      layers.map(({ budget }) => budget),
    ),
    ...dealt,
  ];
}

const CELL_HEIGHT = 10;
const MAP_WIDTH = 720;
const LEFT = 84;
const RIGHT = 150;
const TOP = 64;
const CHART_HEIGHT = 220;

/** One file that needs nothing else. `title` says which press on what. */
export function heatMapSvg(inspection: Inspection, title: string): string {
  const { columns, rows } = heatMap(inspection, 360, 240);
  const cell = MAP_WIDTH / columns;
  const mapHeight = rows.length * CELL_HEIGHT;
  const chart = chartSvg(inspection, TOP + mapHeight + 70);
  const width = LEFT + MAP_WIDTH + RIGHT;
  const height = TOP + mapHeight + 40 + (chart === '' ? 0 : CHART_HEIGHT + 90);
  const cells = rows.flatMap(({ shares }, r) =>
    shares.flatMap((share, c) =>
      share === 0
        ? []
        : [
            `<rect x="${num(LEFT + c * cell)}" y="${TOP + r * CELL_HEIGHT}" width="${num(cell + 0.2)}" height="${CELL_HEIGHT - 1}" fill-opacity="${num(0.15 + 0.85 * share)}"/>`,
          ],
    ),
  );
  const labels = rows.flatMap(({ layer, head }, r) => {
    const { budget, retained_mass, heads } = inspection.layers[layer];
    const y = TOP + r * CELL_HEIGHT + 8;
    const kept = head === null ? budget : heads[head].kept.length;
    const mass = !head && retained_mass !== null ? `, mass ${percent(retained_mass)}` : '';
    return [
      `<text x="${LEFT - 6}" y="${y}" text-anchor="end">layer ${layer}${head === null ? '' : `.${head}`}</text>`,
      `<text x="${LEFT + MAP_WIDTH + 6}" y="${y}">${round(kept)}${mass}</text>`,
    ];
  });
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const token = Math.round(share * (inspection.tokens - 1));
    return `<text x="${num(LEFT + share * MAP_WIDTH)}" y="${TOP + mapHeight + 14}" text-anchor="middle">${token}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, sans-serif" font-size="9" fill="#222">`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<text x="${LEFT}" y="24" font-size="14" font-weight="600">${escaped(title)}</text>`,
    `<text x="${LEFT}" y="42" font-size="10">which of the ${inspection.tokens} tokens each layer and KV head kept; darker = a larger share of the column's tokens${inspection.added_per_layer ? `; ${ownRows(inspection.added_per_layer)}` : ''}</text>`,
    `<rect x="${LEFT}" y="${TOP}" width="${MAP_WIDTH}" height="${mapHeight}" fill="#f1f3f5"/>`,
    `<text x="${LEFT + MAP_WIDTH + 6}" y="${TOP - 6}">kept, mass of the layer</text>`,
    `<g fill="#1864ab">${cells.join('')}</g>`,
    ...labels,
    ...ticks,
    `<text x="${LEFT + MAP_WIDTH / 2}" y="${TOP + mapHeight + 28}" text-anchor="middle" font-size="10">token</text>`,
    chart,
    '</svg>',
    '',
  ].join('\n');
}

const COLOURS = ['#1864ab', '#e8590c', '#2b8a3e', '#9c36b5', '#c92a2a', '#f59f00', '#0b7285', '#f06595', '#5f3dc4', '#495057'];
/** By how many lines lie under one: through its gaps they are all seen. */
const DASHES = ['', '8 8', '4 12', '2 14'];

/** Tokens per layer: what was dealt, and what others would have dealt. */
function chartSvg({ layers, other_layer_budgets: others }: Inspection, top: number): string {
  const dealt = (others ?? []).flatMap(({ layer_budget: name, budgets }) => (budgets ? [{ name, budgets }] : []));
  if (dealt.length === 0) return '';
  const lines = [{ name: 'this one', budgets: layers.map(({ budget }) => budget) }, ...dealt];
  const most = Math.max(1, ...lines.flatMap(({ budgets }) => budgets));
  const x = (layer: number): number => LEFT + (layers.length === 1 ? MAP_WIDTH / 2 : (layer * MAP_WIDTH) / (layers.length - 1));
  const y = (budget: number): number => top + CHART_HEIGHT - (budget * CHART_HEIGHT) / most;
  const every = Math.ceil(layers.length / 24);
  const drawn = lines.map(({ name, budgets }, i) => {
    const colour = COLOURS[i % COLOURS.length];
    const points = budgets.map((budget, layer) => `${num(x(layer))},${num(y(budget))}`).join(' ');
    const under = lines.slice(0, i).filter((other) => other.budgets.every((budget, layer) => Math.abs(budget - budgets[layer]) < most / 100)).length;
    const gaps = under === 0 && i >= COLOURS.length ? '4 3' : DASHES[Math.min(under, DASHES.length - 1)];
    const dash = gaps === '' ? '' : ` stroke-dasharray="${gaps}"`;
    const key = top + 8 + i * 14;
    return [
      `<polyline points="${points}" fill="none" stroke="${colour}" stroke-width="${i === 0 ? 3 : 1.5}"${dash}/>`,
      `<line x1="${LEFT + MAP_WIDTH + 14}" x2="${LEFT + MAP_WIDTH + 34}" y1="${key - 3}" y2="${key - 3}" stroke="${colour}" stroke-width="${i === 0 ? 3 : 1.5}"${dash}/>`,
      `<text x="${LEFT + MAP_WIDTH + 40}" y="${key}">${escaped(name)}</text>`,
    ].join('');
  });
  const rules = [0, 0.5, 1].map((share) => {
    const at = num(y(share * most));
    return `<line x1="${LEFT}" x2="${LEFT + MAP_WIDTH}" y1="${at}" y2="${at}" stroke="#dee2e6"/><text x="${LEFT - 6}" y="${at + 3}" text-anchor="end">${round(share * most)}</text>`;
  });
  const names = layers.flatMap((_, layer) =>
    layer % every === 0 ? [`<text x="${num(x(layer))}" y="${top + CHART_HEIGHT + 14}" text-anchor="middle">${layer}</text>`] : [],
  );
  return [
    `<text x="${LEFT}" y="${top - 12}" font-size="12" font-weight="600">tokens per layer, here and by other layer budgets</text>`,
    ...rules,
    ...drawn,
    ...names,
    `<text x="${LEFT + MAP_WIDTH / 2}" y="${top + CHART_HEIGHT + 28}" text-anchor="middle" font-size="10">layer</text>`,
  ].join('\n');
}

function num(x: number): number {
  return Math.round(x * 100) / 100;
}

function round(x: number): number {
  return Math.round(x * 10) / 10;
}

function percent(share: number): string {
  return `${Math.round(100 * share)}%`;
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
