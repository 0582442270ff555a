/** out = W Xᵀ, heads first, where linear gives tokens first: the tokens' rows take the weights' place. */
import type { Backend, View } from '../worker/backend/backend.ts';

/** W [rows, cols], x [n, cols], out [rows, n], all f32. With `accumulate` it is added to what out has. */
export function timesRows(
  backend: Backend,
  out: View,
  w: View,
  rows: number,
  { x, n, cols }: { x: View; n: number; cols: number },
  accumulate = false,
): void {
  backend.linear([{ out, weight: { buffer: x.buffer, offset: x.offset, type: 'f32', rows: n, cols }, accumulate }], w, rows);
}
