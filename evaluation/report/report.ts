/** All that is told of results: tables and plots, as one page, as Markdown with pictures, and as data. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Lift, liftsOf, type Tally, tally } from '../lift.ts';
import type { Results, Setup } from '../results.ts';
import { summarise, type VariantSummary } from '../summary.ts';
import type { Refused } from '../variants.ts';
import { drawSvg } from './draw.ts';
import { reportPage } from './html.ts';
import { liftPlots } from './lift-plots.ts';
import { liftTables, liftWords } from './lift-tables.ts';
import { lmbaPlots } from './lmba-plots.ts';
import { leaderboard, markdownTable, taskTable } from './markdown.ts';
import type { Plot } from './plot.ts';
import { plotsOf } from './plots.ts';

/** summary.json. */
export interface Summary {
  readonly setup: Setup;
  readonly refused: readonly Refused[];
  readonly variants: readonly VariantSummary[];
  /** Layer budgets against uniform, and how many of them lie outside their interval. */
  readonly lifts: readonly Lift[];
  readonly lift_counts: readonly Tally[];
}

export function summaryOf({ setup, answers, made }: Results, refused: readonly Refused[]): Summary {
  const lifts = liftsOf(answers, made);
  return { setup, refused, variants: summarise(answers), lifts, lift_counts: tally(lifts) };
}

export interface Drawn {
  readonly plot: Plot;
  readonly svg: string;
  readonly narrow: string | null;
}

/** Writes report.html, report.md and a picture for every plot into a folder that is there; tells how many plots there are. */
export async function writeReport(out: string, title: string, results: Results, { setup, variants, lifts }: Summary): Promise<number> {
  const draw = async (plot: Plot): Promise<Drawn> => {
    const svg = await drawSvg(plot.spec);
    writeFileSync(join(out, `${plot.name}.svg`), svg);
    return { plot, svg, narrow: plot.narrow ? await drawSvg(plot.narrow) : null };
  };
  const drawAll = async (plots: readonly Plot[]): Promise<Drawn[]> => {
    const drawn: Drawn[] = [];
    for (const plot of plots) drawn.push(await draw(plot)); // one after the other: each holds a scene
    return drawn;
  };
  const general = await drawAll([...plotsOf(variants, results.answers, results.made), ...lmbaPlots(results.answers, results.made)]);
  const lift = lifts.length === 0 ? null : { words: liftWords(lifts), tables: liftTables(lifts), plots: await drawAll(liftPlots(lifts)) };
  const notes = notesOn(results);
  writeFileSync(join(out, 'report.html'), await reportPage({ title, setup, summaries: variants, plots: general, lift, notes }));
  const pictures = (plots: readonly Drawn[]): string[] => plots.map(({ plot }) => `![${plot.title}](${plot.name}.svg)\n\n${plot.caption}`);
  const sections = [
    `# ${title}`,
    ...notes,
    leaderboard(variants),
    ...pictures(general),
    ...(lift === null
      ? []
      : [
          '## Layer budgets against uniform',
          lift.words,
          ...pictures(lift.plots),
          ...lift.tables.flatMap((table) => [`### ${table.title}`, table.words, markdownTable(table)]),
        ]),
    '## By task',
    taskTable(variants),
  ];
  writeFileSync(join(out, 'report.md'), `${sections.join('\n\n')}\n`);
  return general.length + (lift?.plots.length ?? 0);
}

/** What cannot be told of these results. */
function notesOn({ answers, made }: Results): string[] {
  const unknown = new Set(answers.map(({ variant }) => variant).filter((variant) => !made.has(variant)));
  if (unknown.size === 0) return [];
  return [
    `It is not known what ${unknown.size} of the presses are made of, for their results are of an earlier version: they are not compared with their uniform twins. "edgepress eval report --config" with the config of the run tells it.`,
  ];
}
