/**
 * Answers every sample under every variant. A press never changes what is read before it acts, so a sample's context is read once, and each press takes its
 * keys and values from that one reading: its cache is made, the answer decoded from it, and all of it given back before the next.
 */
import { decodingPress } from '../presses/check-schedule.ts';
import { parsePress } from '../presses/config.ts';
import type { PressRequest } from '../presses/contract.ts';
import { InputError } from '../presses/input-error.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import type { Reading } from '../worker/engine/reading.ts';
import type { Along, PromptInput, Usage } from '../worker/engine/types.ts';
import type { Sample } from './contract.ts';
import { madeOf } from './made-of.ts';
import { METRICS, scoreOf } from './metrics/registry.ts';
import { Random } from './random.ts';
import type { Answer, ResultsFile } from './results.ts';
import type { Variant } from './variants.ts';

/** A sample and where it stands among the others. */
export interface Placed {
  readonly sample: Sample;
  /** The most tokens that were asked for; null where a dataset decides. */
  readonly length: number | null;
}

export interface RunOptions {
  readonly engine: EdgeEngine;
  readonly samples: readonly Placed[];
  readonly variants: readonly Variant[];
  readonly results: ResultsFile;
  /** Whether every variant is also asked how far its next-token distributions are from the full cache's. */
  readonly kl: boolean;
  /** Off: one reading per press, the plain way. Results are the same; time is not. */
  readonly shareReadings?: boolean;
  onSample?(done: number, total: number): void;
  readonly signal?: AbortSignal;
}

export interface RunSummary {
  answered: number;
  /** Times that a context was read, by itself or for an answer. */
  readings: number;
  /** What a press refused, by variant: the first reason, and how many samples. */
  refused: Map<string, { why: string; samples: number }>;
}

const GREEDY = { temperature: 0, topK: 0, topP: 1, minP: 0, frequencyPenalty: 0, presencePenalty: 0, stop: [], topLogprobs: null, ignoreEos: false };

/** Samples of equal context in a row share one reading. */
export async function run(options: RunOptions): Promise<RunSummary> {
  const { engine, samples, variants, results, kl, signal } = options;
  const summary: RunSummary = { answered: 0, readings: 0, refused: new Map() };
  const last: (Reading | null)[] = [];
  results.describe(variants.map(({ key, request }) => [key, madeOf(request)]));
  const isMissing = ({ sample }: Placed, { key }: Variant): boolean => !results.has({ sample: sample.id, variant: key }, kl);
  const left = samples.filter((placed) => variants.some((variant) => isMissing(placed, variant))); // those of a run before take no time, and are no measure of what the others take
  options.onSample?.(0, left.length);
  for (const [i, placed] of left.entries()) {
    signal?.throwIfAborted();
    const missing = variants.filter((variant) => isMissing(placed, variant)); // none where the sample is there twice
    const prompt = promptOf(engine, placed.sample, missing, summary);
    if (prompt !== null && missing.length > 0) {
      const answers: Answer[] = [];
      for (const [g, group] of sharing(await ableOf(engine, prompt, missing, placed.sample, summary)).entries()) {
        if (options.shareReadings !== false && group.length > 0) {
          const presses = group.map(({ request }) => request);
          const before = last[g] ?? null;
          last[g] = await engine.readOnce(prompt, presses, signal, before);
          if (last[g] !== before) summary.readings++;
        }
        answers.push(...(await answerAll(options, placed, prompt, group, last[g] ?? null, summary)));
      }
      results.append(answers); // all of a sample at once
      summary.answered += answers.length;
    }
    options.onSample?.(i + 1, left.length);
  }
  return summary;
}

/** Those that may share a reading: presses that act while decoding alone have the prompt read whole, whatever the scope of the others. */
function sharing(variants: readonly Variant[]): Variant[][] {
  const readsWhole = ({ request: { presses } }: Variant): boolean => presses.length > 0 && presses.every(({ schedule }) => !schedule.part.prefill);
  return [variants.filter((variant) => !readsWhole(variant)), variants.filter(readsWhole)];
}

/** Those that this prompt is not refused with. */
async function ableOf(
  engine: EdgeEngine,
  prompt: PromptInput,
  variants: readonly Variant[],
  sample: Sample,
  { refused }: RunSummary,
): Promise<Variant[]> {
  const able: Variant[] = [];
  for (const variant of variants) {
    try {
      await engine.plan({ prompt, press: variant.request, maxTokens: sample.maxNewTokens });
      able.push(variant);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      refuse(refused, variant, error);
    }
  }
  return able;
}

/** Null where it is so long that it is not even tokenised, or the model's template refuses it: then every variant is refused it. */
function promptOf(
  engine: EdgeEngine,
  { context, question, answerPrefix }: Sample,
  variants: readonly Variant[],
  { refused }: RunSummary,
): PromptInput | null {
  try {
    return engine.encode({ kind: 'question', context, question, answerPrefix });
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    for (const variant of variants) refuse(refused, variant, error);
    return null;
  }
}

function refuse(refused: RunSummary['refused'], { key }: Variant, { message }: InputError): void {
  const entry = refused.get(key) ?? { why: message, samples: 0 };
  refused.set(key, { ...entry, samples: entry.samples + 1 });
}

async function answerAll(
  { engine, kl, signal }: RunOptions,
  { sample, length }: Placed,
  prompt: PromptInput,
  variants: readonly Variant[],
  reading: Reading | null,
  summary: RunSummary,
): Promise<Answer[]> {
  const ask = { engine, prompt, seed: new Random('press', sample.id).bits(), maxTokens: sample.maxNewTokens, reading: reading ?? undefined, signal };
  const along = kl && variants.length > 0 ? await fullCache(ask) : null;
  const answers: Answer[] = [];
  for (const { key, press, ratio, request } of variants) {
    const served = reading?.served ?? 0;
    const evicts = decodingPress(request.presses) !== null; // it may come to another cache along other tokens
    const divergence = along && (evicts ? await divergenceOf(ask, request, along) : new Divergence(along));
    const { text, usage } = await answerOf(ask, request, evicts ? null : divergence);
    if ((reading?.served ?? 0) === served) summary.readings++; // it needed more than the reading has, and read by itself
    answers.push({
      sample: sample.id,
      variant: key,
      task: sample.task,
      length,
      depth: sample.depth ?? null,
      words: sample.words ?? null,
      groups: { ...sample.groups },
      press,
      ratio,
      prediction: text,
      answers: [...sample.answers],
      score: scoreOf(text, sample),
      weight: (sample.metric && METRICS[sample.metric].weight?.(sample)) ?? 1,
      other_scores: Object.fromEntries((sample.alsoMetrics ?? []).map((metric) => [metric, scoreOf(text, sample, metric)!])),
      kl: divergence?.mean ?? null,
      tokens: usage.promptTokens,
      covered: usage.kvCache.tokens,
      compression_ratio: usage.kvCache.compression_ratio,
      bytes_kept: usage.kvCache.decoding?.bytes_end ?? usage.kvCache.bytes_kept,
      bytes_full: fullBytes(usage),
      kept_per_layer: usage.kvCache.kept_per_layer,
      lmba_per_layer: usage.kvCache.lmba_per_layer,
      retained_mass_per_layer: usage.kvCache.retained_mass_per_layer,
      notes: [...usage.kvCache.notes, ...(usage.kvCache.decoding?.notes ?? [])],
    });
  }
  return answers;
}

/** What the full cache would hold: after the prompt, or, where a press acts while decoding, after the answer, up to the rounding to pages. */
function fullBytes({ promptTokens: n, completionTokens, kvCache: { bytes_full, decoding } }: Usage): number {
  return decoding ? Math.round((bytes_full * (n + completionTokens - 1)) / n) : bytes_full; // the last token is not read
}

interface Ask {
  readonly engine: EdgeEngine;
  readonly prompt: PromptInput;
  readonly seed: number;
  readonly maxTokens: number;
  readonly reading: Reading | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Greedy; from the same cache `along` takes the logits that it asks for. */
async function answerOf(
  { engine, prompt, seed, maxTokens, reading, signal }: Ask,
  press: PressRequest,
  along: Along | null = null,
): Promise<{ text: string; tokens: number[]; usage: Usage }> {
  const sampling = { ...GREEDY, maxTokens, seed };
  const tokens: number[] = [];
  let text = '';
  for await (const event of engine.generate({ prompt, press, sampling, reading, along: along ?? undefined }, signal)) {
    if (event.type === 'text') {
      text += event.text;
      tokens.push(...event.tokenIds);
    }
    if (event.type === 'finish') return { text, tokens, usage: event.usage };
  }
  throw new Error('an answer without an end');
}

/** What the full cache answers, and the log probabilities of every next token on the way. */
interface FullAnswer {
  readonly tokens: readonly number[];
  readonly logProbabilities: readonly Float64Array[];
}

async function fullCache(ask: Ask): Promise<FullAnswer> {
  const press = parsePress('no_press');
  const { tokens } = await answerOf(ask, press);
  const logProbabilities: Float64Array[] = [];
  for await (const logits of ask.engine.follow({ ...ask, press, tokens }, ask.signal)) logProbabilities.push(logSoftmax(logits));
  return { tokens, logProbabilities };
}

/** Mean over the tokens of the full cache's answer, and the one after it, of sum p log(p / q), nats: p with the full cache, q with another. */
class Divergence implements Along {
  readonly tokens: readonly number[];
  readonly #full: FullAnswer['logProbabilities'];
  #sum = 0;
  #count = 0;

  constructor({ tokens, logProbabilities }: FullAnswer) {
    this.tokens = tokens;
    this.#full = logProbabilities;
  }

  take(logits: Float32Array): void {
    this.#sum += klDivergence(this.#full[this.#count++], logSoftmax(logits));
  }

  get mean(): number {
    return this.#sum / this.#count;
  }
}

async function divergenceOf(ask: Ask, press: PressRequest, full: FullAnswer): Promise<Divergence> {
  const divergence = new Divergence(full);
  for await (const logits of ask.engine.follow({ ...ask, press, tokens: full.tokens }, ask.signal)) divergence.take(logits);
  return divergence;
}

/** KL(p || q) in nats, of log probabilities. */
export function klDivergence(p: Float64Array, q: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < p.length; i++) sum += Math.exp(p[i]) * (p[i] - q[i]);
  return Math.max(0, sum); // less by rounding alone
}

export function logSoftmax(logits: Float32Array): Float64Array {
  let most = -Infinity;
  for (const value of logits) most = Math.max(most, value);
  let sum = 0;
  for (const value of logits) sum += Math.exp(value - most);
  const log = Math.log(sum);
  return Float64Array.from(logits, (value) => value - most - log);
}
