/** The README's tables of presses, from the registry: `npm run readme` writes them; with --check it fails where they are not what it would write. */
import { readFileSync, writeFileSync } from 'node:fs';
import process from 'node:process';
import { listPresses, type PartList, presetFamilies } from '../presses/list-presses.ts';

const BEGIN = '<!-- begin: npm run readme writes these tables from the registry -->';
const END = '<!-- end -->';

export function withTables(readme: string): string {
  const [begin, end] = [readme.indexOf(BEGIN), readme.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`README.md has no place for the tables: ${BEGIN} ... ${END}`);
  return `${readme.slice(0, begin + BEGIN.length)}\n\n${tables()}\n\n${readme.slice(end)}`;
}

function tables(): string {
  const list = listPresses();
  return [
    table('scorer', list.scorers, ({ extra_passes }) => (extra_passes ? 'reads the prompt again' : '')),
    table('layer budget', list.layer_budgets, ({ streams }) => (streams ? '' : 'decides after the last layer: whole layers are stored until then')),
    table('head budget', list.head_budgets),
    table('selection', list.selections),
    table('transform', list.transforms),
    table('schedule', list.schedules),
    presets(list.presets),
  ].join('\n\n');
}

function table<P extends PartList[number]>(kind: string, parts: readonly P[], more: (part: P) => string = () => ''): string {
  const rows = parts.map((part) => {
    const { name, summary, formula, needs, artifact, paper, parameters } = part;
    const params = Object.keys((parameters as { properties?: object }).properties ?? {}).map((param) => `\`${param}\``);
    const file = artifact ? `${artifact.required ? '' : 'if it is given, '}a file (\`${artifact.param}\`): ${artifact.what}` : '';
    return [`\`${name}\``, summary, formula, [needs, file, more(part)].filter(Boolean).join('; '), params.join(', '), linked(paper)].map(cell);
  });
  return [
    `| ${kind} | what it does | formula | needs | parameters | paper |`,
    '|---|---|---|---|---|---|',
    ...rows.map((row) => `| ${row.join(' | ')} |`),
  ].join('\n');
}

function presets(list: ReturnType<typeof listPresses>['presets']): string {
  const families = presetFamilies(list);
  const alone = list.filter(
    ({ name, scorer, layer_budget }) => !(families.get(layer_budget ?? '')?.includes(scorer!) && name === `${layer_budget}_${scorer}`),
  );
  const rows = alone.map(({ name, scorer, layer_budget, head_budget, selection, transforms, schedule, params, artifact }) => {
    const parts =
      scorer === null
        ? ''
        : [
            scorer,
            ...[layer_budget, head_budget].filter((part) => part !== 'uniform'),
            ...(selection === 'top_k' ? [] : [selection]),
            ...transforms!,
            ...(schedule === 'prefill' ? [] : [`schedule ${schedule}`]),
          ].join(' + ');
    const set = Object.entries(params ?? {}).map(([param, value]) => `${param} ${JSON.stringify(value)}`);
    const file = artifact?.required && !(artifact.param in (params ?? {})) ? [`needs \`${artifact.param}\``] : [];
    return [`\`${name}\``, parts, [...set, ...file].join(', ')].map(cell);
  });
  const body = [
    '| preset | parts, where they are not the default | parameters set |',
    '|---|---|---|',
    ...rows.map((row) => `| ${row.join(' | ')} |`),
  ].join('\n');
  const joined = [...families].map(([budget, scorers]) => `- \`${budget}_<scorer>\`: ${scorers.join(', ')}`);
  return [
    `<details><summary>${list.length} presets</summary>`,
    body,
    'And each of these scorers under a layer budget:',
    joined.join('\n'),
    '</details>',
  ].join('\n\n');
}

function linked(paper: string | null): string {
  return (paper ?? '').replaceAll(/arXiv (\d{4}\.\d{4,5})/g, '[$1](https://arxiv.org/abs/$1)');
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

if (process.argv[1]?.endsWith('readme-presses.ts')) {
  const path = new URL('../README.md', import.meta.url);
  const readme = readFileSync(path, 'utf8');
  const wanted = withTables(readme);
  if (process.argv.includes('--check') && readme !== wanted) {
    console.error('README.md: the tables of presses are not those of the registry; run `npm run readme`');
    process.exit(1);
  }
  writeFileSync(path, wanted);
}
