/** The library's door in browsers: `import { loadModel } from "edgepress"` in a page or a Web Worker. */
import * as z from 'zod';
import { ARTIFACTS_FOLDER } from '../presses/artifacts.ts';
import { InputError } from '../presses/input-error.ts';
import { type ArtifactSource, BESIDE, GIVEN } from './engine/artifacts.ts';
import { supplyOf } from './engine/choose-backend.ts';
import type { EdgeEngine } from './engine/engine.ts';
import { type BackendName, type LoadSettings, loadEngine } from './engine/load.ts';
import type { EngineSupply } from './engine/supply.ts';
import { loadOpened, openGgufModel } from './engine/weights/open-model.ts';
import { type LoadedModel, loadPacked, type OpenArena } from './engine/weights/packed.ts';
import { filesOfBytes, type RangeReader, readerOfBlob } from './engine/weights/source.ts';
import { fileName, openUrl, packedUrl, type WebOptions, webFolder } from './engine/weights/web-files.ts';
import type { LoadProgress } from './engine/weights/write.ts';
import { browserHost } from './host-browser.ts';
import { Model } from './library.ts';

export * from './library.ts';

// zod compiles its checks where it may: a page whose Content-Security-Policy forbids that would see a violation in its log.
z.config({ jitless: true });

export interface LoadOptions extends Omit<LoadSettings, 'backend'>, WebOptions {
  /** Where the model runs. Default: webgpu where the browser has an adapter, else wasm. "auto" loads it on both and keeps the faster one. */
  readonly backend?: BackendName | 'auto';
  /** Told what was chosen and why, and when a failed GPU was replaced. */
  readonly onNote?: (note: string) => void;
  /** Most bytes of weights, cache and activations. Default: on wasm 4 GiB less one page, on a GPU what its driver gives. */
  readonly memoryLimitBytes?: number;
  /** Quantises f32, f16 and bf16 matrices of a .gguf file while loading; a packed model has made its choice. */
  readonly quantize?: 'q8' | 'q4' | null;
  /** Called as bytes come in. With "auto" they come twice, the second time from the browser's cache. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  /** Where artefacts of presses lie: a folder's address, or files by name. Default: artifacts/ in the model's folder, or beside the .gguf file. */
  readonly artifacts?: string | URL | Readonly<Record<string, Uint8Array>>;
}

/** The address of a packed model's folder or of a .gguf file, relative to the page; or such a file, as an <input> gives it. */
export type ModelSource = string | URL | Blob;

/** Without a source: the embedded model, which lies in model/ beside this file. InputError says why a model cannot be used. */
export async function loadModel(source?: ModelSource, options: LoadOptions = {}): Promise<Model> {
  return new Model(await openSupply(source ?? beside('model/'), options));
}

/** An engine that is replaced when its GPU fails. */
export async function openSupply(source: ModelSource, { backend, onNote, ...options }: LoadOptions = {}): Promise<EngineSupply> {
  if (backend !== undefined && !['webgpu', 'wasm', 'auto'].includes(backend))
    throw new InputError('invalid_value', 'backend', `backend must be "webgpu", "wasm" or "auto", got ${JSON.stringify(backend)}`);
  const { onProgress: _, signal: __, ...again } = options; // they are for the first load
  const openAgain = { ...again, onNote };
  return supplyOf((name, later) => openOn(name, source, later ? openAgain : { ...options, onNote }), { backend: backend ?? 'gpu-first', onNote });
}

async function openOn(backend: BackendName, source: ModelSource, options: LoadOptions): Promise<EdgeEngine> {
  if (!globalThis.crypto?.subtle)
    throw new InputError('insecure_context', null, 'weights are checked by SHA-256, which browsers have on https and on http://localhost only');
  const load = loaderOf(source, options);
  return loadEngine(await browserHost(options), load, { ...options, backend }, artifactSource(source, options));
}

/** A file that came from the disk has nothing beside it. */
function artifactSource(source: ModelSource, { artifacts, signal: _, ...options }: LoadOptions): ArtifactSource | null {
  if (artifacts !== undefined && !(typeof artifacts === 'string' || artifacts instanceof URL))
    return { files: filesOfBytes(artifacts), where: GIVEN };
  if (artifacts !== undefined) return { files: webFolder(addressOf(artifacts), options), where: GIVEN };
  if (source instanceof Blob) return null;
  const model = addressOf(source);
  if (!isGguf(model.pathname) && !model.pathname.endsWith('/')) model.pathname += '/';
  return { files: webFolder(new URL(`${ARTIFACTS_FOLDER}/`, model), options), where: BESIDE };
}

type Load = (arena: OpenArena) => Promise<LoadedModel>;

function loaderOf(source: ModelSource, options: LoadOptions): Load {
  if (source instanceof Blob) {
    const name = source instanceof File ? source.name : 'model.gguf';
    return ggufLoader(name, async () => readerOfBlob(name, source), options);
  }
  const url = addressOf(source);
  if (isGguf(url.pathname)) return ggufLoader(fileName(url), () => openUrl(url, options, options.onNote), options);
  if (options.quantize)
    throw new InputError('quantize_useless', 'quantize', `${url} is packed: its matrices were quantised, or not, when that was done`);
  return packedLoader(url, options);
}

const addressOf = (address: string | URL): URL => new URL(address, globalThis.document?.baseURI ?? globalThis.location.href);
const isGguf = (path: string): boolean => /\.gguf$/i.test(path);

function ggufLoader(name: string, open: () => Promise<RangeReader>, { quantize = null, onProgress }: LoadOptions): Load {
  return async (arena) => {
    const model = await openGgufModel(await open());
    const progress = ({ doneBytes, totalBytes }: LoadProgress) => onProgress?.(doneBytes, totalBytes);
    return loadOpened(name.replace(/\.gguf$/i, ''), model, { quantize }, arena, progress);
  };
}

/** Tells of every piece that comes in, where the loader itself tells of whole shards. */
function packedLoader(url: URL, options: LoadOptions): Load {
  return (arena) => {
    let [done, total] = [0, 0];
    const tell = (bytes: number) => {
      if (total > 0 && bytes > done) options.onProgress?.((done = bytes), total); // before the total is known it is the manifest
    };
    const fetchAsset = packedUrl(url, options, (bytes) => tell(Math.min(done + bytes, total)));
    const open: OpenArena = (model) => {
      const memory = arena(model);
      total = model.layout.bytes;
      return memory;
    };
    return loadPacked(fetchAsset, open, ({ doneBytes }) => tell(doneBytes));
  };
}

const beside = (path: string): URL => new URL(path, import.meta.url);
