/** edgepress presses: what can be named in a press config. */
import type { Command } from 'commander';
import { listPresses, type PartList } from '../presses/list-presses.ts';

export function pressesCommand(program: Command): void {
  program
    .command('presses')
    .description('list the presses, their parts and parameters')
    .option('--json', 'print JSON: what GET /v1/presses answers')
    .action(({ json }: { json?: boolean }) => {
      const list = listPresses();
      if (json) {
        console.log(JSON.stringify(list, null, 2));
        return;
      }
      for (const [kind, parts] of Object.entries(list)) {
        console.log(`\n${kind.replaceAll('_', ' ')}`);
        for (const { name, summary, paper, formula, ...rest } of parts) {
          console.log(`  ${name.padEnd(20)} ${summary}${paper ? ` (${paper})` : ''}`);
          const more = (line: string): void => console.log(`  ${''.padEnd(20)} ${line}`);
          more(formula);
          const needs = needsOf(rest);
          if (needs !== '') more(`needs ${needs}`);
          if ('cost' in rest && rest.cost !== null) more(`costs: ${rest.cost}`);
          if ('parameters' in rest) for (const line of parameterLines(rest.parameters as ObjectSchema)) more(line);
        }
      }
    });
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
