/** What a scorer has read over a prompt, without a model: rows of random queries, keys, values and inputs in the place of its passes. */
import type { Compressor } from '../../presses/compressor.ts';
import type { PressRequest } from '../../presses/contract.ts';
import { type AttentionShape, at, type Backend, type DeviceBuffer } from '../../worker/backend/backend.ts';
import { Random } from './random.ts';

/** Rows that the compressor is handed at once. */
const PIECE = 48;

/** Lengths of the passes of a press over n tokens; empty where it has none. */
export function passLengths({ presses }: PressRequest, n: number): number[] {
  const scorer = presses.at(0)?.scorer;
  const prompt = { tokens: Array.from({ length: n }, (_, i) => i), encode: (text: string) => [...text].map(() => 0), answerStart: '\n' };
  return (scorer?.part.passes?.tokens({ ...prompt, param: (field) => field }, scorer.params) ?? []).map(({ length }) => length);
}

/** Hands over the passes of one layer whose keys and values are `k` and `v`. */
export function runPasses(
  compressor: Compressor,
  backend: Backend,
  lengths: readonly number[],
  { layer, n, k, v, shape }: { layer: number; n: number; k: Float32Array; v: Float32Array; shape: AttentionShape },
): void {
  const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
  const hiddenSize = Hq * d;
  const blocks: DeviceBuffer[] = [];
  const put = (data: Float32Array): DeviceBuffer => {
    const block = backend.alloc(data.byteLength, 'rows of a pass');
    blocks.push(block);
    backend.write(block, data);
    return block;
  };
  for (const [pass, length] of lengths.entries()) {
    const random = new Random(1000 * layer + pass);
    const own = (of: Float32Array): DeviceBuffer => put(Float32Array.from([...of, ...random.normals(length * H * d)]));
    const [keys, values] = [own(k), own(v)];
    const [q, hidden] = [put(random.normals(length * Hq * d)), put(random.normals(length * hiddenSize))];
    for (let start = 0; start < length; start += PIECE) {
      const rows = Math.min(PIECE, length - start);
      const of = { q: at(q, start * Hq * d * 4), hidden: at(hidden, start * hiddenSize * 4), k: keys, v: values };
      compressor.pass({ layer, pass, length, n, start, rows, hiddenSize, shape, ...of });
    }
  }
  for (const block of blocks) backend.free(block);
}
