/** One description of a model, from Hugging Face's config.json or from GGUF metadata. What we cannot run is refused here, by name. */
import { z } from 'zod';
import { InputError } from '../../../presses/input-error.ts';
import { type Family, families, supportedFamilies } from './families.ts';

const count = (max: number) => z.number().int().min(1).max(max);
const positive = z.number().positive().finite();

/** The caps are far above any real model; they keep every size computed from a hostile file an exact integer. */
export const modelConfigSchema = z
  .strictObject({
    family: z.string().refine((name) => families.some((f) => f.name === name), 'must be a supported family'),
    layers: count(1024),
    hiddenSize: count(65536),
    intermediateSize: count(1 << 20),
    queryHeads: count(1024),
    kvHeads: count(1024),
    headDim: count(1024).multipleOf(2),
    vocabSize: count(1 << 21),
    contextLength: count(1 << 27),
    normEps: z.number().min(0).max(1),
    rope: z.strictObject({
      theta: positive,
      scaling: z.discriminatedUnion('type', [
        z.strictObject({ type: z.literal('none') }),
        z.strictObject({ type: z.literal('linear'), factor: positive }),
        z.strictObject({
          type: z.literal('llama3'),
          factor: positive,
          lowFreqFactor: positive,
          highFreqFactor: positive,
          originalContextLength: positive,
        }),
        /** GGUF's rope_freqs.weight: frequency i is divided by factors[i]. */
        z.strictObject({ type: z.literal('factors'), factors: z.array(positive) }),
      ]),
    }),
    tiedEmbeddings: z.boolean(),
    qkvBias: z.boolean(),
    qkNorm: z.boolean(),
    /** Per layer; 0 = the layer sees everything. */
    slidingWindow: z.array(
      z
        .number()
        .int()
        .min(0)
        .max(1 << 27),
    ),
    bosId: z.number().int().min(0).nullable(),
    /** Tokens that end a generation. */
    eosIds: z.array(z.number().int().min(0)).max(64),
  })
  .superRefine((c, context) => {
    const wrong = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message });
    if (c.queryHeads % c.kvHeads !== 0) wrong('queryHeads', `must be a multiple of kvHeads (${c.kvHeads}), got ${c.queryHeads}`);
    if (c.slidingWindow.length !== c.layers) wrong('slidingWindow', `must have one entry per layer (${c.layers}), got ${c.slidingWindow.length}`);
    const { scaling } = c.rope;
    if (scaling.type === 'factors' && scaling.factors.length !== c.headDim / 2)
      wrong('rope', `must have headDim / 2 = ${c.headDim / 2} factors, got ${scaling.factors.length}`);
    if (scaling.type === 'llama3' && scaling.highFreqFactor <= scaling.lowFreqFactor) wrong('rope', 'highFreqFactor must be above lowFreqFactor');
  });

export type ModelConfig = z.infer<typeof modelConfigSchema>;
export type RopeScaling = ModelConfig['rope']['scaling'];

/** The first problem of a zod check as one line: path, what is wrong. */
export function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  return issue.path.length > 0 ? `${issue.path.map(String).join('.')}: ${issue.message}` : issue.message;
}

export function unsupported(message: string): InputError {
  return new InputError('model_unsupported', 'model', message);
}

export function invalidModel(message: string): InputError {
  return new InputError('model_invalid', 'model', message);
}

function checked(config: ModelConfig, origin: string): ModelConfig {
  const result = modelConfigSchema.safeParse(config);
  if (!result.success) throw invalidModel(`${origin}: ${firstIssue(result.error)}`);
  return result.data;
}

const ids = z.union([z.number(), z.array(z.number())]).nullish();
const ropeSchema = z.looseObject({
  rope_type: z.string().nullish(),
  type: z.string().nullish(),
  rope_theta: z.number().nullish(),
  factor: z.number().nullish(),
  low_freq_factor: z.number().nullish(),
  high_freq_factor: z.number().nullish(),
  original_max_position_embeddings: z.number().nullish(),
  partial_rotary_factor: z.number().nullish(),
});

const huggingFaceSchema = z.looseObject({
  model_type: z.string(),
  architectures: z.array(z.string()).nullish(),
  vocab_size: z.number(),
  hidden_size: z.number(),
  intermediate_size: z.number(),
  num_hidden_layers: z.number(),
  num_attention_heads: z.number(),
  num_key_value_heads: z.number().nullish(),
  head_dim: z.number().nullish(),
  hidden_act: z.string().nullish(),
  max_position_embeddings: z.number().nullish(),
  rms_norm_eps: z.number().nullish(),
  rope_theta: z.number().nullish(),
  rope_scaling: ropeSchema.nullish(),
  rope_parameters: ropeSchema.nullish(), // the newer form: theta and scaling in one
  partial_rotary_factor: z.number().nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  use_sliding_window: z.boolean().nullish(),
  sliding_window: z.number().nullish(),
  max_window_layers: z.number().nullish(),
  layer_types: z.array(z.string()).nullish(),
  quantization_config: z.looseObject({ quant_method: z.string().nullish() }).nullish(),
  bos_token_id: ids,
  eos_token_id: ids,
});
type HuggingFaceConfig = z.infer<typeof huggingFaceSchema>;

function idList(value: number | number[] | null | undefined): number[] {
  return value == null ? [] : Array.isArray(value) ? value : [value];
}

function huggingFaceRope(c: HuggingFaceConfig): ModelConfig['rope'] {
  const parameters = c.rope_parameters ?? c.rope_scaling ?? {};
  const theta = c.rope_parameters?.rope_theta ?? c.rope_theta ?? 10000;
  const partial = c.rope_parameters?.partial_rotary_factor ?? c.partial_rotary_factor ?? 1;
  if (partial !== 1) throw unsupported(`partial_rotary_factor ${partial} is not supported; only 1 is`);
  const type = parameters.rope_type ?? parameters.type ?? 'default';
  const need = (key: 'factor' | 'low_freq_factor' | 'high_freq_factor' | 'original_max_position_embeddings'): number => {
    const value = parameters[key];
    if (value == null) throw invalidModel(`config.json: rope_scaling of type ${type} needs ${key}`);
    return value;
  };
  switch (type) {
    case 'default':
      return { theta, scaling: { type: 'none' } };
    case 'linear':
      return { theta, scaling: { type: 'linear', factor: need('factor') } };
    case 'llama3':
      return {
        theta,
        scaling: {
          type: 'llama3',
          factor: need('factor'),
          lowFreqFactor: need('low_freq_factor'),
          highFreqFactor: need('high_freq_factor'),
          originalContextLength: need('original_max_position_embeddings'),
        },
      };
    default:
      throw unsupported(`rope_scaling type "${type}" is not supported; default, linear and llama3 are`);
  }
}

function huggingFaceWindows(c: HuggingFaceConfig, family: Family): number[] {
  const layers = Array.from({ length: Math.min(c.num_hidden_layers, 1024) }, (_, i) => i);
  // A key that is absent means the family's default; null means none.
  const window = (c.sliding_window === undefined ? family.defaults.slidingWindow : c.sliding_window) ?? 0;
  const types = c.layer_types;
  if (types) {
    const strange = types.find((type) => type !== 'full_attention' && type !== 'sliding_attention');
    if (strange !== undefined) throw unsupported(`layer_types holds "${strange}"; full_attention and sliding_attention are supported`);
  }
  switch (family.slidingWindow) {
    case 'never':
      return layers.map(() => 0);
    case 'always':
      return layers.map((i) => (types?.[i] === 'full_attention' ? 0 : window));
    case 'switched': {
      if (!c.use_sliding_window) return layers.map(() => 0);
      const first = c.max_window_layers ?? 28; // transformers' default for both Qwen families
      return layers.map((i) => ((types ? types[i] === 'sliding_attention' : i >= first) ? window : 0));
    }
  }
}

/** From config.json; generation_config.json, where there is one, may add tokens that end a generation. */
export function configFromHuggingFace(json: unknown, generationJson?: unknown): ModelConfig {
  const named = z.looseObject({ model_type: z.string().nullish(), architectures: z.array(z.string()).nullish() }).safeParse(json);
  const modelType = named.success ? named.data.model_type : undefined;
  const architecture = named.success ? named.data.architectures?.[0] : undefined;
  const family = families.find((f) => f.modelType === modelType);
  if (!family || (architecture !== undefined && architecture !== family.architecture)) {
    throw unsupported(`model architecture "${architecture ?? modelType ?? 'unnamed'}" is not supported; supported are ${supportedFamilies()}`);
  }
  const result = huggingFaceSchema.safeParse(json);
  if (!result.success) throw invalidModel(`config.json: ${firstIssue(result.error)}`);
  const c = result.data;
  if (c.quantization_config) {
    throw unsupported(
      `config.json: weights quantised by "${c.quantization_config.quant_method ?? 'unknown'}" are not supported; use f32, f16 or bf16 safetensors, or GGUF`,
    );
  }
  if ((c.hidden_act ?? 'silu') !== 'silu') throw unsupported(`hidden_act "${c.hidden_act}" is not supported; only silu is`);
  if (c.mlp_bias) throw unsupported('mlp_bias is not supported; only false is');
  if (c.attention_bias && !family.qkvBias) throw unsupported(`attention_bias is not supported in family ${family.name}; only false is`);
  const generation = z.looseObject({ bos_token_id: ids, eos_token_id: ids }).safeParse(generationJson ?? {});
  if (!generation.success) throw invalidModel(`generation_config.json: ${firstIssue(generation.error)}`);
  return checked(
    {
      family: family.name,
      layers: c.num_hidden_layers,
      hiddenSize: c.hidden_size,
      intermediateSize: c.intermediate_size,
      queryHeads: c.num_attention_heads,
      kvHeads: c.num_key_value_heads ?? family.defaults.kvHeads ?? c.num_attention_heads,
      headDim: c.head_dim ?? family.defaults.headDim ?? c.hidden_size / c.num_attention_heads,
      vocabSize: c.vocab_size,
      contextLength: c.max_position_embeddings ?? family.defaults.contextLength,
      normEps: c.rms_norm_eps ?? 1e-6,
      rope: huggingFaceRope(c),
      tiedEmbeddings: c.tie_word_embeddings ?? false,
      qkvBias: family.qkvBias,
      qkNorm: family.qkNorm,
      slidingWindow: huggingFaceWindows(c, family),
      bosId: idList(c.bos_token_id)[0] ?? idList(generation.data.bos_token_id)[0] ?? null,
      eosIds: [...new Set([...idList(c.eos_token_id), ...idList(generation.data.eos_token_id)])],
    },
    'config.json',
  );
}

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

  return checked(
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
