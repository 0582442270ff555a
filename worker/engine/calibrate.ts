/** Makes artefacts of presses by reading texts with the model: presses/calibration.ts has the arithmetic, presses/artifacts.md the files. */

import { type CalibrationShape, DuoCalibration, type LayerRows, QueryMoments, unrotate } from '../../presses/calibration.ts';
import { parsePress } from '../../presses/config.ts';
import type { PressRequest, ScoreContext } from '../../presses/contract.ts';
import { InputError } from '../../presses/input-error.ts';
import { readFloats } from '../backend/backend.ts';
import type { EdgeEngine } from './engine.ts';
import { writeSafetensors } from './weights/safetensors.ts';

export const calibrationKinds = ['duo', 'expected_attention'] as const;

export interface CalibrationOptions {
  readonly kind: (typeof calibrationKinds)[number];
  /** Texts like those that the model will read, or their tokens. */
  readonly samples: readonly (string | readonly number[])[];
  /** Of each, at most so many tokens; default 2,048, or what the context holds. */
  readonly tokens?: number;
  /** duo: what streaming heads keep. Default 128 first and 256 recent tokens. */
  readonly sink?: number;
  readonly recent?: number;
  /** Told after each text. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Fewer say nothing. */
const LEAST_TOKENS = 8;

/** The file's bytes: JSON for duo, safetensors for expected_attention. */
export async function calibrate(
  engine: EdgeEngine,
  { kind, samples, tokens = 2048, sink = 128, recent = 256, onProgress }: CalibrationOptions,
): Promise<Uint8Array> {
  if (!calibrationKinds.includes(kind))
    throw new InputError('invalid_value', 'kind', `kind must be one of ${calibrationKinds.join(', ')}, got ${JSON.stringify(kind)}`);
  if (samples.length === 0) throw new InputError('samples_missing', 'samples', 'samples must hold at least one text, got none');
  const most = Math.min(tokens, engine.info.contextLength - 1);
  let duo: DuoCalibration | null = null;
  let moments: QueryMoments | null = null;
  let shape: CalibrationShape | null = null;
  for (const [i, sample] of samples.entries()) {
    const cut = typeof sample === 'string' ? sample.slice(0, most * MOST_CHARACTERS) : sample;
    const ids = (typeof cut === 'string' ? engine.tokenise({ kind: 'text', text: cut }) : cut).slice(0, most);
    if (ids.length < LEAST_TOKENS)
      throw new InputError('samples_short', 'samples', `sample ${i} has ${ids.length} tokens; ${LEAST_TOKENS} or more would work`);
    const layers = await readLayers(engine, ids);
    shape ??= { layers: engine.info.layers, ...layers[0].shape, invFreq: layers[0].model.invFreq };
    duo ??= kind === 'duo' ? new DuoCalibration(shape) : null;
    moments ??= kind === 'duo' ? null : new QueryMoments(shape);
    for (const rows of layers) {
      const { queryHeads, kvHeads, headDim, invFreq } = shape;
      const plain: LayerRows = { ...rows, q: unrotate(rows.q, queryHeads, headDim, invFreq), k: unrotate(rows.k, kvHeads, headDim, invFreq) };
      duo?.add(plain);
      moments?.add(plain);
    }
    onProgress?.(i + 1, samples.length);
  }
  if (duo)
    return new TextEncoder().encode(
      `${JSON.stringify({ sink, recent, scores: duo.scores.map((row) => row.map((score) => Number(score.toFixed(6)))) })}\n`,
    );
  const { layers, queryHeads: Hq, headDim: d } = shape!;
  return writeSafetensors({
    mean: { shape: [layers, Hq, d], values: moments!.mean },
    cov: { shape: [layers, Hq, d, d], values: moments!.cov },
  });
}

/** Tokens are seldom longer on average; the text is cut so that a book is not tokenised for its first pages. */
const MOST_CHARACTERS = 16;

type Rows = LayerRows & Pick<ScoreContext, 'shape' | 'model'>;

/** Every layer's keys and queries of a prompt, after RoPE: by a press whose scorer reads all of them and keeps no tokens in particular. */
async function readLayers(engine: EdgeEngine, tokens: readonly number[]): Promise<Rows[]> {
  const read: Promise<Rows>[] = [];
  const request: PressRequest = parsePress({ scorer: 'knorm', compression_ratio: 0.5, scope: 'prompt' });
  const presses = request.presses.map((press) => ({
    ...press,
    scorer: {
      part: {
        ...press.scorer.part,
        queries: () => Infinity,
        score(context: ScoreContext) {
          const { backend, layer, n, k, q, shape, model } = context;
          const queries = readFloats(backend, q, n * shape.queryHeads * shape.headDim);
          const keys = readFloats(backend, k, n * shape.kvHeads * shape.headDim);
          read.push(Promise.all([queries, keys]).then(([q, k]) => ({ layer, n, q, k, shape, model })));
          return press.scorer.part.score(context, press.scorer.params);
        },
      },
      params: press.scorer.params,
    },
  }));
  try {
    await engine.logits({ kind: 'tokens', tokens }, { ...request, presses });
  } finally {
    await Promise.allSettled(read);
  }
  return Promise.all(read);
}
