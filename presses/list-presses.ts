/** What GET /v1/presses and `edgepress presses` say of every preset and part. */
import * as z from 'zod';
import type { LayerBudget, PartInfo, Scorer } from './contract.ts';
import { partList, presetParts, presets } from './presets.ts';
import { headBudgets, layerBudgets, schedules, scorers, selections, transforms } from './registry.ts';

export type PartList = readonly {
  name: string;
  summary: string;
  paper: string | null;
  formula: string;
  needs: string;
  cost: string | null;
  artifact: { param: string; required: boolean; what: string; layout: string; source: string } | null;
  parameters: unknown;
}[];

/** What GET /v1/presses answers. */
export function listPresses() {
  return {
    presets: Object.keys(presets).map(describePreset),
    scorers: Object.values<Scorer>(scorers).map((part) => ({ ...describe(part), extra_passes: part.passes !== undefined })),
    layer_budgets: Object.values<LayerBudget>(layerBudgets).map((part) => ({ ...describe(part), streams: part.cascades !== false })),
    head_budgets: Object.values(headBudgets).map(describe) as PartList,
    selections: Object.values(selections).map(describe) as PartList,
    transforms: Object.values(transforms).map(describe) as PartList,
    schedules: Object.values(schedules).map(describe) as PartList,
  };
}

function describePreset(name: string) {
  const { summary, params } = { params: {}, ...presets[name] };
  const parts = presetParts(name);
  const own = parts === null ? [] : partList(parts).filter((part) => !DEFAULTS.includes(part)); // an even share has no formula worth showing
  const files = own.flatMap((part) => artifactOf(part) ?? []);
  return {
    name,
    summary,
    paper: [...new Set(own.flatMap(({ paper }) => paper ?? []))].join(', ') || null,
    formula: own.map(({ formula }) => formula).join('; ') || 'nothing is removed',
    scorer: parts?.scorer.name ?? null,
    layer_budget: parts?.layerBudget.name ?? null,
    head_budget: parts?.headBudget.name ?? null,
    selection: parts?.selection.name ?? null,
    transforms: parts?.transforms.map((part) => part.name) ?? null,
    schedule: parts?.schedule.name ?? null,
    params,
    takes_ratio: parts?.schedule.prefill === true && !('compression_ratio' in (params ?? {})) && own.every((part) => part.decidesTotal === undefined),
    streams: parts?.layerBudget.cascades !== false,
    extra_passes: parts?.scorer.passes !== undefined,
    artifact: files.find(({ required }) => required) ?? files[0] ?? null,
  };
}

/** Presets that are told in one line: those that are nothing but a scorer under a layer budget and are called after both, by layer budget. */
export function presetFamilies(list: ReturnType<typeof listPresses>['presets']): Map<string, string[]> {
  const families = new Map<string, string[]>();
  for (const { name, scorer, layer_budget, head_budget, selection, transforms, schedule, params } of list) {
    const more = [
      head_budget !== 'uniform',
      selection !== 'top_k',
      transforms?.length !== 0,
      schedule !== 'prefill',
      Object.keys(params ?? {}).length > 0,
    ];
    if (name !== `${layer_budget}_${scorer}` || more.includes(true)) continue;
    families.set(layer_budget!, [...(families.get(layer_budget!) ?? []), scorer!]);
  }
  return families;
}

const DEFAULTS: readonly PartInfo<z.ZodObject>[] = [layerBudgets.uniform, headBudgets.uniform, selections.top_k, schedules.prefill];

function describe(part: PartInfo<z.ZodObject>): PartList[number] {
  const { name, summary, paper, formula, needs, cost = null, params } = part;
  const { $schema: _, ...parameters } = z.toJSONSchema(params, { io: 'input' });
  return { name, summary, paper, formula, needs, cost, artifact: artifactOf(part), parameters };
}

/** The trained data that a part reads, or may read, and the parameter that names it. */
function artifactOf({ artifact, params }: PartInfo<z.ZodObject>): PartList[number]['artifact'] {
  if (artifact === undefined) return null;
  const { param, what, layout, source } = artifact;
  return { param, required: !params.shape[param].safeParse(undefined).success, what, layout, source };
}
