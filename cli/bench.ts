/** edgepress bench: prefill and decode tokens/s, press time, peak bytes. Random tokens, greedy, medians over runs after a warm-up. */
import type { Command } from 'commander';
import { parsePress } from '../presses/config.ts';
import type { PressRequest } from '../presses/contract.ts';
import { shownName } from '../presses/did-you-mean.ts';
import { InputError } from '../presses/input-error.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { gpuFigures, printGpuFigures } from './bench-gpu.ts';
import { type AskedPress, askedPresses, costLine, costsHeader, type PressCost, pressCosts } from './bench-presses.ts';
import { type Measured, median, once } from './bench-run.ts';
import { openModel } from './open-model.ts';
import { countFrom, type ModelOptions, type PressOptions, pressOf, withModelOptions, withPressOptions } from './options.ts';
import { randomModel, shapes } from './random-model.ts';

interface BenchOptions extends ModelOptions, PressOptions {
  readonly promptTokens: number;
  readonly decodeTokens: number;
  readonly runs: number;
  readonly random?: string;
  readonly presses?: readonly string[];
  readonly pairs?: boolean;
}

export function benchCommand(program: Command, defaultModel: string): void {
  const command = program
    .command('bench')
    .description('measure prefill and decode speed, press time and peak bytes: medians over runs of random tokens')
    .option('--prompt-tokens <n>', 'prompt length', countFrom(1), 512)
    .option('--decode-tokens <n>', 'tokens to generate', countFrom(1), 128)
    .option('--runs <n>', 'counted runs, after one warm-up', countFrom(1), 3)
    .option(
      '--presses <presses>',
      'what each of these costs beside reading the prompt: all presets, names with commas, or one press as --press takes it; may be repeated',
      (text: string, before: readonly string[] = []) => [...before, text],
    )
    .option('--pairs', 'with --presses: also whole runs, each beside one without the press, which takes twice as long')
    .option('--random <shape>', `random 4-bit weights in place of a model: ${Object.keys(shapes).join(', ')}`);
  withModelOptions(withPressOptions(command), defaultModel).action(run);
}

async function run(options: BenchOptions): Promise<void> {
  const { random } = options;
  const presses = options.presses === undefined ? null : askedPresses(options.presses, options);
  const press = presses ? parsePress('no_press') : pressOf(options);
  const engine = random === undefined ? await openModel(options) : await openModel({ ...options, model: random }, randomModel(random));
  try {
    checkLength(presses ? { ...options, decodeTokens: 0 } : options, engine.info.contextLength);
    if (presses) {
      await benchPresses(engine, presses, press, options);
      return;
    }
    const runs: Measured[] = [];
    await once(engine, press, options); // warm-up: the compiler's tiers, the page tables
    for (let i = 0; i < options.runs; i++) runs.push(await once(engine, press, options));
    const middle = (pick: (run: Measured) => number): number => median(runs.map(pick));
    const { backend, memory } = engine.health();
    const result = {
      model: engine.info.id,
      weight_bytes: engine.info.weightBytes,
      backend: `${backend.name}, ${backend.variant}`,
      runtime: runtimeName(),
      press: press.name,
      prompt_tokens: options.promptTokens,
      decode_tokens: options.decodeTokens,
      runs: runs.length,
      prefill_tokens_per_s: middle(({ timings }) => (options.promptTokens / timings.prefillMs) * 1000),
      decode_tokens_per_s: middle(({ timings, decoded }) => (decoded / timings.decodeMs) * 1000),
      prefill_ms: middle(({ timings }) => timings.prefillMs),
      press_ms: middle(({ timings }) => timings.pressMs) as number | null,
      kv_bytes_full: runs[0].bytesFull,
      kv_bytes_kept: runs[0].bytesKept,
      kv_bytes_peak: runs[0].bytesPeak,
      memory_peak_bytes: memory.peak_bytes,
    };
    const gpu = await gpuFigures(engine, {
      decodeTokensPerS: result.decode_tokens_per_s,
      kvBytesKept: result.kv_bytes_kept,
      answerTokens: options.decodeTokens,
      run: (answerTokens) => once(engine, press, { ...options, decodeTokens: answerTokens - 1 }),
    });
    // On a queue, what the press takes is in prefill_ms; its share is known where the device has a clock.
    if (engine.backend.queued) result.press_ms = gpu?.press_share_of_prefill == null ? null : gpu.press_share_of_prefill * result.prefill_ms;
    if (options.json) console.log(JSON.stringify(gpu ? { ...result, gpu } : result, null, 2));
    else {
      for (const [name, value] of Object.entries(result))
        console.log(`${name.padEnd(22)} ${typeof value === 'number' && !Number.isInteger(value) ? value.toFixed(1) : value}`);
      if (gpu) printGpuFigures(gpu);
    }
  } finally {
    engine.close();
  }
}

async function benchPresses(engine: EdgeEngine, asked: readonly AskedPress[], none: PressRequest, options: BenchOptions): Promise<void> {
  const { promptTokens, runs, json, pairs = false } = options;
  const { backend } = engine.health();
  const width = Math.min(60, Math.max(...asked.map(({ name }) => name.length), 5));
  const watched = process.stderr.isTTY && !json;
  const costs: PressCost[] = [];
  await pressCosts(engine, asked, none, {
    promptTokens,
    runs,
    pairs,
    next(name, index, secondsLeft) {
      if (index === 0 && !json) {
        const what = `${engine.info.id}, ${promptTokens} tokens, ${backend.name} (${backend.variant}), ${runtimeName()}, median of ${runs}`;
        console.log(`${what}; ${duration(secondsLeft)} for ${asked.length}\n${costsHeader(width, pairs)}`);
      }
      if (watched) process.stderr.write(`${shownName(name, 40)}, ${index + 1} of ${asked.length}, ${duration(secondsLeft)} left`);
    },
    done(cost) {
      if (watched) process.stderr.write('\r\x1b[K');
      costs.push(cost);
      if (!json) console.log(costLine(cost, width, pairs));
    },
  });
  if (json) console.log(JSON.stringify({ model: engine.info.id, prompt_tokens: promptTokens, runs, costs }, null, 2));
}

function duration(seconds: number): string {
  return seconds < 90 ? `about ${Math.ceil(seconds)} s` : `about ${Math.ceil(seconds / 60)} min`;
}

/** The engine would generate fewer tokens than asked, and the speed would be that of others. */
function checkLength({ promptTokens, decodeTokens }: BenchOptions, contextLength: number): void {
  const all = promptTokens + decodeTokens + 1; // the first one comes out of the prefill
  if (all <= contextLength) return;
  throw new InputError(
    'prompt_too_long',
    'prompt_tokens',
    `--prompt-tokens ${promptTokens} and --decode-tokens ${decodeTokens} make ${all} tokens with the first one generated, more than the context length of ${contextLength}; ${contextLength - 1} in all would work`,
  );
}

function runtimeName(): string {
  const { Deno } = globalThis as { Deno?: { version: { deno: string } } };
  return Deno ? `Deno ${Deno.version.deno}` : `Node ${process.versions.node}`;
}
