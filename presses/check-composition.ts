/** Which presses of a list go together, whatever the prompt. */
import type { z } from 'zod';
import { countingSelection } from './check-parts.ts';
import { checkTail, isIdle, keepsAll, observingQueries, protectedBy, shorterTail, type Tail } from './check-press.ts';
import type { PartInfo, Press } from './contract.ts';
import { InputError } from './input-error.ts';
import { type PartKind, partParam } from './part-param.ts';

/** Rows that a press adds are no tokens of the prompt: no other press knows of them, before or after it. */
export function checkAdding(presses: readonly Press[]): void {
  const adding = presses.find(({ transforms }) => transforms.some(({ part }) => part.adds));
  const other = presses.find((press) => press !== adding && !(press.schedule.part.prefill && isIdle(press)));
  if (adding === undefined || isIdle(adding) || other === undefined) return;
  const { part } = adding.transforms.find(({ part }) => part.adds)!;
  throw new InputError(
    'press_composition',
    partParam(adding, 'transforms'),
    `transform "${part.name}" adds rows that were read over the whole prompt, and "${other.name}" ${presses.indexOf(other) < presses.indexOf(adding) ? 'removes some of it before' : 'would take them for tokens afterwards'}; use "${adding.name}" alone`,
  );
}

/** What can be right one after the other: rows that a later press scores must still be the tokens that it believes them to be. */
export function checkComposition(presses: readonly Press[]): void {
  let tail: Tail = { last: Infinity, after: '' };
  for (const [i, press] of presses.entries()) {
    const { path, scorer, layerBudget, headBudget, selection, transforms } = press;
    checkTail(press, observingQueries(press, Infinity), tail, path);
    tail = shorterTail(tail, keepsAll(press) ? Infinity : protectedBy(press, Infinity).last, press);
    if (scorer.part.passes && !presses.slice(0, i).every(isIdle)) {
      throw new InputError(
        'press_composition',
        partParam(press, 'scorer'),
        `scorer "${scorer.part.name}" has all of the prompt read again, and a press before it lets go of some; put "${press.name}" first`,
      );
    }
    if (i === presses.length - 1) continue;
    if (layerBudget.part.signal !== 'none') {
      throw new InputError(
        'press_composition',
        partParam(press, 'layer_budget'),
        `layer_budget "${layerBudget.part.name}" needs all layers before it can decide, so only the last of composed presses may use it; put "${press.name}" last`,
      );
    }
    if (headBudget.part.ragged) {
      throw new InputError(
        'press_composition',
        partParam(press, 'head_budget'),
        `head_budget "${headBudget.part.name}" leaves heads of unequal length, which the next press cannot score; put "${press.name}" last`,
      );
    }
    const unequal = [
      ...(countingSelection(press) ? [{ kind: 'selection' as const, part: selection.part }] : []),
      ...chosenRenumbering(transforms),
    ][0];
    if (unequal) {
      throw new InputError(
        'press_composition',
        partParam(press, unequal.kind),
        `${unequal.kind === 'selection' ? 'selection' : 'transform'} "${unequal.part.name}" leaves entries that the next press cannot place; put "${press.name}" last`,
      );
    }
    if (press.memoryBudgetBytes !== null) {
      throw new InputError(
        'press_composition',
        `${path}.memory_budget`,
        `memory_budget says how much is left at the end, so only the last of composed presses may have it; give "${press.name}" a compression_ratio`,
      );
    }
  }
}

function chosenRenumbering(transforms: Press['transforms']): { kind: PartKind; part: PartInfo<z.ZodObject> }[] {
  return transforms.filter(({ part }) => part.renumbers).map(({ part }) => ({ kind: 'transforms', part }));
}
