/**
 * What every stored row of one KV head received in attention from the last tokens, each of which sees what its sliding window lets it see.
 *      A[t] = sum over the last `window` tokens i with p_i - W < p_t <= p_i of the group's mean of softmax(<q_i, K> / sqrt d)[t],   W = infinity without a window
 * Rows that went have left gaps, so that the window is one of positions, not of rows: tokens that see the same rows go together.
 */
import { type AttentionShape, at, type Backend, type DeviceBuffer, readFloats, type View } from '../worker/backend/backend.ts';

const F32 = 4;

/** [n] sums. q [window, G, d] of the last rows, k [n, 1, d]; `positions` [n] of the rows, ascending. */
export async function receivedAttention(
  { backend, scratch }: { readonly backend: Backend; scratch(bytes: number, label: string): DeviceBuffer },
  q: View,
  k: View,
  positions: ArrayLike<number>,
  window: number,
  { queryHeads: G, headDim: d, slidingWindow, ...shape }: AttentionShape,
): Promise<Float64Array> {
  const n = positions.length;
  const sums = new Float64Array(n);
  const attention = scratch(G * n * F32, 'attention'); // [G, n]
  const mean = scratch(n * F32, 'mean attention');
  for (const { from, to, first } of views(positions, window, slidingWindow)) {
    const [queries, rows] = [to - from, n - window + to - first];
    const seen = { ...shape, queryHeads: G, headDim: d, slidingWindow: 0 };
    backend.scoreWindow(attention, at(q, from * G * d * F32), at(k, first * d * F32), queries, rows, seen);
    backend.groupMean(mean, attention, 1, G, rows);
    for (const [row, value] of (await readFloats(backend, mean, rows)).entries()) sums[first + row] += queries * value;
  }
  return sums;
}

/** Queries from .. to - 1 of the last `window` rows, which all see the rows from `first` to their own. */
function views(positions: ArrayLike<number>, window: number, slidingWindow: number): { from: number; to: number; first: number }[] {
  const found: { from: number; to: number; first: number }[] = [];
  let first = 0;
  for (let i = 0; i < window; i++) {
    const own = positions[positions.length - window + i];
    while (slidingWindow > 0 && positions[first] <= own - slidingWindow) first++;
    const last = found.at(-1);
    if (last?.first === first) last.to = i + 1;
    else found.push({ from: i, to: i + 1, first });
  }
  return found;
}
