/** All that is told of results: tables and plots, as one page, as Markdown with pictures, and as data. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sum } from '../../presses/sum.ts';
import { aloneOf, damagesOf, type LayerDamage } from '../damage.ts';
import { type Lift, liftsOf, type Tally, tally } from '../lift.ts';
import type { Results, Setup } from '../results.ts';
import { summarise, type VariantSummary } from '../summary.ts';
import type { Refused } from '../variants.ts';
import { damagePlots, damageTable, damageWords } from './damage-plots.ts';
import { drawSvg } from './draw.ts';
import { reportPage } from './html.ts';
import { liftPlots } from './lift-plots.ts';
import { liftTables, liftWords, type Table } from './lift-tables.ts';
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
  /** Where presses of one layer alone were among the variants. */
  readonly layer_damage: readonly LayerDamage[];
}

export function summaryOf({ setup, answers, made }: Results, refused: readonly Refused[]): Summary {
  const lifts = liftsOf(answers, made);
  return { setup, refused, variants: summarise(answers), lifts, lift_counts: tally(lifts), layer_damage: damagesOf(answers, made) };
}

export interface Drawn {
  readonly plot: Plot;
  readonly svg: string;
  readonly narrow: string | null;
}

/** A part of the report with plots and tables of its own. */
export interface Section {
  readonly title: string;
  readonly words: string;
  readonly plots: readonly Drawn[];
  readonly tables: readonly Table[];
}

/** Writes report.html, report.md and a picture for every plot into a folder that is there; tells how many plots there are. */
export async function writeReport(out: string, title: string, results: Results, summary: Summary): Promise<number> {
  const { setup, variants, lifts, layer_damage } = summary;
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
  const shown = outsideSections(results, summary);
  const general = await drawAll([...plotsOf(shown.variants, shown.answers, results.made), ...lmbaPlots(results.answers, results.made)]);
  const spared = damageTable(layer_damage);
  const sections: Section[] = [
    ...(lifts.length === 0
      ? []
      : [{ title: 'Layer budgets against uniform', words: liftWords(lifts), plots: await drawAll(liftPlots(lifts)), tables: liftTables(lifts) }]),
    ...(layer_damage.length === 0
      ? []
      : [
          {
            title: 'Layers one by one',
            words: damageWords(layer_damage),
            plots: await drawAll(damagePlots(layer_damage)),
            tables: spared === null ? [] : [spared],
          },
        ]),
  ];
  const notes = notesOn(results);
  writeFileSync(join(out, 'report.html'), await reportPage({ title, setup, summaries: variants, plots: general, sections, notes }));
  const pictures = (plots: readonly Drawn[]): string[] => plots.map(({ plot }) => `![${plot.title}](${plot.name}.svg)\n\n${plot.caption}`);
  const texts = [
    `# ${title}`,
    ...notes,
    leaderboard(variants),
    ...pictures(general),
    ...sections.flatMap((section) => [
      `## ${section.title}`,
      section.words,
      ...pictures(section.plots),
      ...section.tables.flatMap((table) => [`### ${table.title}`, table.words, markdownTable(table)]),
    ]),
    '## By task',
    taskTable(variants),
  ];
  writeFileSync(join(out, 'report.md'), `${texts.join('\n\n')}\n`);
  return sum([general, ...sections.map(({ plots }) => plots)].map(({ length }) => length));
}

/** What the plots of no section show: all but presses of one layer alone, which have their own and would leave little room for others. */
export function outsideSections(
  { answers, made }: Results,
  { variants, layer_damage }: Summary,
): Pick<Results, 'answers'> & Pick<Summary, 'variants'> {
  const own = ({ variant }: { variant: string }): boolean => layer_damage.length > 0 && aloneOf(made.get(variant) ?? []) !== null;
  return { answers: answers.filter((one) => !own(one)), variants: variants.filter((one) => !own(one)) };
}

/** What cannot be told of these results. */
function notesOn({ answers, made }: Results): string[] {
  const unknown = new Set(answers.map(({ variant }) => variant).filter((variant) => !made.has(variant)));
  if (unknown.size === 0) return [];
  return [
    `It is not known what ${unknown.size} of the presses are made of, for their results are of an earlier version: they are not compared with their uniform twins. "edgepress eval report --config" with the config of the run tells it.`,
  ];
}
