/**
 * What a request will take of the KV pool, before anything is computed. Pages are counted as badly as they can round, so that a request
 * which is let in never runs out half-way, and /v1/press/plan never promises too little.
 */
import type { CheckedDecoding } from '../../presses/check-decoding.ts';
import { type CheckedPress, mostPages } from '../../presses/check-press.ts';
import type { HeldContext } from './held.ts';
import { type KvShape, layerBytesOf } from './kv-cache.ts';

export interface RequestShape {
  readonly promptTokens: number; // N
  /** Tokens that the press covers, the first c of the prompt; N where nothing is pressed. */
  readonly coveredTokens: number;
  readonly maxTokens: number; // most tokens generated
  /** Tokens of the longest pass over the prompt, or added rows, whose keys and values lie behind the prompt's; 0 without. */
  readonly passTokens: number;
  readonly entriesPerPage: number; // E
  readonly pageBytes: number;
  /** Null = nothing is removed. */
  readonly checked: CheckedPress | null;
  /** Null = nothing is removed while decoding. */
  readonly decoding: CheckedDecoding | null;
}

export interface RequestSize {
  /** Pages of the whole prompt, uncompressed. */
  readonly pagesFull: number;
  /** Pages after the prompt is read. */
  readonly pagesKept: number;
  /** Pages at most, from when the prompt is read to the last generated token. */
  readonly pagesEnd: number;
  /** The same from the first compression while decoding on; null = there is none. */
  readonly pagesSteady: number | null;
  /** Entries that a list has when it is compressed while decoding, at most, or on average over the heads of a layer; 0 = it never is. */
  readonly entriesMost: number;
  /** Pages at the highest point, which is what a request reserves. */
  readonly pagesMost: number;
  /** Pages and the one layer's K,V at the highest point of reading the prompt. */
  readonly bytesPeak: number;
}

export function requestSize(model: KvShape, request: RequestShape): RequestSize {
  const { promptTokens: N, coveredTokens: c, passTokens, entriesPerPage: E, pageBytes, checked } = request;
  const added = checked?.added?.rows ?? 0; // on every list, behind the covered tokens
  const lists = model.layers * model.kvHeads;
  const even = (tokens: number): number => lists * Math.ceil(tokens / E);
  const pagesFull = even(N);
  if (!checked || checked.stages.length === 0) {
    const answer = answered(model, request, (tokens) => even(N + tokens), N);
    return { pagesFull, pagesKept: pagesFull, ...answer, pagesMost: answer.pagesEnd, bytesPeak: pagesFull * pageBytes + layerBytesOf(model, N) };
  }
  const after = (extra: number): number => pressedPages(model, checked, E, extra);
  const pagesKept = after(added + N - c);
  const answer = answered(model, request, (tokens) => after(added + N - c + tokens), Math.max(...checked.bounds.map(({ max }) => max)) + N - c);
  const reading = checked.deferred ? even(c) : Math.min(even(c), readingPages(model, checked, E));
  return {
    pagesFull,
    pagesKept,
    ...answer,
    pagesMost: Math.max(reading, answer.pagesEnd),
    bytesPeak: Math.max(reading * pageBytes + layerBytesOf(model, c + passTokens), pagesKept * pageBytes) + layerBytesOf(model, model.layers * added),
  };
}

/**
 * Of a request that has a held context mounted: the pages of its own. What it appends to a list takes, beside whole pages, a copy of the last one of the context
 * where that is not full. A press that evicts while decoding may come to copy every page that stays, so all is reserved as if nothing was shared.
 */
export function mountedSize(model: KvShape, request: RequestShape, { lengths, tokens }: Pick<HeldContext, 'lengths' | 'tokens'>): RequestSize {
  const { promptTokens: N, maxTokens, entriesPerPage: E, pageBytes } = request;
  const M = N - tokens.length;
  const pages = (ofList: (entries: number) => number): number => lengths.reduce((sum, entries) => sum + ofList(entries), 0);
  const whole = (extra: number): number => pages((entries) => Math.ceil((entries + extra) / E));
  const layers = Array.from({ length: model.layers }, (_, layer) => lengths.subarray(layer * model.kvHeads, (layer + 1) * model.kvHeads));
  const kept = Math.max(...layers.map((lists) => Math.ceil(lists.reduce((sum, entries) => sum + entries, 0) / model.kvHeads)));
  const evicting = answered(model, request, (answer) => whole(M + answer), kept + M);
  const alone = pages((entries) => Math.ceil((entries + M + maxTokens) / E) - Math.floor(entries / E));
  const pagesEnd = evicting.pagesSteady === null ? alone : evicting.pagesEnd;
  const pagesKept = whole(M);
  const pagesFull = lengths.length * Math.ceil(N / E);
  return { ...evicting, pagesFull, pagesKept, pagesEnd, pagesMost: pagesEnd, bytesPeak: pagesKept * pageBytes };
}

/**
 * Most pages while the answer grows: `grown` says what it takes that so many tokens come on top of `kept` in a list, at most, or on average over the heads of a layer. A press that acts every I tokens lets it grow by I, and
 * from T to T + I each time after that.
 */
function answered(
  { layers, kvHeads }: KvShape,
  { promptTokens, maxTokens, entriesPerPage: E, decoding }: RequestShape,
  grown: (answer: number) => number,
  kept: number,
): Pick<RequestSize, 'pagesEnd' | 'pagesSteady' | 'entriesMost'> {
  const whole = grown(maxTokens);
  if (decoding === null || maxTokens < decoding.interval) return { pagesEnd: whole, pagesSteady: null, entriesMost: 0 };
  const lists = layers * kvHeads;
  const most = decoding.target(promptTokens + maxTokens) + decoding.interval; // on every list, or on average
  const average = decoding.average(promptTokens + maxTokens, { layers, kvHeads }) + decoding.interval;
  const pagesSteady = decoding.press.headBudget.part.ragged ? mostPages(Math.ceil(lists * average), lists, E) : lists * Math.ceil(most / E);
  const entriesMost = Math.min(promptTokens + maxTokens, Math.max(kept + decoding.interval, most));
  return { pagesEnd: Math.min(whole, Math.max(grown(decoding.interval), pagesSteady)), pagesSteady, entriesMost };
}

/**
 * Most pages while the layers are read one after the other. Budgets that are known stand from the first layer on. Measured ones share the
 * whole total among the layers read so far, rounded up: more for each than it ends with, and less than one token per layer above the total.
 */
function readingPages(model: KvShape, checked: CheckedPress, E: number): number {
  if (checked.stages.at(-1)!.exact !== null) return pressedPages(model, checked, E, 0);
  const { layers, kvHeads } = model;
  const entries = (Math.ceil(checked.averageBudget * layers) + layers - 1) * kvHeads;
  return mostPages(entries, layers * kvHeads, E);
}

/** Most pages of the pressed lists with `extra` uncompressed entries on each. */
function pressedPages({ layers, kvHeads }: KvShape, { bounds, averageBudget, stages }: CheckedPress, E: number, extra: number): number {
  const entries = (Math.ceil(averageBudget * layers) + layers * extra) * kvHeads;
  const unequal = mostPages(entries, layers * kvHeads, E);
  if (stages.some(({ press }) => press.headBudget.part.ragged)) return unequal;
  const most = bounds.reduce((sum, { max }) => sum + kvHeads * Math.ceil((max + extra) / E), 0);
  return Math.min(most, unequal);
}

/** True when every layer's budget is known before the prompt is read. */
export function isStatic({ bounds }: CheckedPress): boolean {
  return bounds.every(({ min, max }) => min === max);
}

/** The smallest ratio, in steps of 0.01, at which `pagesAt` is no more than `pages`; null when there is none. `pagesAt` is null where a ratio is refused. */
export function fittingRatio(pages: number, pagesAt: (ratio: number) => number | null): number | null {
  for (let percent = 1; percent <= 99; percent++) {
    const most = pagesAt(percent / 100);
    if (most !== null && most <= pages) return percent / 100;
  }
  return null;
}

/** Most pages of any streaming press that keeps `average` of the covered tokens on average, however unequal its layers and heads. */
export function anyPressPages(
  model: KvShape,
  { promptTokens: N, coveredTokens: c, maxTokens, entriesPerPage: E }: RequestShape,
  average: number,
): number {
  const { layers, kvHeads } = model;
  const lists = layers * kvHeads;
  const kept = lists * Math.max(1, average);
  return Math.max(mostPages(kept + (layers - 1) * kvHeads, lists, E), mostPages(kept + lists * (N - c + maxTokens), lists, E));
}
