/** The library's door on Node and Deno: `import { loadModel } from "edgepress"`. */
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../presses/input-error.ts';
import { type ArtifactSource, BESIDE, GIVEN } from './engine/artifacts.ts';
import { type OpenOn, openChosen, supplyOf } from './engine/choose-backend.ts';
import type { EdgeEngine } from './engine/engine.ts';
import { type BackendName, type LoadSettings, loadEngine } from './engine/load.ts';
import type { EngineSupply } from './engine/supply.ts';
import { manifestFile } from './engine/weights/manifest.ts';
import { artifactsFolder, modelNameOf, openFolder, openModelPath, packedFolder } from './engine/weights/node-files.ts';
import { loadOpened, type OpenedModel } from './engine/weights/open-model.ts';
import { loadPacked, type OpenArena } from './engine/weights/packed.ts';
import { filesOfBytes } from './engine/weights/source.ts';
import { nodeHost } from './host-node.ts';
import { Model } from './library.ts';
import { embeddedModel } from './package-root.ts';
import './webassembly-types.ts';

export { openModelPath } from './engine/weights/node-files.ts';
export * from './library.ts';

export interface LoadOptions extends Omit<LoadSettings, 'backend'> {
  /** Where the model runs. "auto" loads it on both and keeps the faster one, "gpu-first" takes the GPU where there is one; default wasm. */
  readonly backend?: BackendName | 'auto' | 'gpu-first';
  /** Told what was chosen and why, and when a failed GPU was replaced. */
  readonly onNote?: (note: string) => void;
  /** Most bytes of weights, cache and activations. Default: on wasm 4 GiB less one page, on a GPU what its driver gives. */
  readonly memoryLimitBytes?: number;
  /** Quantises f32, f16 and bf16 matrices while loading; a packed model has made its choice. */
  readonly quantize?: 'q8' | 'q4' | null;
  /** The same of the embedding, and the head where it is a matrix of its own, whatever the file holds them as. */
  readonly embedding?: 'q8' | 'q4' | null;
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  /** A model that is open already; the path then only names it. */
  readonly model?: OpenedModel;
  /** Where artefacts of presses lie: a folder, or files by name. Default: artifacts/ in the model's folder, or beside the .gguf file. */
  readonly artifacts?: string | Readonly<Record<string, Uint8Array>>;
}

/** Loads a Hugging Face folder, a .gguf file or a packed model; without a path, the embedded one. InputError says why a model cannot be used. */
export async function loadModel(path?: string, options: LoadOptions = {}): Promise<Model> {
  return new Model(await openSupply(path ?? embeddedModel(), options));
}

/** An engine that is replaced when its GPU fails: by one on a fresh device, or on WASM. */
export function openSupply(path: string, options: LoadOptions = {}): Promise<EngineSupply> {
  return supplyOf(openerOf(path, options), { ...options, backend: options.backend ?? 'wasm' });
}

/** The engine without the library's conveniences: whole requests only. */
export function openEngine(path: string, options: LoadOptions = {}): Promise<EdgeEngine> {
  return openChosen(openerOf(path, options), { ...options, backend: options.backend ?? 'wasm' });
}

function openerOf(path: string, options: LoadOptions): OpenOn {
  return (backend, again) => openOn(backend, path, again ? { ...options, onProgress: undefined } : options);
}

async function openOn(backend: BackendName, path: string, options: LoadOptions): Promise<EdgeEngine> {
  const settings: LoadSettings = { ...options, backend };
  const host = await nodeHost(options.memoryLimitBytes);
  const progress = ({ doneBytes, totalBytes }: { doneBytes: number; totalBytes: number }) => options.onProgress?.(doneBytes, totalBytes);
  const packed = await access(join(path, manifestFile)).then(
    () => true,
    () => false,
  );
  if (packed) {
    if (options.quantize || options.embedding)
      throw new InputError(
        'quantize_useless',
        options.quantize ? 'quantize' : 'embedding',
        `${path} is packed: its matrices were quantised, or not, when that was done`,
      );
    return loadEngine(host, (arena) => loadPacked(packedFolder(path), arena, progress), settings, await artifactSource(path, options));
  }
  const model = options.model ?? (await openModelPath(path));
  try {
    const load = (arena: OpenArena) =>
      loadOpened(modelNameOf(path), model, { quantize: options.quantize, embedding: options.embedding }, arena, progress);
    return await loadEngine(host, load, settings, await artifactSource(path, options));
  } finally {
    await model.source.close();
  }
}

async function artifactSource(path: string, { artifacts }: LoadOptions): Promise<ArtifactSource> {
  if (artifacts === undefined) return { files: await artifactsFolder(path), where: BESIDE };
  return { files: typeof artifacts === 'string' ? openFolder(artifacts) : filesOfBytes(artifacts), where: GIVEN };
}
