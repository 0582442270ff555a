/** manifest.json of a packed model. Everything a loader relies on is checked here, so that a hostile manifest cannot reach outside the arena. */
import * as z from 'zod';
import { firstIssue, invalidModel, modelConfigSchema } from '../model/config.ts';
import { tokenizerSettingsSchema } from '../tokenizer/settings.ts';
import { type ArenaTensor, alignUp, neededTensors } from './plan.ts';
import { weightBytes } from './repack.ts';
import { sha256Hex } from './sha256.ts';

/** The largest asset that Workers serves. */
export const maxShardBytes = 25 << 20;
export const defaultShardBytes = 16 << 20;
export const manifestFile = 'manifest.json';
export const tokenizerFile = 'tokenizer.json';
const maxTokenizerBytes = 64 << 20;

const maxArenaBytes = 2 ** 32 - 65536; // linear memory of 32 bits, less one page
const offset = z.number().int().min(0).max(maxArenaBytes);
const bytes = z.number().int().min(1).max(maxArenaBytes);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hex digits');

const manifestSchema = z.strictObject({
  format: z.literal('edgepress-model'),
  version: z.literal(1),
  /** A name for people; what /v1/models calls the model. */
  name: z.string().min(1).max(200),
  config: modelConfigSchema,
  /** Null: the model speaks token ids only. */
  tokenizer: z
    .strictObject({ file: z.literal(tokenizerFile), bytes: bytes.max(maxTokenizerBytes), sha256, settings: tokenizerSettingsSchema })
    .nullable(),
  arenaBytes: bytes,
  tensors: z.array(
    z.strictObject({
      name: z.string().max(100),
      type: z.enum(['f32', 'f16', 'bf16', 'q8', 'q4']),
      rows: z
        .number()
        .int()
        .min(1)
        .max(1 << 21),
      cols: z
        .number()
        .int()
        .min(1)
        .max(1 << 21),
      offset,
      bytes,
    }),
  ),
  /** Consecutive pieces of the arena. */
  shards: z
    .array(
      z.strictObject({
        file: z.string().regex(/^weights-\d{3,5}\.bin$/, 'must be weights-NNN.bin'),
        offset,
        bytes: bytes.max(maxShardBytes),
        sha256,
      }),
    )
    .max(4096),
  /** Matrices that were packed in fewer bits than the file held them in, for it was asked for: "embed: Q8_0 to q4". */
  requantised: z.array(z.string().min(1).max(200)).max(64).optional(),
  /** SHA-256 over config, tensors and the weights themselves; independent of the cut into shards. */
  fingerprint: sha256,
  /** SHA-256 over all the rest of this file, see manifestDigest: damage and edits are seen before a weight is read. */
  sha256: z.string('is missing: an earlier version packed this model; pack it again').pipe(sha256),
});

export type Manifest = z.infer<typeof manifestSchema>;

/** What a manifest's `sha256` must be: of its JSON without that field and with the keys of every object in order. */
export function manifestDigest({ sha256: _, ...rest }: Omit<Manifest, 'sha256'> & { readonly sha256?: string }): Promise<string> {
  const sorted = (_key: string, value: unknown): unknown =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value;
  return sha256Hex(new TextEncoder().encode(JSON.stringify(rest, sorted)));
}

export function parseManifest(json: unknown): Manifest {
  const bad = (what: string) => invalidModel(`${manifestFile}: ${what}`);
  const result = manifestSchema.safeParse(json);
  if (!result.success) throw bad(firstIssue(result.error));
  const manifest = result.data;

  const needed = neededTensors(manifest.config);
  if (manifest.tensors.length !== needed.length)
    throw bad(`${manifest.tensors.length} tensors, a ${manifest.config.family} model of this config has ${needed.length}`);
  let end = 0;
  needed.forEach((want, i) => {
    const tensor: ArenaTensor = manifest.tensors[i];
    if (tensor.name !== want.name) throw bad(`tensor ${i} is ${tensor.name}, ${want.name} is expected`);
    if (tensor.rows !== want.rows || tensor.cols !== want.cols)
      throw bad(`tensor ${want.name} has shape [${tensor.rows}, ${tensor.cols}], [${want.rows}, ${want.cols}] is expected`);
    if (want.kind === 'vector' && tensor.type !== 'f32') throw bad(`tensor ${want.name} has type ${tensor.type}, f32 is expected`);
    if ((tensor.type === 'q8' || tensor.type === 'q4') && tensor.cols % 32 !== 0)
      throw bad(`tensor ${want.name} has rows of ${tensor.cols}, ${tensor.type} needs a multiple of 32`);
    const size = weightBytes(tensor.type, tensor.rows, tensor.cols);
    if (tensor.bytes !== size) throw bad(`tensor ${want.name} has ${tensor.bytes} bytes, its type and shape need ${size}`);
    if (tensor.offset !== alignUp(end)) throw bad(`tensor ${want.name} lies at ${tensor.offset}, ${alignUp(end)} is expected`);
    end = tensor.offset + tensor.bytes;
  });
  if (manifest.arenaBytes !== alignUp(end)) throw bad(`arenaBytes is ${manifest.arenaBytes}, the tensors end at ${alignUp(end)}`);

  let covered = 0;
  const files = new Set<string>();
  for (const shard of manifest.shards) {
    if (shard.offset !== covered) throw bad(`shard ${shard.file} begins at ${shard.offset}, ${covered} is expected`);
    if (files.has(shard.file)) throw bad(`shard ${shard.file} appears twice`);
    files.add(shard.file);
    covered += shard.bytes;
  }
  if (covered !== manifest.arenaBytes) throw bad(`the shards hold ${covered} bytes, the arena has ${manifest.arenaBytes}`);
  return manifest;
}
