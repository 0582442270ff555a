/** From a host and a model to a running engine: kernels, weights into linear memory, forward pass, KV pool sized from what is left. */
import { createBudgetMath } from '../../presses/budget-math.ts';
import { InputError } from '../../presses/input-error.ts';
import { at, type DeviceBuffer, type EntryType, OutOfDeviceMemory, type View, type Weight } from '../backend/backend.ts';
import { Kernels } from '../backend/kernels.ts';
import { WasmBackend } from '../backend/wasm.ts';
import type { Host } from '../host.ts';
import { formatBytes } from './bytes.ts';
import { EdgeEngine } from './engine.ts';
import { Forward } from './forward.ts';
import { KvCache } from './kv-cache.ts';
import type { LedgerExports } from './ledger.ts';
import { type MemoryNeeds, memoryNeeds } from './memory-needs.ts';
import type { ModelConfig } from './model/config.ts';
import { invFreq } from './model/rope.ts';
import type { ForwardShape, LayerWeights, ModelWeights } from './model-weights.ts';
import { Tokenizer } from './tokenizer/tokenizer.ts';
import type { Arena, LoadedModel, OpenArena } from './weights/packed.ts';
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

/** WebAssembly's 4 GiB less one page; and what the module's static data needs. */
const MOST_MEMORY = 65_535 * 65_536;
const LEAST_MEMORY = 2 * 65_536;
const MOST_SEQUENCES = 16;
const MOST_CONTEXT = 32_768;
const CHUNK_TOKENS = 128;

type Load = (arena: OpenArena<Required<Arena>>) => Promise<LoadedModel>;

/** `load` brings the weights into the arena that it is given: loadPacked, or loadOpened. Throws InputError where the memory limit is too low. */
export async function loadEngine(host: Host, load: Load, settings: LoadSettings = {}): Promise<EdgeEngine> {
  try {
    return await assemble(host, load, settings);
  } catch (error) {
    if (!(error instanceof OutOfDeviceMemory)) throw error;
    throw new InputError('memory_exceeded', 'memory_limit', `${error.message}: a higher memory limit (--memory-limit) or a smaller model would work`);
  }
}

async function assemble(host: Host, load: Load, settings: LoadSettings): Promise<EdgeEngine> {
  const limit = host.memoryLimitBytes ?? MOST_MEMORY;
  const kernels = await Kernels.create({ ...host, memoryLimitBytes: Math.max(limit, LEAST_MEMORY) });
  const { exports, memory, heap } = kernels;
  const backend = new WasmBackend(kernels);
  // Ledger and budget arithmetic live in the module's memory, wherever the backend computes.
  const module = {
    exports,
    memory,
    alloc: (bytes: number, label = 'budget arguments') => heap.alloc(bytes, label),
    free: (address: number) => heap.free(address),
  };
  let weights: DeviceBuffer | null = null;
  let needs: MemoryNeeds | null = null;
  const model = await load((bytes, { name, config }) => {
    needs = needsOf(config, bytes, settings, heap.limitBytes - heap.freeBytes, exports);
    checkMemory(needs, limit, { name, weightBytes: bytes }, settings);
    const block = backend.alloc(bytes, 'weights');
    weights = block;
    return {
      write: (offset, data) => backend.write(at(block, offset), data),
      view: (offset, length) => backend.view(at(block, offset), length),
    };
  });
  const { config, layout } = model;
  const bound = bindWeights(weights!, config, layout);
  const shape = { layers: config.layers, queryHeads: config.queryHeads, kvHeads: config.kvHeads, headDim: config.headDim };
  const contextLength = contextOf(config, settings);
  const forward = new Forward(backend, forwardShape(config), bound, invFreq(config), settings.chunkTokens ?? CHUNK_TOKENS);
  const cache = new KvCache(backend, module, shape, {
    poolBytes: needs!.poolBytes(backend.memory.freeBytes),
    contextLength,
    sequences: MOST_SEQUENCES,
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
      fingerprint: model.fingerprint,
    },
    backend,
    forward,
    cache,
    math: createBudgetMath(module),
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
      backend.trim();
    },
  });
}

function contextOf(config: ModelConfig, { contextLength }: LoadSettings): number {
  return Math.min(config.contextLength, contextLength ?? MOST_CONTEXT);
}

function needsOf(config: ModelConfig, weightBytes: number, settings: LoadSettings, baseBytes: number, ledger: LedgerExports): MemoryNeeds {
  return memoryNeeds({
    shape: { ...forwardShape(config), layers: config.layers },
    weightBytes,
    contextLength: contextOf(config, settings),
    chunkTokens: settings.chunkTokens ?? CHUNK_TOKENS,
    sequences: MOST_SEQUENCES,
    poolBytes: settings.kvPoolBytes ?? null,
    baseBytes,
    ledger,
  });
}

/** Refuses, before any weight is read, a memory that the model does not fit into, and says which it would. */
function checkMemory(
  needs: MemoryNeeds,
  limit: number,
  { name, weightBytes }: { name: string; weightBytes: number },
  { kvPoolBytes: pool }: LoadSettings,
): void {
  const MiB = (bytes: number): string => `${bytes / 2 ** 20}MiB`;
  if (pool !== undefined && pool < needs.leastPoolBytes) {
    throw new InputError(
      'memory_exceeded',
      'kv_pool',
      `the KV pool of ${name} must have at least ${formatBytes(needs.leastPoolBytes)}, got ${formatBytes(pool)}: --kv-pool ${Math.ceil(needs.leastPoolBytes / 1024)}KiB would work, or leave it out`,
    );
  }
  if (needs.fits(limit)) return;
  const withPool = pool === undefined ? '' : ` and a KV pool of ${formatBytes(pool)}`;
  const refused = `${name} with ${formatBytes(weightBytes)} of weights${withPool} does not fit into a memory limit of ${formatBytes(limit)}`;
  if (needs.leastBytes > MOST_MEMORY) {
    const instead = pool === undefined ? 'a smaller model, or one in 4-bit blocks' : 'a smaller --kv-pool';
    throw new InputError('memory_exceeded', 'memory_limit', `${refused}; WebAssembly has 4 GiB at most: ${instead} would work`);
  }
  const roomy =
    needs.roomyBytes > needs.leastBytes && needs.roomyBytes <= MOST_MEMORY
      ? `, ${MiB(needs.roomyBytes)} leaves ${formatBytes(needs.wholePoolBytes)} for the KV pool`
      : '';
  const smaller = pool === undefined ? '' : '; so would a smaller --kv-pool';
  throw new InputError(
    'memory_exceeded',
    'memory_limit',
    `${refused}: --memory-limit ${MiB(needs.leastBytes)} (MEMORY_LIMIT in wrangler.toml) would work${roomy}${smaller}`,
  );
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
