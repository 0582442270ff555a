/** From a host and a model to a running engine: kernels, weights into linear memory, forward pass, KV pool sized from what is left. */
import { createBudgetMath } from '../../presses/budget-math.ts';
import { InputError } from '../../presses/input-error.ts';
import { at, type DeviceBuffer, DeviceFailed, type EntryType, entryTypes, OutOfDeviceMemory, type View, type Weight } from '../backend/backend.ts';
import type { Host } from '../host.ts';
import { type ArtifactSource, Artifacts } from './artifacts.ts';
import { formatBytes } from './bytes.ts';
import { type Compute, MOST_WASM_MEMORY, wasmCompute, webgpuCompute } from './compute.ts';
import { EdgeEngine } from './engine.ts';
import { Forward } from './forward.ts';
import { type HiddenType, hiddenTypes } from './hidden-rows.ts';
import { KvCache } from './kv-cache.ts';
import { type MemoryNeeds, memoryNeeds } from './memory-needs.ts';
import type { ModelConfig } from './model/config.ts';
import { invFreq } from './model/rope.ts';
import type { ForwardShape, LayerWeights, ModelWeights } from './model-weights.ts';
import { usualPressBytes } from './press-bytes.ts';
import { Tokenizer } from './tokenizer/tokenizer.ts';
import type { LoadedModel, OpenArena } from './weights/packed.ts';
import { type ArenaLayout, arenaTensor } from './weights/plan.ts';

export type BackendName = 'wasm' | 'webgpu';

export interface LoadSettings {
  /** Where the model runs. Default wasm. */
  readonly backend?: BackendName;
  /** Pages for KV entries; default: what weights and activations leave of the memory limit, at most 64 MiB, on a GPU 512 MiB or what it binds. */
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
  /** Most bytes of artefacts that are held, on the host; default 256 MiB. */
  readonly artifactBytes?: number;
  /** Tokens of the longest prompt that is to be read: the KV pool gets what that leaves, at most 64 MiB. Default: see kvPoolBytes, with room for half the context length. */
  readonly longestPrompt?: number;
  /** How hidden states of a prompt that is read are kept from layer to layer. f16 takes half the memory, and rounds them once a layer. Default f32. */
  readonly hiddenType?: HiddenType;
  /** Most requests that run and contexts that are held at once; default 16. Each takes a table of page numbers. */
  readonly sequences?: number;
  /** Of the memory limit, for buffers that the host holds outside the engine's memory. Default 0. */
  readonly besideBytes?: number;
}

/** Half are left to requests, half to held contexts. */
const LEAST_SEQUENCES = 2;
const USUAL_SEQUENCES = 16;
const MOST_SEQUENCES = 256;
const MOST_CONTEXT = 32_768;
const CHUNK_TOKENS = 128;

type Load = (arena: OpenArena) => Promise<LoadedModel>;

/** `load` brings the weights into the arena that it is given: loadPacked, or loadOpened; `artifacts` is where those of presses lie, null = there are none. Throws InputError where the memory limit is too low. */
export async function loadEngine(host: Host, load: Load, settings: LoadSettings = {}, artifacts: ArtifactSource | null = null): Promise<EdgeEngine> {
  checkSettings(host, settings);
  let compute: Compute | null = null;
  try {
    compute = settings.backend === 'webgpu' ? await webgpuCompute(host) : await wasmCompute(host, settings.besideBytes);
    if (!compute) throw noGpu();
    return await assemble(host, compute, load, settings, artifacts);
  } catch (error) {
    compute?.backend.close();
    if (error instanceof DeviceFailed && error.kind !== 'out of memory')
      throw new InputError('device_failed', 'backend', `${error.message}, while the model was loaded: backend wasm would work`);
    if (error instanceof OutOfDeviceMemory || error instanceof DeviceFailed) {
      const advice = 'a higher memory limit (--memory-limit), a smaller KV pool (--kv-pool) or a smaller model would work';
      throw new InputError('memory_exceeded', 'memory_limit', `${error.message}: ${advice}`);
    }
    throw error;
  }
}

/** What types promise and callers in JavaScript do not. */
function checkSettings({ memoryLimitBytes }: Host, { entryType, hiddenType, ...settings }: LoadSettings): void {
  const { kvPoolBytes, contextLength, maxWaiting, chunkTokens, artifactBytes, longestPrompt, sequences } = settings;
  const counts = { memoryLimitBytes, kvPoolBytes, contextLength, maxWaiting, chunkTokens, artifactBytes, longestPrompt, sequences };
  for (const [name, value] of Object.entries(counts)) {
    if (value !== undefined && !(Number.isSafeInteger(value) && (value > 0 || name === 'maxWaiting')))
      throw new InputError('invalid_value', name, `${name} must be a whole number, 1 or more, got ${JSON.stringify(value)}`);
  }
  if (entryType !== undefined && !entryTypes.includes(entryType))
    throw new InputError('invalid_value', 'entryType', `entryType must be one of ${entryTypes.join(', ')}, got ${JSON.stringify(entryType)}`);
  if (hiddenType !== undefined && !hiddenTypes.includes(hiddenType))
    throw new InputError('invalid_value', 'hiddenType', `hiddenType must be one of ${hiddenTypes.join(', ')}, got ${JSON.stringify(hiddenType)}`);
  if (sequences !== undefined && (sequences < LEAST_SEQUENCES || sequences > MOST_SEQUENCES))
    throw new InputError('invalid_value', 'sequences', `sequences must be between ${LEAST_SEQUENCES} and ${MOST_SEQUENCES}, got ${sequences}`);
}

export function noGpu(): InputError {
  return new InputError(
    'no_gpu',
    'backend',
    'this runtime has no WebGPU adapter: a GPU driver (on Debian without a GPU: mesa-vulkan-drivers; Node wants one newer than Mesa 22), or backend wasm, would work',
  );
}

async function assemble(host: Host, compute: Compute, load: Load, settings: LoadSettings, artifacts: ArtifactSource | null): Promise<EdgeEngine> {
  const { backend, module } = compute;
  let weights: DeviceBuffer | null = null;
  let needs: MemoryNeeds | null = null;
  const model = await load(({ name, config, layout }) => {
    const { multipleOf, most } = backend.headDims;
    if (config.headDim % multipleOf !== 0 || config.headDim > most)
      throw new InputError(
        'model_unsupported',
        'model',
        `the ${backend.name} kernels take a head_dim that is a multiple of ${multipleOf}, at most ${most}; ${name} has ${config.headDim}: backend wasm would work`,
      );
    needs = needsOf(config, layout, settings, compute);
    checkMemory(needs, compute, { name, weightBytes: layout.bytes }, settings);
    const { block, arena } = compute.arena(layout);
    weights = block;
    return arena;
  });
  const { config, layout } = model;
  const bound = bindWeights(weights!, config, layout);
  const shape = { layers: config.layers, queryHeads: config.queryHeads, kvHeads: config.kvHeads, headDim: config.headDim };
  const contextLength = contextOf(config, settings);
  const forward = new Forward(backend, forwardShape(config), bound, invFreq(config), rowsOf(settings));
  const cache = new KvCache(backend, module, shape, {
    poolBytes: needs!.poolBytes(backend.memory.freeBytes),
    contextLength,
    sequences: settings.sequences ?? USUAL_SEQUENCES,
  });
  const { limitBytes, freeBytes } = backend.memory;
  return new EdgeEngine({
    plan: {
      limitBytes: host.memoryLimitBytes === undefined ? null : compute.limitBytes,
      besideBytes: settings.besideBytes ?? 0,
      weightBytes: layout.bytes,
      poolBytes: cache.poolBytes,
      ledgerBytes: cache.ledgerBytes,
      fixedBytes: limitBytes - freeBytes - layout.bytes - cache.poolBytes - cache.ledgerBytes,
      readingBytes: freeBytes,
      longestPrompt: needs!.longestPrompt(freeBytes),
    },
    info: {
      id: model.name,
      family: config.family,
      parameters: layout.tensors.reduce((sum, { rows, cols }) => sum + rows * cols, 0),
      layers: config.layers,
      contextLength,
      vocabSize: config.vocabSize,
      weightBytes: layout.bytes,
      fingerprint: model.fingerprint,
      ...(model.requantised && { requantised: model.requantised }),
    },
    backend,
    forward,
    cache,
    math: createBudgetMath(module),
    artifacts: new Artifacts(
      artifacts,
      { ...shape, hiddenSize: config.hiddenSize, intermediateSize: config.intermediateSize },
      settings.artifactBytes,
    ),
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

function contextOf(config: ModelConfig, { contextLength }: LoadSettings): number {
  return Math.min(config.contextLength, contextLength ?? MOST_CONTEXT);
}

function rowsOf({ chunkTokens = CHUNK_TOKENS, hiddenType = 'f32' }: LoadSettings): { chunkTokens: number; hiddenType: HiddenType } {
  return { chunkTokens, hiddenType };
}

function needsOf(
  config: ModelConfig,
  layout: ArenaLayout,
  settings: LoadSettings,
  { backend, baseBytes, usualPoolBytes, module }: Compute,
): MemoryNeeds {
  const shape = { ...forwardShape(config), layers: config.layers };
  const rows = rowsOf(settings);
  const math = createBudgetMath(module);
  const kinds = new Map(layout.tensors.filter((one) => one.rows > 1).map((one) => [`${one.type} ${one.rows} ${one.cols}`, one]));
  const products = Math.max(...[...kinds.values()].map((one) => backend.linearScratchBytes(one, rows.chunkTokens)));
  return memoryNeeds({
    usualPoolBytes,
    shape,
    weightBytes: layout.bytes,
    contextLength: contextOf(config, settings),
    ...rows,
    longestPrompt: settings.longestPrompt === undefined ? null : Math.min(settings.longestPrompt, contextOf(config, settings)),
    pressBytes: (tokens) => products + (backend.sampleScratchBytes?.(shape.vocabSize) ?? 0) + usualPressBytes(backend, math, shape, tokens),
    sequences: settings.sequences ?? USUAL_SEQUENCES,
    poolBytes: settings.kvPoolBytes ?? null,
    baseBytes,
    ledger: module.exports,
  });
}

/** Refuses, before any weight is read, a memory that the model does not fit into, and says which it would. */
function checkMemory(
  needs: MemoryNeeds,
  { limitBytes: limit, backend }: Compute,
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
  if (pool !== undefined && pool > backend.largestBytes && backend.name === 'webgpu')
    throw new InputError(
      'memory_exceeded',
      'kv_pool',
      `the KV pool is one buffer, and this GPU binds ${formatBytes(backend.largestBytes)} at most, got ${formatBytes(pool)}: --kv-pool ${Math.floor(backend.largestBytes / 2 ** 20)}MiB would work`,
    );
  if (needs.fits(limit)) return;
  const withPool = pool === undefined ? '' : ` and a KV pool of ${formatBytes(pool)}`;
  const refused = `${name} with ${formatBytes(weightBytes)} of weights${withPool} does not fit into a memory limit of ${formatBytes(limit)}`;
  if (backend.name === 'wasm' && needs.leastBytes > MOST_WASM_MEMORY) {
    const instead = pool === undefined ? 'a smaller model, or one in 4-bit blocks' : 'a smaller --kv-pool';
    throw new InputError('memory_exceeded', 'memory_limit', `${refused}; WebAssembly has 4 GiB at most: ${instead} would work`);
  }
  const roomy =
    needs.roomyBytes > needs.leastBytes && needs.roomyBytes <= MOST_WASM_MEMORY
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
