/** What each key receives from the last W queries:   out[a, j] = mean over i of softmax_j(q[i,a].k[j] * scale),  causal inside the window.
 *  All n columns, the window's own included. */
import { at, type View } from '../worker/backend/backend.ts';
import type { ScoreContext } from './contract.ts';

const F32 = 4;

/** The window of an observation that no scorer asked for: retained mass, and LMBA from attention under scorers without queries. */
export const OBSERVATION_WINDOW = 32;

/** Scratch [Hq, n] f32. `window` is among the queries that were handed over. */
export function windowAttention(context: ScoreContext, window: number): View {
  const { backend, k, n, shape } = context;
  const attention = context.scratch(shape.queryHeads * n * F32, 'window attention');
  backend.scoreWindow(attention, lastQueries(context, window), k, window, n, shape);
  return attention;
}

/** Scratch [3, Hq, n] f32: mean, variance and entropy of what each key receives from the last queries. */
export function windowMoments(context: ScoreContext, window: number): View {
  const { backend, k, n, shape } = context;
  const moments = context.scratch(3 * shape.queryHeads * n * F32, 'moments of window attention');
  backend.windowMoments(moments, lastQueries(context, window), k, window, n, shape);
  return moments;
}

/** [window, Hq, d] */
function lastQueries({ q, window: handed, shape: { queryHeads: Hq, headDim: d } }: ScoreContext, window: number): View {
  if (window > handed) throw new Error(`window of ${window} queries, but only ${handed} were handed over`);
  return at(q, (handed - window) * Hq * d * F32);
}
