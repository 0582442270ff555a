/**
 * The config that says a press in full: every part by name with every parameter, so that it is the same press wherever presets have other defaults. The inverse of
 * parsePress, but for names of presets: parsePress(configOf(request)) has the same parts, parameters and fields.
 */
import type { z } from 'zod';
import { decider } from './check-parts.ts';
import type { Chosen, PartInfo, Press, PressRequest } from './contract.ts';
import { shownName } from './did-you-mean.ts';

type Json = Record<string, unknown>;

/** A list of presses, or {"preset": "no_press"}. */
export function configOf({ presses, scope, explain, entryType }: PressRequest): Json | Json[] {
  const shared = { ...(scope !== null && { scope }), ...(explain && { explain }), ...(entryType !== null && { entry_type: entryType }) };
  return presses.length === 0 ? { preset: 'no_press', ...shared } : presses.map((press) => ({ ...pressConfig(press), ...shared }));
}

function pressConfig(press: Press): Json {
  const { scorer, layerBudget, headBudget, selection, transforms, schedule, compressionRatio, memoryBudgetBytes, mode, compat, onTight } = press;
  // Where a part decides how much is kept, or the prompt stays as it is, no ratio may be given.
  const ratio = layerBudget.part.ownRatio === undefined && decider(press) === null && schedule.part.prefill;
  return {
    scorer: named(scorer),
    layer_budget: named(layerBudget),
    head_budget: named(headBudget),
    selection: named(selection),
    transforms: transforms.map(named),
    schedule: named(schedule),
    ...(memoryBudgetBytes !== null ? { memory_budget: memoryBudgetBytes } : ratio ? { compression_ratio: compressionRatio } : {}),
    mode,
    ...(compat && { compat: 'kvpress' }),
    on_tight: onTight,
  };
}

function named({ part: { name }, params }: Chosen<PartInfo<z.ZodObject>>): Json {
  return { name, ...Object.fromEntries(Object.entries(params).filter(([, value]) => value !== undefined)) };
}

/** What is told of a difference. */
const FEW = 3;

/** What sets a press apart from the one that was asked for: "what it is, what was asked"; null where both keep the same entries. `mode` and names change nothing. */
export function pressDifference(is: PressRequest, asked: PressRequest): string | null {
  const [own, other] = [settings(is), settings(asked)];
  const paths = [...new Set([...own.keys(), ...other.keys()])].filter((path) => own.get(path) !== other.get(path));
  if (paths.length === 0) return null;
  const told = ({ name }: PressRequest, all: ReadonlyMap<string, string>): string => {
    const some = paths.flatMap((path) => (all.has(path) ? [`${path} ${shownName(all.get(path)!)}`] : [])).slice(0, FEW);
    return `"${shownName(name)}"${some.length > 0 ? ` with ${some.join(', ')}` : ''}`;
  };
  return `its press is ${told(is, own)}, and ${told(asked, other)} was asked for`;
}

/** What says which entries are kept, as a text: the same for presses that keep the same. `mode` and names are not in it, nor are scope and entry type. */
export function settingsText(press: PressRequest): string {
  return JSON.stringify([...settings(press)]);
}

/** What says which entries are kept, by path: scorer, scorer.window_size, [1].compression_ratio. */
function settings({ presses }: PressRequest): Map<string, string> {
  const all = new Map<string, string>();
  for (const [i, press] of presses.entries()) {
    const { mode: _, transforms, ...fields } = pressConfig(press);
    const parts = { ...fields, ...Object.fromEntries((transforms as Json[]).map((one, t) => [`transforms[${t}]`, one])) };
    for (const [field, value] of Object.entries(parts)) {
      const path = `${presses.length > 1 ? `[${i}].` : ''}${field}`;
      if (typeof value !== 'object' || value === null) all.set(path, String(value));
      else for (const [key, of] of Object.entries(value)) all.set(key === 'name' ? path : `${path}.${key}`, JSON.stringify(of));
    }
  }
  return all;
}
