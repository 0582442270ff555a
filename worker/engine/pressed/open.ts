/** Opens a *.pressed.safetensors file and checks all of it that can be without a model. Nothing here trusts what a file says of itself. */
import type * as z from 'zod';
import { parsePress } from '../../../presses/config.ts';
import type { PressRequest } from '../../../presses/contract.ts';
import { shownName } from '../../../presses/did-you-mean.ts';
import { InputError } from '../../../presses/input-error.ts';
import { firstIssue } from '../model/config.ts';
import { PieceHasher } from '../weights/fingerprint.ts';
import { openSafetensorsFile } from '../weights/safetensors.ts';
import { sha256Hex } from '../weights/sha256.ts';
import { parseJson, type RangeReader, readTensor, type SourceTensor } from '../weights/source.ts';
import {
  contextSchema,
  DIGEST,
  DIGEST_BYTES,
  FORMAT,
  fileInvalid,
  MOST_HEADER_BYTES,
  modelSchema,
  type PressedShape,
  pressSchema,
  promptSchema,
  reportSchema,
  tensorName,
  tensorsOf,
  VERSION,
} from './format.ts';

const PIECE_READ = 1 << 20;

export interface PressedFile {
  readonly name: string;
  readonly model: z.infer<typeof modelSchema>;
  /** As it was asked for, but for the entry type, which is the file's. */
  readonly press: PressRequest;
  readonly context: z.infer<typeof contextSchema>;
  readonly report: z.infer<typeof reportSchema>;
  /** Null: token ids. */
  readonly prompt: z.infer<typeof promptSchema> | null;
  readonly shape: PressedShape;
  readonly bytes: number;
  /** A whole tensor. */
  read(name: string): Promise<ArrayBuffer>;
}

/** Throws InputError context_file_invalid. */
export async function openPressed(file: RangeReader): Promise<PressedFile> {
  const bad = (what: string): InputError => fileInvalid(file.name, what);
  const { tensors: found, metadata, dataStart } = await inWords(openSafetensorsFile(file, MOST_HEADER_BYTES));
  const { format, version, ...parts } = texts(metadata, bad);
  if (format !== FORMAT) throw bad(`it is no pressed context: its format is ${said(format)}, "${FORMAT}" would be one`);
  if (version !== VERSION) throw bad(`it has version ${said(version)} of the format, and version "${VERSION}" is read`);
  await checkDigests(file, found, dataStart, bad);

  const part = async <S extends z.ZodType>(field: string, schema: S): Promise<z.infer<S>> => {
    const { [field]: text } = parts;
    if (text === undefined) throw bad(`its __metadata__ has no ${field}`);
    const parsed = schema.safeParse(await inWords(async () => parseJson(`${file.name} (${field})`, text)));
    if (!parsed.success) throw bad(`${field}: ${firstIssue(parsed.error)}`);
    return parsed.data;
  };
  const model = await part('model', modelSchema);
  const context = await part('context', contextSchema);
  const report = await part('report', reportSchema);
  const prompt = parts.prompt === undefined ? null : await part('prompt', promptSchema);
  const press = pressOf(await part('press', pressSchema), context.entry_type, bad);
  checkFacts({ model, context, report }, bad);

  const tensors = new Map(found.map((tensor) => [tensor.name, tensor]));
  const shape = shapeOf(tensors, model, context, bad);
  return {
    name: file.name,
    model,
    press,
    context,
    report,
    prompt,
    shape,
    bytes: file.size,
    read: async (name) => {
      const tensor = tensors.get(name)!; // shapeOf has seen it
      return (await inWords(readTensor(tensor, 0, tensor.bytes))).buffer;
    },
  };

  /** A file that is no safetensors file, or ends early, says so in the words of the model's files. */
  async function inWords<T>(work: Promise<T> | (() => Promise<T>)): Promise<T> {
    try {
      return await (typeof work === 'function' ? work() : work);
    } catch (error) {
      if (!(error instanceof InputError) || error.code !== 'model_invalid') throw error;
      throw new InputError('context_file_invalid', 'context', `${error.message}: it is damaged, or no pressed context`);
    }
  }
}

type Bad = (what: string) => InputError;

function said(value: string | undefined): string {
  return value === undefined ? 'not told' : `"${shownName(value)}"`;
}

function texts(metadata: unknown, bad: Bad): Record<string, string | undefined> {
  if (typeof metadata !== 'object' || metadata === null || Array.isArray(metadata)) throw bad('its __metadata__ is no object of texts');
  const other = Object.entries(metadata).find(([, value]) => typeof value !== 'string');
  if (other) throw bad(`its __metadata__ has no text for ${shownName(other[0])}`);
  return metadata as Record<string, string>;
}

/** Whether every byte is as it was written. */
async function checkDigests(file: RangeReader, tensors: readonly SourceTensor[], dataStart: number, bad: Bad): Promise<void> {
  const digest = tensors.find(({ name }) => name === DIGEST);
  const last = digest && digest.offset + digest.bytes === file.size;
  if (!last || digest.type !== 'U8' || digest.shape.length !== 2 || digest.shape[1] !== DIGEST_BYTES)
    throw bad(`its last tensor must be ${DIGEST}, U8 [pieces, ${DIGEST_BYTES}]`);
  const hasher = new PieceHasher();
  for (let at = dataStart; at < digest.offset; at += PIECE_READ) await hasher.take(await file.read(at, Math.min(PIECE_READ, digest.offset - at)));
  const want = [await sha256Hex(await file.read(0, dataStart)), ...(await hasher.digests())].join('');
  const seen = Array.from(await readTensor(digest, 0, digest.bytes), (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (seen !== want) throw bad('it is damaged: its bytes are not those that its digest is of; a fresh copy would work');
}

function pressOf({ name, names, config }: z.infer<typeof pressSchema>, entryType: PressRequest['entryType'], bad: Bad): PressRequest {
  let press: PressRequest;
  try {
    press = parsePress(config);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw bad(`its press is not taken here: ${error.message}`);
  }
  if (press.presses.length !== names.length) throw bad(`it names ${names.length} presses and has ${press.presses.length}`);
  return { ...press, name, entryType, presses: press.presses.map((one, i) => ({ ...one, name: names[i] })) };
}

function checkFacts({ model, context, report }: Pick<PressedFile, 'model' | 'context' | 'report'>, bad: Bad): void {
  const { tokens, covered, shift, added_rows: rows, next_position: next } = context;
  if (covered > tokens) throw bad(`its press covered ${covered} tokens of ${tokens}`);
  if (shift > 0 && (shift >= covered || rows > 0)) throw bad(`${shift} positions fewer for ${covered} covered tokens and ${rows} rows`);
  if (next !== tokens + rows - shift) throw bad(`next_position ${next} is not tokens ${tokens} + added_rows ${rows} - shift ${shift}`);
  if (report.tokens !== covered) throw bad(`its report is of ${report.tokens} tokens, and ${covered} were covered`);
  for (const field of ['kept_per_layer', 'lmba_per_layer', 'retained_mass_per_layer'] as const) {
    const { length } = report[field];
    if (length !== model.layers) throw bad(`report.${field} has ${length} layers, and the model ${model.layers}`);
  }
}

/** What the tensors are, once they are all that there must be and no other. */
function shapeOf(
  tensors: ReadonlyMap<string, SourceTensor>,
  model: PressedFile['model'],
  { tokens, entry_type: entryType }: PressedFile['context'],
  bad: Bad,
): PressedShape {
  const of = (layer: number, part: string): readonly number[] | undefined => tensors.get(tensorName(layer, part))?.shape;
  if (model.layers * 4 > tensors.size) throw bad(`it has ${tensors.size} tensors, too few for ${model.layers} layers`);
  const rows = Array.from({ length: model.layers }, (_, layer) => of(layer, 'positions')?.[0] ?? 0);
  const shape: PressedShape = {
    layers: model.layers,
    queryHeads: model.query_heads,
    kvHeads: model.kv_heads,
    headDim: model.head_dim,
    tokens,
    entryType,
    rows,
    scored: of(0, 'scores') !== undefined,
    queries: of(0, 'queries')?.[0] ?? null,
  };
  const expected = tensorsOf(shape);
  for (const { name, dtype, shape } of expected) {
    const tensor = tensors.get(name);
    const wanted = `${dtype} [${shape.join(', ')}] is expected`;
    if (!tensor) throw bad(`tensor ${name} is missing: ${wanted}`);
    if (tensor.type !== dtype || tensor.shape.join() !== shape.join())
      throw bad(`tensor ${name} is ${tensor.type} [${tensor.shape.join(', ')}]: ${wanted}`);
  }
  if (tensors.size > expected.length) {
    const names = new Set(expected.map(({ name }) => name));
    throw bad(`tensor ${shownName([...tensors.keys()].find((name) => !names.has(name))!)} is not of this format`);
  }
  return shape;
}
