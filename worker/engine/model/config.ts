/** One description of a model, wherever it comes from. What we cannot run is refused before it gets here, by name. */
import * as z from 'zod';
import { InputError } from '../../../presses/input-error.ts';
import { families } from './families.ts';

const count = (max: number) => z.number().int().min(1).max(max);
const positive = z.number().positive().finite();

/** The caps are far above any real model; they keep every size computed from a hostile file an exact integer. */
export const modelConfigSchema = z
  .strictObject({
    family: z.string().refine((name) => families.some((f) => f.name === name), 'must be a supported family'),
    layers: count(1024),
    hiddenSize: count(65536),
    intermediateSize: count(1 << 20),
    queryHeads: count(1024),
    kvHeads: count(1024),
    headDim: count(1024).multipleOf(2),
    vocabSize: count(1 << 21),
    contextLength: count(1 << 27),
    normEps: z.number().min(0).max(1),
    rope: z.strictObject({
      theta: z.number().min(1).finite(),
      scaling: z.discriminatedUnion('type', [
        z.strictObject({ type: z.literal('none') }),
        z.strictObject({ type: z.literal('linear'), factor: positive }),
        z.strictObject({
          type: z.literal('llama3'),
          factor: positive,
          lowFreqFactor: positive,
          highFreqFactor: positive,
          originalContextLength: positive,
        }),
        /** GGUF's rope_freqs.weight: frequency i is divided by factors[i]. */
        z.strictObject({ type: z.literal('factors'), factors: z.array(positive) }),
      ]),
    }),
    tiedEmbeddings: z.boolean(),
    qkvBias: z.boolean(),
    qkNorm: z.boolean(),
    /** Per layer; 0 = the layer sees everything. */
    slidingWindow: z.array(
      z
        .number()
        .int()
        .min(0)
        .max(1 << 27),
    ),
    bosId: z.number().int().min(0).nullable(),
    /** Tokens that end a generation. */
    eosIds: z.array(z.number().int().min(0)).max(64),
  })
  .superRefine((c, context) => {
    const wrong = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message });
    if (c.queryHeads % c.kvHeads !== 0) wrong('queryHeads', `must be a multiple of kvHeads (${c.kvHeads}), got ${c.queryHeads}`);
    if (c.slidingWindow.length !== c.layers) wrong('slidingWindow', `must have one entry per layer (${c.layers}), got ${c.slidingWindow.length}`);
    const { scaling } = c.rope;
    if (scaling.type === 'factors' && scaling.factors.length !== c.headDim / 2)
      wrong('rope', `must have headDim / 2 = ${c.headDim / 2} factors, got ${scaling.factors.length}`);
    const strange = c.eosIds.find((id) => id >= c.vocabSize);
    if (strange !== undefined) wrong('eosIds', `${strange} is not in the vocabulary of ${c.vocabSize}`);
    if (c.bosId !== null && c.bosId >= c.vocabSize) wrong('bosId', `${c.bosId} is not in the vocabulary of ${c.vocabSize}`);
    if (scaling.type === 'llama3' && scaling.highFreqFactor <= scaling.lowFreqFactor) wrong('rope', 'highFreqFactor must be above lowFreqFactor');
  });

export type ModelConfig = z.infer<typeof modelConfigSchema>;
export type RopeScaling = ModelConfig['rope']['scaling'];

/** The first problem of a zod check as one line: path, what is wrong. */
export function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  return issue.path.length > 0 ? `${issue.path.map(String).join('.')}: ${issue.message}` : issue.message;
}

export function unsupported(message: string): InputError {
  return new InputError('model_unsupported', 'model', message);
}

export function invalidModel(message: string): InputError {
  return new InputError('model_invalid', 'model', message);
}

/** `fileNames`: what the file calls our fields, so that a refusal names what stands there. */
export function checkedConfig(config: ModelConfig, origin: string, fileNames: Readonly<Record<string, string>>): ModelConfig {
  const result = modelConfigSchema.safeParse(config);
  if (!result.success) {
    const [issue] = result.error.issues;
    const seen = issue.path.reduce((value: unknown, key) => (value as Record<PropertyKey, unknown>)?.[key], config);
    const message = firstIssue(result.error).replace(/^rope\.(theta|scaling)/, 'rope_$1') + (issue.code === 'custom' ? '' : `, got ${String(seen)}`);
    throw invalidModel(
      `${origin}: ${message.replace(/\b[a-z]+_?[A-Za-z]+\b/g, (word) => (Object.hasOwn(fileNames, word) ? fileNames[word] : word))}`,
    );
  }
  return result.data;
}
