/** From a host and a model to a running engine: kernels, weights into linear memory, forward pass, KV pool sized from what is left. */
import { type BudgetMathExports, createBudgetMath } from '../../presses/budget-math.ts';
import { InputError } from '../../presses/input-error.ts';
import { at, type DeviceBuffer, type EntryType, OutOfDeviceMemory, type View, type Weight } from '../backend/backend.ts';
import { Kernels } from '../backend/kernels.ts';
import { WasmBackend } from '../backend/wasm.ts';
import type { Host } from '../host.ts';
import { formatBytes } from './bytes.ts';
import { EdgeEngine } from './engine.ts';
import { Forward } from './forward.ts';
import { KvCache, pageBytesOf } from './kv-cache.ts';
import type { ModelConfig } from './model/config.ts';
import { invFreq } from './model/rope.ts';
import type { ForwardShape, LayerWeights, ModelWeights } from './model-weights.ts';
import { Tokenizer } from './tokenizer/tokenizer.ts';
import type { Arena, LoadedModel } from './weights/packed.ts';
import { type ArenaLayout, arenaTensor } from './weights/plan.ts';

export interface LoadSettings {
  /** Pages for KV entries; default: what weights and activations leave of the memory limit, at most 64 MiB. */
  readonly kvPoolBytes?: number;
  /** How entries are stored when a request does not say. Default f32. */
  readonly entryType?: EntryType;
  /** Most tokens of prompt and answer; default: what the model was made for, at most 32,768. */
  readonly contextLength?: number;
  readonly maxWaiting?: number;
  readonly defaultMaxTokens?: number;
  readonly idleMs?: number;
  /** Tokens that the prefill takes at once; more is faster and takes more memory. */
  readonly chunkTokens?: number;
}

const MOST_SEQUENCES = 16;
const MOST_CONTEXT = 32_768;
const USUAL_POOL = 64 * 2 ** 20;
const LEAST_PAGES_PER_LIST = 4;

type Load = (arena: (bytes: number) => Required<Arena>) => Promise<LoadedModel>;

/** `load` brings the weights into the arena that it is given: loadPacked, or loadOpened. Throws InputError where the memory limit is too low. */
export async function loadEngine(host: Host, load: Load, settings: LoadSettings = {}): Promise<EdgeEngine> {
  try {
    return await assemble(host, load, settings);
  } catch (error) {
    if (!(error instanceof OutOfDeviceMemory)) throw error;
    throw new InputError('memory_exceeded', 'memory_limit', `${error.message}: raise the memory limit, or use a smaller model or context length`);
  }
}

async function assemble(host: Host, load: Load, settings: LoadSettings): Promise<EdgeEngine> {
  const kernels = await Kernels.create(host);
  const backend = new WasmBackend(kernels);
  let weights: DeviceBuffer | null = null;
  const model = await load((bytes) => {
    const block = backend.alloc(bytes, 'weights');
    weights = block;
    return {
      write: (offset, data) => backend.write(at(block, offset), data),
      view: (offset, length) => kernels.u8(backend.mirror(at(block, offset)), length) as Uint8Array<ArrayBuffer>,
    };
  });
  const { config, layout } = model;
  const bound = bindWeights(weights!, config, layout);
  const shape = { layers: config.layers, queryHeads: config.queryHeads, kvHeads: config.kvHeads, headDim: config.headDim };
  const contextLength = Math.min(config.contextLength, settings.contextLength ?? MOST_CONTEXT);
  const forward = new Forward(backend, forwardShape(config), bound, invFreq(config), settings.chunkTokens ?? 128);
  const pool = settings.kvPoolBytes ?? usualPool(backend.memory, forward, contextLength);
  const least = LEAST_PAGES_PER_LIST * shape.layers * shape.kvHeads * pageBytesOf(shape.headDim);
  if (pool < least) {
    throw new InputError(
      'memory_exceeded',
      'kv_pool',
      `${formatBytes(Math.max(pool, 0))} are left for the KV pool of ${model.name} beside ${formatBytes(layout.bytes)} of weights; at least ${formatBytes(least)} are needed: raise the memory limit or the pool, or use a smaller model`,
    );
  }
  const cache = new KvCache(backend, kernels, shape, { poolBytes: pool, contextLength, sequences: MOST_SEQUENCES });
  const math = createBudgetMath({
    exports: kernels.exports as unknown as BudgetMathExports,
    memory: kernels.memory,
    alloc: (bytes) => kernels.heap.alloc(bytes, 'budget arguments'),
    free: (address) => kernels.heap.free(address),
  });
  return new EdgeEngine({
    info: {
      id: model.name,
      family: config.family,
      parameters: layout.tensors.reduce((sum, { rows, cols }) => sum + rows * cols, 0),
      layers: config.layers,
      contextLength,
      vocabSize: config.vocabSize,
      weightBytes: layout.bytes,
    },
    backend,
    forward,
    cache,
    math,
    tokenizer: model.tokenizer && new Tokenizer(model.tokenizer),
    eosIds: config.eosIds,
    options: {
      entryType: settings.entryType ?? 'f32',
      maxWaiting: settings.maxWaiting ?? 64,
      defaultMaxTokens: settings.defaultMaxTokens ?? 512,
      idleMs: settings.idleMs ?? 120_000,
    },
    dispose: () => {
      backend.free(weights!);
      backend.close();
    },
  });
}

/** What is left when a prompt of half the context length is being read, at most 64 MiB. */
function usualPool({ limitBytes, usedBytes }: { limitBytes: number; usedBytes: number }, forward: Forward, contextLength: number): number {
  const left = limitBytes - usedBytes - forward.prefillBytes(Math.ceil(contextLength / 2), 64);
  return Math.min(USUAL_POOL, Math.floor(left * 0.8));
}

function forwardShape(config: ModelConfig): ForwardShape {
  const { hiddenSize, intermediateSize, queryHeads, kvHeads, headDim, vocabSize, normEps } = config;
  return { hiddenSize, intermediateSize, queryHeads, kvHeads, headDim, vocabSize, normEps, slidingWindows: config.slidingWindow };
}

function bindWeights(arena: DeviceBuffer, config: ModelConfig, layout: ArenaLayout): ModelWeights {
  const matrix = (name: string): Weight => {
    const { type, rows, cols, offset } = arenaTensor(layout, name);
    return { ...at(arena, offset), type, rows, cols };
  };
  const vector = (name: string): View => at(arena, arenaTensor(layout, name).offset);
  const layer = (i: number): LayerWeights => {
    const of = (part: string): string => `layers.${i}.${part}`;
    const bias = (part: string): View | null => (config.qkvBias ? vector(of(part)) : null);
    const norm = (part: string): View | null => (config.qkNorm ? vector(of(part)) : null);
    return {
      attnNorm: vector(of('attn_norm')),
      q: matrix(of('q')),
      k: matrix(of('k')),
      v: matrix(of('v')),
      o: matrix(of('o')),
      qBias: bias('q_bias'),
      kBias: bias('k_bias'),
      vBias: bias('v_bias'),
      qNorm: norm('q_norm'),
      kNorm: norm('k_norm'),
      ffnNorm: vector(of('ffn_norm')),
      gate: matrix(of('gate')),
      up: matrix(of('up')),
      down: matrix(of('down')),
    };
  };
  const embed = matrix('embed');
  return {
    embed,
    layers: Array.from({ length: config.layers }, (_, i) => layer(i)),
    finalNorm: vector('final_norm'),
    head: config.tiedEmbeddings ? embed : matrix('head'),
  };
}
