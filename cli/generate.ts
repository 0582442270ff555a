/** edgepress generate: one answer on the terminal, streamed. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { InputError } from '../presses/input-error.ts';
import { wordsBehind } from '../worker/engine/held.ts';
import type { PromptInput, Sampling } from '../worker/engine/types.ts';
import { type FinishEvent, timingsWire, usageWire } from '../worker/wire/usage.ts';
import { openModel } from './open-model.ts';
import {
  countFrom,
  type ModelOptions,
  numberBetween,
  openNamed,
  type PressOptions,
  pressOf,
  readStandardInput,
  readText,
  withModelOptions,
  withPressOptions,
} from './options.ts';

interface GenerateOptions extends ModelOptions, PressOptions {
  readonly context?: string;
  readonly contextFile?: string;
  readonly system?: string;
  readonly raw?: boolean;
  readonly maxTokens?: number;
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly minP: number;
  readonly seed?: number;
  readonly stop?: string[];
}

/** A pressed context has them, or has no use for them. */
const NOT_BESIDE = ['context', 'system', 'raw', 'scope'];

export function generateCommand(program: Command, defaultModel: string): void {
  const command = program
    .command('generate')
    .description('answer a prompt, as it is generated')
    .argument('[prompt...]', 'the user message, or with --raw plain text to continue; standard input when left out')
    .option('-c, --context <file>', 'a document that comes before the prompt in the same user message; a press covers it and not the question')
    .addOption(
      new Option('--context-file <file>', 'or what edgepress press made of one; --press is then what it must have been pressed by').conflicts(
        NOT_BESIDE,
      ),
    )
    .option('--system <text>', 'a system message')
    .option('--raw', 'no chat template: continue the text')
    .option('-n, --max-tokens <n>', 'most new tokens; default 512, or what the context and the pool leave', countFrom(1))
    .option('-t, --temperature <t>', '0 = the likeliest token, up to 2', numberBetween(0, 2), 0)
    .option('--top-p <p>', 'draw from the likeliest tokens with this share of the probability; 1 = off', numberBetween(0, 1), 1)
    .option('--top-k <k>', 'draw from the k likeliest tokens; 0 = off', countFrom(0), 0)
    .option('--min-p <p>', "drop tokens below this share of the likeliest one's probability; 0 = off", numberBetween(0, 1), 0)
    .option('--seed <n>', 'makes sampling repeatable', countFrom(0))
    .option('--stop <text>', 'a string to stop at; may be given again', stopArgument)
    .addOption(new Option('--scope <scope>', 'what the press covers: all, or what comes before the question').choices(['prompt', 'context']));
  withModelOptions(withPressOptions(command), defaultModel).action(run);
}

function stopArgument(text: string, before: string[] = []): string[] {
  if (text === '') throw new InvalidArgumentError('A stop string must not be empty.');
  return [...before, text];
}

async function run(words: string[], options: GenerateOptions, command: Command): Promise<void> {
  const text = words.length > 0 ? words.join(' ') : standardInput();
  if (text.trim() === '')
    throw new InputError('prompt_empty', 'prompt', 'the prompt is empty: edgepress generate "some text", or pipe a text into it');
  const { contextFile } = options;
  const asked = contextFile === undefined || command.getOptionValueSource('press') === 'cli' ? pressOf(options) : pressOfFile(options);
  const prompt = contextFile === undefined ? promptOf(text, options) : null;
  const file = contextFile === undefined ? null : await openNamed(contextFile, '--context-file');
  const sampling: Sampling = {
    maxTokens: options.maxTokens ?? null,
    temperature: options.temperature,
    topK: options.topK,
    topP: options.topP,
    minP: options.minP,
    seed: options.seed ?? null,
    frequencyPenalty: 0,
    presencePenalty: 0,
    stop: options.stop ?? [],
    topLogprobs: null,
    ignoreEos: false,
  };
  const engine = await openModel(options);
  try {
    const held = file && (await engine.mount(file, { press: asked }));
    const request = held ? { prompt: wordsBehind(held, text), held, sampling } : { prompt: prompt!, press: asked!, sampling };
    let answer = '';
    for await (const event of engine.generate(request)) {
      if (event.type === 'text') {
        answer += event.text;
        if (!options.json) process.stdout.write(event.text);
      } else if (event.type === 'finish') {
        if (options.json) console.log(JSON.stringify({ text: answer, ...accountOf(event) }, null, 2));
        else process.stdout.write('\n');
      }
    }
  } finally {
    engine.close();
    await file?.close?.();
  }
}

/** Nothing was said of a press, or of a part of one alone. */
function pressOfFile({ ratio, memoryBudget, entryType }: GenerateOptions): null {
  const said = Object.entries({ '--ratio': ratio, '--memory-budget': memoryBudget, '--entry-type': entryType }).find(
    ([, value]) => value !== undefined,
  );
  if (said === undefined) return null;
  throw new InputError(
    'invalid_value',
    'press',
    `${said[0]} ${said[1]} says what --context-file must have been pressed by, beside --press: name both, or neither`,
  );
}

/** The finish in the wire's names. */
function accountOf(event: FinishEvent) {
  return { finish_reason: event.reason, usage: usageWire(event), timings: timingsWire(event) };
}

function standardInput(): string {
  if (process.stdin.isTTY) console.error('edgepress: type the prompt; Ctrl-D ends it');
  return readStandardInput();
}

function promptOf(text: string, options: GenerateOptions): PromptInput {
  const context = options.context === undefined ? [] : [readText(options.context, '--context')];
  if (context[0]?.trim() === '') throw new InputError('context_empty', null, `--context ${options.context}: the file is empty`);
  if (options.raw) return { kind: 'text', text: [...context, text].join('') };
  const system = options.system === undefined ? [] : [{ role: 'system', parts: [options.system] }];
  return { kind: 'chat', messages: [...system, { role: 'user', parts: [...context, text] }] };
}
