#!/usr/bin/env node
/** The `edgepress` command. Each subcommand is a file; this one only gathers them and turns errors into one line and an exit status. */
import { readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { setTimeout } from 'node:timers'; // Deno's own has no unref
import { Command } from 'commander';
import { shownName } from '../presses/did-you-mean.ts';
import { InputError } from '../presses/input-error.ts';
import { embeddedModel, packageRoot } from '../worker/package-root.ts';
import { benchCommand } from './bench.ts';
import { calibrateCommand } from './calibrate.ts';
import { evalCommand } from './eval.ts';
import { generateCommand } from './generate.ts';
import { inspectCommand } from './inspect.ts';
import { packCommand } from './pack-command.ts';
import { planCommand } from './plan.ts';
import { pressCommand } from './press.ts';
import { pressHint } from './press-hint.ts';
import { pressesCommand } from './presses.ts';
import { serveCommand } from './serve.ts';

const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as { version: string };
// `npm run edgepress` and `npm start` run in the package's folder; paths are meant from where the user stands.
const { INIT_CWD: startedIn, npm_lifecycle_event: script, npm_package_name: owner } = process.env;
if (startedIn && owner === 'edgepress' && (script === 'edgepress' || script === 'start')) process.chdir(startedIn);
/** The embedded model, named as the user would from where they stand. */
const defaultModel = relative(process.cwd(), embeddedModel()) || '.';

/** Of what goes wrong: an argument of megabytes is not said again. */
const MOST_SHOWN = 4000;
const shown = (text: string): string => (text.length > MOST_SHOWN ? `${shownName(text, MOST_SHOWN - 1000)} ${text.slice(-999)}` : text);

const program = new Command('edgepress')
  .description('large-language-model inference at the edge with a compressed KV cache')
  .version(version)
  .configureOutput({ writeErr: (text) => process.stderr.write(shown(text)) })
  .showHelpAfterError('(edgepress <command> --help lists the options)');
serveCommand(program, defaultModel);
generateCommand(program, defaultModel);
pressCommand(program, defaultModel);
inspectCommand(program, defaultModel);
planCommand(program, defaultModel);
benchCommand(program, defaultModel);
packCommand(program);
calibrateCommand(program, defaultModel);
evalCommand(program, defaultModel);
pressesCommand(program);

let press: string | undefined;
program.hook('preAction', (_, command) => {
  ({ press } = command.opts<{ press?: string }>());
});

// Whoever reads has had enough: `| head`.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = 1;
  setTimeout(() => process.exit(), 1000).unref(); // where a server that failed to start holds on to something
  const known = error instanceof InputError || (error as NodeJS.ErrnoException).code !== undefined;
  if (known && !process.env.EDGEPRESS_DEBUG) console.error(`edgepress: ${shown(`${(error as Error).message}${pressHint(error, press)}`)}`);
  else console.error(error);
}
