/** Moments, quadratic forms and what solves with them, on the device: expected attention, leverage, CAP. Arrays that are read and written in one operation are different buffers. */
import type { TokenForms, TokenWeights, View } from '../backend.ts';
import { type Gpu, withScratch } from './gpu.ts';
import { fold } from './recorder.ts';

const F32 = 4;
const SPAN = 256; // tokens that one thread adds up
const MOST_THREADS = 32_768; // of weighted-gram; enough for any device
const LEAST_TOKENS = 256; // of one of them

/** The most that operations here take at once, over n tokens of `heads` heads with matrices of so many rows. */
export function formScratchBytes(n: number, rows: number, headDim: number): number {
  return Math.max(meanBytes(n, rows * headDim), gramBytes(n, rows, headDim), rows * headDim * headDim * F32);
}

export function tokenMean(gpu: Gpu, out: View, x: View, n: number, heads: number, headDim: number): void {
  withScratch(gpu, meanBytes(n, heads * headDim), 'sums of tokens', (sums) => {
    const spans = Math.ceil(n / SPAN);
    const wide = heads * vectors(headDim);
    const views = { x, sums, out };
    const dims = { n, vectors: wide, spans };
    gpu.recorder.dispatch('token-mean', { entry: 'add', views, dims, grid: [Math.ceil(wide / 64), spans] });
    gpu.recorder.dispatch('token-mean', { entry: 'combine', views, dims, grid: [Math.ceil(wide / 64)] });
  });
}

export function weightedGram(
  gpu: Gpu,
  out: View,
  x: View,
  weights: TokenWeights | null,
  centres: View | null,
  n: number,
  rows: number,
  heads: number,
  headDim: number,
  factor: number,
): void {
  withScratch(gpu, gramBytes(n, rows, headDim), 'sums of products', (sums) => {
    const blocks = triangle(headDim);
    const span = Math.ceil(n / mostSpans(n, rows, headDim));
    const spans = Math.ceil(n / span);
    const views = { x, weights: weights?.rows ?? null, centre: centres, sums, out };
    const dims = {
      n,
      rows,
      heads,
      vectors: vectors(headDim),
      blocks,
      span,
      spans,
      stride: weights?.stride ?? 0,
      weighted: Number(weights !== null),
      centred: Number(centres !== null),
      epsilon: weights?.epsilon ?? 0,
      factor,
    };
    gpu.recorder.dispatch('weighted-gram', { entry: 'add', views, dims, grid: [Math.ceil(blocks / 64), rows, spans] });
    gpu.recorder.dispatch('weighted-gram', { entry: 'combine', views, dims, grid: [Math.ceil((headDim * headDim) / 64), rows] });
  });
}

export function quadraticForm(
  gpu: Gpu,
  out: View,
  stride: number,
  x: View,
  { linear, quadratic }: TokenForms,
  n: number,
  rows: number,
  heads: number,
  headDim: number,
): void {
  const views = { x, vector: linear?.vectors ?? null, matrix: quadratic?.matrices ?? null, out };
  const dims = {
    n,
    rows,
    heads,
    vectors: vectors(headDim),
    stride,
    linear: Number(linear !== undefined),
    quadratic: Number(quadratic !== undefined),
    squared: Number(quadratic?.squared ?? false),
    c1: linear?.factor ?? 0,
    c2: quadratic?.factor ?? 0,
  };
  gpu.recorder.dispatch('quadratic-form', { views, dims, grid: [Math.ceil(n / 64), rows] });
}

export function choleskyInverse(gpu: Gpu, out: View, tries: View, matrix: View, rows: number, d: number, ridge: number, most: number): void {
  withScratch(gpu, rows * d * d * F32, 'Cholesky factors', (lower) => {
    const views = { matrix, lower, out, tries };
    const dims = { rows, width: d, most, ridge };
    if (gpu.software) gpu.recorder.dispatch('cholesky-inverse', { entry: 'alone', views, dims, grid: [Math.ceil(rows / 64)] });
    else gpu.recorder.dispatch('cholesky-inverse', { entry: 'main', views, dims, grid: [rows] });
  });
}

export function sketch(gpu: Gpu, out: View, x: View, centres: View, phi: View, n: number, heads: number, headDim: number, width: number): void {
  const columns = vectors(width);
  const dims = { n, heads, vectors: vectors(headDim), columns };
  gpu.recorder.dispatch('sketch', { views: { x, centre: centres, phi, out }, dims, grid: fold(Math.ceil((n * heads * columns) / 64)) });
}

export function rowSoftmax(gpu: Gpu, x: View, rows: number, cols: number, stride: number, peak: boolean): void {
  gpu.recorder.dispatch('row-softmax', { views: { x }, dims: { rows, cols, stride, peak: Number(peak) }, grid: fold(rows) });
}

export function cosineTo(
  gpu: Gpu,
  out: View,
  stride: number,
  x: View,
  anchors: View,
  n: number,
  rows: number,
  heads: number,
  headDim: number,
  scale: number,
): void {
  const dims = { n, rows, heads, vectors: vectors(headDim), stride, scale };
  gpu.recorder.dispatch('cosine-to', { views: { x, anchors, out }, dims, grid: [Math.ceil(n / 64), rows] });
}

function meanBytes(n: number, columns: number): number {
  return F32 * Math.ceil(n / SPAN) * columns;
}

/** Blocks of 4 x 4 in the lower triangle. */
function triangle(headDim: number): number {
  const side = Math.ceil(headDim / 4);
  return (side * (side + 1)) / 2;
}

function mostSpans(n: number, rows: number, headDim: number): number {
  return Math.max(1, Math.min(Math.floor(MOST_THREADS / (rows * triangle(headDim))), Math.ceil(n / LEAST_TOKENS)));
}

function gramBytes(n: number, rows: number, headDim: number): number {
  return F32 * mostSpans(n, rows, headDim) * rows * headDim * headDim;
}

function vectors(width: number): number {
  if (width % 4 !== 0) throw new Error(`WebGPU kernels want vectors of a multiple of 4, got ${width}`);
  return width / 4;
}
