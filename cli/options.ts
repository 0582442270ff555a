/** Options that several commands share, and how their values are read. */
import { statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { parsePress } from '../presses/config.ts';
import type { PressRequest } from '../presses/contract.ts';
import { InputError } from '../presses/input-error.ts';
import { type EntryType, entryTypes } from '../worker/backend/backend.ts';
import { parseBytes } from '../worker/engine/bytes.ts';
import { type HiddenType, hiddenTypes } from '../worker/engine/hidden-rows.ts';
import type { BackendName } from '../worker/engine/load.ts';
import { openFile } from '../worker/engine/weights/node-files.ts';
import type { RangeReader } from '../worker/engine/weights/source.ts';
import { makeFolder, readFileUpTo, readUpTo, whyNoFile } from '../worker/regular-file.ts';

export interface ModelOptions {
  readonly model: string;
  readonly backend: BackendName | 'auto';
  readonly json?: boolean;
  readonly kvPool?: number;
  readonly memoryLimit?: number;
  readonly longestPrompt?: number;
  readonly hiddenType?: HiddenType;
  readonly sequences?: number;
  readonly artifacts?: string;
}

/** --model, --backend, --json, --kv-pool, --memory-limit, --artifacts */
export function withModelOptions(command: Command, defaultModel: string, usualLimit = '4GiB'): Command {
  return command
    .option('-m, --model <path>', 'a Hugging Face folder, a .gguf file or a packed model', defaultModel)
    .addOption(
      new Option('--backend <name>', 'where the model runs; auto tries both and says why').choices(['wasm', 'webgpu', 'auto']).default('wasm'),
    )
    .option('--kv-pool <bytes>', 'memory for KV entries; default what the limit leaves, at most 64MiB (on a GPU 512MiB)', bytesArgument)
    .option('--memory-limit <bytes>', `most memory for weights, activations and KV entries; default ${usualLimit}`, bytesArgument)
    .option('--longest-prompt <tokens>', 'leave room to read a prompt of so many tokens, and the rest to the KV pool', countArgument)
    .addOption(
      new Option('--hidden-type <type>', 'how hidden states are kept while a prompt is read; f16 takes half the memory; default f32').choices(
        hiddenTypes,
      ),
    )
    .option('--sequences <n>', 'most requests that run and contexts that are held at once; default 16', countArgument)
    .option('--artifacts <folder>', "trained files that a press names; default artifacts/ in the model's folder, or beside the .gguf file")
    .option('--json', 'print JSON');
}

/** --press <name, JSON or @file>, --ratio, --memory-budget, --entry-type */
export function withPressOptions(command: Command, usualType: EntryType = 'f32'): Command {
  return command
    .option('-p, --press <press>', 'a preset name, a JSON press config, or @file.json', 'no_press')
    .option('-r, --ratio <fraction>', 'compression_ratio of the press: the fraction removed, 0 to below 1; default 0.5', ratioArgument)
    .option('--memory-budget <bytes>', 'instead of a ratio: prompt and answer must fit, such as 16MiB')
    .addOption(new Option('--entry-type <type>', `how KV entries are stored; default ${usualType}`).choices(entryTypes));
}

export interface PressOptions {
  readonly press: string;
  readonly ratio?: number;
  readonly memoryBudget?: string;
  readonly scope?: string;
  readonly entryType?: EntryType;
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

/** The value of --press: a name, or what its JSON or its file holds. */
export function readPress(text: string, option = '--press'): unknown {
  const source = text.startsWith('@') ? readText(text.slice(1), option) : text;
  if (!/^\s*[[{"]/.test(source)) return source.trim();
  try {
    return JSON.parse(source);
  } catch (error) {
    throw new InputError('press_invalid', 'press', `${option} is neither a name nor JSON: ${(error as Error).message}`);
  }
}

export function numberBetween(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !(value >= least && value <= most)) throw new InvalidArgumentError(`Expected a number between ${least} and ${most}.`);
    return value;
  };
}

function ratioArgument(text: string): number {
  const ratio = Number(text);
  if (text.trim() === '' || !(ratio >= 0 && ratio < 1)) throw new InvalidArgumentError('Expected a number, 0 or more and below 1.');
  return ratio;
}

export function countFrom(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isSafeInteger(value) || value < least)
      throw new InvalidArgumentError(`Expected a whole number, ${least} or more.`);
    return value;
  };
}

/** Of a file that an option names, or of standard input: what does not end is not read until the memory is full. */
const MOST_BYTES = 256 * 2 ** 20;

/** The text of a file that an option names. */
export function readText(path: string, option: string): string {
  let bytes: Uint8Array;
  try {
    bytes = readFileUpTo(path, MOST_BYTES);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === 'ENOENT' || code === 'ENOTDIR' ? 'there is no such file' : message;
    throw new InputError('file_unreadable', null, `${option} ${path}: ${why}`);
  }
  return decodeText(bytes, `${option} ${path}`);
}

/** A file that an option names, to be read by ranges. */
export async function openNamed(path: string, option: string): Promise<RangeReader> {
  try {
    const why = whyNoFile(statSync(path));
    if (why !== null) throw new Error(why);
    return await openFile(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === 'ENOENT' || code === 'ENOTDIR' ? 'there is no such file' : message;
    throw new InputError('file_unreadable', null, `${option} ${path}: ${why}`);
  }
}

/** All of standard input, as text. */
export function readStandardInput(): string {
  let bytes: Uint8Array;
  try {
    bytes = readUpTo(0, MOST_BYTES);
  } catch (error) {
    throw new InputError('file_unreadable', null, `standard input: ${(error as Error).message}`);
  }
  return decodeText(bytes, 'standard input');
}

/** UTF-8 or nothing: a byte that is none would reach the model as U+FFFD. */
export function decodeText(bytes: Uint8Array, source: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new InputError('text_invalid', null, `${source}: the text is not valid UTF-8; iconv -t utf-8 converts other encodings`);
  }
}

/** Writes a file that an option names. */
export function writeNamed(path: string, option: string, content: string | Uint8Array): void {
  try {
    writeFileSync(path, content);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === 'ENOENT' || code === 'ENOTDIR' ? 'its folder does not exist' : code === 'EISDIR' ? 'it is a folder' : message;
    throw new InputError('file_unwritable', null, `${option} ${path}: ${why}`);
  }
}

/** Makes the folder that such a file goes into. */
export function makeFolderOf(path: string, option: string): void {
  try {
    makeFolder(dirname(path));
  } catch (error) {
    throw new InputError('file_unwritable', null, `${option} ${path}: its folder cannot be made: ${(error as Error).message}`);
  }
}

export function bytesArgument(text: string): number {
  try {
    return parseBytes(text);
  } catch (error) {
    throw new InvalidArgumentError(`${(error as Error).message.replace(/^e/, 'E').replace(/, got.*/, '')}.`);
  }
}

function countArgument(text: string): number {
  if (!/^\d+$/.test(text) || Number(text) === 0) throw new InvalidArgumentError('A whole number, 1 or more.');
  return Number(text);
}
