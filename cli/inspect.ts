/** edgepress inspect: kept positions, scores, budgets and LMBA of one prompt under one press, as JSON or as a heat map. */
import type { Command } from 'commander';
import { InputError } from '../presses/input-error.ts';
import type { PromptInput } from '../worker/engine/types.ts';
import { heatMapSvg, heatMapText } from './heat-map.ts';
import { openModel } from './open-model.ts';
import { type ModelOptions, type PressOptions, pressOf, readText, withModelOptions, withPressOptions, writeNamed } from './options.ts';

interface InspectOptions extends ModelOptions, PressOptions {
  readonly tokens?: string;
  readonly text?: string;
  readonly out?: string;
  readonly heatMap?: boolean;
  readonly svg?: string;
}

export function inspectCommand(program: Command, defaultModel: string): void {
  const command = program
    .command('inspect')
    .description('show what a press keeps of a prompt: positions best score first, scores, budgets, LMBA')
    .option('--tokens <file>', 'a JSON file with the token ids, all of which are pressed')
    .option('--text <file>', 'or a text file')
    .option('-o, --out <file>', 'where the JSON goes, with a line per layer on standard output; default standard output, but for a terminal')
    .option('--heat-map', 'print which tokens each layer and head keeps, and what other layer budgets would have dealt')
    .option('--svg <file>', 'the same as a picture');
  withModelOptions(withPressOptions(command), defaultModel).action(run);
}

async function run(options: InspectOptions): Promise<void> {
  const prompt = promptOf(options);
  const shown = options.heatMap === true || options.svg !== undefined;
  const asked = pressOf(options);
  const press = shown ? { ...asked, explain: true } : asked;
  const engine = await openModel(options);
  try {
    const inspection = await engine.inspect(prompt, press);
    const json = JSON.stringify(inspection);
    if (options.out !== undefined) writeNamed(options.out, '--out', `${json}\n`);
    if (options.svg !== undefined)
      writeNamed(options.svg, '--svg', heatMapSvg(inspection, `${press.name} on ${inspection.tokens} tokens, ${engine.info.id}`));
    if (options.heatMap) console.log(heatMapText(inspection, process.stdout.columns ?? 120));
    else if (options.json || (options.out === undefined && options.svg === undefined && !process.stdout.isTTY)) console.log(json);
    else {
      for (const [layer, { budget, lmba, heads }] of inspection.layers.entries()) {
        const kept = heads.map((head) => head.kept.length).join(' + ');
        console.log(
          `layer ${String(layer).padStart(2)}  budget ${budget}  lmba ${lmba === null ? '-' : lmba.toFixed(1)}  kept ${kept} of ${inspection.tokens}`,
        );
      }
    }
  } finally {
    engine.close();
  }
}

function promptOf({ tokens, text }: InspectOptions): PromptInput {
  if ((tokens === undefined) === (text === undefined))
    throw new InputError('prompt_missing', null, 'give either --tokens ids.json or --text file.txt');
  if (text !== undefined) return { kind: 'text', text: filled(readText(text, '--text'), text) };
  const json = readText(tokens!, '--tokens');
  let ids: unknown;
  try {
    ids = JSON.parse(json);
  } catch (error) {
    throw new InputError('tokens_invalid', 'tokens', `${tokens} cannot be read as JSON: ${(error as Error).message}`);
  }
  const list = Array.isArray(ids) ? ids : (ids as { tokens?: unknown } | null)?.tokens;
  if (!Array.isArray(list) || !list.every((id) => Number.isInteger(id) && id >= 0)) {
    throw new InputError('tokens_invalid', 'tokens', `${tokens} must hold an array of token ids, [1, 2, 3] or {"tokens": [1, 2, 3]}`);
  }
  return { kind: 'tokens', tokens: list as number[] };
}

function filled(text: string, file: string): string {
  if (text.trim() === '') throw new InputError('prompt_empty', null, `--text ${file}: the file is empty`);
  return text;
}
