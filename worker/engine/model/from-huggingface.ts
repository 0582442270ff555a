/** ModelConfig from config.json. */
import * as z from 'zod';
import { checkedConfig, firstIssue, invalidModel, type ModelConfig, unsupported } from './config.ts';
import { type Family, families, supportedFamilies } from './families.ts';

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

type RopeParameters = z.infer<typeof ropeSchema>;

/** What both forms of the RoPE settings say must be the same: one of them would be passed over. */
function checkOneRope({ rope_parameters: newer, rope_scaling: older, rope_theta: theta }: HuggingFaceConfig): void {
  if (newer?.rope_theta != null && theta != null && newer.rope_theta !== theta)
    throw invalidModel(`config.json: rope_theta is ${theta}, and ${newer.rope_theta} in rope_parameters; they must be the same`);
  if (!newer || !older) return;
  const type = (rope: RopeParameters) => rope.rope_type ?? rope.type ?? 'default';
  const differ = (key: string, a: unknown, b: unknown) =>
    invalidModel(`config.json: ${key} is ${JSON.stringify(a)} in rope_parameters and ${JSON.stringify(b)} in rope_scaling; they must be the same`);
  if (type(newer) !== type(older)) throw differ('rope_type', type(newer), type(older));
  if (type(newer) === 'default') return;
  for (const key of ['factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'] as const)
    if ((newer[key] ?? null) !== (older[key] ?? null)) throw differ(key, newer[key] ?? null, older[key] ?? null);
}

function huggingFaceRope(c: HuggingFaceConfig): ModelConfig['rope'] {
  checkOneRope(c);
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

/** Our fields by the names of config.json. */
const fieldNames = {
  layers: 'num_hidden_layers',
  hiddenSize: 'hidden_size',
  intermediateSize: 'intermediate_size',
  queryHeads: 'num_attention_heads',
  kvHeads: 'num_key_value_heads',
  headDim: 'head_dim',
  vocabSize: 'vocab_size',
  contextLength: 'max_position_embeddings',
  normEps: 'rms_norm_eps',
  lowFreqFactor: 'low_freq_factor',
  highFreqFactor: 'high_freq_factor',
  originalContextLength: 'original_max_position_embeddings',
  slidingWindow: 'sliding_window',
  bosId: 'bos_token_id',
  eosIds: 'eos_token_id',
};

/** From config.json; generation_config.json, where there is one, may add tokens that end a generation. */
export function configFromHuggingFace(json: unknown, generationJson?: unknown): ModelConfig {
  const named = z.looseObject({ model_type: z.string().nullish(), architectures: z.array(z.string()).nullish() }).safeParse(json);
  const modelType = named.success ? named.data.model_type : undefined;
  const architecture = named.success ? named.data.architectures?.[0] : undefined;
  const family = families.find((f) => f.modelType === modelType);
  if (!family || (architecture !== undefined && architecture !== family.architecture)) {
    // The architecture alone may be one that we know, of a model that is another by its model_type.
    const known = families.some((f) => f.architecture === architecture);
    const seen =
      !family && known
        ? `model_type "${modelType ?? 'unnamed'}" (${architecture})`
        : `model architecture "${architecture ?? modelType ?? 'unnamed'}"`;
    throw unsupported(`${seen} is not supported; supported are ${supportedFamilies()}`);
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
  const headDim = c.head_dim ?? family.defaults.headDim ?? c.hidden_size / c.num_attention_heads;
  if (!Number.isInteger(headDim) && c.head_dim == null)
    throw invalidModel(
      `config.json: hidden_size ${c.hidden_size} cannot be cut into num_attention_heads ${c.num_attention_heads} equal heads, and there is no head_dim`,
    );
  const generation = z.looseObject({ bos_token_id: ids, eos_token_id: ids }).safeParse(generationJson ?? {});
  if (!generation.success) throw invalidModel(`generation_config.json: ${firstIssue(generation.error)}`);
  const strange = idList(generation.data.eos_token_id).find((id) => id >= c.vocab_size);
  if (strange !== undefined)
    throw invalidModel(`generation_config.json: eos_token_id ${strange} is not in the vocabulary of ${c.vocab_size} (config.json)`);
  return checkedConfig(
    {
      family: family.name,
      layers: c.num_hidden_layers,
      hiddenSize: c.hidden_size,
      intermediateSize: c.intermediate_size,
      queryHeads: c.num_attention_heads,
      kvHeads: c.num_key_value_heads ?? family.defaults.kvHeads ?? c.num_attention_heads,
      headDim,
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
    fieldNames,
  );
}
