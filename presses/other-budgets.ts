/**
 * What every other layer budget would have dealt: the same scores, the same layers, another rule. Each is measured beside the one that is used, and
 * asked for its budgets once all layers were seen. Parameters are the defaults.
 */
import { checkParts } from './check-parts.ts';
import type { BudgetContext, Chosen, LayerBudget, OtherBudget, Press, Signal, SignalContext } from './contract.ts';
import { InputError } from './input-error.ts';
import { layerBudgets } from './registry.ts';

/** The layer budgets that could stand in the place of a press's own. */
export function otherBudgets(press: Press): { readonly asked: readonly Chosen<LayerBudget>[]; readonly unasked: readonly OtherBudget[] } {
  const asked: Chosen<LayerBudget>[] = [];
  const unasked: OtherBudget[] = [];
  for (const part of Object.values(layerBudgets) as LayerBudget[]) {
    if (part === press.layerBudget.part || part.controlOf) continue;
    const params = part.params.safeParse({});
    const because = params.success
      ? refusal({ ...press, layerBudget: { part, params: params.data } })
      : `it needs ${part.artifact ? `a file, ${part.artifact.what}` : part.needs}`;
    if (because === null && params.success) asked.push({ part, params: params.data });
    else unasked.push({ layerBudget: part.name, budgets: null, why: because });
  }
  return { asked, unasked };
}

function refusal(press: Press): string | null {
  try {
    checkParts(press);
    return null;
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
}

/** One layer budget that only looks on. */
export class Onlooker {
  readonly #budget: Chosen<LayerBudget>;
  readonly #signals: Promise<Signal>[] = [];

  constructor(budget: Chosen<LayerBudget>) {
    this.#budget = budget;
  }

  /** Begins to measure one layer; resolves when its device work is recorded or done. */
  async measure(context: SignalContext): Promise<void> {
    const { part, params } = this.#budget;
    if (part.signal === 'none') return;
    const signal = part.measure(context, params);
    this.#signals.push(signal);
    await signal;
  }

  async budgets(context: BudgetContext): Promise<OtherBudget> {
    const { part, params } = this.#budget;
    try {
      return { layerBudget: part.name, budgets: part.limits(await Promise.all(this.#signals), context, params), why: null };
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      return { layerBudget: part.name, budgets: null, why: error.message };
    }
  }
}
