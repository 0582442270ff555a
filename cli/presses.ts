/** edgepress presses: what can be named in a press config. */
import type { Command } from 'commander';
import { listPresses } from '../presses/list-presses.ts';

export function pressesCommand(program: Command): void {
  program
    .command('presses')
    .description('list the presses, their parts and parameters')
    .option('--json', 'print JSON: what GET /v1/presses answers')
    .action(({ json }: { json?: boolean }) => {
      const list = listPresses();
      if (json) {
        console.log(JSON.stringify(list, null, 2));
        return;
      }
      for (const [kind, parts] of Object.entries(list)) {
        if (!Array.isArray(parts)) continue;
        console.log(`\n${kind.replaceAll('_', ' ')}`);
        for (const part of parts as { name: string; summary?: string; formula?: string; paper?: string | null }[]) {
          console.log(`  ${part.name.padEnd(20)} ${part.summary ?? ''}${part.paper ? ` (${part.paper})` : ''}`);
          if (part.formula) console.log(`  ${''.padEnd(20)} ${part.formula}`);
        }
      }
    });
}
