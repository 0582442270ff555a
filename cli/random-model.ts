/** A model of a known shape with random 4-bit weights: for measuring what a device does with a size that nobody has at hand. Its text means nothing. */
import { InputError } from '../presses/input-error.ts';
import type { ModelConfig } from '../worker/engine/model/config.ts';
import { ggufNames } from '../worker/engine/model/families.ts';
import type { OpenedModel } from '../worker/engine/weights/open-model.ts';
import { neededTensors } from '../worker/engine/weights/plan.ts';
import type { RangeReader, SourceTensor } from '../worker/engine/weights/source.ts';

type Shape = Pick<ModelConfig, 'layers' | 'hiddenSize' | 'intermediateSize' | 'queryHeads' | 'kvHeads' | 'headDim' | 'vocabSize'>;

export const shapes: Readonly<Record<string, Shape>> = {
  'smollm2-135m': { layers: 30, hiddenSize: 576, intermediateSize: 1536, queryHeads: 9, kvHeads: 3, headDim: 64, vocabSize: 49152 },
  'llama-1b': { layers: 16, hiddenSize: 2048, intermediateSize: 8192, queryHeads: 32, kvHeads: 8, headDim: 64, vocabSize: 128256 },
  'llama-3b': { layers: 28, hiddenSize: 3072, intermediateSize: 8192, queryHeads: 24, kvHeads: 8, headDim: 128, vocabSize: 128256 },
  'llama-8b': { layers: 32, hiddenSize: 4096, intermediateSize: 14336, queryHeads: 32, kvHeads: 8, headDim: 128, vocabSize: 128256 },
};

const BLOCK_BYTES = 18; // Q4_0: an f16 scale and 32 nibbles
const BLOCK = 32;
const SCALE = 0x2400; // 2^-6 as f16: weights of [-0.125, 0.11], so that activations neither vanish nor explode under the norms
const PATTERN_BLOCKS = 65_537; // a prime: rows do not repeat

export function randomModel(name: string): OpenedModel {
  const shape = shapes[name];
  if (!shape) throw new InputError('shape_unknown', 'random', `--random must be one of ${Object.keys(shapes).join(', ')}, got "${name}"`);
  const config: ModelConfig = {
    ...shape,
    family: 'llama',
    contextLength: 32_768,
    normEps: 1e-5,
    rope: { theta: 500_000, scaling: { type: 'none' } },
    tiedEmbeddings: true,
    qkvBias: false,
    qkNorm: false,
    slidingWindow: new Array(shape.layers).fill(0),
    bosId: null,
    eosIds: [],
  };
  const [blocks, ones] = [endless('random blocks', pattern()), endless('ones', new Uint8Array(Float32Array.of(1).buffer))];
  const tensors = new Map<string, SourceTensor>();
  for (const { part, layer, kind, rows, cols } of neededTensors(config)) {
    const tensor = { embed: ggufNames.embed, final_norm: ggufNames.finalNorm, head: ggufNames.head }[part as string] ?? layerName(part, layer);
    const matrix = kind === 'matrix';
    const bytes = matrix ? ((rows * cols) / BLOCK) * BLOCK_BYTES : cols * 4;
    const file = matrix ? blocks : ones;
    tensors.set(tensor, { name: tensor, type: matrix ? 'Q4_0' : 'F32', shape: matrix ? [rows, cols] : [cols], bytes, file, offset: 0 });
  }
  return { config, source: { format: 'gguf', names: ggufNames, tensors, close: async () => {} }, tokenizer: null };
}

function layerName(part: string, layer: number): string {
  return ggufNames.layer[part as keyof typeof ggufNames.layer].replace('{i}', String(layer));
}

function pattern(): Uint8Array {
  const bytes = new Uint8Array(PATTERN_BLOCKS * BLOCK_BYTES);
  let state = 1;
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0; // Numerical Recipes' generator
    bytes[i] = state >>> 24;
  }
  for (let b = 0; b < PATTERN_BLOCKS; b++) bytes.set([SCALE & 0xff, SCALE >> 8], b * BLOCK_BYTES);
  return bytes;
}

/** A file that repeats `bytes` for ever. */
function endless(name: string, bytes: Uint8Array): RangeReader {
  return {
    name,
    size: Number.MAX_SAFE_INTEGER,
    async read(offset, length) {
      const out = new Uint8Array(length);
      for (let at = 0; at < length; ) {
        const from = (offset + at) % bytes.length;
        const count = Math.min(length - at, bytes.length - from);
        out.set(bytes.subarray(from, from + count), at);
        at += count;
      }
      return out;
    },
  };
}
