/** edgepress plan: what a press would take of the KV pool, without running it. */
import type { Command } from 'commander';
import { formatBytes } from '../worker/engine/bytes.ts';
import { openModel } from './open-model.ts';
import { countArgument, type ModelOptions, type PressOptions, pressOf, withModelOptions, withPressOptions } from './options.ts';

interface PlanOptions extends ModelOptions, PressOptions {
  readonly tokens: number;
  readonly maxTokens: number;
}

export function planCommand(program: Command, defaultModel: string): void {
  const command = program.command('plan').description('bytes and per-layer budgets of a press for a prompt length, without running it');
  withPressOptions(withModelOptions(command, defaultModel))
    .requiredOption('--tokens <n>', 'prompt length', countArgument)
    .option('--max-tokens <n>', 'tokens to generate', countArgument, 0)
    .action(async (options: PlanOptions) => {
      const press = pressOf(options);
      const engine = await openModel(options);
      try {
        const plan = engine.plan({ prompt: { kind: 'length', tokens: options.tokens }, press, maxTokens: options.maxTokens });
        if (options.json) {
          console.log(JSON.stringify(plan, null, 2));
          return;
        }
        const layers = plan.per_layer.map(({ min, max }) => (min === max ? min : `${min}..${max}`)).join(' ');
        console.log(`${plan.press} on ${plan.tokens} tokens keeps ${plan.average_budget.toFixed(1)} per layer and KV head; by layer: ${layers}`);
        console.log(
          `full ${formatBytes(plan.bytes_full)}, kept at most ${formatBytes(plan.bytes_kept)}, peak at most ${formatBytes(plan.bytes_peak)}`,
        );
        console.log(`the pool has ${formatBytes(plan.pool_bytes)}: it ${plan.fits ? 'fits' : 'does not fit'}`);
      } finally {
        engine.close();
      }
    });
}
