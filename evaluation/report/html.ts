/** One page that needs nothing else: tables, plots and what was evaluated. */
import { html, raw } from 'hono/html';
import type { Setup } from '../results.ts';
import { type Cell, ranked, type VariantSummary } from '../summary.ts';
import type { Cell as LiftCell, Table } from './lift-tables.ts';
import type { Drawn, Section } from './report.ts';

export interface ReportParts {
  readonly title: string;
  readonly setup: Setup;
  readonly summaries: readonly VariantSummary[];
  readonly plots: readonly Drawn[];
  readonly sections: readonly Section[];
  /** What could not be told. */
  readonly notes: readonly string[];
}

export async function reportPage({ title, setup, summaries, plots, sections, notes }: ReportParts): Promise<string> {
  const withKl = summaries.some(({ kl }) => kl !== null);
  const most = Math.max(...summaries.map(({ samples }) => samples));
  const tasks = [...new Set(summaries.flatMap(({ cells }) => cells.map(columnOf)))];
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>${raw(STYLE)}</style>
</head>
<body>
<h1>${title}</h1>
<p>Model <b>${setup.model}</b> (${setup.fingerprint.slice(0, 12)}), backend ${setup.backend}, ${setup.entry_type} entries; the press
${setup.query_aware ? 'sees the question' : 'does not see the question'}. Intervals are 95%, by bootstrap over the samples. Scores are means over tasks and lengths, each counting alike; where a press answered fewer samples than others (it refuses what it cannot do), compare the columns against the full cache, which are by pairs.</p>
${notes.map((note) => html`<p><b>Note:</b> ${note}</p>`)}
<h2>Leaderboard</h2>
<div class="wide long"><table>
<thead><tr><th>press<th>ratio<th>bytes kept<th>score, %<th>against the full cache${withKl ? html`<th>KL, nats a token` : ''}<th>samples</tr></thead>
<tbody>${ranked(summaries).map(
    (one) =>
      html`<tr><td>${one.press}<td>${one.ratio ?? '-'}<td>${((100 * one.bytes_kept) / one.bytes_full).toFixed(1)}%<td>${shown(one.score, 1)}<td>${shown(one.against_full, 1)}${withKl ? html`<td>${shown(one.kl, 3)}` : ''}<td>${one.samples < most ? `${one.samples} of ${most}` : most}</tr>`,
  )}</tbody></table></div>
${plots.map((drawn) => html`<h2>${drawn.plot.title}</h2>${figureOf(drawn)}`)}
${sections.map(
  (section) => html`<h2>${section.title}</h2>
<p>${section.words}</p>
${section.plots.map((drawn) => html`<h3>${drawn.plot.title}</h3>${figureOf(drawn)}`)}
${section.tables.map(tableOf)}`,
)}
<h2>By task</h2>
<div class="wide long"><table>
<thead><tr><th>press<th>ratio${tasks.map((task) => html`<th>${task}`)}</tr></thead>
<tbody>${summaries.map(
    ({ press, ratio, cells }) =>
      html`<tr><td>${press}<td>${ratio ?? '-'}${tasks.map((task) => cellOf(cells.find((cell) => columnOf(cell) === task)))}</tr>`,
  )}</tbody></table></div>
<h2>What was evaluated</h2>
<pre>${JSON.stringify(setup, null, 2)}</pre>
</body>
</html>
`;
  return String(await page);
}

/** Two drawings where a narrow screen has its own; each is shown where it fits. */
function figureOf({ plot, svg, narrow }: Drawn) {
  const drawings =
    narrow === null ? html`<div class="wide">${raw(svg)}</div>` : html`<div class="roomy">${raw(svg)}</div><div class="narrow">${raw(narrow)}</div>`;
  return html`<figure>${drawings}<figcaption>${plot.caption}</figcaption></figure>`;
}

function tableOf({ title, words, head, left, rows }: Table) {
  const side = (i: number) => (i < left ? html` class="left"` : '');
  const shownAs = ({ text, strong, verdict }: LiftCell, i: number) =>
    html`<td${side(i)}${verdict && verdict !== 'within' ? html` data-verdict="${verdict}"` : ''}>${strong ? html`<b>${text}</b>` : text}`;
  return html`<h3>${title}</h3>
<p>${words}</p>
<div class="wide long"><table>
<thead><tr>${head.map((word, i) => html`<th${side(i)}>${word}`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${row.map(shownAs)}</tr>`)}</tbody></table></div>
`;
}

function columnOf({ task, length }: Cell): string {
  return length === null ? task : `${task} ${length}`;
}

function cellOf(cell: Cell | undefined) {
  if (cell === undefined || Number.isNaN(cell.mean)) return html`<td>-`;
  const { mean, low, high, samples } = cell;
  return html`<td style="background:hsl(${Math.round(1.2 * mean)} 60% 85%);color:#000" title="${low.toFixed(1)} to ${high.toFixed(1)}, ${samples} samples">${mean.toFixed(1)}`;
}

function shown(value: { mean: number; low: number; high: number } | null, digits: number) {
  if (value === null) return '-';
  return html`${value.mean.toFixed(digits)} <small>${value.low.toFixed(digits)} to ${value.high.toFixed(digits)}</small>`;
}

const STYLE = `
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #8884; padding: .2rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, .left { text-align: left; }
thead th { position: sticky; top: 0; background: Canvas; }
td[data-verdict=better] { background: #56b4e944; }
td[data-verdict=worse] { background: #d55e0044; }
small { opacity: .7; }
.wide { overflow-x: auto; }
.long { max-height: 70vh; overflow-y: auto; }
figure { margin: 0; }
figure svg { background: #fff; border-radius: 6px; height: auto; max-width: 100%; }
.wide svg { max-width: none; }
.narrow { display: none; }
@media (max-width: 46rem) {
  .roomy { display: none; }
  .narrow { display: block; }
  th, td { font-size: 13px; padding: .2rem .35rem; }
  td:first-child { min-width: 8rem; overflow-wrap: anywhere; white-space: normal; }
}
figcaption { opacity: .8; max-width: 44rem; }
pre { overflow-x: auto; font-size: 13px; }
`;
