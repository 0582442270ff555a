/** What is compared: presses times ratios. Each pair is a variant; what a press refuses is told, and the rest goes on. */
import { parsePress } from '../presses/config.ts';
import type { PressRequest } from '../presses/contract.ts';
import { InputError } from '../presses/input-error.ts';
import type { EntryType } from '../worker/backend/backend.ts';

export interface Variant {
  /** Unique, and the same from run to run: what results are told apart by. */
  readonly key: string;
  readonly press: string;
  readonly ratio: number | null; // null where the press decides
  readonly request: PressRequest;
}

export interface Refused {
  readonly press: string;
  readonly ratio: number | null;
  readonly why: string;
}

/** A press to compare: a preset's name, any press config, or one with a name of its own. */
export interface NamedPress {
  readonly name: string;
  readonly press: unknown;
  /** Of the press, where its name does not say it: what is changed under a name is another variant. */
  readonly digest?: string;
}

/** Every combination of these parts; names of parts, or parts with parameters. */
export interface Grid {
  readonly scorers: readonly unknown[];
  readonly layer_budgets?: readonly unknown[];
  readonly head_budgets?: readonly unknown[];
}

export function gridPresses({ scorers, layer_budgets = ['uniform'], head_budgets = ['uniform'] }: Grid): NamedPress[] {
  const presses = scorers.flatMap((scorer) =>
    layer_budgets.flatMap((layer_budget) => head_budgets.map((head_budget) => ({ scorer, layer_budget, head_budget }))),
  );
  return presses.map((press) => ({ name: [press.scorer, press.layer_budget, press.head_budget].map(partName).join('+'), press }));
}

/** Not what parts refuse of each other, but slips of the pen: nobody wants to wait for what is left. */
const MISSPELT: ReadonlySet<string> = new Set(['press_unknown', 'press_form', 'press_param_unknown']);

/** Every press at every ratio. Throws InputError for names and fields that do not exist. Where a press, by a part or by its own numbers, decides how much it keeps, it is one variant. */
export function variantsOf(
  presses: readonly NamedPress[],
  ratios: readonly number[],
  queryAware: boolean,
  entryType?: EntryType,
): { variants: Variant[]; refused: Refused[] } {
  const variants = new Map<string, Variant>();
  const refused: Refused[] = [];
  const shared = { scope: queryAware ? 'prompt' : 'context', ...(entryType && { entry_type: entryType }) };
  for (const { name, press, digest } of presses) {
    for (const ratio of ratiosOf(press, shared, ratios)) {
      const key = `${name}${digest === undefined ? '' : `#${digest}`}${ratio === null ? '' : `@${ratio}`}`;
      try {
        const request = parsePress(withFields(press, ratio === null ? shared : { ...shared, compression_ratio: ratio }));
        variants.set(key, { key, press: name, ratio, request });
      } catch (error) {
        if (!(error instanceof InputError) || MISSPELT.has(error.code)) throw error;
        refused.push({ press: name, ratio, why: error.message });
      }
    }
  }
  return { variants: [...variants.values()], refused };
}

/** Taken by every press that takes a ratio. */
const USUAL = 0.5;

/** [null] where the press takes no ratio: it says itself how much it keeps, or keeps all. */
function ratiosOf(press: unknown, shared: object, ratios: readonly number[]): readonly (number | null)[] {
  if (Array.isArray(press)) return [null]; // a list carries its own ratios
  if (typeof press === 'object' && press !== null && ('compression_ratio' in press || 'memory_budget' in press)) return [null];
  if (refusal(withFields(press, shared)) !== null) return ratios; // told for each
  const takesOne = (ratio: number): boolean =>
    !refusal(withFields(press, { ...shared, compression_ratio: ratio }))?.param?.endsWith('.compression_ratio');
  return [...ratios, USUAL].some((ratio) => ratio > 0 && takesOne(ratio)) ? ratios : [null]; // 0 is taken by all, also by what keeps all
}

function refusal(press: unknown): InputError | null {
  try {
    parsePress(press);
    return null;
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
}

function withFields(press: unknown, fields: object): unknown {
  if (typeof press === 'string') return { preset: press, ...fields };
  if (Array.isArray(press)) return press.map((one, i) => (i === 0 ? withFields(one, fields) : one));
  if (typeof press === 'object' && press !== null) return { ...press, ...fields };
  return press; // parsePress says what is wrong with it
}

function partName(part: unknown): string {
  if (typeof part === 'string') return part;
  if (typeof part !== 'object' || part === null) return JSON.stringify(part);
  const { name, ...params } = part as { name?: unknown };
  const given = Object.entries(params).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return given.length === 0 ? String(name) : `${name}(${given.join(',')})`;
}
