/** edgepress press: a document, read and pressed once, as a file that `generate --context-file` answers from, on any backend. */
import { type Command, Option } from 'commander';
import { InputError } from '../presses/input-error.ts';
import { formatBytes } from '../worker/engine/bytes.ts';
import type { PromptInput } from '../worker/engine/types.ts';
import { timingsWire } from '../worker/wire/usage.ts';
import { openModel } from './open-model.ts';
import { countFrom, type ModelOptions, makeFolderOf, type PressOptions, pressOf, readText, withModelOptions, withPressOptions } from './options.ts';
import { writeWhole } from './write-whole.ts';

export const ENDING = '.pressed.safetensors';

interface PressCommandOptions extends ModelOptions, PressOptions {
  readonly out: string;
  readonly system?: string;
  readonly raw?: boolean;
  readonly seed?: number;
}

export function pressCommand(program: Command, defaultModel: string): void {
  const command = program
    .command('press')
    .description('read and press a document once, and write what is kept: generate --context-file answers from it')
    .argument('<document>', 'a text file; questions stand behind it in the same user message')
    .requiredOption('-o, --out <file>', `the file to write, <name>${ENDING}`)
    .addOption(new Option('--system <text>', 'a system message before it').conflicts('raw'))
    .option('--raw', 'no chat template: what is asked goes on behind the text as it stands')
    .option('--seed <n>', 'makes presses repeatable that draw', countFrom(0));
  withModelOptions(withPressOptions(command, 'int8'), defaultModel).action(run);
}

async function run(document: string, options: PressCommandOptions): Promise<void> {
  const { out } = options;
  if (!out.endsWith(ENDING)) throw new InputError('invalid_value', 'out', `--out must end in ${ENDING}, got ${out}`);
  const prompt = promptOf(document, options);
  const asked = pressOf(options);
  const entryType = asked.entryType ?? 'int8';
  makeFolderOf(out, '--out');
  const engine = await openModel(options);
  try {
    const held = await engine.hold({ prompt, press: { ...asked, entryType }, seed: options.seed ?? null });
    const source = engine.writePressed(held, { entryType });
    await writeWhole(out, '--out', source.chunks);
    const { kvCache } = held;
    const tokens = held.tokens.length;
    const { model, backend } = engine.health();
    if (options.json) {
      const account = { tokens, kv_cache: kvCache, timings: timingsWire({ timings: held.timings }) };
      console.log(
        JSON.stringify({ out, bytes: source.bytes, model: model.id, fingerprint: model.fingerprint, backend: backend.name, ...account }, null, 2),
      );
      return;
    }
    for (const note of kvCache.notes) console.error(`edgepress: ${note}`);
    const share = ((1 - kvCache.compression_ratio) * 100).toFixed(1);
    const covered = kvCache.tokens < tokens ? `, of the ${kvCache.tokens} that it covers` : '';
    console.log(
      `${out}: ${formatBytes(source.bytes)}, ${tokens} tokens of which ${kvCache.press} keeps ${share}%${covered}, as ${entryType}, for ${model.id}`,
    );
    console.log(`kept by layer, mean over its KV heads: ${kvCache.kept_per_layer.map((kept) => Number(kept.toFixed(1))).join(' ')}`);
    console.log(`in pages ${formatBytes(kvCache.bytes_kept)}, without a press ${formatBytes(kvCache.bytes_full)}`);
  } finally {
    engine.close();
  }
}

function promptOf(document: string, { raw, system }: PressCommandOptions): PromptInput {
  const text = readText(document, '<document>');
  if (text.trim() === '') throw new InputError('context_empty', null, `${document}: the file is empty`);
  if (raw) return { kind: 'text', text };
  const before = system === undefined ? [] : [{ role: 'system', parts: [system] }];
  return { kind: 'chat', messages: [...before, { role: 'user', parts: [text] }] };
}
