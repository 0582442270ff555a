/** edgepress generate: one answer on the terminal, streamed. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import type { GenerateRequest, PromptInput } from '../worker/engine/types.ts';
import { openModel } from './open-model.ts';
import { countArgument, type ModelOptions, numberArgument, type PressOptions, pressOf, withModelOptions, withPressOptions } from './options.ts';

interface GenerateOptions extends ModelOptions, PressOptions {
  readonly context?: string;
  readonly system?: string;
  readonly raw: boolean;
  readonly maxTokens?: number;
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly minP: number;
  readonly seed?: number;
  readonly stop: string[];
}

export function generateCommand(program: Command, defaultModel: string): void {
  const command = program
    .command('generate')
    .description('answer a prompt')
    .argument('[prompt]', 'the user message (with --raw: plain text to continue); standard input when left out');
  withPressOptions(withModelOptions(command, defaultModel))
    .option('-c, --context <file>', 'a document that comes before the prompt in the same user message; scope "context" presses it')
    .option('--system <text>', 'a system message')
    .option('--raw', 'no chat template: continue the text', false)
    .option('-n, --max-tokens <n>', 'most new tokens', countArgument)
    .option('-t, --temperature <t>', '0 = greedy', numberArgument, 0)
    .option('--top-p <p>', 'nucleus sampling', numberArgument, 1)
    .option('--top-k <k>', '0 = off', countArgument, 0)
    .option('--min-p <p>', '0 = off', numberArgument, 0)
    .option('--seed <n>', 'makes sampling repeatable', countArgument)
    .option('--stop <text...>', 'stop strings', [])
    .action(run);
}

async function run(prompt: string | undefined, options: GenerateOptions): Promise<void> {
  const text = prompt ?? readFileSync(0, 'utf8');
  const request: GenerateRequest = {
    prompt: promptOf(text, options),
    press: pressOf(options),
    sampling: {
      maxTokens: options.maxTokens ?? null,
      temperature: options.temperature,
      topK: options.topK,
      topP: options.topP,
      minP: options.minP,
      seed: options.seed ?? null,
      frequencyPenalty: 0,
      presencePenalty: 0,
      stop: options.stop,
      topLogprobs: null,
      ignoreEos: false,
    },
  };
  const engine = await openModel(options);
  try {
    let answer = '';
    for await (const event of engine.generate(request)) {
      if (event.type === 'text') {
        answer += event.text;
        if (!options.json) process.stdout.write(event.text);
      } else if (event.type === 'finish') {
        if (options.json)
          console.log(JSON.stringify({ text: answer, finish_reason: event.reason, usage: event.usage, timings: event.timings }, null, 2));
        else process.stdout.write('\n');
      }
    }
  } finally {
    engine.close();
  }
}

function promptOf(text: string, options: GenerateOptions): PromptInput {
  const context = options.context === undefined ? [] : [readFileSync(options.context, 'utf8')];
  if (options.raw) return { kind: 'text', text: [...context, text].join('') };
  const system = options.system === undefined ? [] : [{ role: 'system', parts: [options.system] }];
  return { kind: 'chat', messages: [...system, { role: 'user', parts: [...context, text] }] };
}
