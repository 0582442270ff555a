/**
 * What transforms change kept keys and values with, on the device: turn-keys, nearest-kept, merge-values, prune-channels. What these keep for themselves is in the transforms'
 * own scratchBytes, so that no other press is charged for it.
 */
import type { AttentionShape, KeptSet, RankOrder, View } from '../backend.ts';
import { type Gpu, withScratch } from './gpu.ts';

const F32 = 4;
const ROWS = 64; // of a workgroup
const TILE = 32; // rows that go of a workgroup of nearest-kept
const MOST_CHANNELS = 256; // threads of a workgroup of prune-channels

type Heads = Pick<AttentionShape, 'queryHeads' | 'kvHeads' | 'headDim'>;

export function turnKeys(gpu: Gpu, k: View, table: View, { rows, stride }: RankOrder, count: number, kvHeads: number, headDim: number): void {
  const dims = { stride, count, kvHeads, headDim };
  gpu.recorder.dispatch('turn-keys', { views: { k, table, order: rows }, dims, grid: [Math.ceil(count / ROWS), kvHeads] });
}

export function nearestKept(
  gpu: Gpu,
  target: View,
  similarity: View,
  k: View,
  norms: View,
  { order, counts }: KeptSet,
  among: RankOrder | null,
  n: number,
  kvHeads: number,
  headDim: number,
): void {
  const most = (among?.stride ?? n) - Math.min(...counts);
  withScratch(gpu, othersBytes(n, kvHeads), 'rows that go', (others) => {
    const views = {
      k,
      norms,
      order: order.rows,
      counts: Uint32Array.from(counts),
      among: among?.rows ?? null,
      others,
      nearest: target,
      similarity,
    };
    const dims = { stride: order.stride, amongStride: among?.stride ?? 0, n, kvHeads, vectors: vectors(headDim) };
    gpu.recorder.dispatch('nearest-kept', { entry: 'mark', views, dims, grid: [kvHeads] });
    const entry = gpu.software ? 'alone' : 'main';
    if (most > 0) gpu.recorder.dispatch('nearest-kept', { entry, views, dims, grid: [Math.ceil(most / TILE), kvHeads] });
  });
}

export function mergeValues(
  gpu: Gpu,
  v: View,
  target: View,
  similarity: View,
  norms: View,
  threshold: View,
  n: number,
  kvHeads: number,
  headDim: number,
): void {
  const views = { v, nearest: target, similarity, norms, threshold };
  const dims = { n, kvHeads, vectors: vectors(headDim) };
  gpu.recorder.dispatch('merge-values', { views, dims, grid: [Math.ceil((n * vectors(headDim)) / ROWS), kvHeads] });
}

export function pruneChannels(
  gpu: Gpu,
  k: View,
  q: View,
  window: number,
  { order, counts }: KeptSet,
  zeroed: number,
  { queryHeads, kvHeads, headDim }: Heads,
): void {
  if (headDim > MOST_CHANNELS) throw new Error(`prune-channels takes a head_dim up to ${MOST_CHANNELS}, got ${headDim}`);
  withScratch(gpu, energyBytes(kvHeads, headDim), 'energies of channels', (energies) => {
    const views = { k, q, order: order.rows, counts: Uint32Array.from(counts), energies };
    const dims = { stride: order.stride, window, zeroed, queryHeads, kvHeads, headDim };
    gpu.recorder.dispatch('prune-channels', { entry: 'energy', views, dims, grid: [2 * kvHeads] });
    gpu.recorder.dispatch('prune-channels', { entry: 'zero', views, dims, grid: [Math.ceil(Math.max(...counts) / ROWS), kvHeads] });
  });
}

function othersBytes(n: number, kvHeads: number): number {
  return F32 * n * kvHeads;
}

/** Of the queries, and of the keys. */
function energyBytes(kvHeads: number, headDim: number): number {
  return 2 * F32 * kvHeads * headDim;
}

function vectors(headDim: number): number {
  if (headDim % 4 !== 0) throw new Error(`WebGPU kernels want a head_dim that is a multiple of 4, got ${headDim}`);
  return headDim / 4;
}
