/** Opens a model where it lies, a Hugging Face folder or a GGUF file, and brings it into an arena without packing it first. */

import { invalidModel, type ModelConfig } from '../model/config.ts';
import { ggufNames } from '../model/families.ts';
import { configFromGguf } from '../model/from-gguf.ts';
import { configFromHuggingFace } from '../model/from-huggingface.ts';
import { tokenizerFromGguf } from '../tokenizer/gguf.ts';
import { tokenizerFromFolder } from '../tokenizer/huggingface.ts';
import type { TokenizerData } from '../tokenizer/settings.ts';
import { checkVocabularyFits } from '../tokenizer/tokenizer-json.ts';
import { fingerprint, PieceHasher } from './fingerprint.ts';
import { openGguf } from './gguf.ts';
import type { LoadedModel, OpenArena } from './packed.ts';
import { type PlanOptions, planWeights, requantisedOf } from './plan.ts';
import { openSafetensors } from './safetensors.ts';
import { type ModelFiles, type RangeReader, readJson, readTensor, type WeightSource } from './source.ts';
import { type LoadProgress, writeWeights } from './write.ts';

export interface OpenedModel {
  readonly config: ModelConfig;
  readonly source: WeightSource;
  /** Null: the folder or file has none. */
  readonly tokenizer: TokenizerData | null;
}

const maxConfigBytes = 4 << 20;

export async function openHuggingFaceModel(files: ModelFiles): Promise<OpenedModel> {
  const json = await readJson(files, 'config.json', maxConfigBytes);
  if (json === null) throw invalidModel('config.json is missing');
  const config = configFromHuggingFace(json, await readJson(files, 'generation_config.json', maxConfigBytes));
  const tokenizer = await tokenizerFromFolder(files);
  if (tokenizer) checkVocabularyFits(tokenizer.json, config.vocabSize);
  return { config: withEos(config, tokenizer), source: await openSafetensors(files), tokenizer };
}

export async function openGgufModel(file: RangeReader): Promise<OpenedModel> {
  const { metadata, source } = await openGguf(file);
  const embed = source.tensors.get(ggufNames.embed);
  if (embed?.shape.length !== 2)
    throw invalidModel(
      `${file.name}: tensor ${ggufNames.embed} ${embed ? `has shape [${embed.shape.join(', ')}], a matrix is expected` : 'is missing'}`,
    );
  const factors = source.tensors.get('rope_freqs.weight');
  if (factors && factors.type !== 'F32') throw invalidModel(`${file.name}: tensor rope_freqs.weight has type ${factors.type}, F32 is expected`);
  if (factors && factors.bytes > 4096)
    throw invalidModel(`${file.name}: tensor rope_freqs.weight has ${factors.bytes} bytes, headDim / 2 floats are expected`);
  const config = configFromGguf(metadata, {
    vocabSize: embed.shape[0],
    hasHead: source.tensors.has(ggufNames.head),
    ropeFactors: factors ? [...new Float32Array((await readTensor(factors, 0, factors.bytes)).buffer)] : null,
  });
  const tokenizer = tokenizerFromGguf(metadata);
  if (tokenizer) checkVocabularyFits(tokenizer.json, config.vocabSize);
  return { config, source, tokenizer };
}

/** tokenizer_config.json's eos_token ends a turn too; some config.json files only name the end of a document. */
function withEos(config: ModelConfig, tokenizer: TokenizerData | null): ModelConfig {
  const eos = tokenizer?.settings.specialTokens.eos_token;
  if (eos === undefined) return config;
  const json = tokenizer?.json as { added_tokens?: { id: number; content: string }[] } | null;
  const id = Array.isArray(json?.added_tokens) ? json.added_tokens.find(({ content }) => content === eos)?.id : undefined;
  return id === undefined || config.eosIds.includes(id) ? config : { ...config, eosIds: [...config.eosIds, id] };
}

/** Plans, asks for the arena once, and streams the weights into it. */
export async function loadOpened(
  name: string,
  model: OpenedModel,
  options: PlanOptions,
  arena: OpenArena,
  onProgress?: (progress: LoadProgress) => void,
): Promise<LoadedModel> {
  const plan = planWeights(model.config, model.source, options);
  const layout = { tensors: plan.tensors.map(({ source: _, interleavedHead: __, ...tensor }) => tensor), bytes: plan.bytes };
  const memory = arena({ name, config: model.config, layout });
  const hasher = new PieceHasher();
  const write = async (offset: number, bytes: Uint8Array): Promise<void> => {
    await hasher.take(bytes);
    await memory.write(offset, bytes);
  };
  await writeWeights(plan, { write }, onProgress);
  const print = await fingerprint(model.config, layout, await hasher.digests());
  const requantised = requantisedOf(plan);
  return {
    name,
    config: model.config,
    layout,
    tokenizer: model.tokenizer,
    fingerprint: print,
    ...(requantised.length > 0 && { requantised }),
  };
}
