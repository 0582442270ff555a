/** Leverage: keys that stand apart from all others stay.          arXiv 2507.08143
 *      Y = keys before RoPE, less their mean;   Z = Y Phi, Phi [d, k] normal numbers / sqrt k;   lev_t = z_t^T (Z^T Z + ridge I)^-1 z_t
 *      s = zScore(lev),   mean and std of each head
 *  needs     keys
 *  ridge is 0.01; where f32 cannot solve with it ten times as much, up to 100, and the report says so. Phi is drawn for every layer and head, the same on every
 *  machine; kvpress draws anew in every call.   compat "kvpress": mean and std of all heads at once.
 *  Within Compactor these scores are one of two parts, and it hands over a part of the layer. */
import * as z from 'zod';
import type { View } from '../../worker/backend/backend.ts';
import { type Artifact, type ArtifactModel, artifactName, Misfit, tensorOf } from '../artifacts.ts';
import type { ScoreContext, Scorer, ScratchSize } from '../contract.ts';
import { seedNumber, wholeNumber } from '../params.ts';
import { solved } from '../solved.ts';
import { keysWithoutRope, withoutRopeBytes } from '../without-rope.ts';
import { normal } from './random.ts';

const F32 = 4;
const RIDGE = 0.01;

const matrix = {
  format: 'safetensors',
  what: 'a sketch matrix in place of the drawn one',
  layout: 'tensor sketch [H, d, sketch_dimension], its numbers divided by sqrt sketch_dimension, the same in every layer',
  source: 'leave artifact out: then it is drawn',
} as const;

/** Of leverage, alone and in Compactor. */
export const sketchParams = {
  sketch_dimension: wholeNumber(1, 256, 48, 'k: how many random directions keys are looked at in'),
  seed: seedNumber('the same seed draws the same directions; without one, each request draws its own and reports it'),
  artifact: artifactName(matrix).nullable().default(null),
};
const params = z.strictObject(sketchParams);
type Sketch = z.infer<typeof params>;

export const sketchArtifact = {
  ...matrix,
  param: 'artifact',
  check(artifact: Artifact, { kvHeads, headDim }: ArtifactModel): void {
    const width = artifact.tensors.get('sketch')?.shape[2] ?? 1;
    if (width > 256) throw new Misfit(`its sketch_dimension is ${width}, 256 at most would work`);
    tensorOf(artifact, 'sketch', [kvHeads, headDim, width]);
  },
  suits(artifact: Artifact, { sketch_dimension: k }: Record<string, unknown>): void {
    const width = artifact.tensors.get('sketch')!.shape[2];
    if (width !== k) throw new Misfit(`its sketch_dimension is ${width}, and the parameter sketch_dimension is ${k}; they must be equal`);
  },
};

export const leverage: Scorer<typeof params> = {
  name: 'leverage',
  summary: 'keeps keys that stand apart from all others, before RoPE',
  paper: 'arXiv 2507.08143',
  formula: 's = zScore(z[t]ᵀ (Zᵀ Z + 0.01 I)^-1 z[t]), Z = (keys before RoPE - mean) Phi, Phi [d, sketch_dimension] normal',
  needs: 'keys',
  params,
  artifact: sketchArtifact,
  comparable: true, // standard deviations
  massMap: 'shift', // what is standardised is not negative
  protectedBy: null,
  queries: () => 0,
  protect: () => ({ first: 0, last: 0 }),
  scratchBytes: leverageBytes,
  score: (context, params) => leverageScores(context, params, 'leverage'),
};

export function leverageBytes(size: ScratchSize, { sketch_dimension }: Sketch): number {
  const { n, kvHeads: H, headDim: d } = size;
  const width = padded(sketch_dimension);
  const kernels = H * width * width * (2 + Math.ceil(n / 256)); // what products and factors take that are larger than those of heads
  return withoutRopeBytes(n, H, size) + F32 * (H * d + H * d * width + n * H * width + 2 * H * width ** 2 + H * n + H + kernels) + 1024;
}

/** [H, n]; errors and notes name `scorer`. */
export function leverageScores(context: ScoreContext, { sketch_dimension, ...drawn }: Sketch, scorer: string): View {
  const { backend, scratch, n, shape, compat } = context;
  const { kvHeads: H, headDim: d } = shape;
  const width = padded(sketch_dimension);
  const keys = keysWithoutRope(context); // [n, H, d]
  const mean = scratch(H * d * F32, 'mean key');
  backend.tokenMean(mean, keys, n, H, d);

  const phi = scratch(H * d * width * F32, 'sketch matrix'); // [H, d, k]
  backend.write(phi, sketchMatrix(context, { sketch_dimension, ...drawn }, scorer));
  const sketched = scratch(n * H * width * F32, 'sketched keys'); // Z, [n, H, k]
  backend.sketch(sketched, keys, mean, phi, n, H, d, width);
  const gram = scratch(H * width * width * F32, 'products of sketched keys');
  backend.weightedGram(gram, sketched, null, null, n, H, H, width, 1);
  const matrices = solved(context, gram, H, width, RIDGE, scorer);

  const scores = scratch(H * n * F32, 'leverages');
  backend.quadraticForm(scores, n, sketched, { quadratic: { matrices, factor: 1, squared: true } }, n, H, H, width);
  backend.zScore(scores, H, n, 0, n, compat);
  return scores;
}

/** Kernels take rows of whole vectors: columns of zeros change nothing. */
function padded(width: number): number {
  return 4 * Math.ceil(width / 4);
}

/** [H, d, padded k] */
function sketchMatrix(context: ScoreContext, { sketch_dimension: k, seed, artifact }: Sketch, scorer: string): Float32Array {
  const { kvHeads: H, headDim: d } = context.shape;
  const width = padded(k);
  const matrix = new Float32Array(H * d * width);
  const first = (context.firstHead ?? 0) * d; // each of the layer's heads has its own rows
  if (artifact !== null) {
    const { values } = context.artifact(artifact).tensors.get('sketch')!;
    for (let row = 0; row < H * d; row++) matrix.set(values.subarray((first + row) * k, (first + row + 1) * k), row * width);
    return matrix;
  }
  const drawn = seed ?? context.seed;
  if (seed === undefined) context.note(`${scorer}: seed ${drawn}`);
  for (let row = 0; row < H * d; row++)
    for (let j = 0; j < k; j++) matrix[row * width + j] = normal(drawn, context.layer, (first + row) * k + j) / Math.sqrt(k);
  return matrix;
}
