/** edgepress calibrate: makes an artefact of a press by reading texts with the model. */
import { type Command, Option } from 'commander';
import { InputError } from '../presses/input-error.ts';
import { calibrate, calibrationKinds } from '../worker/engine/calibrate.ts';
import { openModel, progressBar } from './open-model.ts';
import { countFrom, type ModelOptions, makeFolderOf, readText, withModelOptions, writeNamed } from './options.ts';

interface CalibrateOptions extends ModelOptions {
  readonly kind: (typeof calibrationKinds)[number];
  readonly samples: string;
  readonly out: string;
  readonly tokens: number;
  readonly sink: number;
  readonly recent: number;
}

export function calibrateCommand(program: Command, defaultModel: string): void {
  const command = program
    .command('calibrate')
    .description('read texts with the model and write what a press reads later: presses/artifacts.md')
    .addOption(
      new Option('--kind <kind>', 'duo: which heads retrieve; expected_attention: mean and covariance of the queries')
        .choices(calibrationKinds)
        .makeOptionMandatory(),
    )
    .requiredOption('--samples <file>', 'a JSON list of texts, or one text')
    .requiredOption('--out <file>', 'the file to write: .json for duo, .safetensors for expected_attention')
    .option('--tokens <n>', 'tokens read of each text, at most', countFrom(8), 2048)
    .option('--sink <n>', 'duo: first tokens that streaming heads keep', countFrom(0), 128)
    .option('--recent <n>', 'duo: recent tokens that streaming heads keep', countFrom(1), 256);
  withModelOptions(command, defaultModel).action(run);
}

async function run(options: CalibrateOptions): Promise<void> {
  const { kind, out, tokens, sink, recent } = options;
  const ending = kind === 'duo' ? '.json' : '.safetensors';
  if (!out.endsWith(ending)) throw new InputError('invalid_value', 'out', `--out must end in ${ending} for --kind ${kind}, got ${out}`);
  const samples = samplesOf(options.samples);
  makeFolderOf(out, '--out'); // artifacts/ of a model is seldom there already
  const engine = await openModel(options);
  const bar = progressBar(`reading ${options.samples}`);
  try {
    const bytes = await calibrate(engine, { kind, samples, tokens, sink, recent, onProgress: bar.update });
    writeNamed(out, '--out', bytes);
    bar.stop();
    console.log(
      options.json
        ? JSON.stringify({ kind, out, samples: samples.length, bytes: bytes.length })
        : `${out}: ${kind} from ${samples.length} text${samples.length === 1 ? '' : 's'}, at most ${tokens} tokens of each`,
    );
  } finally {
    bar.stop();
    engine.close();
  }
}

function samplesOf(path: string): string[] {
  const text = readText(path, '--samples');
  if (!/^\s*\[/.test(text) || !path.endsWith('.json')) return [text];
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch (error) {
    throw new InputError('samples_invalid', 'samples', `--samples ${path} cannot be read as JSON: ${(error as Error).message}`);
  }
  if (!Array.isArray(list) || !list.every((one) => typeof one === 'string'))
    throw new InputError('samples_invalid', 'samples', `--samples ${path} must hold a list of texts, ["...", "..."]`);
  return list;
}
