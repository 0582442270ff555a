/** What cannot act while decoding, whatever the prompt; and which presses of a list do. */

import { countingSelection, decider, slidingBudget } from './check-parts.ts';
import { isIdle, protectedBy, queriesOf } from './check-press.ts';
import type { Press } from './contract.ts';
import { InputError } from './input-error.ts';
import { type PartKind, partParam } from './part-param.ts';

/** The press of a request that acts while decoding; null = none does. */
export function decodingPress(presses: readonly Press[]): Press | null {
  return presses.find(({ schedule }) => schedule.part.decoding !== null) ?? null;
}

export function checkSchedules(presses: readonly Press[]): void {
  const press = decodingPress(presses);
  if (press === null) return;
  const i = presses.indexOf(press);
  if (i < presses.length - 1) {
    const message = `"${press.name}" acts while decoding, so it comes after all that act on the prompt, and is the only one that does; put it last, and only one of them`;
    throw new InputError('press_composition', press.path, message);
  }
  checkDecodingParts(press);
  checkWindow(press, presses);
}

function checkDecodingParts(press: Press): void {
  const { scorer, layerBudget, headBudget, selection, transforms, schedule } = press;
  const here = `schedule "${schedule.part.name}"`;
  const refuse = (kind: PartKind, message: string): never => {
    throw new InputError('press_conflict', partParam(press, kind), message);
  };
  if (layerBudget.part.ragged) {
    const before =
      schedule.part.prefill && !transforms.some(({ part }) => part.adds)
        ? '; for the prompt alone, put a press with it before one with schedule "decoding"'
        : '';
    refuse(
      'layer_budget',
      `${here} brings every layer to the same size, so layer_budget "${layerBudget.part.name}" has nothing to deal; use "uniform"${before}`,
    );
  }
  if (!selection.part.whileDecoding) {
    refuse(
      'selection',
      `selection "${selection.part.name}" ranks a prompt's layer as a whole, and ${here} ranks what is left of it, one head after the other where they differ; use "top_k"`,
    );
  }
  const own = decider(press);
  const sliding = slidingBudget(press);
  if (own !== null && own.part !== selection.part && sliding === null) {
    refuse(own.kind, `${own.kind} "${own.part.name}" says itself how much is kept, and ${here} does by its target; leave one of them out`);
  }
  if (sliding !== null && press.compat) {
    refuse(
      'schedule',
      `${here} has head_budget "${headBudget.part.name}" go on while decoding, and "compat": "kvpress" is without it: there it acts on the prompt alone; leave compat out, or use schedule "prefill"`,
    );
  }
  if (countingSelection(press) !== null || sliding !== null) {
    const itself = sliding === null ? `selection "${selection.part.name}"` : `head_budget "${headBudget.part.name}"`;
    const target = (['target_size', 'target_compression_ratio'] as const).find((field) => schedule.params[field] !== undefined);
    if (target) {
      throw new InputError(
        'press_conflict',
        partParam(press, 'schedule', target),
        `${here} with ${target} beside ${itself}, which says itself how much is kept; leave one of them out`,
      );
    }
    if (transforms.length > 0) {
      const [{ part }] = transforms;
      refuse(
        'transforms',
        `transform "${part.name}" wants a target under ${here}, and ${itself} says itself how much is kept; leave one of them out`,
      );
    }
  }
  if (scorer.part.passes) {
    refuse(
      'scorer',
      `scorer "${scorer.part.name}" has the model read the prompt again before it scores, and ${here} would do so every few tokens; use it on the prompt`,
    );
  }
  if (scorer.part.hidden && !scorer.part.perToken) {
    refuse(
      'scorer',
      `scorer "${scorer.part.name}" reads what all tokens were before their layer, and ${here} remembers that of the last ones only; use one that scores each token alone, or reads keys and values`,
    );
  }
  if (scorer.part.queries(scorer.params) === Infinity && !scorer.part.someQueries) {
    refuse(
      'scorer',
      `scorer "${scorer.part.name}" reads the queries of all tokens, and ${here} remembers the last ones only; use one with a window, e.g. "snapkv"`,
    );
  }
  if (headBudget.part.sure) {
    refuse('head_budget', `head_budget "${headBudget.part.name}" counts before it ranks, which ${here} does the other way round; use "adakv"`);
  }
  const still = transforms.find(({ part }) => !part.whileDecoding);
  if (still) {
    refuse(
      'transforms',
      `transform "${still.part.name}" changes entries of a prompt as they are stored, and ${here} moves stored ones as they are; leave ${still.part.adds ? 'one of them out' : 'it out, or put it into a press of its own before this one, with schedule "prefill"'}`,
    );
  }
}

/** A window of queries needs the keys of its own tokens: since the last compression, or kept by it. */
function checkWindow(press: Press, presses: readonly Press[]): void {
  const { part, params } = press.schedule;
  const { interval, buffer } = part.decoding!;
  const queries = queriesOf(press, Infinity);
  const { hidden } = press.scorer.part;
  if ((queries === Infinity || hidden) && buffer(params) === 0) {
    const param = partParam(press, 'schedule', 'hidden_states_buffer_size');
    throw new InputError(
      'press_conflict',
      param,
      `hidden_states_buffer_size 0 remembers no ${hidden ? 'hidden states' : 'queries'}, and ${press.scorer.part.name} reads them; 1 or more would work`,
    );
  }
  if (queries === Infinity) return;
  const acting = presses.filter((other) => other === press || !isIdle(other));
  for (const other of acting) {
    const { last } = protectedBy(other, Infinity);
    if (queries <= last + interval(params)) continue;
    throw new InputError(
      'press_conflict',
      partParam(press, 'schedule', 'interval'),
      `"${press.name}" reads the last ${queries} queries after every ${interval(params)} tokens, but "${other.name}" protects only the last ${last}, so the keys of some may be gone; an interval of ${queries - last} or more would work`,
    );
  }
}
