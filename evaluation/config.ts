/** What an evaluation is told: a config file, and options of the command line over it. Every field has a default, so that a few words are enough. */
import { createHash } from 'node:crypto';
import * as z from 'zod';
import { shownName } from '../presses/did-you-mean.ts';
import { InputError } from '../presses/input-error.ts';
import { MOST_LEVELS, nestedTooDeep } from '../presses/nesting.ts';
import { entryTypes } from '../worker/backend/backend.ts';
import { strictObject, validate } from '../worker/wire/validate.ts';
import { gridPresses, type NamedPress } from './variants.ts';

const MOST_VARIANTS = 10_000;
/** Of a press: every one of its answers says it. */
const MOST_NAME = 1000;

const press = z.union([
  z.string(),
  z.strictObject({ name: z.string().min(1), press: z.unknown() }),
  z.record(z.string(), z.unknown()),
  z.array(z.unknown()),
]);
const parts = z.array(z.union([z.string(), z.record(z.string(), z.unknown())])).min(1);
const grid = strictObject({ scorers: parts, layer_budgets: parts.optional(), head_budgets: parts.optional() });
const name = z.string().min(1).max(200);
const path = z.string().min(1).max(4096);
const whole = (least: number, most: number) => z.int().min(least).max(most);

export const configSchema = strictObject({
  /** Presets by name, any press config, or one with a name of its own. */
  presses: z.array(press).min(1).optional(), // without a grid no_press, zigzag_snapkv, snapkv and random, beside one no_press
  /** Besides: every scorer with every layer budget and head budget. */
  grid: z.union([grid, z.array(grid)]).optional(),
  ratios: z.array(z.number('must be a number, 0 or more and below 1').min(0, 'must be 0 or more').lt(1, 'must be below 1')).min(1).default([0.5]),
  tasks: z
    .array(z.union([name, strictObject({ task: name, params: z.record(z.string(), z.json()).default({}) })]))
    .min(1)
    .optional(),
  /** A published benchmark in place of generated tasks: `tasks` then names those of its rows that count, `samples` draws so many of them. */
  dataset: name.optional(),
  data_config: name.optional(),
  data_path: path.optional(), // a file or folder; else it is downloaded
  lengths: z.array(whole(1, 4_194_304)).min(1).optional(), // of generated tasks, [512]
  samples: whole(1, 100_000).optional(), // of each task and length, 20; of a dataset, all
  seed: z.int().default(42),
  style: name.optional(),
  essay: path.optional(), // a text file
  questions: path.optional(), // a file of questions
  query_aware: z.boolean().default(false),
  kl: z.boolean().default(false),
  max_new_tokens: whole(1, 4096).optional(),
  entry_type: z.enum(entryTypes).optional(),
});
export type EvaluationConfig = z.infer<typeof configSchema>;

/** Throws InputError. */
export function parseConfig(json: unknown, from: string): EvaluationConfig {
  if (nestedTooDeep(json))
    throw new InputError(
      'eval_config',
      null,
      `${from}: lists or objects in each other more than ${MOST_LEVELS} deep; ${MOST_LEVELS} at most are read`,
    );
  try {
    return validate(configSchema, json);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new InputError('eval_config', error.param, `${from}: ${error.message}`);
  }
}

/** The presses of a config and of its grids, each once. */
export function pressesOf({ presses, grid, ratios }: EvaluationConfig): NamedPress[] {
  const asked = presses ?? (grid === undefined ? ['no_press', 'zigzag_snapkv', 'snapkv', 'random'] : ['no_press']);
  const listed = asked.map((press): NamedPress => {
    if (typeof press === 'string') return { name: press, press };
    if (!Array.isArray(press) && 'press' in press && typeof press.name === 'string')
      return { name: press.name, press: press.press, digest: createHash('sha256').update(JSON.stringify(press.press)).digest('hex').slice(0, 8) };
    return { name: JSON.stringify(press), press };
  });
  const grids = grid === undefined ? [] : [grid].flat();
  const all = new Map<string, NamedPress>();
  for (const one of [...listed, ...grids.flatMap(gridPresses)]) {
    if (one.name.length > MOST_NAME)
      throw new InputError(
        'eval_config',
        'presses',
        `the press "${shownName(one.name)}" has a name of ${one.name.length} characters; {"name": ..., "press": ...} gives it one of ${MOST_NAME} or fewer`,
      );
    if (/\p{Cc}/u.test(one.name))
      throw new InputError('eval_config', 'presses', `a press is called ${JSON.stringify(shownName(one.name))}; a name on one line works`);
    const before = all.get(one.name);
    if (before && JSON.stringify(before.press) !== JSON.stringify(one.press))
      throw new InputError(
        'eval_config',
        'presses',
        `two presses are called "${shownName(one.name)}", and answers are told apart by that; give each a name of its own`,
      );
    all.set(one.name, one);
  }
  if (all.size * ratios.length > MOST_VARIANTS)
    throw new InputError(
      'eval_config',
      'presses',
      `${all.size} presses at ${ratios.length} ratios are more than ${MOST_VARIANTS} variants; split them over several folders`,
    );
  return [...all.values()];
}
