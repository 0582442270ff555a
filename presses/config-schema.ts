/** The request-level press config as schemas: single fields for `parsePress`, and every form at once as JSON Schema. */
import * as z from 'zod';
import { entryTypes } from '../worker/backend/backend.ts';
import { choices } from './did-you-mean.ts';
import { partList, presetParts, presets } from './presets.ts';
import { headBudgets, layerBudgets, schedules, scorers, selections, transforms } from './registry.ts';

/** More than anyone composes; each one scores the whole prompt. */
export const MOST_PRESSES = 16;

/** A press that was asked for always acts: without a ratio or a memory budget it removes half. */
export const DEFAULT_RATIO = 0.5;

const MEMORY = /^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|KB|MB|GB)?$/i;
const UNIT: Record<string, number> = { b: 1, kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, kb: 1e3, mb: 1e6, gb: 1e9 };

/** "16MiB" -> 16777216. The text has passed the schema. */
export function memoryBytes(memory: string | number): number {
  if (typeof memory === 'number') return memory;
  const [, amount, unit] = MEMORY.exec(memory) as RegExpExecArray;
  return Math.floor(Number(amount) * UNIT[(unit ?? 'B').toLowerCase()]);
}

const ratioError = 'must be 0 or more and below 1';
const memoryError = 'must be a number of bytes above 0, or text such as "16MiB" or "512KiB"';
const scopeError = 'must be "prompt", "context" or {"protect_last": n}';
const lastError = 'must be a whole number, 0 or more';
const choice = <const T extends readonly [string, ...string[]]>(...values: T) => z.enum(values, { error: `must be ${choices(values)}` });

/** Fields beside the parts. All optional: what is left out is told apart from what is said, because composed presses may not contradict each other. */
export const fields = {
  compression_ratio: z
    .number({ error: ratioError })
    .min(0, { error: ratioError })
    .lt(1, { error: ratioError })
    .describe('r: the fraction of the tokens that is removed; 0 removes nothing')
    .meta({ default: DEFAULT_RATIO })
    .optional(),
  memory_budget: z
    .union([z.int({ error: memoryError }).min(1, { error: memoryError }), z.string().regex(MEMORY, { error: memoryError })], { error: memoryError })
    .describe('instead of compression_ratio: the pages of the whole cache must fit into it')
    .optional(),
  scope: z
    .union([z.enum(['prompt', 'context']), z.strictObject({ protect_last: z.int({ error: lastError }).min(0, { error: lastError }) })], {
      error: scopeError,
    })
    .describe('what is pressed: everything; everything before the last text part of the last user message; or all but the last n tokens')
    .optional(),
  mode: choice('streaming', 'deferred')
    .describe('shrink earlier layers while later ones are read, or all at the end: the same cache, another peak')
    .meta({ default: 'streaming' })
    .optional(),
  compat: choice('kvpress').describe("kvpress's own counts and quirks, for comparisons").optional(),
  on_tight: choice('reject', 'uniform')
    .describe('when the budget is below the number of protected tokens: refuse, or keep the most recent tokens, equally many in every layer')
    .meta({ default: 'reject' })
    .optional(),
  explain: z
    .boolean({ error: 'must be true or false' })
    .describe('tell in usage.kv_cache.explain which positions are kept, and what every other layer budget would have dealt on this prompt')
    .meta({ default: false })
    .optional(),
  entry_type: choice(...entryTypes)
    .describe('how kept entries are stored')
    .optional(),
};

export const fieldsSchema = z.strictObject(fields);
export type Fields = z.infer<typeof fieldsSchema>;

type Parts = Record<string, { readonly name: string; readonly params: z.ZodObject }>;

/** A part by name, or as {name, ...params}. */
function partSchema(parts: Parts) {
  const bare = Object.values(parts).filter(({ params }) => params.safeParse({}).success);
  const full = Object.values(parts).map(({ name, params }) => z.strictObject({ name: z.literal(name), ...params.shape }));
  return z.union([z.enum(bare.map(({ name }) => name)), ...full]);
}

/** A preset, its parts' parameters beside it. */
function presetSchema(name: string) {
  const parts = presetParts(name);
  if (parts === null) return z.strictObject({ preset: z.literal(name), ...fields });
  const params = Object.assign({}, ...partList(parts).map(({ params }) => params.shape)) as z.ZodRawShape;
  return z.strictObject({
    preset: z.literal(name),
    ...params,
    ...(parts.schedule === schedules.prefill && { schedule: scheduleSchema() }),
    ...fields,
  });
}

function scheduleSchema() {
  return partSchema(schedules).describe('when the press acts').meta({ default: 'prefill' }).optional();
}

/** JSON Schema of the field `press`, every part with its parameters. */
export function pressJsonSchema(): Record<string, unknown> {
  const names = Object.keys(presets);
  const composition = z.strictObject({
    scorer: partSchema(scorers),
    layer_budget: partSchema(layerBudgets).meta({ default: 'uniform' }).optional(),
    head_budget: partSchema(headBudgets).meta({ default: 'uniform' }).optional(),
    selection: partSchema(selections).meta({ default: 'top_k' }).optional(),
    transforms: z.array(partSchema(transforms)).describe('what becomes of kept entries, applied in order').meta({ default: [] }).optional(),
    schedule: scheduleSchema(),
    ...fields,
  });
  const one = z.union([z.enum(names), ...names.map(presetSchema), composition]);
  const press = z.union([one, z.array(one).min(1).max(MOST_PRESSES).describe('presses composed, applied in order')]);
  const { $schema: _, ...schema } = z.toJSONSchema(press, { io: 'input', reused: 'ref' });
  return schema;
}
