/** Artefacts of presses: found by name in the model's folder, read when a request first names them, checked against the model, kept while there is room. */
import {
  ARTIFACTS_FOLDER,
  type Artifact,
  type ArtifactModel,
  type ArtifactNeed,
  type ArtifactOf,
  type ArtifactTensor,
  artifactError,
  isArtifactName,
  Misfit,
  missingArtifact,
  noArtifacts,
} from '../../presses/artifacts.ts';
import { chosenParts } from '../../presses/check-parts.ts';
import type { PressRequest } from '../../presses/contract.ts';
import { shownName } from '../../presses/did-you-mean.ts';
import { InputError } from '../../presses/input-error.ts';
import { partParam } from '../../presses/part-param.ts';
import { fromBf16, fromHalf } from '../backend/layout/half.ts';
import { formatBytes } from './bytes.ts';
import { readSafetensorsHeader } from './weights/safetensors.ts';
import { type ModelFiles, parseJson, type RangeReader, readTensor, readText, type SourceTensor } from './weights/source.ts';

/** Where artefacts come from. */
export interface ArtifactSource {
  readonly files: ModelFiles;
  /** For errors, which clients read too: no paths of a server. */
  readonly where: string;
}

export const BESIDE = `in the model's folder ${ARTIFACTS_FOLDER}/`;
export const GIVEN = 'among the artefacts that were given when the model was loaded';

/** All that one engine keeps of artefacts, as f32; KVzap's MLP for a model of 0.6 B parameters takes 56 MiB. */
export const MOST_ARTIFACT_BYTES = 256 * 2 ** 20;

interface Kept {
  readonly artifact: Promise<Artifact & { readonly bytes: number }>;
  bytes: number; // 0 until it is read
}

export class Artifacts {
  readonly #source: ArtifactSource | null;
  readonly #model: ArtifactModel;
  readonly #mostBytes: number;
  /** In order of use, the longest unused first. */
  readonly #kept = new Map<string, Kept>();
  /** What was found right: a file may be named by parts that take different ones. */
  readonly #checked = new WeakMap<Artifact, Set<ArtifactNeed>>();

  constructor(source: ArtifactSource | null, model: ArtifactModel, mostBytes = MOST_ARTIFACT_BYTES) {
    this.#source = source;
    this.#model = model;
    this.#mostBytes = mostBytes;
  }

  /** Bytes held, for whoever asks what memory the host's side takes. */
  get bytes(): number {
    return [...this.#kept.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Reads what the presses name. Throws InputError press_artifact. */
  async of(request: PressRequest): Promise<ArtifactOf> {
    const named = request.presses.flatMap((press) =>
      chosenParts(press).flatMap(({ kind, part, params }) => {
        const name = part.artifact && params[part.artifact.param];
        return typeof name === 'string' ? [{ name, need: part.artifact!, params, param: partParam(press, kind, part.artifact!.param) }] : [];
      }),
    );
    if (named.length === 0) return noArtifacts;
    const found = new Map<string, Artifact>();
    for (const { name, need, params, param } of named) {
      const artifact = found.get(name) ?? (await this.#open(name, need, param));
      this.#check(artifact, need, params, param);
      found.set(name, artifact);
    }
    return (name) => found.get(name) ?? noArtifacts(name);
  }

  close(): void {
    this.#kept.clear();
  }

  async #open(name: string, need: ArtifactNeed, param: string): Promise<Artifact> {
    const kept = this.#kept.get(name) ?? { artifact: this.#read(name, need, param), bytes: 0 };
    this.#kept.delete(name);
    this.#kept.set(name, kept); // the most recent is the last
    try {
      const artifact = await kept.artifact;
      kept.bytes = artifact.bytes;
      this.#makeRoom();
      return artifact;
    } catch (error) {
      if (this.#kept.get(name) === kept) this.#kept.delete(name); // the file may be there next time
      throw error;
    }
  }

  #makeRoom(): void {
    for (const [name, { bytes }] of this.#kept) {
      if (this.bytes <= this.#mostBytes) return;
      if (bytes > 0) this.#kept.delete(name);
    }
  }

  async #read(name: string, need: ArtifactNeed, param: string): Promise<Artifact & { bytes: number }> {
    if (!isArtifactName(name)) throw artifactError(param, `${param} must be the name of a file, got ${JSON.stringify(name.slice(0, 60))}`); // no path, whoever asks
    const file = await this.#source?.files.open(name);
    if (!file)
      throw artifactError(param, missingArtifact(name, need, this.#source?.where ?? `here: this model came without a folder ${ARTIFACTS_FOLDER}/`));
    try {
      return need.format === 'json' ? await this.#json(file, param) : await this.#tensors(file, param);
    } catch (error) {
      // A file that is no safetensors or JSON file says so in the words of the model's files; here it is an artefact.
      throw error instanceof InputError && error.code === 'model_invalid' ? artifactError(param, error.message) : error;
    } finally {
      await file.close?.();
    }
  }

  async #json(file: RangeReader, param: string): Promise<Artifact & { bytes: number }> {
    this.#checkSize(file, 4 * file.size, param); // a number of a few digits is eight bytes
    return { name: file.name, tensors: new Map(), json: parseJson(file.name, await readText(file, this.#mostBytes)), bytes: 4 * file.size };
  }

  async #tensors(file: RangeReader, param: string): Promise<Artifact & { bytes: number }> {
    this.#checkSize(file, file.size, param);
    const found = await readSafetensorsHeader(file);
    const bytes = found.reduce((sum, { shape }) => sum + 4 * shape.reduce((product, size) => product * size, 1), 0);
    this.#checkSize(file, bytes, param);
    const tensors = new Map<string, ArtifactTensor>();
    for (const tensor of found) {
      const values = await asF32(tensor);
      if (values === null)
        throw artifactError(param, `${file.name}: tensor ${shownName(tensor.name)} has type ${tensor.type}; F32, F16, BF16 or F64 would work`);
      const odd = values.findIndex((value) => !Number.isFinite(value));
      if (odd >= 0)
        throw artifactError(param, `${file.name}: tensor ${shownName(tensor.name)} holds ${values[odd]} at ${odd}; finite numbers would work`);
      tensors.set(tensor.name, { shape: tensor.shape, values });
    }
    return { name: file.name, tensors, json: undefined, bytes };
  }

  #checkSize({ name }: RangeReader, bytes: number, param: string): void {
    if (bytes <= this.#mostBytes) return;
    throw artifactError(param, `${name} takes ${formatBytes(bytes)} as f32, and at most ${formatBytes(this.#mostBytes)} of artefacts are held here`);
  }

  #check(artifact: Artifact, need: ArtifactNeed, params: Record<string, unknown>, param: string): void {
    const right = this.#checked.get(artifact) ?? new Set();
    try {
      if (!right.has(need)) need.check(artifact, this.#model);
      need.suits?.(artifact, params);
    } catch (error) {
      if (!(error instanceof Misfit)) throw error;
      throw artifactError(param, `${artifact.name}: ${error.message}; it would hold ${need.what}: ${need.layout}`);
    }
    this.#checked.set(artifact, right.add(need));
  }
}

async function asF32(tensor: SourceTensor): Promise<Float32Array | null> {
  const read = async () => (await readTensor(tensor, 0, tensor.bytes)).buffer;
  switch (tensor.type) {
    case 'F32':
      return new Float32Array(await read());
    case 'F64':
      return Float32Array.from(new Float64Array(await read()));
    case 'F16':
      return Float32Array.from(new Uint16Array(await read()), fromHalf);
    case 'BF16':
      return Float32Array.from(new Uint16Array(await read()), fromBf16);
    default:
      return null;
  }
}
