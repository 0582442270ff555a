/**
 * From logits to the next token. Order, as in Hugging Face transformers: penalties, temperature, top_k, top_p (over what top_k left,
 * renormalised), min_p (against the likeliest). Each of the three keeps a prefix of the tokens ordered by probability, the lower id first
 * among equals. Sums are f64. Logits are never changed. Nothing sorts the whole vocabulary: thresholds come from selection.
 */
import { InputError } from '../../presses/input-error.ts';

/** Draws from [0, 1). */
export type Random = () => number;

const MASK = (1n << 64n) - 1n;

/** splitmix64, Steele, Lea, Flood 2014: one multiply-xorshift of a counter; any 64-bit seed is good. */
export function splitmix64(seed: bigint): () => bigint {
  let state = seed & MASK;
  return () => {
    state = (state + 0x9e3779b97f4a7c15n) & MASK;
    let z = state;
    z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
    return z ^ (z >> 31n);
  };
}

/** What presses draw by: 32 bits of the request's seed, so that the same request keeps the same tokens; null without one. */
export function pressSeed(seed: number | null): number | null {
  return seed === null ? null : Number(splitmix64(BigInt(seed))() & 0xffffffffn);
}

/** The same seed gives the same draws on every runtime; null takes 64 random bits. Negative seeds count modulo 2^64. */
export function seededRandom(seed: number | bigint | null): Random {
  const next = splitmix64(seed === null ? crypto.getRandomValues(new BigUint64Array(1))[0] : BigInt(seed));
  return () => Number(next() >> 11n) / 2 ** 53;
}

export interface SamplerSettings {
  readonly temperature: number; // 0 = greedy
  readonly topK: number; // 0 = off
  readonly topP: number; // 1 = off
  readonly minP: number; // 0 = off
}

export interface RawLogprobs {
  readonly logprob: number;
  readonly top: { tokenId: number; logprob: number }[]; // likeliest first
}

/** Throws when a logit is NaN or infinite: that is a broken model or kernel, and every token drawn from it would be noise. */
export function checkFinite(logits: Float32Array): void {
  for (let i = 0; i < logits.length; i++) {
    if (!Number.isFinite(logits[i]))
      throw new InputError(
        'model_output_invalid',
        'model',
        `the model's weights give no numbers: logit ${i} of ${logits.length} is ${logits[i]}; the model's files are damaged, or are not what its config says`,
      );
  }
}

/** What a backend that samples itself can say of such logits. */
export function unusableLogits(): InputError {
  return new InputError(
    'model_output_invalid',
    'model',
    "the model's weights give no numbers: a logit is NaN or infinite; the model's files are damaged, or are not what its config says",
  );
}

/** OpenAI's formula, over generated tokens only: logit -= count * frequency + (count > 0) * presence. `logits` itself if nothing changes. */
export function penalise(logits: Float32Array, counts: ReadonlyMap<number, number>, frequency: number, presence: number): Float32Array {
  if (counts.size === 0 || (frequency === 0 && presence === 0)) return logits;
  const out = logits.slice();
  for (const [id, count] of counts) if (count > 0) out[id] -= count * frequency + presence;
  return out;
}

/** The largest logit; the lower id among equals. */
export function argmax(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
  return best;
}

/** What may be drawn: ids ascending and their probabilities, which sum to 1. */
export function candidates(logits: Float32Array, { temperature, topK, topP, minP }: SamplerSettings): { ids: Int32Array; probs: Float64Array } {
  const max = logits[argmax(logits)];
  let ids = new Int32Array(logits.length);
  let weights = new Float64Array(logits.length); // the likeliest has 1
  for (let i = 0; i < logits.length; i++) {
    ids[i] = i;
    weights[i] = Math.exp((logits[i] - max) / temperature);
  }
  const keep = (cut: { threshold: number; count: number }) => {
    const kept = takeLargest(weights, cut);
    ids = ids.filter((_, i) => kept[i] === 1);
    weights = weights.filter((_, i) => kept[i] === 1);
  };
  if (topK > 0 && topK < weights.length) keep({ threshold: kthLargest(weights, topK), count: topK });
  if (topP < 1) keep(nucleus(weights, topP));
  if (minP > 0) keep({ threshold: minP, count: weights.length });
  const total = sum(weights);
  return { ids, probs: weights.map((w) => w / total) };
}

/** Draws a token. Temperature 0 takes the largest logit, whatever the other settings. */
export function sample(logits: Float32Array, settings: SamplerSettings, random: Random): number {
  if (settings.temperature === 0) return argmax(logits);
  const { ids, probs } = candidates(logits, settings);
  let left = random();
  for (let i = 0; i < ids.length; i++) if ((left -= probs[i]) < 0) return ids[i];
  return ids[probs.findLastIndex((p) => p > 0)]; // rounding left a crumb past the end
}

/** Log-softmax of the raw logits (temperature 1, no penalties), for the chosen token and the `count` likeliest. */
export function logprobs(logits: Float32Array, chosen: number, count: number): RawLogprobs {
  const max = logits[argmax(logits)];
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += Math.exp(logits[i] - max);
  const logTotal = Math.log(total);
  const logprobOf = (id: number) => logits[id] - max - logTotal; // in this order: no digits lost to a large max
  const top: number[] = []; // count <= 20: insertion beats a heap
  for (let i = 0; i < logits.length && count > 0; i++) {
    if (top.length === count && !(logits[i] > logits[top[count - 1]])) continue;
    if (top.length === count) top.pop();
    let at = top.length;
    while (at > 0 && logits[i] > logits[top[at - 1]]) at--;
    top.splice(at, 0, i);
  }
  return { logprob: logprobOf(chosen), top: top.map((tokenId) => ({ tokenId, logprob: logprobOf(tokenId) })) };
}

export interface Sampler {
  /** Draws the next token and remembers it for the penalties. `logprobs` is null unless asked for. */
  next(logits: Float32Array): { tokenId: number; logprobs: RawLogprobs | null };
}

/** One request's sampler: its random stream and its counts of generated tokens. */
export function createSampler(
  settings: SamplerSettings & {
    readonly seed: number | bigint | null;
    readonly frequencyPenalty: number;
    readonly presencePenalty: number;
    readonly topLogprobs: number | null;
  },
): Sampler {
  const random = seededRandom(settings.seed);
  const counts = new Map<number, number>();
  return {
    next(logits) {
      checkFinite(logits);
      const tokenId = sample(penalise(logits, counts, settings.frequencyPenalty, settings.presencePenalty), settings, random);
      counts.set(tokenId, (counts.get(tokenId) ?? 0) + 1);
      return { tokenId, logprobs: settings.topLogprobs === null ? null : logprobs(logits, tokenId, settings.topLogprobs) };
    },
  };
}

/** Marks the weights above the threshold, and those equal to it from the lowest id on, until `count` are marked. */
function takeLargest(weights: Float64Array, { threshold, count }: { threshold: number; count: number }): Uint8Array {
  let ties = count;
  for (const w of weights) if (w > threshold) ties--;
  const kept = new Uint8Array(weights.length);
  for (let i = 0; i < weights.length; i++) if (weights[i] > threshold || (weights[i] === threshold && ties-- > 0)) kept[i] = 1;
  return kept;
}

/**
 * The smallest prefix whose mass reaches p. Weights below (1 - p) * total / V sum to less than (1 - p) * total, so the prefix lies
 * within the others: only those are sorted, a few hundred of 49,152 for a usual distribution.
 */
function nucleus(weights: Float64Array, p: number): { threshold: number; count: number } {
  const total = sum(weights);
  const floor = ((1 - p) * total) / weights.length;
  const ascending = weights.filter((w) => w >= floor).sort();
  let mass = 0,
    count = 0;
  while (count < ascending.length) {
    mass += ascending[ascending.length - ++count];
    if (mass >= p * total) break;
  }
  return { threshold: ascending[ascending.length - count], count };
}

/** Quickselect (Hoare) on a copy, middle element as pivot: linear for logits, which come in no order. */
function kthLargest(weights: Float64Array, k: number): number {
  const a = weights.slice();
  const target = a.length - k;
  let low = 0,
    high = a.length - 1;
  while (low < high) {
    const pivot = a[(low + high) >> 1];
    let i = low,
      j = high;
    while (i <= j) {
      while (a[i] < pivot) i++;
      while (a[j] > pivot) j--;
      if (i <= j) {
        const t = a[i];
        a[i++] = a[j];
        a[j--] = t;
      }
    }
    if (target <= j) high = j;
    else if (target >= i) low = i;
    else break;
  }
  return a[target];
}

function sum(values: Float64Array): number {
  let total = 0;
  for (const v of values) total += v;
  return total;
}
