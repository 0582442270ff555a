/**
 * What a request will take of the KV pool, before anything is computed. Pages are counted as badly as they can round, so that a request
 * which is let in never runs out half-way, and /v1/press/plan never promises too little.
 */
import { type CheckedPress, mostPages } from '../../presses/check-press.ts';
import type { KvShape } from './kv-cache.ts';

export interface RequestShape {
  readonly promptTokens: number; // N
  /** Tokens that the press covers, the first c of the prompt; N where nothing is pressed. */
  readonly coveredTokens: number;
  readonly maxTokens: number; // most tokens generated
  readonly entriesPerPage: number; // E
  readonly pageBytes: number;
  /** Null = nothing is removed. */
  readonly checked: CheckedPress | null;
}

export interface RequestSize {
  /** Pages of the whole prompt, uncompressed. */
  readonly pagesFull: number;
  /** Pages after the prompt is read. */
  readonly pagesKept: number;
  /** Pages after the last generated token. */
  readonly pagesEnd: number;
  /** Pages at the highest point, which is what a request reserves. */
  readonly pagesMost: number;
  /** Pages and the one layer's K,V at the highest point of reading the prompt. */
  readonly bytesPeak: number;
}

export function requestSize(model: KvShape, request: RequestShape): RequestSize {
  const { promptTokens: N, coveredTokens: c, maxTokens, entriesPerPage: E, pageBytes, checked } = request;
  const lists = model.layers * model.kvHeads;
  const even = (tokens: number): number => lists * Math.ceil(tokens / E);
  const layerBytes = (tokens: number): number => tokens * model.kvHeads * model.headDim * 2 * 4;
  const pagesFull = even(N);
  if (!checked || checked.stages.length === 0) {
    const pagesEnd = even(N + maxTokens);
    return { pagesFull, pagesKept: pagesFull, pagesEnd, pagesMost: pagesEnd, bytesPeak: pagesFull * pageBytes + layerBytes(N) };
  }
  const after = (extra: number): number => pressedPages(model, checked, E, extra);
  const pagesKept = after(N - c);
  const pagesEnd = after(N - c + maxTokens);
  const reading = checked.deferred ? even(c) : Math.min(even(c), after(0) + (isStatic(checked) ? 0 : mostPages(model.kvHeads * model.layers, 1, E)));
  return {
    pagesFull,
    pagesKept,
    pagesEnd,
    pagesMost: Math.max(reading, pagesEnd),
    bytesPeak: Math.max(reading * pageBytes + layerBytes(c), pagesKept * pageBytes),
  };
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

/** The smallest ratio, in steps of 0.01, at which an even press of the covered tokens would fit into `pages`; null when none does. */
export function fittingRatio(model: KvShape, request: RequestShape, pages: number): number | null {
  const { promptTokens: N, coveredTokens: c, maxTokens, entriesPerPage: E } = request;
  const lists = model.layers * model.kvHeads;
  const extra = N - c + maxTokens;
  for (let percent = 1; percent <= 99; percent++) {
    const kept = Math.max(1, Math.floor((c * (100 - percent)) / 100));
    if (mostPages(lists * (kept + extra), lists, E) <= pages) return percent / 100;
  }
  return null;
}
