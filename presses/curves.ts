/** LU-KV's curves: which fraction of every KV head is pruned when so much of the whole cache is, measured offline for a model and a scorer. */
import { type Artifact, type ArtifactNeed, anyTensor, Misfit } from './artifacts.ts';
import type { BudgetContext } from './contract.ts';
import { halfToEven } from './duo-pattern.ts';

const RATIOS = 99; // 1 % to 99 % of the whole

export const aboutCurves = {
  format: 'safetensors',
  what: "LU-KV's curves, the fraction pruned from each KV head at 1% to 99% of the whole cache",
  layout: 'tensor curves [99, layers, KV heads], numbers between 0 and 1',
  source: 'github.com/baidu-baige/LU-KV makes them as .npy files, to be converted',
} as const;

export const curvesNeed: ArtifactNeed = {
  param: 'curves',
  ...aboutCurves,
  check(artifact, { layers, kvHeads }) {
    const values = anyTensor(artifact, ['curves'], [RATIOS, layers, kvHeads]);
    const odd = values.findIndex((value) => value < 0 || value > 1);
    if (odd >= 0) throw new Misfit(`tensor curves holds ${values[odd]} at ${odd}, numbers between 0 and 1 are expected`);
  },
};

/** kappa [H] of a layer: the fraction that each of its heads keeps at the press's ratio, by the nearest of the 99 curves. */
export function keptShares(artifact: Artifact, layer: number, { compressionRatio, layers, kvHeads }: BudgetContext): number[] {
  const i = Math.min(RATIOS - 1, Math.max(0, halfToEven(100 * compressionRatio) - 1));
  const pruned = artifact.tensors.get('curves')!.values;
  return Array.from({ length: kvHeads }, (_, h) => Math.min(1, Math.max(0, 1 - pruned[(i * layers + layer) * kvHeads + h])));
}

/**
 * kvpress's entries of each head [H], in f32 as it computes them:
 *   T = round(sum of kappa_h N) between H and H N;   floor(kappa_h N), the T - sum largest remainders get one more;   each between 1 and N
 */
export function kvpressEntries(shares: readonly number[], tokens: number): number[] {
  const H = shares.length;
  const ideal = shares.map((share) => Math.fround(Math.fround(share) * tokens));
  const wanted = halfToEven(ideal.reduce((sum, x) => Math.fround(sum + x), 0));
  const total = Math.max(H, Math.min(H * tokens, wanted));
  const counts = ideal.map(Math.floor);
  const rest = total - counts.reduce((sum, x) => sum + x, 0);
  const byRemainder = ideal.map((x, h) => ({ h, remainder: x - Math.floor(x) })).sort((a, b) => b.remainder - a.remainder || a.h - b.h);
  for (const { h } of byRemainder.slice(0, Math.max(0, Math.min(rest, H)))) counts[h]++;
  return counts.map((count) => Math.min(tokens, Math.max(1, count)));
}
