/** What each key receives from the last W queries:   out[a, j] = mean over i of softmax_j(q[i,a].k[j] * scale),  causal inside the window.
 *  All n columns, the window's own included. */
import { at, type View } from '../worker/backend/backend.ts';
import type { ScoreContext } from './contract.ts';

const F32 = 4;

/** The window of an observation that no scorer asked for: retained mass, and LMBA from attention under scorers without queries. */
export const OBSERVATION_WINDOW = 32;

/** Scratch [Hq, n] f32. `window` is among the queries that were handed over. */
export function windowAttention(context: ScoreContext, window: number): View {
  const { backend, q, k, n, shape } = context;
  const { queryHeads: Hq, headDim: d } = shape;
  if (window > context.window) throw new Error(`window of ${window} queries, but only ${context.window} were handed over`);
  const attention = context.scratch(Hq * n * F32, 'window attention');
  const lastQueries = at(q, (context.window - window) * Hq * d * F32); // [window, Hq, d]
  backend.scoreWindow(attention, lastQueries, k, window, n, shape);
  return attention;
}
