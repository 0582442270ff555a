/** Packs a model for assets: weights in the kernels' layouts, cut into shards below the asset limit, and a manifest over them. */
import { createHash, type Hash } from 'node:crypto';
import { copyFile, type FileHandle, mkdir, open, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { ARTIFACTS_FOLDER, isArtifactName } from '../presses/artifacts.ts';
import { InputError } from '../presses/input-error.ts';
import { formatBytes } from '../worker/engine/bytes.ts';
import { fingerprint, fingerprintPiece } from '../worker/engine/weights/fingerprint.ts';
import {
  defaultShardBytes,
  type Manifest,
  manifestDigest,
  manifestFile,
  maxShardBytes,
  parseManifest,
  tokenizerFile,
} from '../worker/engine/weights/manifest.ts';
import { modelNameOf, openModelPath } from '../worker/engine/weights/node-files.ts';
import { matrices, planWeights, quantizedMatrices, requantisedOf } from '../worker/engine/weights/plan.ts';
import { type LoadProgress, type WeightSink, writeWeights } from '../worker/engine/weights/write.ts';

export interface PackOptions {
  readonly quantize?: 'q8' | 'q4' | null;
  /** Of the embedding, whatever the file holds it as. */
  readonly embedding?: 'q8' | 'q4' | null;
  /** At most 25 MiB, the asset limit; default 16 MiB. */
  readonly shardBytes?: number;
  /** Default: the folder's or file's name. */
  readonly name?: string;
  /** Told what is not quite as was asked. */
  readonly onNote?: (note: string) => void;
}

/**
 * Writes the packed model to `outDir`. New files are written under other names first and moved over old ones at the end, the
 * manifest last: a run that fails leaves what was there. Only a chunk of weights is in memory at a time.
 */
export async function packModel(
  source: string,
  outDir: string,
  options: PackOptions = {},
  onProgress?: (progress: LoadProgress) => void,
): Promise<Manifest> {
  const shardBytes = options.shardBytes ?? defaultShardBytes;
  if (!Number.isInteger(shardBytes) || shardBytes < 64 || shardBytes > maxShardBytes) {
    throw new InputError('pack_shard_bytes', 'shardBytes', `a shard must have between 64 bytes and 25 MiB, the asset limit; got ${shardBytes} bytes`);
  }
  const model = await openModelPath(source);
  try {
    const plan = planWeights(model.config, model.source, { quantize: options.quantize, embedding: options.embedding });
    const requantised = requantisedOf(plan);
    const [quantized, all] = [quantizedMatrices(plan), matrices(plan).length];
    if (options.quantize && quantized < all)
      options.onNote?.(`${quantized} of ${all} matrices quantised to ${options.quantize}; the others stay as the file has them`);
    await makeFolder(outDir, source);
    const shards = new ShardWriter(outDir, shardBytes);
    const written: string[] = [];
    try {
      await writeWeights(plan, shards, onProgress);
      await shards.end();
      const tokenizerBytes = model.tokenizer && new TextEncoder().encode(JSON.stringify(model.tokenizer.json));
      const tensors = plan.tensors.map(({ name, type, rows, cols, offset, bytes }) => ({ name, type, rows, cols, offset, bytes }));
      const content: Omit<Manifest, 'sha256'> = {
        format: 'edgepress-model',
        version: 1,
        name: options.name ?? modelNameOf(source),
        config: model.config,
        tokenizer: tokenizerBytes && {
          file: tokenizerFile,
          bytes: tokenizerBytes.length,
          sha256: createHash('sha256').update(tokenizerBytes).digest('hex'),
          settings: model.tokenizer!.settings,
        },
        arenaBytes: plan.bytes,
        tensors,
        shards: shards.shards,
        ...(requantised.length > 0 && { requantised }),
        fingerprint: await fingerprint(model.config, { tensors, bytes: plan.bytes }, shards.pieces),
      };
      // A manifest that our own loader would refuse is never written.
      const manifest = parseManifest({ ...content, sha256: await manifestDigest(content) });
      if (tokenizerBytes) await writeFile(join(outDir, temporary(tokenizerFile)), tokenizerBytes);
      await writeFile(join(outDir, temporary(manifestFile)), `${JSON.stringify(manifest, null, 1)}\n`);
      // From here on only renames: the old manifest goes first, so that it never stands over new shards.
      await rm(join(outDir, manifestFile), { force: true });
      written.push(...shards.shards.map(({ file }) => file), ...(tokenizerBytes ? [tokenizerFile] : []), manifestFile);
      for (const file of written) await rename(join(outDir, temporary(file)), join(outDir, file));
      await copyArtifacts(source, outDir, options.onNote);
      return manifest;
    } finally {
      await shards.close();
      const left = await readdir(outDir);
      const old = written.length > 0 ? left.filter((file) => /^weights-\d+\.bin$/.test(file) && !written.includes(file)) : [];
      for (const file of [...left.filter(isTemporary), ...old]) await rm(join(outDir, file), { force: true });
    }
  } finally {
    await model.source.close();
  }
}

/** The artefacts of presses come along: whole, for they are small. */
async function copyArtifacts(source: string, outDir: string, onNote?: (note: string) => void): Promise<void> {
  const folder = join((await stat(source)).isFile() ? dirname(source) : source, ARTIFACTS_FOLDER);
  const names = (await readdir(folder).catch(() => [])).filter(isArtifactName);
  for (const name of names) {
    const found = await stat(join(folder, name));
    const { size } = found;
    if (!found.isFile()) continue;
    if (size > maxShardBytes)
      onNote?.(`${ARTIFACTS_FOLDER}/${name} has ${formatBytes(size)}, and Workers serve at most 25 MiB a file: it is left out`);
    else {
      await mkdir(join(outDir, ARTIFACTS_FOLDER), { recursive: true });
      const target = join(outDir, ARTIFACTS_FOLDER, name);
      await copyFile(join(folder, name), `${target}.packing`);
      await rename(`${target}.packing`, target);
    }
  }
}

async function makeFolder(outDir: string, source: string): Promise<void> {
  // The source's tokenizer.json would be written over.
  if (resolve(outDir) === resolve(source)) throw new InputError('pack_out', 'out', `${outDir} is the model itself; give another folder to write to`);
  // Level by level: where a file system takes no new folders (/proc), a recursive mkdir tries for ever.
  const missing: string[] = [];
  const kind = (path: string) => stat(path).catch((error: NodeJS.ErrnoException) => error);
  for (let at = resolve(outDir); ; at = dirname(at)) {
    const found = await kind(at);
    if (!(found instanceof Error)) {
      if (!found.isDirectory()) throw new InputError('pack_out', 'out', `${outDir} is, or lies in, a file; give a folder to write to`);
      break;
    }
    if (found.code !== 'ENOENT' && found.code !== 'ENOTDIR') throw new InputError('pack_out', 'out', `${outDir} cannot be used: ${found.message}`);
    missing.unshift(at);
    if (dirname(at) === at) break;
  }
  for (const folder of missing) {
    await mkdir(folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST')
        throw new InputError('pack_out', 'out', `${outDir} cannot be made: ${error.message}; give a folder that can be written to`);
    });
  }
}

const temporary = (file: string) => `.packing-${file}`;
const isTemporary = (file: string) => file.startsWith('.packing-');

/** Cuts the arena's bytes into files, hashing them on the way. */
class ShardWriter implements WeightSink {
  readonly shards: { file: string; offset: number; bytes: number; sha256: string }[] = [];
  /** SHA-256 of every `fingerprintPiece` bytes. */
  readonly pieces: string[] = [];
  readonly #folder: string;
  readonly #shardBytes: number;
  #handle: FileHandle | null = null;
  #shardHash: Hash = createHash('sha256');
  #pieceHash: Hash = createHash('sha256');
  #inShard = 0;
  #total = 0;

  constructor(folder: string, shardBytes: number) {
    this.#folder = folder;
    this.#shardBytes = shardBytes;
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    if (offset !== this.#total) throw new Error(`weights out of order: ${offset} after ${this.#total}`);
    for (let at = 0; at < bytes.length; ) {
      this.#handle ??= await open(join(this.#folder, temporary(this.#name())), 'w');
      const room = Math.min(this.#shardBytes - this.#inShard, fingerprintPiece - (this.#total % fingerprintPiece));
      const part = bytes.subarray(at, at + room);
      for (let done = 0; done < part.length; ) done += (await this.#handle.write(part, done)).bytesWritten;
      this.#shardHash.update(part);
      this.#pieceHash.update(part);
      at += part.length;
      this.#inShard += part.length;
      this.#total += part.length;
      if (this.#total % fingerprintPiece === 0) this.#endPiece();
      if (this.#inShard === this.#shardBytes) await this.#endShard();
    }
  }

  async end(): Promise<void> {
    if (this.#total % fingerprintPiece !== 0) this.#endPiece();
    if (this.#inShard > 0) await this.#endShard();
  }

  async close(): Promise<void> {
    await this.#handle?.close();
    this.#handle = null;
  }

  #name(): string {
    return `weights-${String(this.shards.length).padStart(3, '0')}.bin`;
  }

  #endPiece(): void {
    this.pieces.push(this.#pieceHash.digest('hex'));
    this.#pieceHash = createHash('sha256');
  }

  async #endShard(): Promise<void> {
    this.shards.push({ file: this.#name(), offset: this.#total - this.#inShard, bytes: this.#inShard, sha256: this.#shardHash.digest('hex') });
    this.#shardHash = createHash('sha256');
    this.#inShard = 0;
    await this.close();
  }
}
