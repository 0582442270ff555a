/** ModelConfig from GGUF metadata. */
import { checkedConfig, invalidModel, type ModelConfig, type RopeScaling, unsupported } from './config.ts';
import { type Family, families } from './families.ts';

export type GgufMetadata = ReadonlyMap<string, unknown>;

/** Control tokens that end a turn whatever `eos_token_id` says; llama.cpp goes by the same names. */
const endOfTurn = new Set([
  '<|eot_id|>',
  '<|im_end|>',
  '<|end|>',
  '<end_of_turn>',
  '<|endoftext|>',
  '<|end_of_text|>',
  '<|eom_id|>',
  '<EOT>',
  '<|END_OF_TURN_TOKEN|>',
]);

/** Our fields by the names of the metadata, behind the architecture's. */
const fieldNames = {
  layers: 'block_count',
  hiddenSize: 'embedding_length',
  intermediateSize: 'feed_forward_length',
  queryHeads: 'attention.head_count',
  kvHeads: 'attention.head_count_kv',
  headDim: 'attention.key_length',
  contextLength: 'context_length',
  normEps: 'attention.layer_norm_rms_epsilon',
  rope_theta: 'rope.freq_base',
  slidingWindow: 'attention.sliding_window',
  bosId: 'tokenizer.ggml.bos_token_id',
  eosIds: 'tokenizer.ggml.eos_token_id',
};

/**
 * From GGUF metadata, and what only the tensors tell: the rows of the embedding, whether there is a separate head, and
 * rope_freqs.weight (null = no such tensor).
 */
export function configFromGguf(
  metadata: GgufMetadata,
  tensors: { vocabSize: number; hasHead: boolean; ropeFactors: readonly number[] | null },
): ModelConfig {
  const architecture = metadata.get('general.architecture');
  const family = families.find((f) => f.gguf !== null && f.gguf === architecture);
  if (!family) {
    const known = families.flatMap((f) => f.gguf ?? []).join(', ');
    throw unsupported(`GGUF architecture "${String(architecture)}" is not supported; supported are ${known}`);
  }
  const number = (key: string): number | undefined => {
    const value = metadata.get(key);
    if (value === undefined) return undefined;
    if (typeof value !== 'number' && typeof value !== 'bigint') throw invalidModel(`GGUF metadata: ${key} must be a number, got ${typeof value}`);
    return Number(value);
  };
  const own = (key: string) => number(`${family.gguf}.${key}`);
  const need = (key: string): number => {
    const value = own(key);
    if (value === undefined) throw invalidModel(`GGUF metadata: ${family.gguf}.${key} is missing`);
    return value;
  };

  if ((own('expert_count') ?? 0) > 0) throw unsupported(`GGUF: mixture-of-experts models (${own('expert_count')} experts) are not supported`);
  const hiddenSize = need('embedding_length');
  const queryHeads = need('attention.head_count');
  if (!(queryHeads >= 1)) throw invalidModel(`GGUF metadata: ${family.gguf}.attention.head_count is ${queryHeads}, at least 1 is expected`);
  const headDim = own('attention.key_length') ?? hiddenSize / queryHeads;
  const valueDim = own('attention.value_length') ?? headDim;
  if (valueDim !== headDim) throw unsupported(`GGUF: keys of ${headDim} and values of ${valueDim} dimensions are not supported; they must be equal`);
  const rotary = own('rope.dimension_count') ?? headDim;
  if (rotary !== headDim) throw unsupported(`GGUF: RoPE over ${rotary} of ${headDim} dimensions is not supported; it must cover all`);

  const layers = need('block_count');
  const window = own('attention.sliding_window') ?? 0;
  if (window > 0 && family.slidingWindow === 'switched')
    throw unsupported(`GGUF: a sliding window (${window}) is not supported in architecture ${family.gguf}`);

  const bos = number('tokenizer.ggml.bos_token_id') ?? null;
  const eosIds = new Set(['eos', 'eot', 'eom'].flatMap((name) => number(`tokenizer.ggml.${name}_token_id`) ?? []));
  const tokens = metadata.get('tokenizer.ggml.tokens');
  if (Array.isArray(tokens)) for (const [id, token] of tokens.entries()) if (endOfTurn.has(token)) eosIds.add(id);

  return checkedConfig(
    {
      family: family.name,
      layers,
      hiddenSize,
      intermediateSize: need('feed_forward_length'),
      queryHeads,
      kvHeads: own('attention.head_count_kv') ?? queryHeads,
      headDim,
      vocabSize: tensors.vocabSize,
      contextLength: need('context_length'),
      normEps: Math.fround(need('attention.layer_norm_rms_epsilon')),
      rope: { theta: own('rope.freq_base') ?? 10000, scaling: ggufScaling(metadata, family, own, tensors.ropeFactors) },
      tiedEmbeddings: !tensors.hasHead,
      qkvBias: family.qkvBias,
      qkNorm: family.qkNorm,
      slidingWindow: Array.from({ length: Math.min(layers, 1024) || 0 }, () => window),
      bosId: bos,
      eosIds: [...eosIds],
    },
    'GGUF metadata',
    fieldNames,
  );
}

function ggufScaling(
  metadata: GgufMetadata,
  family: Family,
  own: (key: string) => number | undefined,
  factors: readonly number[] | null,
): RopeScaling {
  const type = metadata.get(`${family.gguf}.rope.scaling.type`) ?? 'none';
  const factor = own('rope.scaling.factor') ?? own('rope.scale_linear') ?? 1;
  const linear = type === 'linear' || (type === 'none' && own('rope.scale_linear') !== undefined && factor !== 1);
  if (!linear && type !== 'none')
    throw unsupported(`GGUF: rope scaling type "${String(type)}" is not supported; none, linear and rope_freqs.weight are`);
  if (factors === null) return linear ? { type: 'linear', factor } : { type: 'none' };
  return { type: 'factors', factors: factors.map((x) => (linear ? x * factor : x)) };
}
