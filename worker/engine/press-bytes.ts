/** What a press takes of device memory while it works on one layer, known before any compute: all that presses/compressor.ts borrows, at most. */
import type { BudgetMath } from '../../presses/budget-math.ts';
import type { CheckedDecoding } from '../../presses/check-decoding.ts';
import { chosenParts, countingSelection } from '../../presses/check-parts.ts';
import { type CheckedPress, checkPress, type PressReads, readsOf } from '../../presses/check-press.ts';
import { parsePress } from '../../presses/config.ts';
import type { PassScratchSize } from '../../presses/contract.ts';
import { OBSERVATION_WINDOW } from '../../presses/window-attention.ts';
import type { Backend } from '../backend/backend.ts';
import type { KvShape } from './kv-cache.ts';

export const NO_READS: PressReads = { queries: 0, hidden: false, change: false };

/** What is kept of every layer while a press with these stages works, or none. */
export function pressReads(checked: CheckedPress): PressReads {
  return checked.stages.length === 0 ? NO_READS : readsOf(checked, OBSERVATION_WINDOW);
}

/**
 * What presses/decoding-compressor.ts borrows at most, for one layer of `rows` entries in each head; where heads are unequal, it takes one after the other.
 * What is remembered from token to token is not in it, nor what kernels keep for themselves.
 */
export function decodingBytes(
  { press, queries: window, artifact }: CheckedDecoding,
  { queryHeads: Hq, kvHeads: H, headDim: d, hiddenSize }: KvShape & { hiddenSize: number },
  rows: number,
): number {
  let bytes = 0;
  const take = (values: number, times = 1): void => {
    bytes += times * Math.ceil(values / 16) * 64;
  };
  take(rows * H * d, 2); // keys and values
  take(rows * H, 2); // scores, rank order
  if (window > 0) {
    take(window * Hq * d, 2); // the last queries, and those of one head
    take(window * (d + 1)); // turns under compat, rows of a head
    take(rows * Hq); // the window's attention
    take(rows * H); // its mean over the group
  }
  const scratch = { n: rows, window, queryHeads: Hq, kvHeads: H, headDim: d, hiddenSize, artifact };
  for (const { part, params } of chosenParts(press)) {
    if (part === press.scorer.part && press.scorer.part.hidden) continue; // its scores are there
    take(Math.ceil((part.scratchBytes?.(scratch, params) ?? 0) / 4));
  }
  if (press.headBudget.part.ragged || countingSelection(press)) take(H * (rows + 2)); // the budget arithmetic's arguments
  if (press.transforms.length > 0) take(rows * H, 2); // the order that transforms see, rows of entries
  return bytes;
}

/** Everything is held until the layer is done. The queries are not in it, nor what kernels keep for themselves. */
export function pressBytes(
  checked: CheckedPress,
  shape: KvShape & { hiddenSize: number },
  pieces: Pick<PassScratchSize, 'longest' | 'rows'>,
): number {
  const { layers, queryHeads: Hq, kvHeads: H, headDim: d, hiddenSize } = shape;
  const { stages, size } = checked;
  const last = stages.at(-1);
  if (!last) return 0;
  let bytes = 0;
  const take = (values: number, times = 1): void => {
    bytes += times * Math.ceil(values / 16) * 64; // 4 bytes each, in blocks of whole 64 bytes
  };
  const { queries: window } = pressReads(checked);
  for (const stage of stages) {
    const n = stage.context.tokens;
    const { scorer } = stage.press;
    take(H * n, 2); // scores, rank order
    if (scorer.part.queries(scorer.params) > 0) {
      take(Hq * n); // the window's attention
      take(H * n); // its mean over the group
    }
    const parts = [...chosenParts(stage.press), ...(stage === last ? checked.others.map((other) => ({ kind: 'layer_budget', ...other })) : [])];
    for (const { kind, part, params } of parts) {
      const scratch = {
        n: kind === 'transforms' ? size.tokens : n,
        window,
        queryHeads: Hq,
        kvHeads: H,
        headDim: d,
        hiddenSize,
        artifact: size.artifact,
      };
      take(Math.ceil((part.scratchBytes?.(scratch, params) ?? 0) / 4));
    }
    if (stage !== last) take(Math.max(...stage.exact!) * H * d, 2); // keys and values, gathered for the next press
    if (stage !== stages[0] && stage.press.transforms.length > 0) take(H * n); // the order in the rows of the whole layer
  }
  const N = size.tokens;
  const n = last.context.tokens;
  const { scorer, headBudget } = last.press;
  take(Hq * N); // attention of the observation window,
  take(H * N); // and the mass that every key has of it
  for (const { part, params } of [last.layerBudget, ...checked.others]) {
    const measured = part.signal === 'none' ? 0 : part.queries(params, scorer.part.queries(scorer.params));
    if (measured > 0) take(Hq * n, 2); // attention that the signal is counted on, its rank order
  }
  if (stages.length > 1) {
    take(n, H); // order and
    take(N, H); // scores in the rows of the whole layer
  }
  take(2 * N); // one head's order and scores on their way into the ledger
  take(headBudget.part.ragged || countingSelection(last.press) ? H * (n + 2) : 0); // the budget arithmetic's arguments: sorted scores,
  take(8 * layers); // or weights, caps and budgets
  const { part: first, params: firstParams } = stages[0].press.scorer;
  if (!first.passes) return bytes;
  // Passes have done with what they borrow when the layer is scored; their sums stay.
  bytes = Math.max(bytes, first.passes.scratchBytes({ n: N, queryHeads: Hq, kvHeads: H, headDim: d, hiddenSize, ...pieces }, firstParams));
  take(Hq * N);
  return bytes;
}

/** A press as they usually are, to plan memory by: what most presses work with is less. */
const USUAL_PRESS = 'zigzag_snapkv';
/** Shorter prompts it has nothing to remove from: half of one is kept, and 64 tokens are protected. */
const LEAST_PRESSED = 128;

/** What such a press over so many tokens, and kernels for themselves, take beside hidden states and one layer's keys and values. */
export function usualPressBytes(backend: Backend, math: BudgetMath, shape: KvShape & { hiddenSize: number }, tokens: number): number {
  if (tokens < LEAST_PRESSED) return backend.scratchBytes(0, 0, shape);
  const checked = checkPress(parsePress(USUAL_PRESS), { tokens, ...shape, math });
  return pressBytes(checked, shape, { longest: 0, rows: 0 }) + backend.scratchBytes(tokens, pressReads(checked).queries, shape);
}
