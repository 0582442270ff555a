/**
 * A held context as a file, *.pressed.safetensors: what stands where, and what it says of itself. format.md is the same for readers.
 *
 *   __metadata__        texts: format, version; JSON: model, press, context, report, prompt
 *   tokens              I32 [n]
 *   layers.{l}.offsets    I32 [H + 1]: KV head h has the rows offsets[h] .. offsets[h + 1] - 1 of the layer's other tensors
 *   layers.{l}.positions  I32 [N] where each row's token stood in the text, best first in every head
 *   layers.{l}.scores     F32 [N], where a press that acts while decoding will ask
 *   layers.{l}.k_scale    F32 [N] and .v_scale, of int8 rows: k = k_scale * k
 *   layers.{l}.k          I8, F16 or F32 [N, d] after RoPE, and .v
 *   layers.{l}.queries    F32 [W, Hq, d] after RoPE, the last ones, where such a press will ask
 *   digest              U8 [P, 32] SHA-256 of all before the data, then of the data before this tensor, in pieces of 4 MiB
 */
import * as z from 'zod';
import { InputError } from '../../../presses/input-error.ts';
import { type EntryType, entryTypes } from '../../backend/backend.ts';
import type { KvShape } from '../kv-cache.ts';
import { fingerprintPiece } from '../weights/fingerprint.ts';
import { type TensorEntry, tensorBytes } from '../weights/safetensors.ts';

export const FORMAT = 'edgepress.pressed';
export const VERSION = '1';

/** A prompt's words are in it: those of 32,768 tokens are less than a tenth of this. */
export const MOST_HEADER_BYTES = 16 << 20;
export const DIGEST = 'digest';
export const DIGEST_BYTES = 32;

const ROWS: Readonly<Record<EntryType, string>> = { f32: 'F32', f16: 'F16', int8: 'I8' };

const MOST_LAYERS = 1024;
const count = z
  .int()
  .min(0)
  .max(2 ** 31 - 1);
const name = z.string().max(1000);
const amounts = z.array(z.number().min(0).nullable()).max(MOST_LAYERS);
const scope = z.union([z.enum(['prompt', 'context']), z.strictObject({ protect_last: count })]);
const entryType = z.enum(entryTypes);

export const modelSchema = z.strictObject({
  id: name,
  fingerprint: z.string().regex(/^[0-9a-f]{64}$/),
  layers: count, // L
  query_heads: count, // Hq
  kv_heads: count, // H
  head_dim: count, // d
});

/** `names` of the presses, in their order, and of all. */
export const pressSchema = z.strictObject({ name, names: z.array(name).max(64), config: z.json() });

export const contextSchema = z.strictObject({
  tokens: count.min(1), // n
  covered: count.min(1), // the first so many were pressed
  scope,
  added_rows: count, // of the press's own, at positions covered, covered + 1, ...
  shift: count, // what follows the covered tokens stands so many positions earlier in RoPE than it would
  next_position: count, // of RoPE, for the first token that follows: n + added_rows - shift
  entry_type: entryType,
});

/** usage.kv_cache of whoever has it mounted. */
export const reportSchema = z.strictObject({
  press: name,
  scope,
  compression_ratio: z.number().max(1),
  tokens: count,
  kept_per_layer: z.array(z.number().min(0)).max(MOST_LAYERS),
  added_per_layer: count.optional(),
  lmba_per_layer: amounts,
  retained_mass_per_layer: amounts,
  bytes_full: z.int().min(0),
  bytes_kept: z.int().min(0),
  bytes_peak: z.int().min(0),
  layer_budget: name,
  entry_type: entryType,
  notes: z.array(z.string().max(4000)).max(256),
});

const words = z.string().max(MOST_HEADER_BYTES);
/** The words of the prompt, as they were given. */
export const promptSchema = z.union([
  z.strictObject({ kind: z.literal('chat'), messages: z.array(z.strictObject({ role: name, parts: z.array(words) })) }),
  z.strictObject({ kind: z.literal('text'), text: words }),
  z.strictObject({ kind: z.literal('question'), context: words, question: words, answerPrefix: words }),
]);

export interface PressedShape extends KvShape {
  readonly tokens: number;
  readonly entryType: EntryType;
  /** [L] rows of every layer, all heads together. */
  readonly rows: readonly number[];
  readonly scored: boolean;
  /** W; null = no queries are remembered. */
  readonly queries: number | null;
}

/** Every tensor of such a file, in its order. Element sizes divide all offsets: a row has a multiple of four components. */
export function tensorsOf({ kvHeads, queryHeads, headDim, tokens, entryType, rows, scored, queries }: PressedShape): TensorEntry[] {
  const layers = rows.flatMap((n, layer) => {
    const scales = entryType === 'int8' ? { k_scale: ['F32', n], v_scale: ['F32', n] } : {};
    const parts = {
      offsets: ['I32', kvHeads + 1],
      positions: ['I32', n],
      ...(scored && { scores: ['F32', n] }),
      ...scales,
      k: [ROWS[entryType], n, headDim],
      v: [ROWS[entryType], n, headDim],
      ...(queries !== null && { queries: ['F32', queries, queryHeads, headDim] }),
    };
    return Object.entries(parts).map(([part, [dtype, ...shape]]) => ({
      name: tensorName(layer, part),
      dtype: dtype as string,
      shape: shape as number[],
    }));
  });
  const data = [{ name: 'tokens', dtype: 'I32', shape: [tokens] }, ...layers];
  const pieces = 1 + Math.ceil(data.reduce((sum, tensor) => sum + tensorBytes(tensor), 0) / fingerprintPiece);
  return [...data, { name: DIGEST, dtype: 'U8', shape: [pieces, DIGEST_BYTES] }];
}

export function tensorName(layer: number, part: string): string {
  return `layers.${layer}.${part}`;
}

export function fileInvalid(file: string, what: string): InputError {
  return new InputError('context_file_invalid', 'context', `${file}: ${what}`);
}
