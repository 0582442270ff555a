#!/usr/bin/env node
/** The `edgepress` command. Each subcommand is a file; this one only gathers them and turns errors into one line and an exit status. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { InputError } from '../presses/input-error.ts';
import { benchCommand } from './bench.ts';
import { generateCommand } from './generate.ts';
import { inspectCommand } from './inspect.ts';
import { packCommand } from './pack-command.ts';
import { planCommand } from './plan.ts';
import { pressesCommand } from './presses.ts';
import { serveCommand } from './serve.ts';

const root = packageRoot();
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
/** The embedded model, named as the user would from where they stand. */
const defaultModel = relative(process.cwd(), join(root, 'models', 'needle')) || '.';

const program = new Command('edgepress')
  .description('large-language-model inference at the edge with a compressed KV cache')
  .version(version)
  .showHelpAfterError('(edgepress <command> --help lists the options)');
serveCommand(program, defaultModel);
generateCommand(program, defaultModel);
inspectCommand(program, defaultModel);
planCommand(program, defaultModel);
benchCommand(program, defaultModel);
packCommand(program);
pressesCommand(program);

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = 1;
  setTimeout(() => process.exit(), 1000).unref(); // where a server that failed to start holds on to something
  const known = error instanceof InputError || (error as NodeJS.ErrnoException).code !== undefined;
  if (known && !process.env.EDGEPRESS_DEBUG) console.error(`edgepress: ${(error as Error).message}`);
  else console.error(error);
}

function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json')) && folder !== dirname(folder)) folder = dirname(folder);
  return folder;
}
