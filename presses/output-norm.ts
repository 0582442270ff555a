/** How large each value is once it went through W_o, of every query head:   out[a, t] = |v[t,h(a)] W_o,aᵀ|_p,  W_o,a the columns of head a.
 *  W_o may be quantised: its rows become f32 in slabs, so that scratch stays small beside what any model's weights take. */
import { at, type View } from '../worker/backend/backend.ts';
import type { ScoreContext, ScratchSize } from './contract.ts';

const F32 = 4;
/** Numbers of W_o that are f32 at once: 4 MiB of them. */
const SLAB = 2 ** 20;

/** Scratch [Hq, n] f32. */
export function outputNorms({ backend, scratch, v, n, shape, model: { output } }: ScoreContext, p: 1 | 2): View {
  const { rows: D, cols } = output;
  const norms = scratch(shape.queryHeads * n * F32, 'output norms');
  const slab = slabRows(D, cols);
  const numbers = scratch(D * F32, 'rows of W_o');
  backend.write(
    numbers,
    Uint32Array.from({ length: D }, (_, row) => row),
  );
  const weights = scratch(slab * cols * F32, 'W_o as f32'); // [slab, Hq d]
  for (let first = 0; first < D; first += slab) {
    const rows = Math.min(slab, D - first);
    backend.embed(weights, output, at(numbers, first * F32), rows); // rows of any matrix, not only of an embedding
    backend.outputNorm(norms, v, weights, n, rows, shape, p, first > 0);
  }
  return norms;
}

/** Mean over the query heads of each KV head: [H, n]. */
export function groupOutputNorms(context: ScoreContext, p: 1 | 2): View {
  const { queryHeads: Hq, kvHeads: H } = context.shape;
  const means = context.scratch(H * context.n * F32, 'output norms of the groups');
  context.backend.groupMean(means, outputNorms(context, p), H, Hq / H, context.n);
  return means;
}

export function outputNormsBytes({ n, queryHeads, headDim, hiddenSize: D }: ScratchSize): number {
  return F32 * (queryHeads * n + D + slabRows(D, queryHeads * headDim) * queryHeads * headDim) + 3 * 64; // blocks round up
}

function slabRows(rows: number, cols: number): number {
  return Math.min(rows, Math.max(4, Math.floor(SLAB / cols)));
}
