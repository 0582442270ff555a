/**
 * The tokens of an answer, one after another: sampled on the host from logits that are read back, or on the device where the backend can,
 * which then feeds each token to the next step itself and is asked for several of them at once.
 */
import { at, type Backend, type DeviceBuffer, readFloats, readWords, type View } from '../backend/backend.ts';
import type { Forward, Recent } from './forward.ts';
import type { KvSequence } from './kv-cache.ts';
import { createSampler, type RawLogprobs, type Sampler, seededRandom, unusableLogits } from './sampler.ts';
import type { Sampling } from './types.ts';

export interface DecodedToken {
  readonly tokenId: number;
  readonly logprobs: RawLogprobs | null;
}

export interface Decoder {
  /** Takes the logits after the prompt; within the piece of work that made them. */
  begin(logits: View): void | Promise<void>;
  /** The next tokens, at least one and at most `limit`. A piece of work. */
  next(limit: number): Promise<readonly DecodedToken[]>;
  /** The last `count` of the tokens handed out are not part of the answer: what the cache holds of them goes. */
  discard(count: number): void;
  close(): void;
}

export interface DecoderParts {
  readonly backend: Backend;
  readonly forward: Forward;
  readonly sequence: KvSequence;
  /** What the forward pass keeps for a press that acts while decoding. */
  readonly recent: Recent | null;
  /** Where the first token of the answer stands. */
  readonly start: number;
  readonly vocabSize: number;
}

export function createDecoder(parts: DecoderParts, sampling: Sampling): Decoder {
  // Logprobs name tokens by their place in the whole distribution, which is then read anyway.
  return parts.backend.sample && sampling.topLogprobs === null ? new DeviceDecoder(parts, sampling) : new HostDecoder(parts, sampling);
}

class HostDecoder implements Decoder {
  readonly #parts: DecoderParts;
  readonly #sampler: Sampler;
  #logits: Float32Array | null = null; // of the prompt
  #last = -1; // not read yet
  #count = 0;

  constructor(parts: DecoderParts, sampling: Sampling) {
    this.#parts = parts;
    this.#sampler = createSampler(sampling);
  }

  async begin(logits: View): Promise<void> {
    this.#logits = await readFloats(this.#parts.backend, logits, this.#parts.vocabSize);
  }

  async next(): Promise<readonly DecodedToken[]> {
    const token = this.#sampler.next(this.#logits ?? (await this.#step()));
    this.#logits = null;
    this.#last = token.tokenId;
    this.#count++;
    return [token];
  }

  discard(): void {} // the newest token was not read yet
  close(): void {}

  #step(): Promise<Float32Array> {
    const { backend, forward, sequence, recent, start, vocabSize } = this.#parts;
    const logits = forward.extend([this.#last], start + this.#count - 1, sequence, true, recent)!;
    return readFloats(backend, logits, vocabSize);
  }
}

/** Most tokens that are enqueued ahead; and for how long a client may wait for the first of them. */
const MOST_AHEAD = 16;
const BATCH_MS = 60;

class DeviceDecoder implements Decoder {
  readonly #parts: DecoderParts;
  readonly #sampling: Sampling;
  readonly #random: () => number;
  readonly #ids: DeviceBuffer; // [MOST_AHEAD] u32: slot s % MOST_AHEAD holds token s of the answer
  readonly #counts: DeviceBuffer | null; // [vocab] u32: how often each token was generated; null without penalties
  #sampled = 0; // tokens that the device was told to sample
  #handed = 0; // of which so many were handed out
  #ahead = 1;
  #first: DecodedToken[] | null = null; // the first token, until it is asked for

  constructor(parts: DecoderParts, sampling: Sampling) {
    const { backend, vocabSize } = parts;
    this.#parts = parts;
    this.#sampling = sampling;
    this.#random = seededRandom(sampling.seed);
    this.#ids = backend.alloc(MOST_AHEAD * 4, 'sampled tokens');
    const penalised = sampling.frequencyPenalty !== 0 || sampling.presencePenalty !== 0;
    try {
      this.#counts = penalised ? backend.alloc(vocabSize * 4, 'counts of generated tokens') : null;
    } catch (error) {
      backend.free(this.#ids);
      throw error;
    }
  }

  /** Waits for the first token, and so for the prompt's last operation: what decoding takes is counted from there. */
  async begin(logits: View): Promise<void> {
    if (this.#counts) this.#parts.backend.write(this.#counts, new Uint32Array(this.#parts.vocabSize));
    this.#sample(logits);
    this.#first = await this.#read(1);
  }

  async next(limit: number): Promise<readonly DecodedToken[]> {
    const { forward, sequence, recent, start } = this.#parts;
    const first = this.#first;
    this.#first = null;
    if (first) return first;
    const started = performance.now();
    const wanted = Math.min(limit, this.#ahead);
    while (this.#sampled - this.#handed < wanted) {
      const position = start + this.#sampled - 1;
      this.#sample(forward.extend(at(this.#ids, ((this.#sampled - 1) % MOST_AHEAD) * 4), position, sequence, true, recent)!);
    }
    const tokens = await this.#read(wanted);
    // A wait costs a fixed time on some runtimes: as many steps ahead as still make a smooth stream.
    const stepMs = (performance.now() - started) / wanted;
    this.#ahead = Math.max(1, Math.min(MOST_AHEAD, this.#ahead * 2, Math.floor(BATCH_MS / stepMs)));
    return tokens;
  }

  /** The next `count` of what was sampled. */
  async #read(count: number): Promise<DecodedToken[]> {
    const ids = await readWords(this.#parts.backend, this.#ids, MOST_AHEAD);
    const tokens = Array.from({ length: count }, (_, i) => ({ tokenId: ids[(this.#handed + i) % MOST_AHEAD], logprobs: null }));
    for (const { tokenId } of tokens) if (tokenId >= this.#parts.vocabSize) throw unusableLogits();
    this.#handed += count;
    return tokens;
  }

  discard(count: number): void {
    // So many were read behind the last token of the answer, which, as on the host's way, is not read itself.
    if (count > 0) this.#parts.sequence.dropNewest(count);
  }

  close(): void {
    this.#parts.backend.free(this.#ids);
    if (this.#counts) this.#parts.backend.free(this.#counts);
  }

  #sample(logits: View): void {
    const { backend, vocabSize } = this.#parts;
    const token = at(this.#ids, (this.#sampled % MOST_AHEAD) * 4);
    const draw = this.#sampling.temperature === 0 ? 0 : this.#random();
    backend.sample!(token, logits, vocabSize, this.#counts, this.#sampling, draw);
    this.#sampled++;
  }
}
