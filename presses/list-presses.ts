/** What GET /v1/presses and `edgepress presses` say of every preset and part. */
import * as z from 'zod';
import type { PartInfo } from './contract.ts';
import { presets } from './presets.ts';
import { headBudgets, layerBudgets, scorers, selections } from './registry.ts';

export type PartList = readonly {
  name: string;
  summary: string;
  paper: string | null;
  formula: string;
  needs: string;
  parameters: unknown;
}[];

/** What GET /v1/presses answers. */
export function listPresses() {
  return {
    presets: Object.entries(presets).map(([name, { summary, ...parts }]) => {
      if (parts.scorer === null)
        return { name, summary, paper: null, formula: 'nothing is removed', scorer: null, layer_budget: null, head_budget: null };
      const budgets = [layerBudgets[parts.layer_budget], headBudgets[parts.head_budget]];
      const own = [scorers[parts.scorer], ...budgets.filter((part) => part.ragged)]; // an even share has no formula worth showing
      return {
        name,
        summary,
        paper:
          own
            .map((part) => part.paper)
            .filter((paper) => paper !== null)
            .join(', ') || null,
        formula: own.map((part) => part.formula).join('; '),
        ...parts,
      };
    }),
    scorers: Object.values(scorers).map(describe) as PartList,
    layer_budgets: Object.values(layerBudgets).map(describe) as PartList,
    head_budgets: Object.values(headBudgets).map(describe) as PartList,
    selections: Object.values(selections).map(describe) as PartList,
  };
}

function describe({ name, summary, paper, formula, needs, params }: PartInfo<z.ZodObject>) {
  const { $schema: _, ...parameters } = z.toJSONSchema(params, { io: 'input' });
  return { name, summary, paper, formula, needs, parameters };
}
