/** Queries and keys as they were before RoPE: copies, turned back. And the mean of the rotations that lie ahead. */
import type { View } from '../worker/backend/backend.ts';
import { averageRope, inverseRopeTable } from '../worker/backend/rope-table.ts';
import type { ScoreContext, ScratchSize } from './contract.ts';

const F32 = 4;

/** A copy of x [rows, heads, d], whose rows stand at positions first, first + 1, ... */
export function withoutRope({ backend, scratch, once, shape, model }: ScoreContext, x: View, rows: number, heads: number, first: number): View {
  const table = once(`RoPE off, ${rows} from ${first}`, () =>
    inverseRopeTable(
      model.invFreq,
      Uint32Array.from({ length: rows }, (_, t) => first + t),
    ),
  );
  const [copy, angles] = [scratch(rows * heads * shape.headDim * F32, 'without RoPE'), scratch(table.byteLength, 'RoPE off')];
  backend.copy(copy, x, rows * heads * shape.headDim * F32);
  backend.write(angles, table);
  backend.rope([{ x: copy, heads }], angles, rows, shape.headDim);
  return copy;
}

/** The keys [n, H, d]. */
export function keysWithoutRope(context: ScoreContext): View {
  const { backend, scratch, k, n, start, positions, shape, model } = context;
  const { kvHeads: H, headDim: d } = shape;
  if (positions === null) return withoutRope(context, k, n, H, start);
  const standing = Uint32Array.from({ length: n * H }, (_, i) => positions[i % H][start + Math.floor(i / H)]); // every head has its own rows
  const [copy, angles] = [scratch(n * H * d * F32, 'without RoPE'), scratch(n * H * d * F32, 'RoPE off')];
  backend.copy(copy, k, n * H * d * F32);
  backend.write(angles, inverseRopeTable(model.invFreq, standing));
  backend.rope([{ x: copy, heads: 1 }], angles, n * H, d);
  return copy;
}

/** Of `withoutRope` over rows of so many heads; keys that were gathered have a row of angles for each head. */
export function withoutRopeBytes(rows: number, heads: number, { headDim, kvHeads }: ScratchSize): number {
  return rows * (heads + kvHeads) * headDim * F32;
}

/**
 * R̄ x for every vector of x [vectors, d], in place: R̄ the mean of the rotations at the `count` positions that follow the prompt's. With `transposed` R̄ᵀ x.
 */
export function turnAhead(
  { backend, scratch, once, shape, model }: ScoreContext,
  x: View,
  vectors: number,
  after: number,
  count: number,
  transposed: boolean,
): void {
  const row = once(`mean of ${count} rotations from ${after}${transposed ? ', transposed' : ''}`, () => {
    const mean = averageRope(model.invFreq, after, count);
    const half = mean.length / 2;
    return mean.map((value, c) => (transposed && c >= half ? -value : value));
  });
  const angles = scratch(row.byteLength, 'mean rotation');
  backend.write(angles, row);
  backend.rope([{ x, heads: vectors }], angles, 1, shape.headDim);
}
