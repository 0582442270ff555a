/** Which tensors a model needs, in which type, and where each lies in the arena: one contiguous block that holds all weights. */
import { InputError } from '../../../presses/input-error.ts';
import type { WeightType } from '../../backend/backend.ts';
import { invalidModel, type ModelConfig, unsupported } from '../model/config.ts';
import { families, ignoredTensors, type LayerPart, layerParts } from '../model/families.ts';
import { fileTypes, weightBytes } from './repack.ts';
import type { SourceTensor, WeightSource } from './source.ts';

/** A tensor in the arena. Vectors (norms, biases) are f32 with rows = 1. */
export interface ArenaTensor {
  /** embed, layers.{i}.{part}, final_norm, head; no head when the embedding serves as one. */
  readonly name: string;
  readonly type: WeightType;
  readonly rows: number;
  readonly cols: number;
  readonly offset: number;
  readonly bytes: number;
}

export interface ArenaLayout {
  readonly tensors: readonly ArenaTensor[];
  readonly bytes: number;
}

export interface PlannedTensor extends ArenaTensor {
  readonly source: SourceTensor;
  /** Rows of one head, if the file holds them interleaved; else 0. */
  readonly interleavedHead: number;
}

export interface WeightPlan extends ArenaLayout {
  readonly tensors: readonly PlannedTensor[];
}

export interface PlanOptions {
  /** Quantises f32, f16 and bf16 matrices whose rows are whole blocks of 32. Matrices that the file holds quantised stay as they are. */
  readonly quantize?: 'q8' | 'q4' | null;
  /** Quantises the embedding, and the head where it is a matrix of its own, whatever the file holds them as. */
  readonly embedding?: 'q8' | 'q4' | null;
}

export const alignment = 64;

export function alignUp(bytes: number): number {
  return Math.ceil(bytes / alignment) * alignment;
}

export interface NeededTensor {
  readonly name: string;
  readonly kind: 'matrix' | 'vector';
  readonly rows: number;
  readonly cols: number;
  readonly part: LayerPart | 'embed' | 'final_norm' | 'head';
  readonly layer: number;
}

/** Every tensor that the model has, in arena order. */
export function neededTensors(config: ModelConfig): NeededTensor[] {
  const { hiddenSize: hidden, intermediateSize: inner, headDim, vocabSize } = config;
  const queryRows = config.queryHeads * headDim;
  const kvRows = config.kvHeads * headDim;
  const shapes: Record<LayerPart, readonly [rows: number, cols: number] | readonly [size: number]> = {
    attn_norm: [hidden],
    q: [queryRows, hidden],
    k: [kvRows, hidden],
    v: [kvRows, hidden],
    o: [hidden, queryRows],
    q_bias: [queryRows],
    k_bias: [kvRows],
    v_bias: [kvRows],
    q_norm: [headDim],
    k_norm: [headDim],
    ffn_norm: [hidden],
    gate: [inner, hidden],
    up: [inner, hidden],
    down: [hidden, inner],
  };
  const parts = layerParts(config);
  const needed: NeededTensor[] = [{ name: 'embed', kind: 'matrix', rows: vocabSize, cols: hidden, part: 'embed', layer: -1 }];
  for (let layer = 0; layer < config.layers; layer++) {
    for (const part of parts) {
      const [first, second] = shapes[part];
      const name = `layers.${layer}.${part}`;
      needed.push(
        second === undefined
          ? { name, kind: 'vector', rows: 1, cols: first, part, layer }
          : { name, kind: 'matrix', rows: first, cols: second, part, layer },
      );
    }
  }
  needed.push({ name: 'final_norm', kind: 'vector', rows: 1, cols: hidden, part: 'final_norm', layer: -1 });
  if (!config.tiedEmbeddings) needed.push({ name: 'head', kind: 'matrix', rows: vocabSize, cols: hidden, part: 'head', layer: -1 });
  return needed;
}

export function planWeights(config: ModelConfig, source: WeightSource, options: PlanOptions = {}): WeightPlan {
  const family = families.find((f) => f.name === config.family);
  const interleaved = source.format === 'gguf' && (family?.permutedInGguf ?? false);
  const used = new Set<string>();
  const tensors: PlannedTensor[] = [];
  let end = 0;
  for (const needed of neededTensors(config)) {
    const fileName = nameInFile(needed, source);
    const tensor = source.tensors.get(fileName);
    const expected = needed.kind === 'vector' ? [needed.cols] : [needed.rows, needed.cols];
    if (!tensor) throw invalidModel(`tensor ${fileName} is missing, [${expected.join(', ')}] is expected`);
    used.add(fileName);
    if (tensor.shape.length !== expected.length || tensor.shape.some((n, i) => n !== expected[i])) {
      throw invalidModel(`tensor ${fileName} has shape [${tensor.shape.join(', ')}], [${expected.join(', ')}] is expected`);
    }
    const type = targetType(needed, tensor, options);
    const offset = alignUp(end);
    const bytes = weightBytes(type, needed.rows, needed.cols);
    const interleavedHead = interleaved && (needed.part === 'q' || needed.part === 'k') ? config.headDim : 0;
    tensors.push({ name: needed.name, type, rows: needed.rows, cols: needed.cols, offset, bytes, source: tensor, interleavedHead });
    end = offset + bytes;
  }
  // A tensor nobody asked for means a model that is not what its config says: a bias, an expert, an adapter.
  for (const name of source.tensors.keys()) {
    if (used.has(name) || ignoredTensors.test(name) || (config.tiedEmbeddings && name === source.names.head)) continue;
    throw unsupported(`tensor ${name} has no place in a ${config.family} model as we know it; the model has a feature that is not supported`);
  }
  const plan = { tensors, bytes: alignUp(end) };
  const { quantize, embedding } = options;
  if (embedding && !plan.tensors.some((tensor) => ofVocabulary(tensor) && requantised(tensor))) {
    const { source, bytes } = arenaTensor(plan, 'embed') as PlannedTensor;
    throw new InputError(
      'quantize_useless',
      'embedding',
      `embedding "${embedding}" would save nothing: the file holds it as ${source.type}, ${bytes} bytes in memory. Leave it out`,
    );
  }
  if (quantize && quantizedMatrices(plan) === 0) {
    const types = [...new Set(matrices(plan).map(({ source: { type } }) => type))].join(', ');
    throw new InputError(
      'quantize_useless',
      'quantize',
      `quantize "${quantize}" would change nothing: the matrices are ${types}; only F32, F16 and BF16 ones, in rows of whole blocks of 32, are quantised. Leave it out`,
    );
  }
  return plan;
}

export const matrices = ({ tensors }: WeightPlan): readonly PlannedTensor[] => tensors.filter(({ source }) => source.shape.length === 2);

/** Whether it gets another type than the file's. */
function requantised({ type, source }: PlannedTensor): boolean {
  return type !== fileTypes.get(source.type)?.layout;
}

function ofVocabulary({ name }: Pick<ArenaTensor, 'name'>): boolean {
  return name === 'embed' || name === 'head';
}

/** How many matrices get another type than the file's. */
export function quantizedMatrices(plan: WeightPlan): number {
  return matrices(plan).filter(requantised).length;
}

/** What was asked for beyond what the file holds, such as "embed: Q8_0 to q4"; layers of the same kind are one. */
export function requantisedOf(plan: WeightPlan): string[] {
  const told = matrices(plan)
    .filter(requantised)
    .map(({ name, type, source }) => `${name.replace(/^layers\.\d+\./, 'layers.')}: ${source.type} to ${type}`);
  return [...new Set(told)];
}

function nameInFile(needed: NeededTensor, { names }: WeightSource): string {
  switch (needed.part) {
    case 'embed':
      return names.embed;
    case 'final_norm':
      return names.finalNorm;
    case 'head':
      return names.head;
    default:
      return names.layer[needed.part].replace('{i}', String(needed.layer));
  }
}

function targetType(needed: NeededTensor, tensor: SourceTensor, { quantize = null, embedding = null }: PlanOptions): WeightType {
  const type = fileTypes.get(tensor.type)?.layout;
  if (!type) throw unsupported(`tensor ${tensor.name} has type ${tensor.type}; supported are ${[...fileTypes.keys()].join(', ')}`);
  const plain = type === 'f32' || type === 'f16' || type === 'bf16';
  if (needed.kind === 'vector') {
    if (!plain) throw unsupported(`tensor ${tensor.name} has type ${tensor.type}; norms and biases must be F32, F16 or BF16`);
    return 'f32';
  }
  const size = (as: WeightType) => weightBytes(as, needed.rows, needed.cols);
  const smaller = embedding !== null && ofVocabulary(needed) && needed.cols % 32 === 0 && size(embedding) < size(type);
  if (!plain) {
    if (needed.cols % 32 !== 0) throw unsupported(`tensor ${tensor.name} has rows of ${needed.cols}; quantised rows must be a multiple of 32`);
    return smaller ? embedding : type;
  }
  if (smaller) return embedding;
  return quantize !== null && needed.cols % 32 === 0 ? quantize : type;
}

/** The tensor of that canonical name. */
export function arenaTensor(layout: ArenaLayout, name: string): ArenaTensor {
  const found = layout.tensors.find((tensor) => tensor.name === name);
  if (!found) throw new Error(`no tensor ${name} in the arena`);
  return found;
}

/**
 * The last place in (start, most] at which the arena may be cut in two: between tensors, or within one that is larger than that. There after 32 rows or a
 * multiple of them, which are whole groups of a quantised matrix and, in every layout, a multiple of 64 bytes.
 */
export function cutBefore({ tensors }: ArenaLayout, start: number, most: number): number | null {
  const across = tensors.findLast(({ offset }) => offset <= most);
  if (!across) return null;
  if (across.offset > start) return across.offset;
  const blocks = across.type === 'q8' || across.type === 'q4'; // padded to whole groups
  const step = 32 * (across.bytes / (blocks ? 4 * Math.ceil(across.rows / 4) : across.rows));
  const cut = across.offset + Math.floor((most - across.offset) / step) * step;
  return cut > start ? cut : null;
}
