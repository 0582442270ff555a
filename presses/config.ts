/**
 * The `press` field of a request, in every form, to a PressRequest: every part chosen, every parameter filled in.
 * Everything that is wrong without knowing the prompt is refused here; check-press.ts refuses the rest.
 */
import type { z } from 'zod';
import { leftOut, presetElsewhere } from './aliases.ts';
import { checkAdding, checkComposition } from './check-composition.ts';
import { checkParts, decider } from './check-parts.ts';
import { isIdle } from './check-press.ts';
import { checkSchedules, decodingPress } from './check-schedule.ts';
import { DEFAULT_RATIO, type Fields, fields, fieldsSchema, MOST_PRESSES, memoryBytes } from './config-schema.ts';
import type { Chosen, PartInfo, Press, PressParts, PressRequest, Schedule } from './contract.ts';
import { didYouMean, nearestName, shownName, toldNames } from './did-you-mean.ts';
import { InputError } from './input-error.ts';
import { MOST_LEVELS, nestedTooDeep } from './nesting.ts';
import { type PresetParts, partList, presetParts, presets, whyNoFamily } from './presets.ts';
import { headBudgets, layerBudgets, schedules, scorers, selections, transforms } from './registry.ts';
import { spelledOut, spellingOut } from './spell-out.ts';

export { pressJsonSchema } from './config-schema.ts';

type Json = Record<string, unknown>;

/** One element of a press config: its press (null = no_press) and the fields that composed presses share. */
interface Element {
  readonly path: string;
  readonly press: Omit<Press, 'mode' | 'compat'> | null;
  readonly fields: Fields;
}

const KINDS = { scorer: scorers, layer_budget: layerBudgets, head_budget: headBudgets, selection: selections, transforms, schedule: schedules };
const SHARED = ['scope', 'mode', 'compat', 'explain', 'entry_type'] as const;

/** Absent and null mean no press. Throws InputError. */
export function parsePress(json: unknown): PressRequest {
  if (json === undefined || json === null) return { presses: [], name: 'no_press', scope: null, explain: false, entryType: null };
  if (nestedTooDeep(json))
    throw new InputError(
      'press_form',
      'press',
      `press must not have lists or objects in each other more than ${MOST_LEVELS} deep; see /v1/presses for its forms`,
    );
  if (Array.isArray(json) && json.length === 0)
    throw new InputError('press_form', 'press', 'press must hold at least one press, got []; leave it out for no press');
  if (Array.isArray(json) && json.length > MOST_PRESSES)
    throw new InputError('press_form', 'press', `press must hold ${MOST_PRESSES} presses or fewer, got ${json.length}`);
  const elements = Array.isArray(json) ? json.map((one, i) => parseElement(one, `press[${i}]`)) : [parseElement(json, 'press')];
  const shared = agreed(elements);
  const presses = elements.flatMap(({ press }) =>
    press === null ? [] : [{ ...press, mode: shared.mode ?? 'streaming', compat: shared.compat === 'kvpress' } satisfies Press],
  );
  for (const press of presses) spellingOut(press, checkParts);
  checkAdding(presses);
  const decoding = decodingPress(presses);
  if (decoding) spellingOut(decoding, (press) => checkSchedules(presses.map((one) => (one === decoding ? press : one))));
  checkComposition(presses.filter(({ schedule }) => schedule.part.prefill));
  return {
    presses,
    name: presses.map(({ name }) => name).join('|') || 'no_press',
    scope: shared.scope ?? null,
    explain: shared.explain ?? false,
    entryType: shared.entry_type ?? null,
  };
}

/** True when nothing would be removed: the engine then runs as without a press. A memory budget may still turn out to hold everything. */
export function isNoOp({ presses }: PressRequest): boolean {
  return presses.every(isIdle);
}

function parseElement(json: unknown, path: string): Element {
  if (typeof json === 'string') return parsePreset({ preset: json }, path, path);
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new InputError(
      'press_form',
      path,
      `${path} must be a preset name, an object with "preset" or "scorer", or a list of these, got ${show(json)}`,
    );
  }
  if ('preset' in json) return parsePreset(json as Json, path, `${path}.preset`);
  if ('scorer' in json) return parseComposition(json as Json, path);
  throw new InputError('press_form', path, `${path} needs "preset" or "scorer", got ${show(json)}`);
}

function parsePreset(json: Json, path: string, namePath: string): Element {
  const { preset: name, ...asked } = json;
  const apart = typeof name === 'string' ? whyNoFamily(name) : null;
  if (apart !== null) throw new InputError('press_unavailable', namePath, `preset "${name}" is not available: ${apart}`);
  if (typeof name !== 'string' || !Object.hasOwn(presets, name)) throw unknownPreset(name, namePath);
  const { summary: _, params: defaults = {}, ...preset } = { params: undefined, ...presets[name] };
  const parts = presetParts(name);
  // A preset's parts take their parameters from beside the preset's name: no two parts of one share a parameter name.
  const filled = { ...defaults, ...asked };
  const given = ({ params }: PartInfo<z.ZodObject>): Json => pick(filled, Object.keys(params.shape));
  const mayBeNamed = preset.scorer !== null && preset.schedule === undefined; // the schedule
  const kind = Object.keys(KINDS).find((kind) => kind in asked && !(kind === 'schedule' && mayBeNamed));
  if (kind !== undefined) {
    const spelled = parts === null ? '' : `, or spell it out: ${spelledOut(withParams(parts, given), pick(defaults, Object.keys(fields)))}`;
    const what = kind === 'transforms' ? 'transforms' : `its ${kind}`;
    throw new InputError('press_conflict', `${path}.${kind}`, `preset "${name}" already chooses ${what}; leave one of them out${spelled}`);
  }
  const fixed = (['compression_ratio', 'memory_budget'] as const).find((field) => 'compression_ratio' in defaults && asked[field]);
  if (fixed !== undefined) {
    throw new InputError(
      'press_conflict',
      `${path}.${fixed}`,
      `${fixed} ${show(asked[fixed])} with preset "${name}", which removes no tokens; leave it out, or compose it with a press that does: [{"preset": "snapkv", "compression_ratio": 0.5}, "${name}"]`,
    );
  }
  if (parts === null) {
    const beside = parseFields(asked, path, []);
    if (beside.compression_ratio || beside.memory_budget !== undefined) {
      const field = beside.compression_ratio ? 'compression_ratio' : 'memory_budget';
      throw new InputError(
        'press_conflict',
        `${path}.${field}`,
        `${field} ${show(asked[field])} with preset "no_press", which keeps everything; choose a press`,
      );
    }
    return { path, press: null, fields: beside };
  }
  const own = partList(parts).flatMap((part) => Object.keys(part.params.shape));
  const beside = parseFields(omit(filled, [...own, 'schedule']), path, [...own, ...(mayBeNamed ? ['schedule'] : [])]);
  const chosen = withParams(parts, (part) => readParams(part.params, given(part), path));
  const schedule = 'schedule' in asked ? readPart<Schedule>('schedule', asked.schedule, `${path}.schedule`) : chosen.schedule;
  return finish(name, { ...chosen, schedule }, beside, path);
}

function withParams(parts: PresetParts, paramsOf: (part: PartInfo<z.ZodObject>) => Json): PressParts {
  const choose = <P extends PartInfo<z.ZodObject>>(part: P): Chosen<P> => ({ part, params: paramsOf(part) });
  return {
    scorer: choose(parts.scorer),
    layerBudget: choose(parts.layerBudget),
    headBudget: choose(parts.headBudget),
    selection: choose(parts.selection),
    transforms: parts.transforms.map(choose),
    schedule: choose(parts.schedule),
  };
}

function parseComposition(json: Json, path: string): Element {
  const given = json.transforms ?? [];
  if (!Array.isArray(given)) {
    throw new InputError(
      'press_param_type',
      `${path}.transforms`,
      `transforms must be a list of names or {"name": ..., parameters}, got ${show(given)}`,
    );
  }
  const chosen: PressParts = {
    scorer: readPart('scorer', json.scorer, `${path}.scorer`),
    layerBudget: readPart('layer_budget', json.layer_budget ?? 'uniform', `${path}.layer_budget`),
    headBudget: readPart('head_budget', json.head_budget ?? 'uniform', `${path}.head_budget`),
    selection: readPart('selection', json.selection ?? 'top_k', `${path}.selection`),
    transforms: given.slice(0, MOST_TRANSFORMS + 1).map((one, i) => readPart('transforms', one, `${path}.transforms[${i}]`)),
    schedule: readPart('schedule', json.schedule ?? 'prefill', `${path}.schedule`),
  };
  if (given.length > MOST_TRANSFORMS) {
    throw new InputError('press_param_range', `${path}.transforms`, `transforms must be ${MOST_TRANSFORMS} or fewer, got ${given.length}`);
  }
  const { scorer, layerBudget, headBudget, selection, schedule } = chosen;
  const rest = omit(json, Object.keys(KINDS));
  const chosenParts = Object.entries({ scorer, layer_budget: layerBudget, head_budget: headBudget, selection, schedule });
  for (const field of Object.keys(rest)) {
    const here = [...Object.keys(KINDS), ...Object.keys(fields)];
    if (here.includes(field)) continue;
    for (const near of [(one: string) => one === field, (one: string) => nearestName(field, here) === null && nearestName(field, [one]) !== null]) {
      const found = chosenParts
        .flatMap(([kind, { part }]) => Object.keys(part.params.shape).map((param) => ({ kind, part, param })))
        .find(({ param }) => near(param));
      if (found === undefined) continue;
      const { kind, part, param } = found;
      const right = `"${kind}":{"name":"${part.name}","${param}":${show(rest[field])}}`;
      throw new InputError('press_param_unknown', `${path}.${shownName(field)}`, `${param} is a parameter of ${kind} "${part.name}": write ${right}`);
    }
  }
  const beside = parseFields(rest, path, Object.keys(KINDS));
  const later = schedule.part === schedules.prefill ? [] : [schedule];
  const added = [...(selection.part === selections.top_k ? [] : [selection]), ...chosen.transforms, ...later].map(({ part }) => part.name);
  const name = [scorer.part.name, layerBudget.part.name, headBudget.part.name, ...added].join('+');
  return finish(name, chosen, beside, path);
}

/** More than there are, few enough to read. */
const MOST_TRANSFORMS = 8;

function finish(name: string, parts: PressParts, given: Fields, path: string): Element {
  const { layerBudget, schedule } = parts;
  const { ownRatio } = layerBudget.part;
  const own = ownRatio?.mean(layerBudget.params);
  const asked = (['compression_ratio', 'memory_budget'] as const).filter((field) => given[field] !== undefined);
  if (ownRatio !== undefined && asked.length > 0) {
    throw new InputError(
      'press_conflict',
      `${path}.${asked[0]}`,
      `${asked[0]} ${show(given[asked[0]])} beside layer_budget "${layerBudget.part.name}", whose ${ownRatio.param} decide already; leave one of them out`,
    );
  }
  const decides = decider(parts);
  if (decides !== null && asked.some((field) => given[field] !== 0)) {
    throw new InputError(
      'press_conflict',
      `${path}.${asked[0]}`,
      `${asked[0]} ${show(given[asked[0]])} beside ${decides.kind} "${decides.part.name}", which settles how much is kept by its ${decides.part.decidesTotal}; leave ${asked[0]} out`,
    );
  }
  const idleOnPrompt = !schedule.part.prefill;
  const astray = asked.find((field) => (idleOnPrompt ? given[field] !== 0 : schedule.part.decoding !== null && field === 'memory_budget'));
  if (astray !== undefined) {
    const why = idleOnPrompt
      ? 'which leaves the prompt as it is and goes by target_size or target_compression_ratio; schedule "prefill_and_decoding" presses both'
      : 'under which the cache grows by interval tokens and shrinks to target_size; use compression_ratio for the prompt';
    throw new InputError('press_conflict', `${path}.${astray}`, `${astray} ${show(given[astray])} beside schedule "${schedule.part.name}", ${why}`);
  }
  if (schedule.part.decoding !== null && given.compression_ratio === 0) return { path, press: null, fields: given }; // off
  if (asked.length === 2) {
    throw new InputError(
      'press_conflict',
      `${path}.memory_budget`,
      `compression_ratio ${given.compression_ratio} and memory_budget ${show(given.memory_budget)} exclude each other; leave one of them out`,
    );
  }
  if (given.memory_budget !== undefined && given.compat === 'kvpress') {
    throw new InputError(
      'press_conflict',
      `${path}.memory_budget`,
      `memory_budget ${show(given.memory_budget)} beside "compat": "kvpress", which knows ratios only; use compression_ratio, or leave compat out`,
    );
  }
  const byMemory = given.memory_budget !== undefined;
  const press = {
    name,
    path,
    ...parts,
    compressionRatio: byMemory ? null : decides !== null || idleOnPrompt ? 0 : (own ?? given.compression_ratio ?? DEFAULT_RATIO),
    memoryBudgetBytes: byMemory ? memoryBytes(given.memory_budget!) : null,
    onTight: given.on_tight ?? ('reject' as const),
  };
  return { path, press, fields: given };
}

/** The fields that one request can have only once: whoever names them must name the same. */
function agreed(elements: readonly Element[]): Pick<Fields, (typeof SHARED)[number]> {
  const result: Json = {};
  for (const field of SHARED) {
    for (const { path, fields } of elements) {
      if (fields[field] === undefined) continue;
      if (field in result && show(result[field]) !== show(fields[field])) {
        throw new InputError(
          'press_conflict',
          `${path}.${field}`,
          `${field} ${show(fields[field])} contradicts ${show(result[field])} of an earlier press; composed presses share it, so name it once`,
        );
      }
      result[field] = fields[field];
    }
  }
  return result;
}

function readPart<P extends PartInfo<z.ZodObject>>(kind: keyof typeof KINDS, given: unknown, here: string): Chosen<P> {
  const parts = KINDS[kind] as Record<string, PartInfo<z.ZodObject>>;
  if (typeof given !== 'string' && (typeof given !== 'object' || given === null || Array.isArray(given))) {
    throw new InputError('press_param_type', here, `${kind} must be a name or {"name": ..., parameters}, got ${show(given)}`);
  }
  const { name, ...params } = typeof given === 'string' ? { name: given } : (given as Json);
  if (typeof name !== 'string' || !Object.hasOwn(parts, name))
    throw unknownName(kind, name, Object.keys(parts), typeof given === 'string' ? here : `${here}.name`);
  return { part: parts[name] as never, params: readParams(parts[name].params, params, here) };
}

function readParams(schema: z.ZodObject, given: Json, path: string): Json {
  const result = schema.safeParse(given);
  if (result.success) return result.data;
  throw fromIssue(result.error.issues[0], given, path, Object.keys(schema.shape));
}

function parseFields(given: Json, path: string, others: readonly string[]): Fields {
  const result = fieldsSchema.safeParse(given);
  if (result.success) return result.data;
  throw fromIssue(result.error.issues[0], given, path, [...others, ...Object.keys(fields)]);
}

/** zod's finding in our three parts: what is wrong, the value seen, what would work. */
function fromIssue(issue: z.core.$ZodIssue, given: Json, path: string, known: readonly string[]): InputError {
  if (issue.code === 'unrecognized_keys') {
    const field = issue.keys[0];
    const why = leftOut(field);
    if (why !== null) return new InputError('press_param_unknown', `${path}.${shownName(field)}`, `${shownName(field)} is not offered: ${why}`);
    return new InputError(
      'press_param_unknown',
      `${path}.${shownName(field)}`,
      `unknown field "${shownName(field)}"${known.length > 0 ? didYouMean(field, known) : '; this part has no parameters'}`,
    );
  }
  const field = issue.path.map((step, i) => (typeof step === 'number' ? `[${step}]` : `${i > 0 ? '.' : ''}${String(step)}`)).join('');
  const value = issue.path.reduce<unknown>((inside, step) => (inside as Json | undefined)?.[step as string], given);
  if (value === undefined) return new InputError('press_param_missing', `${path}.${field}`, `${field} is missing; it ${issue.message}`);
  const code = issue.code === 'invalid_type' || issue.code === 'invalid_union' ? 'press_param_type' : 'press_param_range';
  return new InputError(code, `${path}.${field}`, `${field} ${issue.message}, got ${show(value)}`);
}

/** A part's name is no misspelt preset: told are how a press is spelled out with it, and the presets that hold it. */
function unknownPreset(name: unknown, param: string): InputError {
  const names = Object.keys(presets);
  if (typeof name !== 'string') return unknownName('preset', name, names, param);
  const unknown = (hint: string): InputError => new InputError('press_unknown', param, `unknown preset "${shownName(name)}"${hint}`);
  const decoded = name.startsWith('decoding_') ? name.slice('decoding_'.length) : '';
  if (Object.hasOwn(presets, decoded) && presetParts(decoded) !== null) return unknown(whileDecoding(decoded));
  const elsewhere = presetElsewhere(name);
  if (elsewhere !== null) return unknown(`; ${elsewhere}`);
  const parts = Object.values(KINDS).flatMap((kind) => Object.keys(kind));
  if (kindOf(name) === null) return unknown(nearestName(name, names) ?? nearestName(name, parts) ?? didYouMean(name, names));
  const holding = names.filter((preset) => preset.startsWith(`${name}_`) || preset.endsWith(`_${name}`));
  const near = holding.length > 0 ? `; presets with it: ${toldNames(holding, FEW)}` : (nearestName(name, names) ?? '');
  return unknown(`; ${whatItIs(name)}${near}`);
}

/** How a preset acts while decoding, or why it does not; what its parts want besides is told when it is asked for. */
function whileDecoding(preset: string): string {
  const files = partList(presetParts(preset)!).flatMap(({ artifact }) => (artifact ? [[artifact.param, `any.${artifact.format}`]] : []));
  try {
    parsePress({ preset, schedule: 'decoding', ...Object.fromEntries(files) });
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    if (error.code !== 'press_param_missing') return `, and there is none: ${error.message}`;
  }
  return `; {"preset": "${preset}", "schedule": "decoding"} says it`;
}

/** Presets of a part, in a message that says more. */
const FEW = 6;

const KIND_WORDS: Record<keyof typeof KINDS, string> = {
  scorer: 'scorer',
  layer_budget: 'layer budget',
  head_budget: 'head budget',
  selection: 'selection',
  transforms: 'transform',
  schedule: 'schedule',
};

/** The kind of part that has such a name, scorers first. */
function kindOf(name: string): keyof typeof KINDS | null {
  return (Object.keys(KINDS) as (keyof typeof KINDS)[]).find((kind) => Object.hasOwn(KINDS[kind], name)) ?? null;
}

/** Of a part: its kind, and a press that has it and is taken; where each wants parameters, where they are told. */
function whatItIs(name: string): string {
  const kind = kindOf(name)!;
  const given = kind === 'transforms' ? [name] : name;
  const forms: Json[] = kind === 'scorer' ? [{ scorer: name }] : ['snapkv', 'knorm'].map((scorer) => ({ scorer, [kind]: given }));
  const taken = [...forms, ...forms.map((form) => ({ ...form, schedule: 'decoding' }))].find(isTaken);
  const how = taken === undefined ? `with parameters of its own: edgepress presses ${name}, or /v1/presses` : JSON.stringify(taken);
  return `"${name}" is a ${KIND_WORDS[kind]}${taken === undefined ? ' ' : ': '}${how}`;
}

function isTaken(json: unknown): boolean {
  try {
    parsePress(json);
    return true;
  } catch (error) {
    if (error instanceof InputError) return false;
    throw error;
  }
}

function unknownName(kind: string, name: unknown, known: readonly string[], param: string): InputError {
  if (typeof name !== 'string')
    return new InputError('press_param_type', param, `${kind} must be named by a text, got ${show(name)}; known: ${toldNames(known)}`);
  const what = kind === 'transforms' ? 'transform' : kind;
  return new InputError('press_unknown', param, `unknown ${what} "${shownName(name)}"${elsewhereThan(kind, name) ?? didYouMean(name, known)}`);
}

/** The name of something else: a part of another kind, or a preset where a part belongs. */
function elsewhereThan(kind: string, name: string): string | null {
  if (kind === 'preset') return null;
  const paper = kind === 'scorer' ? presetElsewhere(name) : null;
  if (paper !== null) return `; ${paper}`;
  if (kindOf(name) !== null) return `; ${whatItIs(name)}`;
  return Object.hasOwn(presets, name) ? `; "${name}" is a preset: {"preset":"${name}"}` : null;
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function pick(from: Json, keys: readonly string[]): Json {
  return Object.fromEntries(Object.entries(from).filter(([key]) => keys.includes(key)));
}

function omit(from: Json, keys: readonly string[]): Json {
  return Object.fromEntries(Object.entries(from).filter(([key]) => !keys.includes(key)));
}
