/** Which parts go together in one press, whatever the prompt. A refusal names both and says why. */
import type { z } from 'zod';
import type { Chosen, HeadBudget, PartInfo, Press, PressParts, Selection } from './contract.ts';
import { InputError } from './input-error.ts';
import { type PartKind, partParam } from './part-param.ts';

interface KindOfPart extends Chosen<PartInfo<z.ZodObject>> {
  readonly kind: PartKind;
}

export function chosenParts({ scorer, layerBudget, headBudget, selection, transforms, schedule }: PressParts): readonly KindOfPart[] {
  return [
    { kind: 'scorer', ...scorer },
    { kind: 'layer_budget', ...layerBudget },
    { kind: 'head_budget', ...headBudget },
    { kind: 'selection', ...selection },
    ...transforms.map((transform) => ({ kind: 'transforms' as const, ...transform })),
    { kind: 'schedule', ...schedule },
  ];
}

/** The part that settles how much is kept by itself; null where compression_ratio or memory_budget does. */
export function decider(parts: PressParts): KindOfPart | null {
  return chosenParts(parts).find(({ part }) => part.decidesTotal !== undefined) ?? null;
}

/** The selection of a press where it says itself how much each head keeps; null where the head budget does. */
export function countingSelection({ selection: { part, params }, compat }: Pick<Press, 'selection' | 'compat'>): Chosen<CountingSelection> | null {
  if (part.counts === undefined || (part.countsInCompat && !compat)) return null;
  return { part: part as CountingSelection, params };
}
type CountingSelection = Selection & Required<Pick<Selection, 'counts'>>;

/** The head budget of a press where it says by lengths alone how much each head keeps, also of a running sequence. */
export function slidingBudget({ headBudget: { part, params } }: Pick<Press, 'headBudget'>): Chosen<HeadBudget> | null {
  return part.whileDecoding ? { part, params } : null;
}

export function checkParts(press: Press): void {
  const { layerBudget, headBudget, selection, transforms } = press;
  const refuse = (kind: PartKind, message: string): never => {
    throw new InputError('press_conflict', partParam(press, kind), message);
  };

  const own = decider(press);
  const ragged: KindOfPart[] = [
    ...(layerBudget.part.ragged ? [{ kind: 'layer_budget' as const, ...layerBudget }] : []),
    ...(headBudget.part.ragged ? [{ kind: 'head_budget' as const, ...headBudget }] : []),
  ];
  if (own !== null) {
    const alsoDeals = chosenParts(press).find(({ part }) => part !== own.part && (ragged.some((one) => one.part === part) || part.decidesTotal));
    if (alsoDeals) {
      refuse(
        alsoDeals.kind,
        `${own.kind} "${own.part.name}" settles how much is kept by its ${own.part.decidesTotal}, so ${alsoDeals.kind} "${alsoDeals.part.name}" has nothing to deal; leave one of them out`,
      );
    }
  }
  if (layerBudget.part.perEntry && !headBudget.part.ragged) {
    refuse(
      'head_budget',
      `layer_budget "${layerBudget.part.name}" deals single entries, which head_budget "${headBudget.part.name}" cannot share evenly; use "adakv"`,
    );
  }
  const counting = countingSelection(press);
  if (counting && ragged.length > 0) {
    const [{ kind, part }] = ragged;
    refuse(
      kind,
      `selection "${selection.part.name}"${selection.part.countsInCompat ? ' under compat "kvpress"' : ''} says itself how many entries a head keeps, so ${kind} "${part.name}" has nothing to deal; leave one of them out`,
    );
  }
  if (selection.part.exact) {
    const why = `selection "${selection.part.name}" must know before it ranks how many entries are kept`;
    if (layerBudget.part.signal !== 'none') {
      refuse('layer_budget', `${why}, and layer_budget "${layerBudget.part.name}" decides that afterwards; use "uniform", "pyramid" or "per_layer"`);
    }
    if (headBudget.part.ragged) refuse('head_budget', `${why}, and head_budget "${headBudget.part.name}" decides that afterwards; use "uniform"`);
  }
  for (const [i, { part }] of transforms.entries()) {
    if (transforms.findIndex((other) => other.part === part) < i) refuse('transforms', `transform "${part.name}" is named twice; once is enough`);
    if (!part.anyBudget && layerBudget.part.signal !== 'none') {
      refuse(
        'transforms',
        `transform "${part.name}" must know what is kept when a layer is stored, and layer_budget "${layerBudget.part.name}" settles that after the last layer; use ${part.renumbers ? '"uniform"' : '"uniform", "pyramid" or "per_layer"'}`,
      );
    }
    const uneven = counting && !counting.part.evenCounts ? [{ kind: 'selection' as const, ...counting }] : [];
    const deals = [...ragged, ...(own ? [own] : []), ...uneven][0];
    if (part.renumbers && deals) {
      refuse(
        'transforms',
        `transform "${part.name}" gives kept entries new positions, so all layers and heads must keep equally many, and ${deals.kind} "${deals.part.name}" deals unequally; use uniform budgets and selection "top_k"`,
      );
    }
  }
  for (const { kind, part, params } of chosenParts(press)) {
    const why = part.refuses?.(press, params);
    if (why) refuse(kind, why);
  }
}
