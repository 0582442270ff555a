/** How a refusal names the field that it is about. */
import type { Press } from './contract.ts';
import { presets } from './presets.ts';

export type PartKind = 'scorer' | 'layer_budget' | 'head_budget' | 'selection' | 'transforms' | 'schedule';

/** The field that a caller can set for a part: beside a preset's name its parameters stand alone, and the part itself is the preset's. */
export function partParam({ name, path }: Pick<Press, 'name' | 'path'>, kind: PartKind, field?: string): string {
  const preset = Object.hasOwn(presets, name) ? presets[name] : null;
  const chosen = preset !== null && !(kind === 'schedule' && preset.scorer !== null && preset.schedule === undefined);
  const steps = chosen ? [path, field] : [path, kind, field];
  return steps.filter((step) => step !== undefined).join('.');
}
