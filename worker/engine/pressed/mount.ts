/** A context from a file, for the engine that is to hold it: whether it is this model's, what it takes, and layer by layer its entries. */
import { checkDecoding } from '../../../presses/check-decoding.ts';
import { decodingPress } from '../../../presses/check-schedule.ts';
import { pressDifference } from '../../../presses/config-of.ts';
import type { PressRequest } from '../../../presses/contract.ts';
import { shownName } from '../../../presses/did-you-mean.ts';
import { InputError } from '../../../presses/input-error.ts';
import type { Backend } from '../../backend/backend.ts';
import type { Artifacts } from '../artifacts.ts';
import { formatBytes } from '../bytes.ts';
import { type HeldContext, heldPrompt } from '../held.ts';
import type { HeldMemory } from '../held-contexts.ts';
import type { JobParts } from '../job.ts';
import { entriesPerPageOf, type KvCache, type KvSequence, pageBytesOf } from '../kv-cache.ts';
import { checkTokens, tooLong } from '../prompt-tokens.ts';
import { RecentRows } from '../recent-rows.ts';
import type { KvCacheUsage } from '../types.ts';
import { areNumbers, type EntryRows, pageOfRows } from './entry-rows.ts';
import { fileInvalid, tensorName } from './format.ts';
import type { PressedFile } from './open.ts';
import { pagesOf } from './write.ts';

export interface MountParts {
  readonly cache: KvCache;
  readonly backend: Backend;
}

export interface Mounting {
  readonly file: PressedFile;
  readonly tokens: readonly number[];
  readonly text: string | null;
  /** Of each list, layer by layer. */
  readonly lengths: Uint32Array;
  readonly pages: number;
  /** How many of the last queries its press remembers, where it acts while decoding; 0 = none. */
  readonly queries: number;
}

/** What of a layer lies in pages, list by list. */
type ListEntries = { readonly positions: Uint32Array; readonly scores: Float32Array | null; readonly pages: readonly Uint8Array[] };

/** What else there is to know of it. */
export interface MountedLayer {
  /** Of the covered tokens, mean over the KV heads. */
  readonly kept: number;
  readonly queries: Float32Array; // [W, Hq, d]
}

/** Throws InputError for a context of another model, of another press than `asked`, or that this engine has no room for. */
export async function checkMount(
  file: PressedFile,
  parts: JobParts & { readonly artifacts: Artifacts },
  asked: PressRequest | null,
): Promise<Mounting> {
  const { info, cache } = parts;
  const { model, press, context, shape } = file;
  const bad = (what: string): InputError => fileInvalid(file.name, what);
  if (model.fingerprint !== info.fingerprint) {
    const named = (id: string, fingerprint: string): string => `"${shownName(id)}" (fingerprint ${fingerprint.slice(0, 12)})`;
    const message = `${file.name} is of model ${named(model.id, model.fingerprint)}, and this is ${named(info.id, info.fingerprint)}: the document pressed with this model would work`;
    throw new InputError('context_model_mismatch', 'context', message);
  }
  for (const field of ['layers', 'queryHeads', 'kvHeads', 'headDim'] as const)
    if (shape[field] !== cache.shape[field]) throw bad(`${field} ${shape[field]}, and the model has ${cache.shape[field]}`);
  if (asked) checkSamePress(file.name, press, asked);

  const tokens = [...new Int32Array(await file.read('tokens'))];
  checkTokens(tokens, info, 'context');
  const rows = context.added_rows;
  if (tokens.length + rows >= info.contextLength) throw tooLong(String(tokens.length), info.contextLength, 'context', rows);
  const adds = press.presses.some(({ transforms }) => transforms.some(({ part }) => part.adds));
  const renumbers = press.presses.some(({ transforms }) => transforms.some(({ part }) => part.renumbers));
  if ((rows > 0 && !adds) || (context.shift > 0 && !renumbers))
    throw bad(`added_rows ${rows} and shift ${context.shift}, which its press makes none of`);
  const lengths = await lengthsOf(file, tokens.length + rows, bad);
  const E = entriesPerPageOf(shape.entryType, shape.headDim);
  const pages = lengths.reduce((sum, n) => sum + Math.ceil(n / E), 0);

  const acting = decodingPress(press.presses);
  const artifact = await parts.artifacts.of({ ...press, presses: acting ? [acting] : [] });
  const checked = acting && checkDecoding(acting, { tokens: tokens.length, math: parts.math, artifact });
  const queries = checked?.queries ?? 0;
  const [scored, remembered] = [acting?.scorer.part.hidden === true, queries > 0 ? Math.min(queries, tokens.length) : null];
  if (shape.scored !== scored) throw bad(`it has ${shape.scored ? '' : 'no '}scores, and its press asks for ${scored ? 'them' : 'none'}`);
  if (shape.queries !== remembered) throw bad(`it has ${shape.queries ?? 0} queries a layer, and its press asks for ${remembered ?? 0}`);
  return { file, tokens, text: textOf(file, tokens, parts), lengths, pages, queries };
}

/** Throws InputError where it never fits; `freeBytes` is what reading a prompt finds free when nobody else reads one. */
export function checkMountRoom({ file, pages, queries }: Mounting, { cache }: MountParts, freeBytes: number): void {
  const { layers, queryHeads, headDim } = file.shape;
  const remembered = RecentRows.bytes(layers, queries, queryHeads * headDim);
  if (remembered > freeBytes) {
    const message = `${file.name} needs ${formatBytes(remembered)} for the last ${queries} queries of every layer; ${formatBytes(freeBytes)} are free: a smaller KV pool or a higher memory limit would work`;
    throw new InputError('kv_budget_exceeded', 'context', message);
  }
  if (pages <= cache.requestPages) return;
  const bytes = (of: number): string => formatBytes(of * cache.pageBytes);
  const taken = cache.settledBytes > 0 ? `, ${formatBytes(cache.settledBytes)} of them taken by held contexts` : '';
  const closing = cache.settledBytes > 0 ? ', closing contexts' : '';
  const message = `${file.name} needs ${bytes(pages)} of KV pages; the pool has ${bytes(cache.pages)}${taken}: a larger pool${closing}, or the document pressed at a higher compression_ratio would work`;
  throw new InputError('kv_budget_exceeded', 'context', message);
}

/** Entries of a layer, checked, as pages. */
export async function readMountedLayer(
  { file, lengths, tokens }: Mounting,
  layer: number,
): Promise<MountedLayer & { readonly lists: readonly ListEntries[] }> {
  const { shape, context } = file;
  const { kvHeads: H, headDim, entryType: type } = shape;
  const bad = (what: string): InputError => fileInvalid(file.name, `layer ${layer}: ${what}`);
  const read = (part: string): Promise<ArrayBuffer> => file.read(tensorName(layer, part));
  const bytes = async (part: string): Promise<Uint8Array> => new Uint8Array(await read(part));
  const scale = async (part: string): Promise<Float32Array> => new Float32Array(type === 'int8' ? await read(part) : []);
  const rows: EntryRows = { type, k: await bytes('k'), v: await bytes('v'), kScale: await scale('k_scale'), vScale: await scale('v_scale') };
  const scores = shape.scored ? new Float32Array(await read('scores')) : null;
  const queries = new Float32Array(shape.queries === null ? [] : await read('queries'));
  if (!areNumbers(rows) || !queries.every(Number.isFinite) || scores?.some(Number.isNaN)) throw bad('it holds what is no finite number');
  const positions = new Uint32Array(await read('positions'));
  const geometry = { entryType: type, entriesPerPage: entriesPerPageOf(type, headDim), pageBytes: pageBytesOf(headDim), headDim };
  const E = geometry.entriesPerPage;
  let first = 0;
  let kept = 0;
  const lists = Array.from(lengths.subarray(layer * H, (layer + 1) * H), (count, head) => {
    const own = positions.subarray(first, first + count);
    const wrong = whyNotPositions(own, tokens.length, context);
    if (wrong !== null) throw bad(`KV head ${head}: ${wrong}`);
    kept += own.reduce((sum, position) => sum + (position < context.covered ? 1 : 0), 0);
    const pages = Array.from({ length: Math.ceil(count / E) }, (_, i) => pageOfRows(rows, first + i * E, Math.min(E, count - i * E), geometry));
    const list = { positions: own, scores: scores?.subarray(first, first + count) ?? null, pages };
    first += count;
    return list;
  });
  return { lists, kept: kept / H, queries };
}

/** Each stands for another token; what follows the covered ones is there to the last. */
function whyNotPositions(positions: Uint32Array, tokens: number, { covered, shift, added_rows: rows }: PressedFile['context']): string | null {
  const end = tokens + rows;
  const seen = new Uint8Array(end);
  for (const position of positions) {
    if (position >= end) return `position ${position} is not one of the ${end} tokens and rows`;
    if (seen[position]) return `position ${position} is there twice`;
    seen[position] = 1;
  }
  const kept = seen.subarray(0, covered).reduce((sum, one) => sum + one, 0);
  if (positions.length - kept !== end - covered)
    return `of ${end - covered} tokens and rows behind the covered ones there are ${positions.length - kept}`;
  if (shift > 0 && kept !== covered - shift) return `${kept} kept entries, and ${covered - shift} were moved together`;
  return null;
}

/** [L * H] */
async function lengthsOf({ shape, read }: PressedFile, most: number, bad: (what: string) => InputError): Promise<Uint32Array> {
  const { layers, kvHeads: H, rows } = shape;
  const lengths = new Uint32Array(layers * H);
  for (let layer = 0; layer < layers; layer++) {
    const offsets = new Int32Array(await read(tensorName(layer, 'offsets')));
    if (offsets[0] !== 0 || offsets[H] !== rows[layer])
      throw bad(`layer ${layer}: offsets from ${offsets[0]} to ${offsets[H]} for ${rows[layer]} rows`);
    for (let head = 0; head < H; head++) {
      const count = offsets[head + 1] - offsets[head];
      if (count < 0 || count > most) throw bad(`layer ${layer}: ${count} rows of KV head ${head}, of ${most} tokens and rows`);
      lengths[layer * H + head] = count;
    }
  }
  return lengths;
}

/** The text behind the tokens, for prompts that go on in words. Throws where the words give other tokens here. */
function textOf({ name, prompt }: PressedFile, tokens: readonly number[], parts: JobParts): string | null {
  if (prompt === null || parts.tokenizer === null) return null;
  let made: ReturnType<typeof heldPrompt> | null = null;
  try {
    made = heldPrompt(parts, prompt);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
  }
  if (made && made.tokens.length === tokens.length && made.tokens.every((token, i) => token === tokens[i])) return made.text;
  const message = `${name}: its words have other tokens here: the model has another tokenizer or chat template; the document pressed anew would work`;
  throw new InputError('context_model_mismatch', 'context', message);
}

/** Throws InputError, with what it is and what was asked. */
export function checkSamePress(name: string, is: PressRequest, asked: PressRequest): void {
  const difference = differenceOf(is, asked);
  if (difference) throw new InputError('context_press_mismatch', 'press', `${name}: ${difference}; leave press out, or press the document anew`);
}

function differenceOf(is: PressRequest, asked: PressRequest): string | null {
  const type = asked.entryType;
  if (type !== null && type !== is.entryType) return `its entries are ${is.entryType}, and entry_type "${type}" was asked for`;
  const scope = (of: PressRequest['scope']): string => JSON.stringify(of === 'context' ? null : of);
  if (asked.scope !== null && scope(asked.scope) !== scope(is.scope))
    return `its scope is ${JSON.stringify(is.scope ?? 'context')}, and ${JSON.stringify(asked.scope)} was asked for`;
  return pressDifference(is, asked);
}

/** The entries of a layer, to lists that are empty. */
export function fillLayer(sequence: KvSequence, layer: number, lists: readonly ListEntries[]): void {
  for (const [head, { positions, scores, pages }] of lists.entries()) sequence.fill(layer, head, positions, scores, pages);
}

/** Its pages and, for a press that looks at them while decoding, its last queries, empty yet; null while there is no room. Throws OutOfDeviceMemory. */
export function openMounting(
  { file: { shape }, pages, queries: size }: Mounting,
  { cache, backend }: MountParts,
  freeBytes: number,
): HeldMemory | null {
  const floats = shape.queryHeads * shape.headDim;
  if (size > 0 && RecentRows.bytes(shape.layers, size, floats) > freeBytes) return null;
  const sequence = cache.open(shape.entryType, pages);
  if (sequence === null) return null;
  try {
    return { sequence, queries: size === 0 ? null : new RecentRows(backend, shape.layers, size, floats, 'last queries') };
  } catch (error) {
    sequence.close();
    throw error;
  }
}

/** What the layers have of the last queries; and where kept entries were moved together, what follows stands behind them. All entries are there. */
export function finishMounting(
  { file: { context, press }, tokens }: Mounting,
  { sequence, queries }: HeldMemory,
  layers: readonly MountedLayer[],
): void {
  queries?.restore(
    tokens.length,
    layers.map(({ queries }) => queries),
  );
  const end = context.covered + context.added_rows;
  sequence.renumber(end, end - context.shift, decodingPress(press.presses) !== null);
}

/** All that the engine tells of the context; what was kept is as counted. */
export function mountedFacts(
  { file, tokens, text, lengths }: Mounting,
  layers: readonly MountedLayer[],
): Omit<HeldContext, 'bytes' | 'entryType' | 'lengths' | 'close' | 'timings'> {
  const { press, context, report, prompt, shape } = file;
  const kvCache: KvCacheUsage = {
    ...report,
    scope: context.scope,
    kept_per_layer: layers.map(({ kept }) => kept),
    ...pagesOf(lengths, tokens.length, shape, shape.entryType),
    entry_type: shape.entryType,
  };
  return { tokens, prompt, text, press, covered: context.covered, scope: context.scope, rows: context.added_rows, kvCache };
}
