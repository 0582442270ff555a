/** A held context as the bytes of a *.pressed.safetensors file, layer by layer: no more than one of them is on the host at a time. */
import type * as z from 'zod';
import { decodingPress } from '../../../presses/check-schedule.ts';
import { configOf } from '../../../presses/config-of.ts';
import { InputError } from '../../../presses/input-error.ts';
import type { EntryType } from '../../backend/backend.ts';
import { formatBytes } from '../bytes.ts';
import type { HeldContext } from '../held.ts';
import type { HeldMemory } from '../held-contexts.ts';
import { entriesPerPageOf, type KvShape, pageBytesOf } from '../kv-cache.ts';
import type { KvCacheUsage, ModelInfo } from '../types.ts';
import { PieceHasher } from '../weights/fingerprint.ts';
import { safetensorsHeader, tensorBytes } from '../weights/safetensors.ts';
import { sha256Hex } from '../weights/sha256.ts';
import { areNumbers, asType, type EntryRows, emptyRows, rowsFromPage } from './entry-rows.ts';
import {
  type contextSchema,
  FORMAT,
  MOST_HEADER_BYTES,
  type modelSchema,
  type PressedShape,
  type pressSchema,
  type promptSchema,
  type reportSchema,
  tensorsOf,
  VERSION,
} from './format.ts';

type Bytes = Uint8Array<ArrayBuffer>;

export interface PressedParts {
  readonly info: ModelInfo;
  readonly shape: KvShape;
}

/** What one layer of the file is made of. */
interface Layer {
  readonly offsets: Int32Array; // [H + 1]
  readonly positions: Int32Array; // [N]
  readonly scores: Float32Array; // [N]
  readonly rows: EntryRows; // [N], as they lie on the device
  readonly queries: Float32Array; // [W, Hq, d]
}

/** The bytes of a file, of which it is known how many there will be. */
export interface PressedSource {
  readonly bytes: number;
  readonly chunks: AsyncGenerator<Bytes, void, void>;
}

/** `piece` runs what reads the device, in its turn. Throws InputError, the chunks where there is something that is no number. */
export function pressedSource(
  held: HeldContext,
  memory: HeldMemory,
  parts: PressedParts,
  entryType: EntryType,
  piece: <T>(work: () => Promise<T>) => Promise<T>,
): PressedSource {
  const { sequence, queries } = memory;
  const { shape } = parts;
  const { layers, kvHeads: H } = shape;
  const form: PressedShape = {
    ...shape,
    tokens: held.tokens.length,
    entryType,
    rows: Array.from({ length: layers }, (_, layer) => held.lengths.subarray(layer * H, (layer + 1) * H).reduce((sum, n) => sum + n, 0)),
    scored: isScored(held),
    queries: queries?.held ?? null,
  };
  const tensors = tensorsOf(form);
  const header = safetensorsHeader(tensors, metadataOf(held, sequence.shift, parts, entryType));
  if (header.length > MOST_HEADER_BYTES) {
    const message = `what the file says of itself takes ${formatBytes(header.length)}, and at most ${formatBytes(MOST_HEADER_BYTES)} are read: a shorter prompt would work`;
    throw new InputError('context_file_large', 'context', message);
  }
  return {
    bytes: tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), header.length),
    chunks: chunksOf(header, held, memory, shape, entryType, piece),
  };
}

async function* chunksOf(
  header: Bytes,
  held: HeldContext,
  memory: HeldMemory,
  shape: KvShape,
  entryType: EntryType,
  piece: <T>(work: () => Promise<T>) => Promise<T>,
): PressedSource['chunks'] {
  yield header;
  const hasher = new PieceHasher();
  const hashed = async (part: Float32Array | Int32Array | Uint8Array): Promise<Bytes> => {
    const bytes = new Uint8Array(part.buffer as ArrayBuffer, part.byteOffset, part.byteLength);
    await hasher.take(bytes);
    return bytes;
  };
  yield await hashed(Int32Array.from(held.tokens));
  for (let layer = 0; layer < shape.layers; layer++) {
    const { rows: stored, ...read } = await piece(() => readLayer(held, memory, shape, layer));
    const rows = asType(stored, entryType, shape.headDim);
    if (!areNumbers(rows) || !read.queries.every(Number.isFinite)) throw noNumbers(layer);
    for (const part of [read.offsets, read.positions, read.scores, rows.kScale, rows.vScale, rows.k, rows.v, read.queries])
      if (part.length > 0) yield await hashed(part);
  }
  const digests = [await sha256Hex(header), ...(await hasher.digests())];
  yield Uint8Array.from(digests.join('').match(/../g)!, (digits) => Number.parseInt(digits, 16));
}

/** All of it in one piece. */
export async function bytesOf({ bytes, chunks }: { readonly bytes: number; readonly chunks: AsyncIterable<Uint8Array> }): Promise<Bytes> {
  const all = new Uint8Array(bytes);
  let end = 0;
  for await (const chunk of chunks) {
    all.set(chunk, end);
    end += chunk.length;
  }
  return all;
}

/** Whether its press, while decoding, asks what tokens were worth when their hidden states were there. */
function isScored({ press }: HeldContext): boolean {
  return decodingPress(press.presses)?.scorer.part.hidden === true;
}

async function readLayer(held: HeldContext, { sequence, queries }: HeldMemory, { kvHeads: H, headDim }: KvShape, layer: number): Promise<Layer> {
  const counts = held.lengths.subarray(layer * H, (layer + 1) * H);
  const offsets = new Int32Array(H + 1);
  for (const [head, count] of counts.entries()) offsets[head + 1] = offsets[head] + count;
  const positions = new Int32Array(offsets[H]);
  const scores = new Float32Array(isScored(held) ? offsets[H] : 0);
  const { entryType } = sequence;
  const entriesPerPage = entriesPerPageOf(entryType, headDim);
  const geometry = { entryType, entriesPerPage, pageBytes: pageBytesOf(headDim), headDim };
  const rows = emptyRows(entryType, offsets[H], headDim);
  for (const [head, count] of counts.entries()) {
    const entries = sequence.entries(layer, head);
    positions.set(entries.positions, offsets[head]);
    if (scores.length > 0) scores.set(entries.scores, offsets[head]);
    for (const [i, page] of (await sequence.readPages(layer, head)).entries()) {
      const first = i * entriesPerPage;
      rowsFromPage(rows, offsets[head] + first, page, Math.min(entriesPerPage, count - first), geometry);
    }
  }
  return { offsets, positions, scores, rows, queries: queries ? await queries.kept(layer) : new Float32Array() };
}

function noNumbers(layer: number): InputError {
  const message = `layer ${layer} of the context holds what is no finite number: the model's weights or an artefact are too large for 32-bit arithmetic`;
  return new InputError('model_output_invalid', null, message);
}

function metadataOf(held: HeldContext, shift: number, { info, shape }: PressedParts, entryType: EntryType): Record<string, string> {
  const { press, prompt, scope, covered, rows } = held;
  const tokens = held.tokens.length;
  const model: z.infer<typeof modelSchema> = {
    id: info.id,
    fingerprint: info.fingerprint,
    layers: shape.layers,
    query_heads: shape.queryHeads,
    kv_heads: shape.kvHeads,
    head_dim: shape.headDim,
  };
  const config = configOf({ ...press, entryType }) as z.infer<typeof pressSchema>['config'];
  const said: z.infer<typeof pressSchema> = { name: press.name, names: press.presses.map(({ name }) => name), config };
  const context: z.infer<typeof contextSchema> = {
    tokens,
    covered,
    scope,
    added_rows: rows,
    shift,
    next_position: tokens + rows - shift,
    entry_type: entryType,
  };
  const parts = { model, press: said, context, report: reportOf(held, shape, entryType) };
  const json = Object.fromEntries(Object.entries(parts).map(([part, value]) => [part, JSON.stringify(value)]));
  const words: z.infer<typeof promptSchema> | null = prompt && JSON.parse(JSON.stringify(prompt));
  return { format: FORMAT, version: VERSION, ...json, ...(words && { prompt: JSON.stringify(words) }) };
}

/** What is told of the context, once it lies in pages of that type; which entries stayed the file itself says. */
function reportOf(held: HeldContext, shape: KvShape, entryType: EntryType): z.infer<typeof reportSchema> {
  const { explain, ...report }: KvCacheUsage = held.kvCache;
  const told = explain
    ? ["explain: which entries were kept is in the context's file, and what other layer budgets would have dealt was told when it was made"]
    : [];
  const coarser =
    entryType === held.entryType || entryType === 'f32'
      ? []
      : [`entries were rounded from ${held.entryType} to ${entryType} when the context was written`];
  return {
    ...report,
    ...pagesOf(held.lengths, held.tokens.length, shape, entryType),
    entry_type: entryType,
    notes: [...report.notes, ...told, ...coarser],
  };
}

/** Bytes of the pages that lists of such lengths take, and that they would take with every token. */
export function pagesOf(
  lengths: ArrayLike<number>,
  tokens: number,
  { headDim }: KvShape,
  entryType: EntryType,
): { bytes_full: number; bytes_kept: number } {
  const E = entriesPerPageOf(entryType, headDim);
  const kept = Array.from(lengths, (n) => Math.ceil(n / E)).reduce((sum, pages) => sum + pages, 0);
  return { bytes_full: lengths.length * Math.ceil(tokens / E) * pageBytesOf(headDim), bytes_kept: kept * pageBytesOf(headDim) };
}
