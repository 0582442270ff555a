/** What the API and the CLI say to the engine, and hear from it. No HTTP here. */
import type { PressRequest, Scope } from '../../presses/contract.ts';
import type { EntryType } from '../backend/backend.ts';
import type { HiddenType } from './hidden-rows.ts';
import type { Reading } from './reading.ts';
import type { Reusable } from './reusable.ts';
import type { RangeReader } from './weights/source.ts';

export interface Sampling {
  readonly maxTokens: number | null; // null = as many as the context length allows
  readonly temperature: number; // 0 = greedy
  readonly topK: number; // 0 = off
  readonly topP: number; // 1 = off
  readonly minP: number; // 0 = off
  readonly seed: number | null; // null = a random one
  readonly frequencyPenalty: number;
  readonly presencePenalty: number;
  readonly stop: readonly string[];
  /** Null = none; else how many alternatives to report beside the chosen token (0..20). */
  readonly topLogprobs: number | null;
  readonly ignoreEos: boolean;
}

export interface ChatMessage {
  readonly role: string;
  /** Text parts in order; a plain string is one part. */
  readonly parts: readonly string[];
}

export type PromptInput =
  | { readonly kind: 'chat'; readonly messages: readonly ChatMessage[] }
  | { readonly kind: 'text'; readonly text: string }
  /** `boundary`: how many of them scope "context" covers. */
  | { readonly kind: 'tokens'; readonly tokens: readonly number[]; readonly boundary?: number | null }
  /**
   * As kvpress's pipeline asks about a document: one user turn by the chat template, what the answer begins with behind it, where the template writes answers;
   * without a template context, question and a line break. Scope "context" is the context.
   */
  | { readonly kind: 'question'; readonly context: string; readonly question: string; readonly answerPrefix: string };

/** A prompt of which only the length matters: planning needs no tokens. */
export interface PromptLength {
  readonly kind: 'length';
  readonly tokens: number;
}

export interface GenerateRequest {
  readonly prompt: PromptInput;
  readonly press: PressRequest;
  readonly sampling: Sampling;
  /** What the press covers, read before (EdgeEngine.readOnce). Where it does not hold all that the press looks at, the prompt is read as without it. */
  readonly reading?: Reading;
  /** Before the answer: what the logits are along other tokens, as many as it may have at most. */
  readonly along?: Along;
}

export interface Along {
  readonly tokens: readonly number[];
  /** Takes the logits [vocab] after the prompt and after each of the tokens, tokens.length + 1 times. They are the caller's. */
  take(logits: Float32Array): void;
}

/** What is to be read and pressed once, for many requests. */
export interface HoldRequest {
  /** Of a chat all is held up to where the next part of what the user says begins, of a question its context. */
  readonly prompt: PromptInput;
  /** Scope "context", the default, and "prompt" are all that is held. */
  readonly press: PressRequest;
  /** For presses that draw; null = a random one. */
  readonly seed?: number | null;
}

/**
 * The cache of a prompt that was read and pressed once. Requests mount it: each reads only what stands behind it, in a copy of its own of the pages that it writes
 * to, as many at once as there is room for. It never changes, and stays until it is closed.
 */
export interface Held {
  readonly tokens: readonly number[];
  /** Every request behind it is under this press, which may go on acting while they decode. */
  readonly press: PressRequest;
  readonly entryType: EntryType;
  /** As of a request that had this prompt. */
  readonly kvCache: KvCacheUsage;
  readonly timings: Timings;
  /** On the device: pages, and what its press remembers for when it acts while decoding. */
  readonly bytes: number;
  /** Gives everything back, but for pages that a request still has mounted: those go with the last of them. Twice is once. */
  close(): void;
}

/** A request that goes on behind a held context, under its press. */
export interface MountedRequest {
  /** All of it: what is held, and a token more at least. Its positions go on where those of the context ended. */
  readonly prompt: PromptInput;
  readonly held: Held;
  readonly sampling: Sampling;
}

export interface TokenLogprob {
  readonly token: string;
  readonly tokenId: number;
  readonly bytes: number[];
  readonly logprob: number;
  readonly top: readonly { token: string; tokenId: number; bytes: number[]; logprob: number }[];
}

/** usage.kv_cache, as on the wire. */
export interface KvCacheUsage {
  press: string;
  scope: Scope;
  compression_ratio: number;
  tokens: number; // tokens that the scope covered
  kept_per_layer: number[]; // of those tokens, mean over the KV heads
  added_per_layer?: number; // entries that the press added to every layer and KV head beside them; compression_ratio has them among the kept
  lmba_per_layer: (number | null)[];
  retained_mass_per_layer: (number | null)[];
  bytes_full: number; // pages the whole prompt would take uncompressed, same entry type
  bytes_kept: number; // pages really held after the prompt was read
  bytes_shared?: number; // of bytes_kept, pages of a held context that this request has mounted: they are there once for all
  bytes_peak: number; // pages plus the one layer's K,V in scratch, at the highest point
  layer_budget: string;
  entry_type: EntryType;
  notes: string[];
  /** Present where the press says "explain": true and removes something. */
  explain?: Explanation;
  /** In the usage of a whole answer, where a press acts while decoding. */
  decoding?: DecodingUsage;
}

/** What a press did while the answer grew. */
export interface DecodingUsage {
  compressions: number; // times that it removed something
  entries_per_layer: number[]; // held after the last token, mean over the KV heads: prompt and answer
  bytes_end: number; // pages held then
  notes: string[];
}

/** What was kept, and what other layer budgets would have dealt of the same prompt: tokens per layer. */
export interface Explanation {
  /** [L][H] original positions, best score first; the protected ones before them. */
  kept: number[][][];
  other_layer_budgets: { layer_budget: string; budgets: number[] | null; why: string | null }[];
}

export interface Usage {
  promptTokens: number;
  /** Of these, those of the held context that was mounted: they were read before. */
  cachedTokens: number;
  completionTokens: number;
  kvCache: KvCacheUsage;
}

/**
 * Milliseconds of this request's own compute. What it waited for room, for its turn among others or for a slow client is in none of them, so
 * that they do not change with the crowd; their sum is less than the time between question and answer.
 */
export interface Timings {
  prefillMs: number; // reading the prompt, the part after the press's scope too
  pressMs: number; // the press's passes over the prompt, scoring and selecting, storing what is kept; 0 without a press
  decodeMs: number; // sampling, and reading every token generated but the last
}

export type GenerateEvent =
  /** The prompt is read and pressed; tokens follow. */
  | { readonly type: 'prompt'; readonly promptTokens: number; readonly kvCache: KvCacheUsage }
  /** Text that is final: nothing that could be the start of a stop string or of an unfinished UTF-8 character. */
  | { readonly type: 'text'; readonly text: string; readonly tokenIds: readonly number[]; readonly logprobs: readonly TokenLogprob[] }
  | { readonly type: 'finish'; readonly reason: 'stop' | 'length'; readonly usage: Usage; readonly timings: Timings };

/** What a press would do to a prompt, without running it. */
export interface PressPlan {
  press: string;
  scope: Scope;
  tokens: number; // tokens that the press covers
  prompt_tokens: number;
  compression_ratio: number;
  average_budget: number;
  added_per_layer?: number; // entries on top, which compression_ratio counts as kept
  per_layer: { min: number; max: number }[];
  exact: boolean; // true when min = max in every layer
  entry_type: EntryType;
  bytes_full: number;
  bytes_kept: number; // most that the pages can take after the prompt is read, page rounding included
  bytes_peak: number; // most at the highest point of the prefill
  bytes_press: number; // most that the press works with meanwhile, outside the cache
  pool_bytes: number;
  fits: boolean;
}

export interface ModelInfo {
  readonly id: string;
  readonly family: string;
  readonly parameters: number;
  readonly layers: number;
  readonly contextLength: number;
  readonly vocabSize: number;
  readonly weightBytes: number;
  /** SHA-256 of config and weights, in hexadecimal digits: what tells apart two models of one name. */
  readonly fingerprint: string;
  /** Matrices in fewer bits than the file has, such as "embed: Q8_0 to q4"; absent: none. */
  readonly requantised?: readonly string[];
}

export interface Health {
  status: 'ok';
  model: ModelInfo;
  backend: { name: string; variant: string };
  memory: {
    used_bytes: number;
    peak_bytes: number;
    /** Null: a GPU's driver decides. */
    limit_bytes: number | null;
    /** Of the limit, for buffers outside the engine's memory: the peak is without them. */
    beside_bytes: number;
    weights_bytes: number;
    /** Activations of a chunk of tokens, logits, the kernels' own data. */
    fixed_bytes: number;
    kv_pool_bytes: number;
    kv_used_bytes: number;
    kv_reserved_bytes: number;
    ledger_bytes: number;
    /** What reading a prompt finds, and its press; one is read at a time. Null: a GPU's driver decides. */
    reading_bytes: number | null;
    /** Tokens of the longest prompt that can be read in that under a usual press. */
    longest_prompt: number;
    /** How hidden states of a prompt that is read are kept from layer to layer. */
    hidden_type: HiddenType;
  };
  requests: { running: number; waiting: number };
  /** Held contexts, how many can be, and the device's bytes that they take: their pages are among kv_used_bytes. */
  contexts: { held: number; most: number; bytes: number };
}

/** The engine as the API and the CLI see it. Methods throw InputError for the caller's mistakes. */
export interface Engine {
  readonly info: ModelInfo;
  health(): Health;
  /** Tokens of a prompt, by the model's tokenizer and chat template. */
  tokenise(prompt: PromptInput): readonly number[];
  plan(request: { prompt: PromptInput | PromptLength; press: PressRequest; maxTokens: number | null }): Promise<PressPlan>;
  /**
   * Checks, queues, reads the prompt, decodes. Checks happen before the first event and before any compute. Ending the iteration early
   * (return, throw, or `signal`) gives back every page. An aborted run throws the signal's reason.
   */
  generate(request: GenerateRequest | MountedRequest, signal?: AbortSignal): AsyncGenerator<GenerateEvent, void, void>;
  /** Reads and presses a prompt once, for requests to go on behind it. Checks and queues as `generate`. */
  hold(request: HoldRequest, signal?: AbortSignal): Promise<Held>;
  /** A held context as a file (pressed/format.md), its rows of `entryType`, and how many bytes that is. */
  writePressed(
    held: Held,
    options?: { entryType?: EntryType },
    signal?: AbortSignal,
  ): { readonly bytes: number; readonly chunks: AsyncIterable<Uint8Array> };
  /** Holds what such a file has. */
  mount(file: Uint8Array | RangeReader, options?: { press?: PressRequest | null }, signal?: AbortSignal): Promise<Held>;
  /** Which held contexts give this request the answer that it gets without one; null: none does. */
  reusable(request: Pick<GenerateRequest, 'prompt' | 'press'>): Reusable | null;
  close(): void;
}
