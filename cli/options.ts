/** Options that several commands share, and how their values are read. */
import { readFileSync } from 'node:fs';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { parsePress } from '../presses/config.ts';
import type { PressRequest } from '../presses/contract.ts';
import { InputError } from '../presses/input-error.ts';
import { parseBytes } from '../worker/engine/bytes.ts';

export interface ModelOptions {
  readonly model: string;
  readonly backend: 'wasm';
  readonly json: boolean;
  readonly kvPool?: number;
  readonly memoryLimit?: number;
}

/** --model, --backend, --json, --kv-pool, --memory-limit */
export function withModelOptions(command: Command, defaultModel: string): Command {
  return command
    .option('-m, --model <path>', 'a Hugging Face folder, a .gguf file or a packed model', defaultModel)
    .addOption(new Option('--backend <name>', 'where the model runs').choices(['wasm']).default('wasm'))
    .option('--kv-pool <bytes>', 'memory for KV entries, such as 64MiB', bytesArgument)
    .option('--memory-limit <bytes>', 'most linear memory, such as 128MiB', bytesArgument)
    .option('--json', 'print JSON', false);
}

/** --press <name, JSON or @file>, --ratio, --scope, --entry-type */
export function withPressOptions(command: Command): Command {
  return command
    .option('-p, --press <press>', 'a preset name, a JSON press config, or @file.json', 'no_press')
    .option('-r, --ratio <fraction>', 'compression_ratio of the press: the fraction removed, 0 to below 1', numberArgument)
    .option('--memory-budget <bytes>', 'instead of a ratio: the cache must fit, such as 16MiB')
    .addOption(new Option('--scope <scope>', 'what the press covers').choices(['prompt', 'context']))
    .addOption(new Option('--entry-type <type>', 'how entries are stored').choices(['f32', 'int8']));
}

export interface PressOptions {
  readonly press: string;
  readonly ratio?: number;
  readonly memoryBudget?: string;
  readonly scope?: string;
  readonly entryType?: string;
}

export function pressOf(options: PressOptions): PressRequest {
  const given = readPress(options.press);
  const extra: Record<string, unknown> = {};
  if (options.ratio !== undefined) extra.compression_ratio = options.ratio;
  if (options.memoryBudget !== undefined) extra.memory_budget = options.memoryBudget;
  if (options.scope !== undefined) extra.scope = options.scope;
  if (options.entryType !== undefined) extra.entry_type = options.entryType;
  if (Object.keys(extra).length === 0) return parsePress(given);
  if (Array.isArray(given))
    throw new InputError('press_invalid', 'press', 'a composed press carries its own ratio, scope and entry_type: put them into its elements');
  return parsePress(typeof given === 'object' && given !== null ? { ...given, ...extra } : { preset: given, ...extra });
}

function readPress(text: string): unknown {
  const source = text.startsWith('@') ? readFileSync(text.slice(1), 'utf8') : text;
  if (!/^\s*[[{"]/.test(source)) return source.trim();
  try {
    return JSON.parse(source);
  } catch (error) {
    throw new InputError('press_invalid', 'press', `--press is neither a name nor JSON: ${(error as Error).message}`);
  }
}

export function numberArgument(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError(`expected a number, got "${text}".`);
  return value;
}

export function countArgument(text: string): number {
  const value = numberArgument(text);
  if (!Number.isInteger(value) || value < 0) throw new InvalidArgumentError(`expected a whole number, 0 or more, got "${text}".`);
  return value;
}

export function bytesArgument(text: string): number {
  try {
    return parseBytes(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}
