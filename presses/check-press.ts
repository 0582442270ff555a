/**
 * From a parsed press to budgets for one prompt. Whatever can be refused before any compute is refused here; the compressor
 * takes what is left. Lengths are tokens per layer and KV head.
 */
import type { Protected } from '../worker/backend/backend.ts';
import { type ArtifactOf, noArtifacts } from './artifacts.ts';
import { emptyBudget, lostQueries, memoryTooSmall, protectors, shortPrompt, type Tries, tightBudget } from './budget-errors.ts';
import type { BudgetMath } from './budget-math.ts';
import { countingSelection, decider } from './check-parts.ts';
import type { AddedRows, BudgetContext, Chosen, LayerBudget, OtherBudget, Press, PressParts, PressRequest } from './contract.ts';
import { InputError } from './input-error.ts';
import { uniform } from './layer-budgets/uniform.ts';
import { otherBudgets } from './other-budgets.ts';
import { partParam } from './part-param.ts';
import { protectedCount } from './protected-count.ts';

/** What a press is checked against. */
export interface PressSize {
  readonly tokens: number; // n that the scope covers
  readonly layers: number; // L
  readonly kvHeads: number; // H
  readonly math: BudgetMath;
  /** Needed where a press has a memory budget. */
  readonly pages?: PageSizes;
  /** Needed where a part reads trained data. */
  readonly artifact?: ArtifactOf;
}

/** How lists (one per layer and KV head) take memory. */
export interface PageSizes {
  readonly pageBytes: number;
  readonly entriesPerPage: number;
  /** Tokens that every list gets on top, never compressed: what follows the scope, and what is generated. */
  readonly extraTokens: number;
}

/** One press of a composition, on the prompt's length. */
export interface Stage {
  readonly press: Press;
  /** What it protects here; less than its scorer asked for under on_tight "uniform". */
  readonly keep: Protected;
  readonly layerBudget: { readonly part: LayerBudget; readonly params: Record<string, unknown> };
  readonly context: BudgetContext;
  /** [L] budgets known before the prompt is read; null = they depend on what is measured. */
  readonly exact: readonly number[] | null;
}

export interface CheckedPress {
  readonly name: string;
  readonly size: PressSize;
  readonly stages: readonly Stage[]; // empty = nothing is removed
  readonly averageBudget: number; // mean over layers at the end, at most where a selection counts; a fraction only under per_layer or after unequal layers
  /** What the press adds to every layer beside that; null = nothing. */
  readonly added: AddedRows | null;
  readonly bounds: readonly { readonly min: number; readonly max: number }[]; // [L] what each layer can end with
  readonly deferred: boolean;
  /** Layer budgets that look on, where the request wants to be told what they would have dealt. */
  readonly others: readonly Chosen<LayerBudget>[];
  readonly unasked: readonly OtherBudget[];
  readonly explain: boolean;
  readonly notes: readonly string[];
}

export function checkPress(request: PressRequest, size: PressSize): CheckedPress {
  const { layers, tokens } = size;
  const notes: string[] = [];
  const stages: Stage[] = [];
  let caps: readonly number[] = Array(layers).fill(tokens);
  let tail: Tail = { last: Infinity, after: '' };
  for (const press of request.presses) {
    if (isIdle(press)) continue;
    const { path } = press;
    const stage = checkStage(press, caps, size, path, notes);
    if (stage === null) continue;
    if (press.headBudget.part.ragged && !press.scorer.part.comparable) {
      notes.push(
        `head_budget "${press.headBudget.part.name}" compares scores between heads, and those of ${press.scorer.part.name} have no common unit`,
      );
    }
    checkTail(press, observingQueries(press, Math.max(...caps)), tail, path);
    checkEven(stage);
    stages.push(stage);
    caps = stage.exact ?? caps;
    if (!keepsAll(press)) tail = shorterTail(tail, Math.min(stage.keep.last, ...caps), press);
  }
  const last = stages.at(-1);
  if (last === undefined && request.presses.at(-1)?.memoryBudgetBytes && notes.length === 0)
    notes.push('the whole cache fits the memory_budget: nothing was removed');
  const late = last !== undefined && !cascades(last);
  if (late && last.press.mode === 'streaming') {
    notes.push(
      `layer_budget "${last.layerBudget.part.name}" decides after the last layer: every layer is stored whole until then, as with mode "deferred"`,
    );
  }
  const early = last?.press.selection.part.exact === true;
  if (early && last.press.mode === 'deferred') {
    notes.push(`selection "${last.press.selection.part.name}" knows its budgets before it ranks: no layer is stored whole, as with mode "streaming"`);
  }
  const deferred = late || (last?.press.mode === 'deferred' && !early);
  const counting = last === undefined ? null : countingSelection(last.press);
  const own =
    counting?.part.bounds?.(last!.context, counting.params) ?? last?.press.headBudget.part.bounds?.(last.context, last.press.headBudget.params);
  const budgeted = last && inPress(last.press, () => last.layerBudget.part.bounds(last.context, last.layerBudget.params));
  const bounds = own ?? budgeted ?? caps.map((n) => ({ min: n, max: n }));
  const looking = request.explain && last !== undefined ? otherBudgets(last.press) : { asked: [], unasked: [] };
  return {
    name: request.name,
    size,
    stages,
    added: last === undefined ? null : addedRows([last.press], size.artifact),
    averageBudget: own ? mean(own.map(({ max }) => max)) : last ? averageOf(last, size) : mean(caps),
    bounds,
    deferred,
    others: looking.asked,
    unasked: looking.unasked,
    explain: request.explain,
    notes,
  };
}

function cascades({ layerBudget: { part }, context }: Stage): boolean {
  return part.cascades !== false && !(context.compat && part.cascadesInCompat === false);
}

/** Tokens per layer and KV head that a press keeps in the end. */
function averageOf({ layerBudget: { part, params }, exact, context }: Stage, { layers, kvHeads }: PressSize): number {
  if (exact !== null) return mean(exact);
  return part.entries ? part.entries(context, params) / (layers * kvHeads) : mean(context.even);
}

/** Pages that `lists` lists of `entries` entries in all can take at most, however unequal they are. */
export function mostPages(entries: number, lists: number, entriesPerPage: number): number {
  return Math.floor((entries + lists * (entriesPerPage - 1)) / entriesPerPage);
}

/** It removes nothing of the prompt and changes nothing in it. */
export function isIdle(press: Press): boolean {
  return !press.schedule.part.prefill || (keepsAll(press) && !press.transforms.some(({ part }) => part.actsAlone));
}

/** It removes nothing; what its transforms make of what stays is another matter. */
export function keepsAll(press: Press): boolean {
  return press.compressionRatio === 0 && decider(press) === null;
}

/** What presses that act on the prompt add to it; one of them at most does. */
export function addedRows(presses: readonly Press[], artifact: ArtifactOf = noArtifacts): AddedRows | null {
  for (const press of presses) for (const { part, params } of press.transforms) if (part.adds && !isIdle(press)) return part.adds(artifact, params);
  return null;
}

/** How many of the last queries a press reads on n tokens: those of its hungriest part. */
export function queriesOf(press: PressParts, n: number): number {
  const asked = press.transforms.map(({ part, params }) => part.queries?.(params) ?? 0);
  return Math.max(observingQueries(press, n), Math.min(n, Math.max(0, ...asked)));
}

/** Those of them that look at keys. A window leaves one token at least to observe. */
export function observingQueries({ scorer, layerBudget, selection }: PressParts, n: number): number {
  const { part, params } = layerBudget;
  const scorerQueries = scorer.part.queries(scorer.params);
  const most = Math.max(
    scorerQueries,
    part.signal === 'none' ? 0 : part.queries(params, scorerQueries),
    selection.part.queries?.(selection.params, scorerQueries) ?? 0,
  );
  return most === Infinity ? n : Math.min(n - 1, most);
}

/** What is kept of every layer for a press, beside keys and values. */
export interface PressReads {
  /** How many of the last queries: those of the widest window. */
  readonly queries: number;
  /** The attention module's input. */
  readonly hidden: boolean;
  /** What attention changed. */
  readonly change: boolean;
}

/** `massWindow` queries observe the retained mass; layer budgets that only look on read too. */
export function readsOf({ stages, others, size: { tokens } }: Pick<CheckedPress, 'stages' | 'others' | 'size'>, massWindow: number): PressReads {
  const presses = [...stages.map(({ press }) => press), ...others.map((layerBudget) => ({ ...stages.at(-1)!.press, layerBudget }))];
  const budgets = [...stages.map(({ layerBudget }) => layerBudget), ...others];
  return {
    queries: Math.max(Math.min(massWindow, tokens - 1), ...presses.map((press) => queriesOf(press, tokens))),
    hidden: stages.some(({ press }) => press.scorer.part.hidden),
    change: budgets.some(({ part }) => part.signal !== 'none' && part.change),
  };
}

/** What a press keeps whatever the scores say: by its scorer's rule and its selection's. */
export function protectedBy({ scorer, selection, compat }: PressParts & { readonly compat?: boolean }, n: number): Protected {
  const rules = [scorer.part.protect(scorer.params, n, compat), selection.part.protect?.(selection.params, n) ?? { first: 0, last: 0 }];
  return { first: Math.max(...rules.map(({ first }) => first)), last: Math.max(...rules.map(({ last }) => last)) };
}

/** How many of the last tokens surely have all their keys, and the composed press that shortened them. */
export interface Tail {
  readonly last: number;
  readonly after: string;
}

export function shorterTail(tail: Tail, last: number, { name }: Pick<Press, 'name'>): Tail {
  return last < tail.last ? { last, after: name } : tail;
}

/** A press that reads the last queries needs the keys of those tokens: causal attention among them would be wrong without. */
export function checkTail({ name, scorer, schedule }: Press, queries: number, { last, after }: Tail, path: string): void {
  const hidden = scorer.part.hidden && schedule.part.prefill; // what acts while decoding alone scores the prompt before any press
  if (queries <= last && !(hidden && last < Infinity)) return;
  throw lostQueries(name, hidden ? Infinity : queries, last, after, path);
}

/** Renumbered layers go on at one position, so that all of them must keep equally many: an earlier press may have left them unequal. */
function checkEven({ press, exact }: Stage): void {
  const renumbers = press.transforms.find(({ part }) => part.renumbers);
  if (renumbers === undefined || exact!.every((budget) => budget === exact![0])) return;
  throw new InputError(
    'press_composition',
    partParam(press, 'transforms'),
    `transform "${renumbers.part.name}" gives kept entries new positions, so all layers must keep equally many, and an earlier press leaves them from ${Math.min(...exact!)} to ${Math.max(...exact!)} tokens; use uniform budgets there`,
  );
}

/** Why not: the message looks for what would work. */
class Refusal {
  readonly error: (tries: Tries) => InputError;

  constructor(error: (tries: Tries) => InputError) {
    this.error = error;
  }
}

/** Null when a memory budget turns out to hold everything, or when there is one token only. */
function checkStage(press: Press, caps: readonly number[], size: PressSize, path: string, notes: string[]): Stage | null {
  const tries = (changed: Partial<Press>): boolean => {
    try {
      return !(judge({ ...press, ...changed }, caps, size, path, []) instanceof Refusal);
    } catch (error) {
      if (error instanceof InputError) return false;
      throw error;
    }
  };
  const judged = judge(press, caps, size, path, notes);
  if (judged instanceof Refusal) throw judged.error(tries);
  return judged;
}

function judge(press: Press, caps: readonly number[], size: PressSize, path: string, notes: string[]): Stage | Refusal | null {
  const { layerBudget, onTight, compat } = press;
  const { layers, kvHeads, math, pages } = size;
  const asked = protectedBy(press, Math.max(...caps));
  const shortest = Math.min(...caps);
  const tokens = Math.max(...caps);
  const ratio = press.compressionRatio ?? ratioForMemory(press, caps, size, protectedCount(asked, shortest), path);
  const own = decider(press);
  if (isIdle({ ...press, compressionRatio: ratio })) return null;

  // Added rows pay for themselves: of what the ratio leaves, so many tokens less. kvpress raises the ratio, and rounds then.
  const added = addedRows([{ ...press, compressionRatio: ratio }], size.artifact)?.rows ?? 0;
  const spent = added === 0 ? ratio : Math.min(1, ratio + added / tokens);
  const even = caps.map((cap) => (compat ? math.keptCount(cap, spent, compat) : math.keptCount(cap, ratio, compat) - added));
  const context = (keep: Protected): BudgetContext => ({
    layers,
    tokens,
    caps,
    even,
    averageBudget: Math.floor(mean(even)),
    protectedTokens: protectedCount(keep, shortest),
    compressionRatio: spent,
    compat,
    kvHeads,
    math,
    artifact: size.artifact ?? noArtifacts,
  });
  const budgets = added > 0 && Math.min(...even) < 1 ? even : inPress(press, () => exactBudgets(layerBudget, context(asked)));
  const least = Math.min(...(budgets ?? [Math.floor(mean(even))]));
  const cache = pages ? { pageBytes: pages.pageBytes, pages: wholePages(caps, kvHeads, pages) } : null;
  if (least < 1) return new Refusal((tries) => emptyBudget(press, shortest, ratio, budgets, cache, tries));
  if (tokens === 1) {
    notes.push(`"${press.name}" removed nothing of one token`);
    return null;
  }

  if (ratio === 0 && own === null) {
    const keep = { first: 0, last: 0 }; // nothing goes, so nothing needs protection
    return { press, keep, layerBudget, context: context(keep), exact: budgets };
  }
  const wanted = asked.first + asked.last; // P, where the prompt is long enough
  if (own !== null && shortest <= wanted) {
    notes.push(`"${press.name}" removed nothing of ${shortest} tokens: it protects ${wanted}`);
    return null;
  }
  const whole = own?.part.keepsAll?.(context(asked), own.params) ?? null;
  if (whole !== null) notes.push(`${own!.kind} "${own!.part.name}" removes nothing: ${whole}`);
  const tight = least < Math.min(wanted, shortest) || shortest <= wanted;
  if (!tight) {
    const { part, params } = layerBudget;
    const silent = part.signal === 'none' ? (part.fallback?.(context(asked), params) ?? null) : null;
    if (silent !== null) notes.push(`layer_budget "${part.name}": ${silent}`);
    return { press, keep: asked, layerBudget, context: context(asked), exact: budgets };
  }
  if (shortest <= wanted && (compat || onTight === 'reject')) return new Refusal((tries) => shortPrompt(press, shortest, wanted, tries));
  if (compat) return { press, keep: asked, layerBudget, context: context(asked), exact: budgets }; // kvpress keeps some of the protected; here the lowest positions
  if (onTight === 'reject') return new Refusal((tries) => tightBudget(press, shortest, wanted, ratio, least, budgets, cache, tries));

  // on_tight "uniform": every layer keeps as many as the others; of the protected tokens the most recent, then the first ones
  const kept = Math.min(...even);
  if (kept < 1) return new Refusal((tries) => emptyBudget(press, shortest, ratio, even, cache, tries));
  const lastKept = Math.min(asked.last, kept);
  const keep = { first: Math.min(asked.first, kept - lastKept), last: lastKept };
  const part = layerBudget.part.ragged ? `; layer_budget "${uniform.name}" instead of "${layerBudget.part.name}"` : '';
  notes.push(
    `the budget of ${least} tokens is below the ${wanted} that ${protectors(press, tokens)}: the most recent of them are kept (on_tight "uniform")${part}`,
  );
  return { press, keep, layerBudget: { part: uniform, params: {} }, context: context(keep), exact: even };
}

function exactBudgets({ part, params }: Stage['layerBudget'], context: BudgetContext): readonly number[] | null {
  return part.signal === 'none' ? part.limits([], context, params) : null;
}

/** Of the whole cache. */
function wholePages(caps: readonly number[], kvHeads: number, { entriesPerPage, extraTokens }: PageSizes): number {
  return kvHeads * caps.reduce((sum, cap) => sum + Math.ceil((cap + extraTokens) / entriesPerPage), 0);
}

/** The largest n_avg whose pages surely fit, as a ratio. Equal lists round up to pages one like the other; unequal ones as badly as they can. */
function ratioForMemory(press: Press, caps: readonly number[], size: PressSize, protectedTokens: number, path: string): number {
  const { layers, kvHeads, pages } = size;
  if (pages === undefined) throw new Error('a memory budget needs the sizes of pages');
  const { pageBytes, entriesPerPage, extraTokens } = pages;
  const lists = layers * kvHeads;
  const tokens = Math.max(...caps);
  const rectangular = !press.layerBudget.part.ragged && !press.headBudget.part.ragged && caps.every((cap) => cap === tokens);
  const all = wholePages(caps, kvHeads, pages);
  const pagesFor = (average: number): number =>
    rectangular
      ? lists * Math.ceil((average + extraTokens) / entriesPerPage)
      : Math.min(all, mostPages(lists * (average + extraTokens), lists, entriesPerPage));
  const room = Math.floor(press.memoryBudgetBytes! / pageBytes);
  if (all <= room) return 0;

  let most = 0; // the largest average that fits: pagesFor never falls as the average grows
  for (let step = 2 ** Math.floor(Math.log2(tokens)); step >= 1; step /= 2) {
    if (most + step < tokens && pagesFor(most + step) <= room) most += step;
  }
  const added = addedRows([press], size.artifact)?.rows ?? 0;
  const least = added + (press.onTight === 'uniform' ? 1 : Math.max(1, protectedTokens));
  if (most < least) {
    throw memoryTooSmall(press.memoryBudgetBytes!, { least, extraTokens, lists, needed: pagesFor(least) * pageBytes }, path);
  }
  const average = caps.reduce((sum, cap) => sum + cap, 0) / layers;
  return most >= average ? 0 : 1 - most / average;
}

/** A layer budget names its field as press.layer_budget...; in a preset that is press..., in a composition press[1].layer_budget... */
function inPress<T>(press: Press, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof InputError) || error.param === null) throw error;
    const param = error.param.replace(/^press\.layer_budget/, partParam(press, 'layer_budget')).replace(/^press(?=\.compression_ratio)/, press.path);
    throw new InputError(error.code, param, error.message);
  }
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
