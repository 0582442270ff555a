/** How much a forward pass reads over a prompt, and the device memory that it takes. */
import type { AddedRows } from '../../presses/contract.ts';
import { type HiddenType, hiddenRowsBytes } from './hidden-rows.ts';
import type { ForwardShape } from './model-weights.ts';

const F32 = 4;

export type TokenList = readonly number[];

/** How much is read over a prompt: tokens of all passes and added rows, and of the longest one. */
export interface PassSize {
  readonly tokens: number;
  readonly longest: number;
}

export const NO_PASSES: PassSize = { tokens: 0, longest: 0 };

export function passSize(passes: readonly TokenList[], added: Pick<AddedRows, 'rows'> | null | undefined): PassSize {
  const lengths = [...passes.map(({ length }) => length), added?.rows ?? 0];
  return { tokens: lengths.reduce((sum, length) => sum + length), longest: Math.max(...lengths) };
}

/** What `prefill` hands on of every layer, beside keys and values. */
export interface Reads {
  /** How many of the last queries. */
  readonly queries: number;
  /** Whether the attention module's input. */
  readonly hidden: boolean;
  /** Whether what attention changed of the hidden states. */
  readonly change?: boolean;
}

/** Device bytes that a Forward holds from its construction on. */
export function fixedBytes(
  { hiddenSize: D, intermediateSize: I, queryHeads: Hq, kvHeads: H, headDim: d, vocabSize }: ForwardShape,
  chunkTokens: number,
): number {
  return F32 * (chunkTokens * (1 + 2 * D + 2 * Hq * d + 2 * H * d + 2 * I + d) + vocabSize);
}

/** Device bytes that `prefill` takes for a prompt, beside the fixed buffers: hidden states, one layer's K,V, rope table, window queries. */
export function prefillBytes(
  { hiddenSize: D, queryHeads: Hq, kvHeads: H, headDim: d }: ForwardShape,
  tokens: number,
  { queries, hidden, change }: Reads,
  { hiddenType, chunkTokens }: { readonly hiddenType: HiddenType; readonly chunkTokens: number },
  passes = NO_PASSES,
): number {
  const kept = queries * Hq * d + (hidden ? tokens * D : 0) + (change ? tokens : 0) + D; // and the last token's
  const states = hiddenRowsBytes(hiddenType, tokens, D, chunkTokens) + hiddenRowsBytes(hiddenType, passes.tokens, D, chunkTokens);
  return states + F32 * ((tokens + passes.longest) * (2 * H * d + d) + kept);
}
