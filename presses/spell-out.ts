/** A preset's parts are its own: what a refusal tells to change, the caller can only change where the press is spelled out. */
import type { z } from 'zod';
import type { Chosen, PartInfo, Press, PressParts } from './contract.ts';
import { InputError } from './input-error.ts';
import { presets } from './presets.ts';
import { headBudgets, layerBudgets, schedules, selections } from './registry.ts';

const uniformLayers = { layerBudget: { part: layerBudgets.uniform, params: {} } } satisfies Partial<Press>;
const uniformHeads = { headBudget: { part: headBudgets.uniform, params: {} } } satisfies Partial<Press>;
const topK = { selection: { part: selections.top_k, params: selections.top_k.params.parse({}) } } satisfies Partial<Press>;
const unchanged = { transforms: [] } satisfies Partial<Press>;
/** What is left out of a refused press, in turn, until it is taken. */
const WAYS: readonly Partial<Press>[] = [
  uniformLayers,
  uniformHeads,
  topK,
  unchanged,
  { ...uniformLayers, ...uniformHeads },
  { ...uniformLayers, ...uniformHeads, ...topK, ...unchanged },
];

/** Runs `check` of a press; where it refuses a preset, the message goes on with a press that it takes, spelled out. */
export function spellingOut(press: Press, check: (press: Press) => void): void {
  try {
    check(press);
  } catch (error) {
    if (!(error instanceof InputError) || error.code !== 'press_conflict' || !Object.hasOwn(presets, press.name)) throw error;
    if (error.param?.startsWith(`${press.path}.schedule.`)) throw error; // that is the caller's own
    const taken = WAYS.map((way) => ({ ...press, ...way })).find((one) => isTaken(one, check));
    const way = taken ? `without it, spelled out: ${spelledOut(taken)}` : 'choose another preset, or spell out its parts';
    throw new InputError(error.code, error.param, `${error.message}; the parts are those of preset "${press.name}": ${way}`);
  }
}

function isTaken(press: Press, check: (press: Press) => void): boolean {
  try {
    check(press);
    return true;
  } catch (error) {
    if (error instanceof InputError) return false;
    throw error;
  }
}

/** The parts as a press config, and what stands beside them; what is a default is left out. */
export function spelledOut(
  { scorer, layerBudget, headBudget, selection, transforms, schedule }: PressParts,
  beside: Readonly<Record<string, unknown>> = {},
): string {
  const parts = {
    scorer: named(scorer),
    ...unless(layerBudgets.uniform, 'layer_budget', layerBudget),
    ...unless(headBudgets.uniform, 'head_budget', headBudget),
    ...unless(selections.top_k, 'selection', selection),
    ...(transforms.length > 0 && { transforms: transforms.map(named) }),
    ...unless(schedules.prefill, 'schedule', schedule),
    ...beside,
  };
  return JSON.stringify(parts);
}

/** The part under its kind's name, unless it is what goes without saying. */
function unless(silent: PartInfo<z.ZodObject>, kind: string, chosen: Chosen<PartInfo<z.ZodObject>>): Record<string, unknown> {
  const name = named(chosen);
  return name === silent.name ? {} : { [kind]: name };
}

/** Its name, and the parameters that are not the part's defaults; texts too long to be told stay the caller's. */
function named({ part, params }: Chosen<PartInfo<z.ZodObject>>): string | Record<string, unknown> {
  const { shape } = part.params;
  const own = Object.entries(params).filter(([field, value]) => {
    const text = JSON.stringify(value) ?? '';
    return text !== '' && text.length <= LONGEST && text !== JSON.stringify(shape[field].safeParse(undefined).data);
  });
  return own.length === 0 ? part.name : { name: part.name, ...Object.fromEntries(own) };
}

const LONGEST = 60;
