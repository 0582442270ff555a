/**
 * Model families as data. What differs between them is listed here; the layer code is one.
 *
 * Adding a family = one entry here, if its layers are norm, attention (RoPE), norm, SwiGLU. Everything else is refused by name.
 */

/** Parts of one layer by their canonical name. */
export type LayerPart =
  | 'attn_norm'
  | 'q'
  | 'k'
  | 'v'
  | 'o'
  | 'q_bias'
  | 'k_bias'
  | 'v_bias'
  | 'q_norm'
  | 'k_norm'
  | 'ffn_norm'
  | 'gate'
  | 'up'
  | 'down';

export interface Family {
  readonly name: string;
  /** config.json: `model_type` and `architectures[0]`. */
  readonly modelType: string;
  readonly architecture: string;
  /** GGUF: `general.architecture`; null = its GGUF files carry another family's name (mistral is "llama" there). */
  readonly gguf: string | null;
  readonly qkvBias: boolean;
  readonly qkNorm: boolean;
  /** GGUF files hold the rows of q and k interleaved (2i, 2i+1) instead of half-split (i, i + d/2). */
  readonly permutedInGguf: boolean;
  /** never: no such key. always: `sliding_window`, null = off. switched: only with `use_sliding_window`, from layer `max_window_layers` on. */
  readonly slidingWindow: 'never' | 'always' | 'switched';
  /** What transformers assumes for keys that config.json leaves out; null = derived from other keys. */
  readonly defaults: {
    readonly kvHeads: number | null; // null = as many as query heads
    readonly headDim: number | null; // null = hidden_size / num_attention_heads
    readonly contextLength: number;
    readonly slidingWindow: number | null;
  };
}

export const families: readonly Family[] = [
  {
    name: 'llama',
    modelType: 'llama',
    architecture: 'LlamaForCausalLM',
    gguf: 'llama',
    qkvBias: false,
    qkNorm: false,
    permutedInGguf: true,
    slidingWindow: 'never',
    defaults: { kvHeads: null, headDim: null, contextLength: 2048, slidingWindow: null },
  },
  {
    name: 'mistral',
    modelType: 'mistral',
    architecture: 'MistralForCausalLM',
    gguf: null,
    qkvBias: false,
    qkNorm: false,
    permutedInGguf: true,
    slidingWindow: 'always',
    defaults: { kvHeads: 8, headDim: null, contextLength: 131072, slidingWindow: 4096 },
  },
  {
    name: 'qwen2',
    modelType: 'qwen2',
    architecture: 'Qwen2ForCausalLM',
    gguf: 'qwen2',
    qkvBias: true,
    qkNorm: false,
    permutedInGguf: false,
    slidingWindow: 'switched',
    defaults: { kvHeads: 32, headDim: null, contextLength: 32768, slidingWindow: 4096 },
  },
  {
    name: 'qwen3',
    modelType: 'qwen3',
    architecture: 'Qwen3ForCausalLM',
    gguf: 'qwen3',
    qkvBias: false,
    qkNorm: true,
    permutedInGguf: false,
    slidingWindow: 'switched',
    defaults: { kvHeads: 32, headDim: 128, contextLength: 32768, slidingWindow: 4096 },
  },
];

/** Tensor names of a file format; `{i}` is the layer. */
export interface TensorNames {
  readonly embed: string;
  readonly finalNorm: string;
  readonly head: string;
  readonly layer: Readonly<Record<LayerPart, string>>;
}

export const huggingFaceNames: TensorNames = {
  embed: 'model.embed_tokens.weight',
  finalNorm: 'model.norm.weight',
  head: 'lm_head.weight',
  layer: {
    attn_norm: 'model.layers.{i}.input_layernorm.weight',
    q: 'model.layers.{i}.self_attn.q_proj.weight',
    k: 'model.layers.{i}.self_attn.k_proj.weight',
    v: 'model.layers.{i}.self_attn.v_proj.weight',
    o: 'model.layers.{i}.self_attn.o_proj.weight',
    q_bias: 'model.layers.{i}.self_attn.q_proj.bias',
    k_bias: 'model.layers.{i}.self_attn.k_proj.bias',
    v_bias: 'model.layers.{i}.self_attn.v_proj.bias',
    q_norm: 'model.layers.{i}.self_attn.q_norm.weight',
    k_norm: 'model.layers.{i}.self_attn.k_norm.weight',
    ffn_norm: 'model.layers.{i}.post_attention_layernorm.weight',
    gate: 'model.layers.{i}.mlp.gate_proj.weight',
    up: 'model.layers.{i}.mlp.up_proj.weight',
    down: 'model.layers.{i}.mlp.down_proj.weight',
  },
};

export const ggufNames: TensorNames = {
  embed: 'token_embd.weight',
  finalNorm: 'output_norm.weight',
  head: 'output.weight',
  layer: {
    attn_norm: 'blk.{i}.attn_norm.weight',
    q: 'blk.{i}.attn_q.weight',
    k: 'blk.{i}.attn_k.weight',
    v: 'blk.{i}.attn_v.weight',
    o: 'blk.{i}.attn_output.weight',
    q_bias: 'blk.{i}.attn_q.bias',
    k_bias: 'blk.{i}.attn_k.bias',
    v_bias: 'blk.{i}.attn_v.bias',
    q_norm: 'blk.{i}.attn_q_norm.weight',
    k_norm: 'blk.{i}.attn_k_norm.weight',
    ffn_norm: 'blk.{i}.ffn_norm.weight',
    gate: 'blk.{i}.ffn_gate.weight',
    up: 'blk.{i}.ffn_up.weight',
    down: 'blk.{i}.ffn_down.weight',
  },
};

/** Tensors that files carry beside the weights and nobody needs: tables that follow from the config, and GGUF's RoPE factors, read with the config. */
export const ignoredTensors = /(^|\.)rotary_emb\.inv_freq$|^rope_freqs\.weight$/;

const partOrder: readonly LayerPart[] = [
  'attn_norm',
  'q',
  'k',
  'v',
  'o',
  'q_bias',
  'k_bias',
  'v_bias',
  'q_norm',
  'k_norm',
  'ffn_norm',
  'gate',
  'up',
  'down',
];

/** The parts that a layer of this model has, in arena order. */
export function layerParts(model: { readonly qkvBias: boolean; readonly qkNorm: boolean }): LayerPart[] {
  return partOrder.filter((part) => (part.endsWith('_bias') ? model.qkvBias : part === 'q_norm' || part === 'k_norm' ? model.qkNorm : true));
}

export function supportedFamilies(): string {
  return families.map((family) => `${family.name} (${family.architecture})`).join(', ');
}
