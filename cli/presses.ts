/** edgepress presses: what can be named in a press config, in a line each; of the names given, all that there is to say. */
import type { Command } from 'commander';
import { presetElsewhere } from '../presses/aliases.ts';
import { didYouMean } from '../presses/did-you-mean.ts';
import { InputError } from '../presses/input-error.ts';
import { listPresses, type PartList, presetFamilies } from '../presses/list-presses.ts';

type List = ReturnType<typeof listPresses>;

export function pressesCommand(program: Command): void {
  program
    .command('presses')
    .description('list the presses and their parts; of those named, formula, needs and parameters')
    .argument('[name...]', 'presets and parts; "all" is every one of them')
    .option('--json', 'print JSON: what GET /v1/presses answers, or as much of it as was named')
    .action((names: string[], { json }: { json?: boolean }) => {
      const list = listPresses();
      checkNames(list, names);
      if (json) console.log(JSON.stringify(names.length === 0 ? list : namedOf(list, names), null, 2));
      else if (names.length === 0) printNames(list);
      else printDetails(list, names);
    });
}

function printNames(list: List): void {
  const families = presetFamilies(list.presets);
  const inFamily = ({ name, scorer, layer_budget }: List['presets'][number]): boolean =>
    name === `${layer_budget}_${scorer}` && families.get(layer_budget!)?.includes(scorer!) === true;
  console.log('presets ({"preset": ...}; edgepress presses <name> tells more of it)');
  for (const preset of list.presets) {
    if (inFamily(preset)) continue;
    const notes = [preset.artifact?.required ? 'reads a file' : '', preset.extra_passes ? 'reads the prompt again' : ''].filter(Boolean);
    console.log(`  ${preset.name.padEnd(37)} ${preset.summary}${notes.length > 0 ? ` [${notes.join(', ')}]` : ''}`);
  }
  for (const [budget, scorers] of families) console.log(`  ${`${budget}_<scorer>`.padEnd(37)} <scorer>: ${scorers.join(', ')}`);
  for (const [kind, parts] of Object.entries(list)) {
    if (kind === 'presets') continue;
    console.log(`\n${kind.replaceAll('_', ' ')}`);
    for (const { name, summary } of parts) console.log(`  ${name.padEnd(20)} ${summary}`);
  }
}

function checkNames(list: List, names: readonly string[]): void {
  const known = [...new Set(Object.values(list).flatMap((parts) => parts.map(({ name }) => name)))];
  for (const name of names) {
    if (name !== 'all' && !known.includes(name)) {
      const elsewhere = presetElsewhere(name);
      throw new InputError('press_unknown', 'name', `unknown preset or part "${name}"${elsewhere ? `; ${elsewhere}` : didYouMean(name, known)}`);
    }
  }
}

/** Under every kind those that were named. */
function namedOf(list: List, names: readonly string[]): Record<string, List[keyof List][number][]> {
  return Object.fromEntries(
    Object.entries(list).map(([kind, parts]) => [kind, parts.filter(({ name }) => names.includes(name) || names.includes('all'))]),
  );
}

function printDetails(list: List, names: readonly string[]): void {
  for (const [kind, asked] of Object.entries(namedOf(list, names))) {
    if (asked.length > 0) console.log(`\n${kind.replaceAll('_', ' ')}`);
    for (const part of asked) {
      const { name, summary, paper, formula } = part;
      const lines = [`${summary}${paper ? ` (${paper})` : ''}`, formula, ...moreLines(part, list)];
      console.log(lines.map((line, i) => `  ${(i === 0 ? name : '').padEnd(20)} ${line}`).join('\n'));
    }
  }
}

/** What it needs and costs; of a part its parameters, of a preset its parts and the names of theirs. */
function moreLines(part: List[keyof List][number], list: List): string[] {
  const needs = needsOf(part);
  const lines = needs === '' ? [] : [`needs ${needs}`];
  if ('parameters' in part)
    return [...lines, ...(part.cost === null ? [] : [`costs: ${part.cost}`]), ...parameterLines(part.parameters as ObjectSchema)];
  if (!('scorer' in part) || part.scorer === null) return lines;
  const { scorer, layer_budget, head_budget, selection, transforms, schedule, params } = part;
  const set = Object.entries(params ?? {}).map(([param, value]) => `${param} ${JSON.stringify(value)}`);
  const parts = JSON.stringify({ scorer, layer_budget, head_budget, selection, transforms, schedule });
  return [...lines, `parts: ${parts}${set.length > 0 ? `, with ${set.join(', ')}` : ''}`, ...presetParameters(part, list)];
}

/** "parameters: window_size, kernel_size; edgepress presses snapkv tells of them" */
function presetParameters({ scorer, layer_budget, head_budget, selection, transforms, schedule }: List['presets'][number], list: List): string[] {
  const chosen: [readonly PartList[number][], string | null][] = [
    [list.scorers, scorer],
    [list.layer_budgets, layer_budget],
    [list.head_budgets, head_budget],
    [list.selections, selection],
    ...(transforms ?? []).map((name): [PartList, string] => [list.transforms, name]),
    [list.schedules, schedule],
  ];
  const taking = chosen.flatMap(([parts, wanted]) => {
    const names = Object.keys((parts.find(({ name }) => name === wanted)?.parameters as ObjectSchema | undefined)?.properties ?? {});
    return names.length === 0 ? [] : [{ part: wanted, names }];
  });
  if (taking.length === 0) return [];
  const once = (names: readonly (string | null)[], between: string): string => [...new Set(names)].join(between);
  const parts = once(
    taking.map(({ part }) => part),
    ' ',
  );
  const names = once(
    taking.flatMap((one) => one.names),
    ', ',
  );
  return [`parameters: ${names}; edgepress presses ${parts} tells of them`];
}

interface Needs {
  readonly needs?: string;
  readonly artifact?: PartList[number]['artifact'];
  readonly extra_passes?: boolean;
  readonly streams?: boolean;
}

/** What it reads, and what it wants of whoever runs it. A file that may be left out is among the parameters. */
function needsOf({ needs = 'nothing', artifact, extra_passes, streams }: Needs): string {
  const all = [
    needs === 'nothing' ? '' : needs,
    artifact?.required ? `a file (${artifact.param}): ${artifact.what}` : '',
    extra_passes ? 'further readings of the prompt' : '',
    streams === false ? 'room for whole layers, until the last one was seen' : '',
  ];
  return all.filter((one) => one !== '').join('; ');
}

/** As much of JSON Schema as parameters need. */
interface Schema {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly default?: unknown;
  readonly description?: string;
  readonly minimum?: number;
  readonly exclusiveMinimum?: number;
  readonly maximum?: number;
  readonly exclusiveMaximum?: number;
}

interface ObjectSchema {
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
}

/** "window_size: integer, 1 to 4096, default 64: what it is" */
function parameterLines({ properties = {}, required = [] }: ObjectSchema): string[] {
  return Object.entries(properties).map(([name, schema]) => {
    const preset = schema.default === undefined ? (required.includes(name) ? 'required' : 'optional') : `default ${shown(schema.default)}`;
    return `${name}: ${typeText(schema)}, ${preset}${schema.description ? `: ${schema.description}` : ''}`;
  });
}

/** On one line. */
function shown(value: unknown): string {
  return typeof value === 'string' && value.includes('\n') ? JSON.stringify(value) : `${value}`;
}

function typeText(schema: Schema): string {
  if (schema.anyOf) return schema.anyOf.map(typeText).join(' or ');
  if (schema.items) return `list of ${typeText(schema.items)}`;
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(' or ');
  return [schema.type, rangeText(schema)].filter((text) => text !== '').join(', ');
}

function rangeText({ minimum, exclusiveMinimum, maximum, exclusiveMaximum }: Schema): string {
  const least = minimum !== undefined ? `${minimum}` : exclusiveMinimum !== undefined ? `above ${exclusiveMinimum}` : '';
  const most = maximum !== undefined ? `to ${maximum}` : exclusiveMaximum !== undefined ? `to below ${exclusiveMaximum}` : '';
  return [least, most].filter((text) => text !== '').join(' ');
}
