/**
 * Scores of presses that act while decoding and read hidden states, each token's alone (`hidden`, `perToken`): a hidden state is gone once the next layers are
 * computed, the score that it got never changes.
 *
 *   prompt   scored layer by layer, as it is read: by the press itself where it presses the prompt, else for later
 *   answer   the last hidden states of every layer are remembered; what was not scored is when no more have room, or when somebody asks
 *   scores   stand beside their entries, and move with them
 *
 * Scored many at a time, since what a scorer has learnt goes to the device each time. kvpress's DMS scores every token as it comes: the same scores. Its presses with
 * a target cannot work so: they hand the scorer the hidden states of the last tokens, and have no scores for the others.
 */
import { type AttentionShape, type Backend, readFloats, type View } from '../worker/backend/backend.ts';
import { Borrowed } from '../worker/backend/borrowed.ts';
import type { CheckedDecoding } from './check-decoding.ts';
import type { CheckedPress } from './check-press.ts';
import type { LayerModel, LayerTensors, ScoreContext } from './contract.ts';
import { MadeOnce } from './made-once.ts';
import { noView } from './no-view.ts';
import { partParam } from './part-param.ts';

const F32 = 4;

const NOT_THERE = noView('a score of hidden states reads nothing else');

/** The last hidden states of every layer. */
export interface RecentHidden {
  readonly size: number;
  /** The last `count` of a layer, oldest first, to `out` [count, D]. */
  read(out: View, layer: number, count: number): void;
}

export interface ScoredStore {
  /** The entry of each token from..from + scores.length - 1 that the list holds has that token's score from now on. */
  score(layer: number, head: number, from: number, scores: Float32Array): void;
}

export interface TokenScoresOptions {
  readonly backend: Backend;
  readonly checked: CheckedDecoding;
  readonly store: ScoredStore;
  readonly hidden: RecentHidden;
  readonly layers: readonly { readonly shape: AttentionShape; readonly model: LayerModel }[];
}

/** Whether the prompt must be scored for later: else nobody asks, or what presses the prompt is the same press, and its scores are the ones. */
export function scoresPrompt(decoding: CheckedDecoding | null, prompt: CheckedPress | null): boolean {
  if (decoding === null || decoding.hidden === 0) return false;
  const stages = prompt?.stages ?? [];
  return !(stages.length === 1 && stages[0].press === decoding.press);
}

/** Device bytes that scoring `n` tokens of a layer borrows at most. */
export function scoringBytes(
  { press, artifact }: CheckedDecoding,
  { queryHeads, kvHeads, headDim, hiddenSize }: { queryHeads: number; kvHeads: number; headDim: number; hiddenSize: number },
  n: number,
): number {
  const { part, params } = press.scorer;
  const own = part.scratchBytes?.({ n, window: 0, queryHeads, kvHeads, headDim, hiddenSize, artifact }, params) ?? 0;
  return own + (kvHeads + hiddenSize) * n * F32 + 2 * 64; // scores, hidden states; two blocks round up
}

export class TokenScores {
  readonly notes = new Set<string>();
  readonly #options: TokenScoresOptions;
  readonly #made = new MadeOnce();
  readonly #prompt: Promise<Float32Array>[] = []; // [layer] of [H, n]
  #scored = 0; // tokens before this one have their scores

  constructor(options: TokenScoresOptions) {
    this.#options = options;
  }

  /** The first `tokens` have their scores, which stand beside their entries. */
  goOn(tokens: number): void {
    this.#scored = tokens;
  }

  /** How many tokens can be read before some must be scored, when `tokens` were read in all. */
  room(tokens: number): number {
    return this.#options.hidden.size - (tokens - this.#scored);
  }

  /** How many of the last tokens have no scores yet. */
  waiting(tokens: number): number {
    return tokens - this.#scored;
  }

  /** Scores a layer of the prompt. */
  layer(tensors: LayerTensors): void {
    const { shape, layer, n, hidden } = tensors;
    this.#prompt[layer] = this.#score(layer, n, 0, shape.kvHeads, () => hidden!);
  }

  /** The prompt's `tokens` are read, and its entries are there: they have scores, if each layer's were made. */
  async prompt(tokens: number): Promise<void> {
    this.#keep(0, await Promise.all(this.#prompt.splice(0)));
    this.#scored = tokens;
  }

  /** Scores what waits for it, when `tokens` were read in all. */
  async score(tokens: number): Promise<void> {
    const { layers, hidden } = this.#options;
    const count = this.waiting(tokens);
    if (count === 0) return;
    const first = this.#scored;
    // All layers are recorded before anything is waited for.
    const reads = layers.map(({ shape, model }, layer) =>
      this.#score(layer, count, first, shape.kvHeads, (scratch) => {
        const rows = scratch(count * model.hiddenSize * F32, 'last hidden states');
        hidden.read(rows, layer, count);
        return rows;
      }),
    );
    this.#keep(first, await Promise.all(reads));
    this.#scored = tokens;
  }

  #keep(from: number, scores: readonly Float32Array[]): void {
    for (const [layer, values] of scores.entries()) {
      const { kvHeads } = this.#options.layers[layer].shape;
      const n = values.length / kvHeads;
      for (let head = 0; head < kvHeads; head++) this.#options.store.score(layer, head, from, values.subarray(head * n, (head + 1) * n));
    }
  }

  /** [H, n], on its way back from the device. */
  #score(layer: number, n: number, start: number, kvHeads: number, hidden: (scratch: ScoreContext['scratch']) => View): Promise<Float32Array> {
    const { backend, checked, layers } = this.#options;
    const { part, params } = checked.press.scorer;
    const borrowed = new Borrowed(backend);
    try {
      const { scratch } = borrowed;
      const context: ScoreContext = {
        ...layers[layer],
        layer,
        n,
        k: NOT_THERE,
        v: NOT_THERE,
        q: NOT_THERE,
        window: 0,
        hidden: hidden(scratch),
        rope: NOT_THERE,
        backend,
        layers: layers.length,
        seed: 0,
        scratch,
        note: (text) => this.notes.add(text),
        later: () => {
          throw new Error('a score of one token has nothing to check later');
        },
        once: this.#made.once,
        compressionRatio: 0,
        compat: false, // what a method of kvpress makes of a prompt's length is not about these tokens
        start,
        positions: null,
        sums: null,
        artifact: checked.artifact,
        param: (field) => partParam(checked.press, 'scorer', field),
      };
      const read = readFloats(backend, part.score(context, params), kvHeads * n);
      read.catch(() => {}); // who waits for an earlier layer hears of this one too late
      return read;
    } finally {
      borrowed.giveBack();
    }
  }
}
