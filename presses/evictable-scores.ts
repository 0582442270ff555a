/** A layer's scores on the host. */
import { type MassMap, readFloats } from '../worker/backend/backend.ts';
import type { SignalContext } from './contract.ts';
import { falling } from './layer-budgets/share-of-best.ts';

/** [H] scores without those of protected tokens, by position. */
export async function evictableScores({ backend, scores, n, shape: { kvHeads: H }, keep }: SignalContext): Promise<Float32Array[]> {
  const all = await readFloats(backend, scores, H * n);
  const first = Math.min(n, keep.first);
  const end = Math.max(first, n - keep.last);
  return Array.from({ length: H }, (_, h) => all.subarray(h * n + first, h * n + end));
}

/** Those of all heads together, best first. What is no number ranks last. */
export function fallingScores(heads: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(heads.reduce((count, { length }) => count + length, 0));
  let filled = 0;
  for (const scores of heads) {
    all.set(scores, filled);
    filled += scores.length;
  }
  return falling(all);
}

/** Masses of one head's scores, as the kernel mass-count has them: not negative; NaN where the map has no meaning. */
export function toMasses(scores: Float32Array, map: MassMap): Float64Array {
  if (map === 'identity') return Float64Array.from(scores, (s) => Math.max(s, 0));
  if (map === 'affine') return Float64Array.from(scores, (s) => Math.max((s + 1) / 2, 0));
  if (map === 'shift') {
    const least = scores.reduce((low, s) => Math.min(low, s), Infinity);
    return Float64Array.from(scores, (s) => s - least);
  }
  const most = scores.reduce((high, s) => Math.max(high, s), -Infinity);
  if (map === 'exp') return Float64Array.from(scores, (s) => Math.exp(s - most));
  const mean = scores.reduce((sum, s) => sum + s, 0) / scores.length;
  const deviation = Math.sqrt(scores.reduce((sum, s) => sum + (s - mean) ** 2, 0) / scores.length);
  return Float64Array.from(scores, (s) => (deviation > 0 ? Math.exp((s - most) / deviation) : 1));
}
