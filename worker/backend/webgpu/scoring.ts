/** What presses score, rank and count with, on the device. Arrays that are read and written in one operation are different buffers. */
import type { AttentionShape, Columns, GateShape, MassMap, NormKind, Protected, RankOrder, View } from '../backend.ts';
import { formScratchBytes } from './forms.ts';
import { type Gpu, withScratch } from './gpu.ts';
import { fold } from './recorder.ts';

const F32 = 4;
const CHUNK = 256; // keys whose directions one workgroup adds up
const TILE = 2048; // tokens that one workgroup sorts at most: all of the 16 KiB that it may have
const MOST_THREADS = 65_536; // that find out (m, z); enough for any device
const LEAST_SPAN = 64; // keys of one of them
const NORM_KINDS: Readonly<Record<NormKind, number>> = { key: 0, value: 1, kv_avg: 2, kv_product: 3 };
const MASS_MAPS: Readonly<Record<MassMap, number>> = { identity: 0, affine: 1, softmax: 2, shift: 3, exp: 4 };

/** The most that operations here take at once, over n tokens: none holds scratch beside another. */
export function scoringScratchBytes(n: number, window: number, shape: Pick<AttentionShape, 'queryHeads' | 'kvHeads' | 'headDim'>): number {
  const { queryHeads, kvHeads, headDim } = shape;
  const bytes = Math.max(
    statsBytes(mostStats(queryHeads * window, n), 1), // fewer queries or keys, as of a block, take no more
    sortBytes(Math.max(queryHeads, kvHeads), n),
    directionBytes(n, kvHeads, headDim),
    normBytes(n, kvHeads),
    formScratchBytes(n, queryHeads, headDim),
  );
  return Math.ceil(1.25 * bytes) + 256; // Buffers round up
}

export function scoreWindow(gpu: Gpu, out: View, q: View, k: View, window: number, n: number, shape: AttentionShape): void {
  withSoftmax(gpu, 'score-window', { q, k, out }, { queries: window, n }, n - window, n, shape);
}

export function scoreColumns(gpu: Gpu, out: View, q: View, k: View, columns: Columns, shape: AttentionShape): void {
  const { queries, n, start, reduce, stride, rowScale, accumulate } = columns;
  const first = start ?? n; // from n - 1 on a query sees every key
  const dims = { queries, n, first, columns: columns.columns, stride, largest: Number(reduce === 'max'), scaled: Number(rowScale !== null) };
  const all = start === null ? { ...shape, slidingWindow: 0 } : shape;
  withSoftmax(gpu, 'score-columns', { q, k, rowScale, out }, { ...dims, accumulate: Number(accumulate) }, first, columns.columns, all);
}

export function windowMoments(gpu: Gpu, out: View, q: View, k: View, window: number, n: number, shape: AttentionShape): void {
  withSoftmax(gpu, 'window-moments', { q, k, out }, { queries: window, n }, n - window, n, shape);
}

/** Kernels that reduce columns of softmax attention: each row's (m, z), over spans of the keys and together, then the columns. */
function withSoftmax(
  gpu: Gpu,
  kernel: 'score-window' | 'score-columns' | 'window-moments',
  given: Readonly<Record<string, View | null>>,
  own: Readonly<Record<'queries' | 'n', number>> & Readonly<Record<string, number>>,
  first: number, // position of query 0
  columns: number,
  shape: AttentionShape,
): void {
  const { queryHeads, kvHeads, headDim, scale, slidingWindow } = shape;
  const { queries, n } = own;
  const rows = queryHeads * queries;
  const start = slidingWindow > 0 ? Math.max(0, first - slidingWindow + 1) : 0; // the first key that any query sees
  const span = Math.ceil((n - start) / mostSpans(rows, n - start));
  const spans = Math.ceil((n - start) / span);
  withScratch(gpu, statsBytes(rows, spans), 'softmax statistics', (stats) => {
    const views = { ...given, stats };
    const dims = { ...own, queryHeads, kvHeads, vectors: vectors(headDim), start, span, spans, slidingWindow, scale };
    gpu.recorder.dispatch(kernel, { entry: 'rows', views, dims, grid: [Math.ceil(rows / kvHeads / 64), kvHeads, spans] });
    if (spans > 1) gpu.recorder.dispatch(kernel, { entry: 'combine', views, dims, grid: [Math.ceil(rows / 64)] });
    gpu.recorder.dispatch(kernel, { entry: 'columns', views, dims, grid: [Math.ceil(columns / 64), queryHeads] });
  });
}

export function avgPool(gpu: Gpu, out: View, x: View, rows: number, cols: number, stride: number, kernelSize: number): void {
  gpu.recorder.dispatch('avg-pool', { views: { x, out }, dims: { cols, stride, kernelSize }, grid: [Math.ceil(cols / 256), rows] });
}

export function groupMean(gpu: Gpu, out: View, x: View, groups: number, group: number, n: number): void {
  gpu.recorder.dispatch('group-mean', { views: { x, out }, dims: { n, size: group }, grid: [Math.ceil(n / 256), groups] });
}

export function groupMax(gpu: Gpu, out: View, x: View, groups: number, group: number, n: number): void {
  gpu.recorder.dispatch('group-max', { views: { x, out }, dims: { n, size: group }, grid: [Math.ceil(n / 256), groups] });
}

export function maxPool(gpu: Gpu, out: View, x: View, rows: number, cols: number, stride: number, kernelSize: number): void {
  gpu.recorder.dispatch('max-pool', { views: { x, out }, dims: { cols, stride, kernelSize }, grid: [Math.ceil(cols / 256), rows] });
}

export function weigh(gpu: Gpu, out: View, x: View, w: View, rows: number, wRows: number, n: number, epsilon: number): void {
  const dims = { n, rowsOfOne: rows / wRows, epsilon };
  gpu.recorder.dispatch('weigh', { views: { x, w, out }, dims, grid: [Math.ceil(n / 256), rows] });
}

export function blend(gpu: Gpu, out: View, x: View, y: View, a: number, b: number, count: number): void {
  gpu.recorder.dispatch('blend', { views: { x, y, out }, dims: { count, a, b }, grid: fold(Math.ceil(count / 256)) });
}

export function reciprocal(gpu: Gpu, out: View, x: View, count: number): void {
  gpu.recorder.dispatch('reciprocal', { views: { x, out }, dims: { count }, grid: fold(Math.ceil(count / 256)) });
}

export function zScore(gpu: Gpu, x: View, rows: number, stride: number, first: number, cols: number, whole: boolean): void {
  const dims = { rows: whole ? rows : 1, stride, first, cols };
  gpu.recorder.dispatch('z-score', { views: { x }, dims, grid: [whole ? 1 : rows] });
}

export function normScale(gpu: Gpu, out: View, x: View, v: View, n: number, count: number, kvHeads: number, headDim: number): void {
  withScratch(gpu, normBytes(n, kvHeads) / 2, 'L1 norms', (norms) => {
    const views = { x, v, norms, out };
    const dims = { n, count, kvHeads, vectors: vectors(headDim) };
    gpu.recorder.dispatch('norm-scale', { entry: 'lengths', views, dims, grid: fold(Math.ceil((count * kvHeads) / 64)) });
    gpu.recorder.dispatch('norm-scale', { views, dims, grid: [Math.ceil(n / 256), kvHeads] });
  });
}

export function rowCosine(gpu: Gpu, out: View, x: View, y: View, rows: number, cols: number): void {
  gpu.recorder.dispatch('row-cosine', { views: { x, y, out }, dims: { rows, cols }, grid: fold(rows) });
}

export function keyNorm(gpu: Gpu, out: View, k: View, n: number, kvHeads: number, headDim: number, sign: number): void {
  const dims = { n, kvHeads, vectors: vectors(headDim), sign };
  gpu.recorder.dispatch('key-norm', { views: { k, out }, dims, grid: fold(Math.ceil((n * kvHeads) / 64)) });
}

export function cosineToMean(gpu: Gpu, out: View, k: View, n: number, kvHeads: number, headDim: number, sign: number): void {
  const chunks = Math.ceil(n / CHUNK);
  withScratch(gpu, directionBytes(n, kvHeads, headDim), 'sums of directions', (sums) => {
    const views = { k, sums, out };
    const dims = { n, kvHeads, vectors: vectors(headDim), chunks, sign };
    for (const entry of ['directions', 'cosines']) gpu.recorder.dispatch('cosine-to-mean', { entry, views, dims, grid: [chunks, kvHeads] });
  });
}

export function normShare(gpu: Gpu, out: View, k: View, v: View, n: number, kvHeads: number, headDim: number, segment: number, kind: NormKind): void {
  withScratch(gpu, normBytes(n, kvHeads), 'squared norms', (norms) => {
    const views = { k, v, norms, out };
    const dims = { n, kvHeads, vectors: vectors(headDim), segment, kind: NORM_KINDS[kind] };
    gpu.recorder.dispatch('norm-share', { entry: 'squares', views, dims, grid: fold(Math.ceil((2 * n * kvHeads) / 64)) });
    gpu.recorder.dispatch('norm-share', { entry: 'combine', views, dims, grid: [Math.ceil(n / 256), kvHeads] });
    gpu.recorder.dispatch('norm-share', { entry: 'normalise', views, dims, grid: [1, kvHeads] });
  });
}

export function lagScore(gpu: Gpu, out: View, k: View, v: View, n: number, first: number, lag: number, kvHeads: number, headDim: number): void {
  const scored = Math.max(0, Math.floor((n - first) / lag) - 1);
  const dims = { n, kvHeads, vectors: vectors(headDim), first, lag, scored };
  gpu.recorder.dispatch('lag-score', { views: { k, v, out }, dims, grid: fold((scored + 1) * kvHeads) });
}

export function segmentRank(gpu: Gpu, out: View, x: View, rows: number, n: number, first: number, width: number, segments: number): void {
  gpu.recorder.dispatch('segment-rank', { views: { x, out }, dims: { n, first, width, segments }, grid: [Math.ceil(n / 256), rows] });
}

export function segmentMean(gpu: Gpu, out: View, x: View, rows: number, n: number, first: number, end: number, width: number): void {
  gpu.recorder.dispatch('segment-mean', { views: { x, out }, dims: { n, first, end, width }, grid: [Math.ceil(n / 256), rows] });
}

export function outputNorm(
  gpu: Gpu,
  out: View,
  v: View,
  w: View,
  n: number,
  rows: number,
  { queryHeads, kvHeads, headDim }: Pick<AttentionShape, 'queryHeads' | 'kvHeads' | 'headDim'>,
  p: 1 | 2,
  accumulate: boolean,
): void {
  const dims = { n, rows, queryHeads, kvHeads, vectors: vectors(headDim), p, accumulate: Number(accumulate) };
  gpu.recorder.dispatch('output-norm', { views: { v, w, out }, dims, grid: [Math.ceil(n / 64), queryHeads] });
}

export function gateScore(
  gpu: Gpu,
  out: View,
  q: View,
  k: View,
  base: View,
  bias: View,
  n: number,
  { kvHeads, group, width, sinks }: GateShape,
): void {
  if (width % 4 !== 0) throw new Error(`gateScore wants channels in fours, got ${width}`);
  const dims = { n, kvHeads, size: group, vectors: width / 4, sinks };
  gpu.recorder.dispatch('gate-score', { views: { q, k, base, bias, out }, dims, grid: [Math.ceil(n / 64), kvHeads] });
}

export function gather(gpu: Gpu, out: View, x: View, { rows, stride }: RankOrder, count: number, kvHeads: number, headDim: number): void {
  const dims = { stride, count, kvHeads, headDim };
  gpu.recorder.dispatch('gather', { views: { x, order: rows, out }, dims, grid: fold(Math.ceil((count * kvHeads * headDim) / 256)) });
}

export function topK(gpu: Gpu, order: View, scores: View, rows: number, n: number, count: number, keep: Protected): void {
  const { first, last } = cut(keep, n);
  const others = n - first - last;
  if (count < first + last || count > n) throw new Error(`topK: ${count} of ${n} tokens, ${first + last} protected`);
  withScratch(gpu, sortBytes(rows, others), 'rank order', (scratch) => {
    const views = { scores, scratch, order };
    const tile = Math.min(TILE, 2 ** Math.ceil(Math.log2(Math.max(2, others))));
    const dims = { n, count, first, last, tile };
    if (gpu.software) return gpu.recorder.dispatch('top-k', { entry: 'alone', views, dims, grid: [1, rows] });
    gpu.recorder.dispatch('top-k', { entry: 'tiles', views, dims, grid: [Math.ceil(others / tile), rows] });
    gpu.recorder.dispatch('top-k', { entry: 'merge', views, dims, grid: [Math.ceil(n / 256), rows] });
  });
}

/** To counts [rows] u32. */
export function massCount(
  gpu: Gpu,
  counts: View,
  scores: View,
  order: View,
  n: number,
  rows: number,
  keep: Protected,
  threshold: number,
  map: MassMap,
): void {
  const { first, last } = cut(keep, n);
  const evictable = n - first - last;
  const dims = {
    n,
    evictable,
    map: MASS_MAPS[map],
    threshold: Math.min(2 ** 32 - 1, Math.floor(threshold * 2 ** 32)),
    all: Number(threshold >= 1),
    uninformed: Math.ceil(threshold * evictable),
  };
  gpu.recorder.dispatch('mass-count', { views: { scores, order, counts }, dims, grid: [1, rows] });
}

/** Protected tokens that there are. */
function cut({ first, last }: Protected, n: number): Protected {
  const firsts = Math.min(first, n);
  return { first: firsts, last: Math.min(last, n - firsts) };
}

function mostSpans(rows: number, keys: number): number {
  return Math.max(1, Math.min(Math.floor(MOST_THREADS / rows), Math.ceil(keys / LEAST_SPAN)));
}

/** Of rows times spans. */
function mostStats(rows: number, keys: number): number {
  return Math.min(Math.max(MOST_THREADS, rows), rows * Math.ceil(keys / LEAST_SPAN));
}

/** (m, z) of each row over each span. */
function statsBytes(rows: number, spans: number): number {
  return 2 * F32 * rows * spans;
}

/** A key and a position of each token, or two positions. */
function sortBytes(rows: number, tokens: number): number {
  return 2 * F32 * rows * tokens;
}

function directionBytes(n: number, kvHeads: number, headDim: number): number {
  return F32 * Math.ceil(n / CHUNK) * kvHeads * headDim;
}

/** Of each key and value. */
function normBytes(n: number, kvHeads: number): number {
  return 2 * F32 * n * kvHeads;
}

function vectors(headDim: number): number {
  if (headDim % 4 !== 0) throw new Error(`WebGPU kernels want a head_dim that is a multiple of 4, got ${headDim}`);
  return headDim / 4;
}
