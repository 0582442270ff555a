/** What a press is made of, as results tell it: its parts with every parameter filled in, so that presses which differ in one part alone are found without their names. */
import { createHash } from 'node:crypto';
import * as z from 'zod';
import type { Chosen, PartInfo, PressRequest } from '../presses/contract.ts';

const part = z.strictObject({ name: z.string(), params: z.record(z.string(), z.json()) });
export type PartMade = z.infer<typeof part>;

/** Presses in their order; none for the full cache. */
export const madeSchema = z.array(
  z.strictObject({
    scorer: part,
    layer_budget: part,
    head_budget: part,
    selection: part,
    transforms: z.array(part),
    schedule: part,
    compression_ratio: z.number().nullable(),
    memory_budget: z.number().nullable(), // bytes
    mode: z.string(),
    compat: z.boolean(),
    on_tight: z.string(),
  }),
);
export type Made = z.infer<typeof madeSchema>;

export function madeOf({ presses }: PressRequest): Made {
  return presses.map((press) => ({
    scorer: named(press.scorer),
    layer_budget: named(press.layerBudget),
    head_budget: named(press.headBudget),
    selection: named(press.selection),
    transforms: press.transforms.map(named),
    schedule: named(press.schedule),
    compression_ratio: press.compressionRatio,
    memory_budget: press.memoryBudgetBytes,
    mode: press.mode,
    compat: press.compat,
    on_tight: press.onTight,
  }));
}

/** A parameter may hold a whole file: it is told by its digest. */
const LONGEST = 200;

function named({ part: { name }, params }: Chosen<PartInfo<z.ZodObject>>): PartMade {
  const told = Object.entries(params).flatMap(([key, value]) => {
    const text = JSON.stringify(value);
    if (text === undefined) return [];
    return [[key, text.length <= LONGEST ? JSON.parse(text) : `sha256 ${createHash('sha256').update(text).digest('hex').slice(0, 16)}`]];
  });
  return { name, params: Object.fromEntries(told) };
}
