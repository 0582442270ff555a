/** Loads a packed model: every shard is streamed straight into the arena, measured on the way, and checked by its SHA-256 where it lies. */
import { invalidModel, type ModelConfig } from '../model/config.ts';
import type { TokenizerData } from '../tokenizer/settings.ts';
import { checkVocabularyFits } from '../tokenizer/tokenizer-json.ts';
import { type Manifest, manifestDigest, manifestFile, parseManifest } from './manifest.ts';
import type { ArenaLayout } from './plan.ts';
import { sha256Hex } from './sha256.ts';
import { parseJson } from './source.ts';
import type { LoadProgress } from './write.ts';

const maxManifestBytes = 16 << 20;

/** One file of the packed model, from assets, object storage, a disk. */
export type FetchAsset = (name: string) => Promise<Response | ReadableStream<Uint8Array>>;

/** Where the weights go. Offsets count from the arena's first byte, and come ascending, without gaps. */
export interface Arena {
  /** It is done with `bytes` when it returns, or resolves. Where there is a `view` it returns at once. */
  write(offset: number, bytes: Uint8Array): void | Promise<void>;
  /** The bytes in place, if the memory can be seen (WASM). Without it a shard is held beside the arena until it is checked (GPU). */
  view?(offset: number, bytes: number): Uint8Array<ArrayBuffer>;
}

/** Called once, before any weight is read, with the model that the weights make and how they lie; it may throw when they do not fit. */
export type OpenArena = (model: { readonly name: string; readonly config: ModelConfig; readonly layout: ArenaLayout }) => Arena;

/** A model whose weights lie in an arena: tensor t begins at the arena's start + t.offset. */
export interface LoadedModel {
  readonly name: string;
  readonly config: ModelConfig;
  readonly layout: ArenaLayout;
  /** Null: the model came without one and speaks token ids only. */
  readonly tokenizer: TokenizerData | null;
  readonly fingerprint: string;
  /** As the manifest tells it; absent: the weights are the file's. */
  readonly requantised?: readonly string[];
}

async function readManifest(fetchAsset: FetchAsset): Promise<Manifest> {
  const bytes = await readSmall(fetchAsset, manifestFile, maxManifestBytes);
  const manifest = parseManifest(parseJson(manifestFile, new TextDecoder().decode(bytes)));
  const seen = await manifestDigest(manifest);
  if (seen !== manifest.sha256)
    throw invalidModel(
      `${manifestFile} is damaged or was edited: its SHA-256 is ${seen}, its field sha256 says ${manifest.sha256}; pack the model again`,
    );
  return manifest;
}

export async function loadPacked(fetchAsset: FetchAsset, arena: OpenArena, onProgress?: (progress: LoadProgress) => void): Promise<LoadedModel> {
  const manifest = await readManifest(fetchAsset);
  const tokenizer = manifest.tokenizer && (await loadTokenizer(fetchAsset, manifest.tokenizer));
  if (tokenizer) checkVocabularyFits(tokenizer.json, manifest.config.vocabSize);
  const layout = { tensors: manifest.tensors, bytes: manifest.arenaBytes };
  const memory = arena({ name: manifest.name, config: manifest.config, layout });
  for (const shard of manifest.shards) {
    await loadShard(fetchAsset, memory, shard);
    onProgress?.({ doneBytes: shard.offset + shard.bytes, totalBytes: manifest.arenaBytes, item: shard.file });
  }
  return {
    name: manifest.name,
    config: manifest.config,
    layout,
    tokenizer,
    fingerprint: manifest.fingerprint,
    requantised: manifest.requantised,
  };
}

async function loadTokenizer(fetchAsset: FetchAsset, { file, bytes, sha256, settings }: NonNullable<Manifest['tokenizer']>): Promise<TokenizerData> {
  const content = await readSmall(fetchAsset, file, bytes);
  if (content.length !== bytes) throw invalidModel(`${file} is truncated: ${content.length} of ${bytes} bytes`);
  await checkDigest(file, content, sha256);
  return { json: parseJson(file, new TextDecoder().decode(content)), settings };
}

async function loadShard(fetchAsset: FetchAsset, memory: Arena, shard: Manifest['shards'][number]): Promise<void> {
  const held = memory.view ? null : new Uint8Array(shard.bytes);
  const received = await stream(fetchAsset, shard.file, shard.bytes, (at, chunk) => {
    if (held) held.set(chunk, at);
    else memory.write(shard.offset + at, chunk);
  });
  if (received !== shard.bytes) throw invalidModel(`shard ${shard.file} is truncated: ${received} of ${shard.bytes} bytes`);
  await checkDigest(`shard ${shard.file}`, held ?? memory.view!(shard.offset, shard.bytes), shard.sha256);
  if (held) await memory.write(shard.offset, held);
}

/** Hands the file on in chunks and returns its length. Stops reading at the first byte past `limit`. */
async function stream(fetchAsset: FetchAsset, name: string, limit: number, take: (at: number, chunk: Uint8Array) => void): Promise<number> {
  const answer = await fetchAsset(name);
  if (answer instanceof Response && !answer.ok) {
    await answer.body?.cancel();
    throw invalidModel(`${name} cannot be read: status ${answer.status}`);
  }
  const body = answer instanceof Response ? answer.body : answer;
  if (!body) return 0;
  const reader = body.getReader();
  let received = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return received;
      if (received + value.length > limit) throw invalidModel(`${name} is too long: more than ${limit} bytes`);
      take(received, value);
      received += value.length;
    }
  } catch (error) {
    await reader.cancel().catch(() => {});
    throw error;
  }
}

async function readSmall(fetchAsset: FetchAsset, name: string, limit: number): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  const length = await stream(fetchAsset, name, limit, (_, chunk) => chunks.push(chunk));
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

async function checkDigest(what: string, bytes: Uint8Array<ArrayBuffer>, expected: string): Promise<void> {
  const seen = await sha256Hex(bytes);
  if (seen !== expected) throw invalidModel(`${what} is damaged: SHA-256 ${seen}, ${expected} is expected`);
}
