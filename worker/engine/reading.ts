/**
 * One reading of a prompt for many presses. A press never changes what the layers above compute, so what every layer handed over while the prompt was read can be
 * kept on the host and handed to one press after the other, as often as wanted: K and V from before any transform, the last queries, and what scorers read beside.
 */
import type { PressReads } from '../../presses/check-press.ts';
import type { LayerTensors } from '../../presses/contract.ts';
import { KnownScores } from '../../presses/known-scores.ts';
import { type Backend, readFloats } from '../backend/backend.ts';
import { Borrowed } from '../backend/borrowed.ts';
import { ropeTable } from '../backend/rope-table.ts';
import type { Forward, PrefillOptions } from './forward.ts';

const F32 = 4;
const KNOWN_BYTES = 256 * 2 ** 20;

/** One layer of a reading of n tokens, on the host. */
interface ReadLayer {
  readonly k: Float32Array; // [n, H, d] after RoPE
  readonly v: Float32Array; // [n, H, d]
  readonly q: Float32Array; // [window, Hq, d] after RoPE
  readonly hidden: Float32Array | null; // [n, D]
  readonly change: Float32Array | null; // [n]
}

export class Reading {
  readonly tokens: readonly number[];
  /** What was kept beside keys and values; `queries` = at most so many of the last ones. */
  readonly reads: PressReads;
  /** [vocab], after the last token. */
  readonly logits: Float32Array;
  readonly layers: readonly ReadLayer[];
  /** What scorers made of the layers. */
  readonly known = new KnownScores(KNOWN_BYTES);
  /** Requests that were answered from it. */
  served = 0;

  constructor(tokens: readonly number[], reads: PressReads, logits: Float32Array, layers: readonly ReadLayer[]) {
    this.tokens = tokens;
    this.reads = reads;
    this.logits = logits;
    this.layers = layers;
  }

  /** Bytes on the host. */
  get bytes(): number {
    return this.layers
      .flatMap((layer) => Object.values(layer))
      .reduce((sum, part: Float32Array | null) => sum + (part?.byteLength ?? 0), this.logits.byteLength + this.known.bytes);
  }

  /** Whether it is a reading of these tokens, with all that is asked for. */
  serves(tokens: readonly number[], { queries, hidden, change }: PressReads): boolean {
    const n = this.tokens.length;
    if (tokens.length !== n || this.tokens.some((token, i) => token !== tokens[i])) return false;
    return Math.min(n, queries) <= this.reads.queries && (!hidden || this.reads.hidden) && (!change || this.reads.change);
  }
}

/** Reads a prompt and keeps what every layer hands over. `run` as in Forward.prefill. */
export async function record(
  backend: Backend,
  forward: Forward,
  tokens: readonly number[],
  reads: PressReads,
  run: PrefillOptions['run'],
): Promise<Reading> {
  const layers: ReadLayer[] = [];
  let logits: Float32Array | null = null;
  await forward.prefill(tokens, {
    ...reads,
    run,
    onLayer: (tensors) => run(async () => void layers.push(await kept(backend, tensors))),
    logits: async (view) => {
      logits = await readFloats(backend, view, forward.vocabSize);
    },
  });
  return new Reading(tokens, { ...reads, queries: Math.min(reads.queries, tokens.length) }, logits!, layers);
}

async function kept(backend: Backend, { n, k, v, q, window, hidden, change, shape, model }: LayerTensors): Promise<ReadLayer> {
  const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
  return {
    k: await readFloats(backend, k, n * H * d),
    v: await readFloats(backend, v, n * H * d),
    q: window > 0 ? await readFloats(backend, q, window * Hq * d) : new Float32Array(),
    hidden: hidden && (await readFloats(backend, hidden, n * model.hiddenSize)),
    change: change ? await readFloats(backend, change.cosines, change.tokens) : null,
  };
}

/** Stands in for a Forward while a prompt is read that was read before: the same calls in the same order, without the compute. */
export class Replay {
  readonly #backend: Backend;
  readonly #forward: Forward;
  readonly #reading: Reading;

  constructor(backend: Backend, forward: Forward, reading: Reading) {
    this.#backend = backend;
    this.#forward = forward;
    this.#reading = reading;
  }

  /** `tokens` and what is asked for must be such that the reading serves them. */
  async prefill(tokens: readonly number[], { queries, hidden, change, logits, onLayer, run }: PrefillOptions): Promise<void> {
    const backend = this.#backend;
    const { layers, reads, known, logits: after } = this.#reading;
    if (!this.#reading.serves(tokens, { queries, hidden, change: change ?? false }))
      throw new Error('a reading of another prompt, or of less than is asked for');
    const n = tokens.length;
    const window = Math.min(queries, n);
    const { queryHeads: Hq, kvHeads: H, headDim: d } = this.#forward.attention(0);
    const { hiddenSize: D, invFreq } = this.#forward.layerModel(0);
    const borrowed = new Borrowed(backend);
    const alloc = (floats: number, label: string) => borrowed.scratch(Math.max(floats, 1) * F32, label);
    try {
      const k = alloc(n * H * d, 'keys of one layer');
      const v = alloc(n * H * d, 'values of one layer');
      const rope = alloc(n * d, 'rope table of the prompt');
      const q = alloc(window * Hq * d, 'window queries');
      const inputs = hidden ? alloc(n * D, 'inputs of the attention module') : null;
      const cosines = change ? alloc(n, 'what attention changes') : null;
      await run(() => backend.write(rope, ropeTable(invFreq, 0, n)));
      for (const [layer, kept] of layers.entries()) {
        await run(() => {
          backend.write(k, kept.k);
          backend.write(v, kept.v);
          if (window > 0) backend.write(q, kept.q.subarray((reads.queries - window) * Hq * d)); // the last of them
          if (inputs) backend.write(inputs, kept.hidden!);
          if (cosines) backend.write(cosines, kept.change!);
        });
        const shape = this.#forward.attention(layer);
        const model = this.#forward.layerModel(layer);
        await onLayer({ layer, n, k, v, q, window, hidden: inputs, change: cosines && { cosines, tokens: n }, rope, shape, model, known });
      }
      if (!logits) return;
      await run(() => {
        const view = alloc(after.length, 'logits');
        backend.write(view, after);
        return logits(view);
      });
    } finally {
      borrowed.giveBack();
    }
  }
}
