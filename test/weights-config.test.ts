import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { configFromGguf } from '../worker/engine/model/from-gguf.ts';
import { configFromHuggingFace } from '../worker/engine/model/from-huggingface.ts';
import { invFreq } from '../worker/engine/model/rope.ts';

const base = {
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  vocab_size: 100,
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: true,
  bos_token_id: 1,
  eos_token_id: 2,
};
const qwen2 = { ...base, model_type: 'qwen2', architectures: ['Qwen2ForCausalLM'] };
const mistral = { ...base, model_type: 'mistral', architectures: ['MistralForCausalLM'] };
const golden = (name: string) => JSON.parse(readFileSync(new URL(`golden/models/${name}/config.json`, import.meta.url), 'utf8'));

describe('config.json', () => {
  test('a config from the hub becomes a ModelConfig, with eos ids of both files', () => {
    const read = (name: string) => JSON.parse(readFileSync(new URL(`../models/needle/${name}`, import.meta.url), 'utf8'));
    expect(configFromHuggingFace(read('config.json'), read('generation_config.json'))).toEqual({
      family: 'llama',
      layers: 6,
      hiddenSize: 192,
      intermediateSize: 512,
      queryHeads: 6,
      kvHeads: 2,
      headDim: 32,
      vocabSize: 1536,
      contextLength: 4096,
      normEps: 1e-5,
      rope: { theta: 100000, scaling: { type: 'none' } },
      tiedEmbeddings: true,
      qkvBias: false,
      qkNorm: false,
      slidingWindow: [0, 0, 0, 0, 0, 0],
      bosId: 0,
      eosIds: [4, 1],
    });
  });

  test('absent keys mean what transformers assumes', () => {
    const { num_key_value_heads: _, rms_norm_eps: __, tie_word_embeddings: ___, ...bare } = base;
    expect(configFromHuggingFace(bare)).toMatchObject({
      kvHeads: 4,
      headDim: 16,
      normEps: 1e-6,
      tiedEmbeddings: false,
      contextLength: 2048,
      rope: { theta: 10000 },
    });
    expect(configFromHuggingFace({ ...bare, model_type: 'qwen3', architectures: ['Qwen3ForCausalLM'], num_key_value_heads: 2 })).toMatchObject({
      headDim: 128,
      qkNorm: true,
    });
    expect(configFromHuggingFace(mistral).slidingWindow).toEqual([4096, 4096, 4096]);
  });

  test('sliding windows follow the family, the switch and the layer', () => {
    expect(configFromHuggingFace({ ...mistral, sliding_window: null }).slidingWindow).toEqual([0, 0, 0]);
    expect(configFromHuggingFace({ ...base, sliding_window: 8 }).slidingWindow).toEqual([0, 0, 0]);
    expect(configFromHuggingFace({ ...qwen2, sliding_window: 8, max_window_layers: 1, use_sliding_window: false }).slidingWindow).toEqual([0, 0, 0]);
    expect(configFromHuggingFace({ ...qwen2, sliding_window: 8, max_window_layers: 1, use_sliding_window: true }).slidingWindow).toEqual([0, 8, 8]);
    const layer_types = ['sliding_attention', 'full_attention', 'sliding_attention'];
    expect(configFromHuggingFace({ ...qwen2, sliding_window: 8, use_sliding_window: true, layer_types }).slidingWindow).toEqual([8, 0, 8]);
  });

  test('RoPE settings are read in the old and the new form', () => {
    expect(configFromHuggingFace(golden('llama-linear')).rope).toEqual({ theta: 10000, scaling: { type: 'linear', factor: 2 } });
    expect(configFromHuggingFace(golden('qwen3')).rope).toEqual({ theta: 1e6, scaling: { type: 'none' } });
    expect(configFromHuggingFace(golden('llama3')).rope.scaling).toEqual({
      type: 'llama3',
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalContextLength: 64,
    });
  });

  test.each([
    [
      { ...base, model_type: 'phi3', architectures: ['Phi3ForCausalLM'] },
      /"Phi3ForCausalLM" is not supported; supported are llama \(LlamaForCausalLM\), mistral/,
    ],
    [{ ...base, architectures: ['LlamaForSequenceClassification'] }, /"LlamaForSequenceClassification" is not supported/],
    [{ ...base, model_type: 'gemma' }, /model_type "gemma" \(LlamaForCausalLM\) is not supported/],
    [{}, /"unnamed" is not supported/],
    [null, /"unnamed" is not supported/],
    [{ ...base, rope_scaling: { rope_type: 'yarn', factor: 4 } }, /rope_scaling type "yarn" is not supported; default, linear and llama3 are/],
    [{ ...base, rope_scaling: { type: 'dynamic', factor: 4 } }, /"dynamic" is not supported/],
    [{ ...base, hidden_act: 'gelu' }, /hidden_act "gelu" is not supported; only silu/],
    [{ ...base, attention_bias: true }, /attention_bias is not supported in family llama/],
    [{ ...base, mlp_bias: true }, /mlp_bias is not supported/],
    [{ ...base, partial_rotary_factor: 0.5 }, /partial_rotary_factor 0.5/],
    [{ ...base, quantization_config: { quant_method: 'gptq' } }, /quantised by "gptq"/],
  ])('what cannot run is refused by name: %#', (config, message) => {
    expect(() => configFromHuggingFace(config)).toThrow(
      expect.objectContaining({ name: 'InputError', code: 'model_unsupported', message: expect.stringMatching(message) }),
    );
  });

  test.each([
    [{ ...base, num_hidden_layers: -1 }, /^config\.json: num_hidden_layers: .*got -1$/],
    [{ ...base, num_hidden_layers: 1e12 }, /num_hidden_layers: .*got 1000000000000$/],
    [{ ...base, max_position_embeddings: 0 }, /max_position_embeddings: .*got 0$/],
    [{ ...base, rms_norm_eps: -1 }, /rms_norm_eps: .*got -1$/],
    [{ ...base, head_dim: 7 }, /head_dim: .*got 7$/],
    [{ ...base, eos_token_id: 999999 }, /eos_token_id: 999999 is not in the vocabulary of 100$/],
    [{ ...base, bos_token_id: 100 }, /bos_token_id: 100 is not in the vocabulary of 100$/],
    [{ ...base, rope_theta: 1e-300 }, /rope_theta: .*>=1, got 1e-300$/],
    [
      { ...base, rope_parameters: { rope_type: 'default' }, rope_scaling: { type: 'yarn', factor: 4 } },
      /rope_type is "default" in rope_parameters and "yarn" in rope_scaling; they must be the same/,
    ],
    [
      { ...base, rope_parameters: { rope_type: 'linear', factor: 2 }, rope_scaling: { type: 'linear', factor: 4 } },
      /factor is 2 in rope_parameters and 4 in rope_scaling/,
    ],
    [{ ...base, rope_theta: 10000, rope_parameters: { rope_theta: 500000 } }, /rope_theta is 10000, and 500000 in rope_parameters/],
    [{ ...base, hidden_size: '64' }, /hidden_size/],
    [{ ...base, num_attention_heads: 5 }, /hidden_size 64 cannot be cut into num_attention_heads 5 equal heads, and there is no head_dim/],
    [{ ...base, num_attention_heads: 0 }, /num_attention_heads 0/],
    [{ ...base, num_key_value_heads: 3 }, /num_attention_heads.*multiple of num_key_value_heads \(3\), got 4/],
    [{ ...base, rope_scaling: { type: 'linear' } }, /needs factor/],
    [{ ...base, rope_theta: 0 }, /theta/],
  ])('values that make no sense are refused with their name: %#', (config, message) => {
    expect(() => configFromHuggingFace(config)).toThrow(expect.objectContaining({ code: 'model_invalid', message: expect.stringMatching(message) }));
  });

  test('ids of generation_config.json must be in the vocabulary, and the two forms of RoPE settings may say the same', () => {
    expect(() => configFromHuggingFace(base, { eos_token_id: [2, 100] })).toThrow(
      /^generation_config\.json: eos_token_id 100 is not in the vocabulary of 100/,
    );
    const linear = { type: 'linear', factor: 4 };
    expect(configFromHuggingFace({ ...base, rope_scaling: linear, rope_parameters: { ...linear, rope_theta: 5e5 } }).rope).toEqual({
      theta: 5e5,
      scaling: linear,
    });
  });
});

describe('GGUF metadata', () => {
  const metadata = {
    'general.architecture': 'llama',
    'llama.block_count': 2,
    'llama.embedding_length': 64,
    'llama.feed_forward_length': 96,
    'llama.context_length': 512,
    'llama.attention.head_count': 4,
    'llama.attention.head_count_kv': 2,
    'llama.attention.layer_norm_rms_epsilon': 1e-5,
  };
  const tensors = { vocabSize: 100, hasHead: false, ropeFactors: null };
  const read = (more: object, seen: object = {}) => configFromGguf(new Map(Object.entries({ ...metadata, ...more })), { ...tensors, ...seen });

  test('a file becomes a ModelConfig; control tokens that end a turn are eos too', () => {
    expect(read({ 'tokenizer.ggml.eos_token_id': 0, 'tokenizer.ggml.tokens': ['<eos>', 'a', '<|im_end|>'] })).toMatchObject({
      family: 'llama',
      layers: 2,
      headDim: 16,
      kvHeads: 2,
      vocabSize: 100,
      tiedEmbeddings: true,
      slidingWindow: [0, 0],
      bosId: null,
      eosIds: [0, 2],
    });
  });

  test.each([
    [{ 'general.architecture': 'gemma3' }, /architecture "gemma3" is not supported; supported are llama, qwen2, qwen3/],
    [{ 'llama.expert_count': 8 }, /mixture-of-experts models \(8 experts\)/],
    [{ 'llama.rope.dimension_count': 8 }, /RoPE over 8 of 16/],
    [{ 'llama.rope.scaling.type': 'yarn' }, /"yarn" is not supported/],
    [{ 'llama.attention.value_length': 8 }, /keys of 16 and values of 8/],
  ])('what cannot run is refused by name: %#', (more, message) => {
    expect(() => read(more)).toThrow(expect.objectContaining({ code: 'model_unsupported', message: expect.stringMatching(message) }));
  });

  test.each([
    [{ 'llama.attention.head_count': 0 }, /llama\.attention\.head_count is 0, at least 1 is expected/],
    [{ 'llama.block_count': 0 }, /^GGUF metadata: block_count: .*got 0$/],
    [{ 'llama.rope.freq_base': 0.5 }, /rope\.freq_base: .*got 0\.5$/],
    [{ 'tokenizer.ggml.eos_token_id': 100 }, /tokenizer\.ggml\.eos_token_id: 100 is not in the vocabulary of 100/],
  ])('values that make no sense are refused with their name: %#', (more, message) => {
    expect(() => read(more)).toThrow(expect.objectContaining({ code: 'model_invalid', message: expect.stringMatching(message) }));
  });

  test('factors of rope_freqs.weight divide the frequencies', () => {
    const config = read({}, { ropeFactors: [1, 1, 2, 2, 4, 4, 8, 8] });
    const plain = invFreq(read({}));
    expect(Array.from(invFreq(config), (f, i) => plain[i] / f)).toEqual([1, 1, 2, 2, 4, 4, 8, 8]);
    expect(() => read({}, { ropeFactors: [1] })).toThrow(/attention\.key_length \/ 2 = 8 factors, got 1/);
  });
});

describe('invFreq', () => {
  test('plain: 1 / theta^(2i/d)', () => {
    expect(Array.from(invFreq({ headDim: 8, rope: { theta: 10000, scaling: { type: 'none' } } }))).toEqual([1, 0.1, 0.01, 0.001].map(Math.fround));
  });
  test('linear: divided by the factor', () => {
    expect(Array.from(invFreq({ headDim: 8, rope: { theta: 10000, scaling: { type: 'linear', factor: 2 } } }))).toEqual(
      [0.5, 0.05, 0.005, 0.0005].map(Math.fround),
    );
  });
  test('llama3: short waves stay, long ones are stretched, those between are blended', () => {
    // theta 10000, d 8: wavelengths 6.28, 62.8, 628, 6283. L 256, high 4, low 1: short below 64, long above 256. factor 8.
    const at = (original: number) =>
      Array.from(
        invFreq({
          headDim: 8,
          rope: { theta: 10000, scaling: { type: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalContextLength: original } },
        }),
      );
    expect(at(256)).toEqual([1, 0.1, 0.01 / 8, 0.001 / 8].map(Math.fround));
    // L 128: 62.8 lies between 32 and 128. m = (128/62.83 - 1)/3 = 0.34573; (1-m) 0.1/8 + m 0.1 = 0.0427514
    expect(at(128)[1]).toBeCloseTo(0.0427514, 6);
    const wavelength = (2 * Math.PI) / 0.1;
    const m = (128 / wavelength - 1) / 3;
    expect(at(128)[1] / (((1 - m) * 0.1) / 8 + m * 0.1)).toBeCloseTo(1, 6);
  });
});
