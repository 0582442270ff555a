/** Tables in Markdown; the leaderboard: what every press scores at every ratio, best first. */
import type { Interval } from '../statistics.ts';
import { grouped, ranked, type VariantSummary } from '../summary.ts';
import type { Table } from './lift-tables.ts';

export function leaderboard(summaries: readonly VariantSummary[]): string {
  const most = Math.max(...summaries.map(({ samples }) => samples));
  const withKl = summaries.some(({ kl }) => kl !== null);
  const head = ['press', 'ratio', 'bytes kept', 'score, %', 'against the full cache', ...(withKl ? ['KL, nats a token'] : []), 'samples'];
  const rows = ranked(summaries).map((one) => [
    one.press,
    one.ratio === null ? '-' : String(one.ratio),
    `${((100 * one.bytes_kept) / one.bytes_full).toFixed(1)}%`,
    interval(one.score, 1),
    interval(one.against_full, 1),
    ...(withKl ? [interval(one.kl, 3)] : []),
    one.samples < most ? `${one.samples} of ${most}` : String(most),
  ]);
  return table(head, rows, 1);
}

/** Scores by task; one row a press and ratio. */
export function taskTable(summaries: readonly VariantSummary[]): string {
  const lengths = [...new Set(summaries.flatMap(({ cells }) => cells.map(({ length }) => length)))];
  const tasks = [...new Set(summaries.flatMap(({ cells }) => cells.map(({ task }) => task)))];
  return lengths
    .map((length) => {
      const rows = summaries.map(({ press, ratio, cells }) => {
        const of = grouped(
          cells.filter((cell) => cell.length === length),
          ({ task }) => task,
        );
        return [press, ratio === null ? '-' : String(ratio), ...tasks.map((task) => score(of.get(task)?.[0]?.mean))];
      });
      return `${length === null ? '' : `### ${length} tokens\n\n`}${table(['press', 'ratio', ...tasks], rows, 1)}`;
    })
    .join('\n\n');
}

export function markdownTable({ head, left, rows }: Table): string {
  return table(
    head,
    rows.map((row) => row.map(({ text, strong }) => (strong ? `**${text}**` : text))),
    left,
  );
}

function table(head: readonly string[], rows: readonly (readonly string[])[], left: number): string {
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map((_, i) => (i < left ? '---' : '---:'))), ...rows.map(line)].join('\n');
}

function interval(value: Interval | null, digits: number): string {
  return value === null ? '-' : `${value.mean.toFixed(digits)} [${value.low.toFixed(digits)}, ${value.high.toFixed(digits)}]`;
}

function score(mean: number | undefined): string {
  return mean === undefined || Number.isNaN(mean) ? '-' : mean.toFixed(1);
}
