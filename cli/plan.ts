/** edgepress plan: what a press would take of the KV pool, without running it. */
import type { Command } from 'commander';
import { formatBytes } from '../worker/engine/bytes.ts';
import { openModel } from './open-model.ts';
import { countFrom, type ModelOptions, type PressOptions, pressOf, withModelOptions, withPressOptions } from './options.ts';

interface PlanOptions extends ModelOptions, PressOptions {
  readonly tokens: number;
  readonly maxTokens: number;
}

export function planCommand(program: Command, defaultModel: string): void {
  const command = program
    .command('plan')
    .description('what a press would keep of a prompt, and in how many bytes, without running it')
    .requiredOption('--tokens <n>', 'prompt length, below the context length', countFrom(1))
    .option('--max-tokens <n>', 'tokens to generate, which take room in the pool and in a memory budget', countFrom(0), 0);
  withModelOptions(withPressOptions(command), defaultModel).action(run);
}

async function run(options: PlanOptions): Promise<void> {
  const { tokens, maxTokens } = options;
  const press = pressOf(options);
  const engine = await openModel(options);
  try {
    const plan = await engine.plan({ prompt: { kind: 'length', tokens }, press, maxTokens });
    if (options.json) {
      console.log(JSON.stringify(plan, null, 2));
      return;
    }
    const layers = plan.per_layer.map(({ min, max }) => (min === max ? min : `${min}..${max}`)).join(' ');
    console.log(
      `${plan.press} on ${plan.tokens} tokens keeps ${plan.average_budget.toFixed(1)} per layer and KV head${plan.added_per_layer ? ` and adds ${plan.added_per_layer} rows` : ''}; by layer: ${layers}`,
    );
    console.log(`full ${formatBytes(plan.bytes_full)}, kept at most ${formatBytes(plan.bytes_kept)}, peak at most ${formatBytes(plan.bytes_peak)}`);
    const answer = maxTokens > 0 ? `, with ${maxTokens} tokens to generate` : '';
    console.log(`${plan.fits ? 'fits' : 'does not fit'} the KV pool of ${formatBytes(plan.pool_bytes)}${answer}`);
  } finally {
    engine.close();
  }
}
