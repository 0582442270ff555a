/**
 * Trained or calibrated data that some parts read: a safetensors or JSON file in the model's folder artifacts/, named in the press config.
 * Layouts, and where files come from: presses/artifacts.md.
 */
import * as z from 'zod';
import { shownName } from './did-you-mean.ts';
import { InputError } from './input-error.ts';

/** A tensor as f32, whatever the file has. */
export interface ArtifactTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

export interface Artifact {
  readonly name: string;
  /** Of a safetensors file; empty of a JSON file. */
  readonly tensors: ReadonlyMap<string, ArtifactTensor>;
  /** Of a JSON file; else undefined. */
  readonly json: unknown;
}

/** What a request's presses name, by file name: read, and checked to be what the part takes and to fit the model. */
export type ArtifactOf = (name: string) => Artifact;

/** The model that an artefact must fit. */
export interface ArtifactModel {
  readonly layers: number; // L
  readonly queryHeads: number; // Hq
  readonly kvHeads: number; // H
  readonly headDim: number; // d
  readonly hiddenSize: number; // D
  readonly intermediateSize: number; // I
}

/** What a part says of the artefact that it reads. */
export interface ArtifactNeed {
  /** The parameter that names the file; null there = none is wanted. */
  readonly param: string;
  readonly format: 'safetensors' | 'json';
  /** "Q-filters, one vector per layer and KV head" */
  readonly what: string;
  /** "tensor filters [L, H, d]" */
  readonly layout: string;
  /** How to get or make one. */
  readonly source: string;
  /** Throws `misfit` where it is not what the part takes, or not for this model. */
  check(artifact: Artifact, model: ArtifactModel): void;
  /** Throws `Misfit` where it does not go with the part's other parameters. */
  suits?(artifact: Artifact, params: Record<string, unknown>): void;
}

export const ARTIFACTS_FOLDER = 'artifacts';

/** Names only, never paths: requests choose them. */
const NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$/;

/** Whether a request may name such a file. */
export function isArtifactName(name: string): boolean {
  return NAME.test(name) && /\.(safetensors|json)$/.test(name);
}

/** The parameter's schema, which says of a missing or wrong name what would be right. */
export function artifactName({ format, what, layout, source }: Omit<ArtifactNeed, 'check' | 'param'>) {
  const absent = `must name a .${format} file in the model's folder ${ARTIFACTS_FOLDER}/: ${what}; ${source}${LAYOUTS}`;
  const named = `must name a .${format} file of letters, digits, ".", "_" and "-" in the model's folder ${ARTIFACTS_FOLDER}/`;
  const isName = (name: string): boolean => NAME.test(name) && name.endsWith(`.${format}`);
  return z
    .string({ error: ({ input }) => (input === undefined ? absent : named) })
    .refine(isName, { error: named })
    .describe(`a .${format} file in the model's folder ${ARTIFACTS_FOLDER}/: ${what}, ${layout}`);
}

export function missingArtifact(name: string, { what, source }: ArtifactNeed, where: string): string {
  return `there is no ${name} ${where}; it would hold ${what}; ${source}${LAYOUTS}`;
}

const LAYOUTS = '; layout: presses/artifacts.md, /v1/presses';

/** An artefact that does not fit: the message follows its name. Whoever loads it knows the field. */
export class Misfit extends Error {}

/** A tensor, under one of its names, of the shape that the model wants. Throws Misfit with what is expected and what is there. */
export function anyTensor({ tensors }: Artifact, names: readonly string[], shape: readonly number[]): Float32Array {
  const name = names.find((one) => tensors.has(one));
  if (name === undefined) {
    const there = [...tensors.keys()];
    const seen =
      there.length === 0
        ? 'none'
        : there
            .slice(0, 4)
            .map((name) => shownName(name))
            .join(', ') + (there.length > 4 ? `, ... ${there.length} in all` : '');
    throw new Misfit(`tensor ${names[0]} [${shape.join(', ')}] is expected, its tensors are ${seen}`);
  }
  const found = tensors.get(name)!;
  if (found.shape.length !== shape.length || found.shape.some((size, i) => size !== shape[i]))
    throw new Misfit(`tensor ${name} is expected to have shape [${shape.join(', ')}] for this model, got [${found.shape.join(', ')}]`);
  return found.values;
}

export function tensorOf(artifact: Artifact, name: string, shape: readonly number[]): Float32Array {
  return anyTensor(artifact, [name], shape);
}

/** One row of a tensor of rows: values [from, from + length). */
export function slice({ tensors }: Artifact, tensor: string, index: number, length: number): Float32Array {
  return tensors.get(tensor)!.values.subarray(index * length, (index + 1) * length);
}

/** Of parts that were given no artefacts: only presses without any were checked. */
export const noArtifacts: ArtifactOf = (name) => {
  throw new Error(`artefact ${name} was not loaded`);
};

export function artifactError(param: string, message: string): InputError {
  return new InputError('press_artifact', param, message);
}
