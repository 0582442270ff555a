/** What GET /v1/presses and `edgepress presses` say of every preset and part. */
import * as z from 'zod';
import type { PartInfo } from './contract.ts';
import { partList, presetParts, presets } from './presets.ts';
import { headBudgets, layerBudgets, scorers, selections, transforms } from './registry.ts';

export type PartList = readonly {
  name: string;
  summary: string;
  paper: string | null;
  formula: string;
  needs: string;
  cost: string | null;
  parameters: unknown;
}[];

/** What GET /v1/presses answers. */
export function listPresses() {
  return {
    presets: Object.keys(presets).map(describePreset),
    scorers: Object.values(scorers).map(describe) as PartList,
    layer_budgets: Object.values(layerBudgets).map(describe) as PartList,
    head_budgets: Object.values(headBudgets).map(describe) as PartList,
    selections: Object.values(selections).map(describe) as PartList,
    transforms: Object.values(transforms).map(describe) as PartList,
  };
}

function describePreset(name: string) {
  const { summary, params } = { params: {}, ...presets[name] };
  const parts = presetParts(name);
  const own = parts === null ? [] : partList(parts).filter((part) => !DEFAULTS.includes(part)); // an even share has no formula worth showing
  return {
    name,
    summary,
    paper: [...new Set(own.flatMap(({ paper }) => paper ?? []))].join(', ') || null,
    formula: own.map(({ formula }) => formula).join('; ') || 'nothing is removed',
    scorer: parts?.scorer.name,
    layer_budget: parts?.layerBudget.name,
    head_budget: parts?.headBudget.name,
    selection: parts?.selection.name,
    transforms: parts?.transforms.map((part) => part.name),
    params,
  };
}

const DEFAULTS: readonly PartInfo<z.ZodObject>[] = [layerBudgets.uniform, headBudgets.uniform, selections.top_k];

function describe({ name, summary, paper, formula, needs, cost, params }: PartInfo<z.ZodObject>) {
  const { $schema: _, ...parameters } = z.toJSONSchema(params, { io: 'input' });
  return { name, summary, paper, formula, needs, cost: cost ?? null, parameters };
}
