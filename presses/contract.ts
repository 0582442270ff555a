/**
 * What a press is made of. A press is a value, a composition of parts without state: scorer x layer budget x head budget x selection x transforms x schedule.
 * Every part is interchangeable with every other; what cannot go together says so in `refuses`. Rounding, caps and protected tokens live once, beside this contract.
 *
 * n tokens of the pressed scope, L layers, H KV heads, N counts n. Scores are [H, n] f32, higher = keep.
 */
import type { z } from 'zod';
import type { AttentionShape, Backend, DeviceBuffer, EntryType, MassMap, Protected, RankOrder, View, Weight } from '../worker/backend/backend.ts';
import type { ArtifactNeed, ArtifactOf } from './artifacts.ts';
import type { BudgetMath } from './budget-math.ts';
import type { KnownScores } from './known-scores.ts';

/** One layer's tensors, right after its attention was computed with all of them. */
export interface LayerTensors {
  readonly layer: number; // 0-based
  readonly n: number;
  readonly k: View; // [n, H, d] f32, after RoPE
  readonly v: View; // [n, H, d] f32
  /** The last `window` queries, after RoPE, [window, Hq, d]; window <= what the compressor asked for. */
  readonly q: View;
  readonly window: number;
  /** The attention module's input (after the layer's norm), [n, D] f32; null unless a part reads it (`hidden`). */
  readonly hidden: View | null;
  /** What attention changed: of each token of the prompt the cosine of the hidden state before and after it, [tokens] f32. Absent unless a part reads it. */
  readonly change?: { readonly cosines: View; readonly tokens: number } | null;
  /** The rotary table of positions 0..n-1, [n, d] f32: cos (d/2), then sin (d/2). */
  readonly rope: View;
  readonly shape: AttentionShape;
  readonly model: LayerModel;
  /** Of a layer that other presses are handed too: what scorers made of it, to be found again. Absent where nobody else is. */
  readonly known?: KnownScores | null;
}

/** What a press may know of the layer's weights. */
export interface LayerModel {
  readonly hiddenSize: number; // D
  readonly invFreq: Float32Array; // [d/2], the model's own, RoPE scaling in it
  /** W_o [D, Hq*d]: what attention's output goes through. */
  readonly output: Weight;
}

/** Some rows of a pass over the prompt, in one layer: `n` tokens of the prompt lie before the pass's own. */
export interface PassTensors {
  readonly layer: number; // 0-based
  readonly pass: number; // 0-based: which of the passes
  readonly length: number; // its tokens
  readonly n: number;
  readonly start: number; // rows of this pass before these
  readonly rows: number;
  readonly q: View; // [rows, Hq, d] f32, after RoPE at positions n + start, ...
  readonly k: View; // [n + start + rows, H, d] f32, after RoPE: the prompt's, then the pass's up to these rows
  readonly v: View; // [n + start + rows, H, d] f32
  readonly hidden: View; // [rows, D] f32, the attention module's input
  readonly hiddenSize: number; // D
  readonly shape: AttentionShape;
}

export interface PassContext extends PassTensors {
  readonly backend: Backend;
  /** Where the layer's passes are added up, [Hq, n] f32; not cleared before. */
  readonly sums: View;
  readonly compat: boolean;
  /** Scratch that lives until these rows are done. */
  scratch(bytes: number, label: string): DeviceBuffer;
}

/** What is known of the prompt when passes are planned. */
export interface PassPrompt {
  readonly tokens: readonly number[]; // the n that are pressed
  /** Throws InputError where the model came without a tokenizer. */
  encode(text: string): readonly number[];
  /** What the chat template writes between a user's words and the answer; a line break where there is none. */
  readonly answerStart: string;
  /** How an error names one of the scorer's parameters. */
  param(field: string): string;
}

/**
 * Further passes of the model over the prompt, for scorers that ask it something. The tokens of each stand at positions n, n+1, ..., see the whole
 * prompt and themselves, causally, and are forgotten afterwards. Layer by layer: one layer's passes come right before its `score`.
 */
export interface Passes<S extends z.ZodObject = z.ZodObject> {
  tokens(prompt: PassPrompt, params: z.infer<S>): readonly (readonly number[])[];
  /** Called for all rows of pass 0, then of pass 1, ... of every layer. */
  observe(context: PassContext, params: z.infer<S>): void;
  /** Device bytes that `observe` borrows, at most. */
  scratchBytes(size: PassScratchSize, params: z.infer<S>): number;
}

export interface ScoreContext extends LayerTensors {
  readonly backend: Backend;
  /** What the passes of a scorer that has some were added up to in this layer, [Hq, n] f32; else null. */
  readonly sums: View | null;
  readonly layers: number; // L
  /** A random number of this request, for scorers that draw and were given no seed. */
  readonly seed: number;
  /** Scratch that lives until this layer is done; the compressor frees it on every path. */
  scratch(bytes: number, label: string): DeviceBuffer;
  /** How an error names the scorer, or one of its parameters. */
  param(field?: string): string;
  /** A line for the report. Said twice, it stands there once. */
  note(text: string): void;
  /** A check of what is on its way back from the device: nobody waits for it before the end, and where it throws, the request fails with that. */
  later(check: Promise<void>): void;
  /** r of the press; scorers whose formula has it. */
  readonly compressionRatio: number;
  readonly compat: boolean;
  /** Where row 0 of k, v, q and hidden stands in the prompt: 0, but where a selection has one part of it after the other scored. */
  readonly start: number;
  /** [H] where rows of k and v stand in the prompt, where an earlier press of a composition left few of them, or a selection took some: row t of head h at positions[h][start + t]; null = at start + t. */
  readonly positions: readonly Uint32Array[] | null;
  /** Where what follows these rows stands: start + n, but where there are gaps between rows. */
  readonly end?: number;
  /** Which of the layer's KV heads the first one here is: 0, but where heads of unequal length are scored one after the other. Default 0. */
  readonly firstHead?: number;
  /** How often the press acted on this sequence before: 0 on a prompt. Default 0. */
  readonly step?: number;
  /** What is the same in every layer of a request, made by the first that asks for `key`. On the host. */
  once<T>(key: string, make: () => T): T;
  /** The trained data that the part's `artifact` asks for, by the name in its parameter. On the host: a scorer writes what it needs of it into scratch. */
  readonly artifact: ArtifactOf;
}

/** What a selection ranks by. */
export interface RankContext extends ScoreContext {
  readonly keep: Protected;
  /** How many rows of every head's order are wanted, the protected among them: n, or the exact budget where that is all that will ever be asked for. */
  readonly count: number;
  /** n_avg of the press. */
  readonly averageBudget: number;
  /** The scorer, on this layer or on a part of it. */
  score(context: ScoreContext): View;
  /** What the scorer would protect of n tokens, were they the whole prompt. */
  protects(n: number): Protected;
  /** Of a head budget that counts before ranking: what each head keeps of these evictable scores, best first, and how many of its best for sure; else null. */
  readonly headCounts: ((sorted: readonly Float32Array[]) => { readonly counts: readonly number[]; readonly sure: number }) | null;
}

export interface Ranked {
  readonly scores: View; // [H, n] f32
  readonly order: View; // [H, count] u32: protected tokens first, then best first
}

/** A scored layer, as a layer budget measures it. */
export interface SignalContext extends ScoreContext {
  readonly scores: View; // [H, n] f32
  readonly order: View; // [H, n] u32, full rank orders
  readonly keep: Protected;
  readonly averageBudget: number;
  readonly massMap: MassMap | null;
  readonly scorerQueries: number; // W of the scorer, 0 = it reads no queries
}

/** What a part tells of itself: /v1/presses, the README's table. `formula` is one line of plain text. */
export interface PartInfo<S extends z.ZodObject> {
  readonly name: string; // snake_case, as on the wire
  readonly summary: string;
  readonly paper: string | null; // "arXiv 2404.14469"
  readonly formula: string;
  /** What it reads, in words for a reader: "keys", "the last window_size queries", ... */
  readonly needs: string;
  readonly params: S;
  /** It is there to compare this part with, in studies; `explain` does not tell what it would have dealt. */
  readonly controlOf?: string;
  /** A word on why, where it takes more than 5% of the time of reading 4,096 tokens. */
  readonly cost?: string;
  /** It settles how much is kept by itself, by these parameters: no compression_ratio, no memory_budget, no other budget beside it. */
  readonly decidesTotal?: string;
  /** Of such a part: why that is everything, in words for the report, where it shows before the prompt is read; else null. */
  keepsAll?(context: BudgetContext, params: z.infer<S>): string | null;
  /** Trained data that it reads, and the parameter that names the file: read and checked before `context.artifact` is asked. */
  readonly artifact?: ArtifactNeed;
  /** Device bytes that it borrows on one layer, beside what every part of its kind takes (worker/engine/press-bytes.ts). */
  scratchBytes?(size: ScratchSize, params: z.infer<S>): number;
  /** Why this part cannot work with the others of a press, or null; "what, why, what would work". Asked when a config is parsed. */
  refuses?(press: PressParts, params: z.infer<S>): string | null;
}

export interface ScratchSize {
  readonly n: number;
  readonly window: number; // queries that are handed over
  readonly queryHeads: number; // Hq
  readonly kvHeads: number; // H
  readonly headDim: number; // d
  readonly hiddenSize: number; // D
  /** There where a part of the press reads one. */
  readonly artifact?: ArtifactOf;
}

export interface PassScratchSize extends Omit<ScratchSize, 'window'> {
  readonly longest: number; // tokens of the longest pass
  readonly rows: number; // most rows at once
}

/** A part and its parameters, all filled in. */
export interface Chosen<P> {
  readonly part: P;
  readonly params: Record<string, unknown>;
}

export interface PressParts {
  readonly scorer: Chosen<Scorer>;
  readonly layerBudget: Chosen<LayerBudget>;
  readonly headBudget: Chosen<HeadBudget>;
  readonly selection: Chosen<Selection>;
  readonly transforms: readonly Chosen<Transform>[];
  readonly schedule: Chosen<Schedule>;
}

/** How much does each (head, token) matter? Scores and protected tokens are two things: what is protected counts in selection only. */
export interface Scorer<S extends z.ZodObject = z.ZodObject> extends PartInfo<S> {
  /** How many of the last queries `score` needs (W); 0 = none, Infinity = those of all tokens. */
  queries(params: z.infer<S>): number;
  /** It reads `hidden`. Where it is `perToken` too it works while decoding, where it is handed hidden states alone, of some tokens at a time. */
  readonly hidden?: boolean;
  /** It has the model read further tokens over the whole prompt before it scores. */
  readonly passes?: Passes<S>;
  protect(params: z.infer<S>, n: number, compat?: boolean): Protected;
  /** The parameter that sets how many tokens are protected, for error messages; null = none does. */
  readonly protectedBy: string | null;
  /** Scores of different heads have a common unit, so that a head budget may compare them; where they have none, the report says so. */
  readonly comparable: boolean;
  /** Its window is the question: of use only where what is pressed ends in one. */
  readonly question?: boolean;
  /** A token's score depends on that token alone, and on no other of the prompt: a fixed threshold has a meaning, and new tokens can be scored one by one. */
  readonly perToken?: boolean;
  /** With queries Infinity: the last ones of all do as well. So it can work while decoding, where hidden_states_buffer_size of them are remembered. */
  readonly someQueries?: boolean;
  /** From scores to masses for LMBA; null = the scores say nothing about layers (budgets would come out equal), which is refused with zigzag. */
  readonly massMap: MassMap | null;
  /** Returns scores [H, n] f32. Values at protected places are not read. */
  score(context: ScoreContext, params: z.infer<S>): View;
}

/** What a layer budget may know. */
export interface BudgetContext {
  readonly layers: number; // L
  readonly tokens: number; // n, the most that a layer has
  readonly caps: readonly number[]; // [L] tokens that each layer has: all n, unless an earlier press left unequal layers
  readonly even: readonly number[]; // [L] what each layer keeps at the press's own ratio or memory budget: n_avg where caps are equal
  readonly averageBudget: number; // n_avg = floor(sum(even) / L), tokens per layer and KV head
  readonly protectedTokens: number; // P
  readonly compressionRatio: number;
  readonly compat: boolean;
  readonly kvHeads: number;
  readonly math: BudgetMath;
  readonly artifact: ArtifactOf;
}

interface LayerBudgetPart<S extends z.ZodObject> extends PartInfo<S> {
  /** False when every layer gets its even share: layers that were equal stay equal. */
  readonly ragged: boolean;
  /** For parameters that hold the layers' ratios themselves: which one, and what it amounts to. Absent = `compression_ratio` or `memory_budget` decides. */
  readonly ownRatio?: { readonly param: string; mean(params: z.infer<S>): number };
  /**
   * Entitlements of layers 0..m once their signals are known (m+1 = signals.length for a measured budget, all layers at once for a planned one).
   * Before the last layer: upper limits that can only fall (ceilings). At the last layer: the exact budgets. Whole numbers; multiples of 1/H
   * where `perEntry` says so.
   */
  limits(signals: readonly Signal[], context: BudgetContext, params: z.infer<S>): number[];
  /** It deals single entries, not tokens of all heads: its budgets times H are whole numbers, and only a head budget that is ragged can share them. */
  readonly perEntry?: boolean;
  /** Entries that are kept of all layers and heads, where that is not H times the even shares: single ones, or kvpress's rounding. */
  entries?(context: BudgetContext, params: z.infer<S>): number;
  /** False: earlier layers' limits may rise as later layers are seen, so that every layer is stored whole until the end. */
  readonly cascades?: boolean;
  /** The same, under compat alone. */
  readonly cascadesInCompat?: boolean;
  /** The least and the most that any layer can get: for /v1/press/plan, without running. */
  bounds(context: BudgetContext, params: z.infer<S>): { min: number; max: number }[];
}

/** Budgets that are known before the prompt is read. */
export interface PlannedBudget<S extends z.ZodObject = z.ZodObject> extends LayerBudgetPart<S> {
  readonly signal: 'none';
  /** Where its rule could not be kept to on this prompt and another stands in: why, in words for the report; else null. */
  fallback?(context: BudgetContext, params: z.infer<S>): string | null;
}

/** What is measured of one layer: MBA of each head, an entropy, scores in falling order, ... */
export type Signal = ArrayLike<number>;

/** Budgets that depend on what every layer shows. */
export interface MeasuredBudget<S extends z.ZodObject = z.ZodObject> extends LayerBudgetPart<S> {
  readonly signal: 'measured';
  /** How many of the last queries `measure` needs; `scorerQueries` is the scorer's W. */
  queries(params: z.infer<S>, scorerQueries: number): number;
  measure(context: SignalContext, params: z.infer<S>): Promise<Signal>;
  /** It reads `change`. */
  readonly change?: boolean;
  /** What later calls of `limits` need of a layer's signal, once they said `limit`: for signals as long as the layer. Absent = all of it. */
  held?(signal: Signal, limit: number, context: BudgetContext): Signal;
  /** Why its rule says nothing of these layers, in words for the report; null where it does. Asked once all are known. */
  fallback?(signals: readonly Signal[], params: z.infer<S>): string | null;
  /** LMBA_l, where the signal is that. */
  lmba?(signal: Signal): number;
}

/**
 * How many tokens may each layer keep? Contract of every layer budget: exact integers, sum = sum(even) = L * averageBudget after caps and
 * rounding (kvpress's own rounding under compat; per_layer sets its own sum), each between P and n. A budget sees one number per
 * layer; only `measure` sees tensors.
 */
export type LayerBudget<S extends z.ZodObject = z.ZodObject> = PlannedBudget<S> | MeasuredBudget<S>;

/** How is a layer's budget shared over its KV heads? Total is exactly H * b; each head's share can only fall as b falls. */
export interface HeadBudget<S extends z.ZodObject = z.ZodObject> extends PartInfo<S> {
  /** False when every head gets b: then no scores are read back. */
  readonly ragged: boolean;
  /** The number of tokens that each head keeps, protected ones included. */
  counts(layer: RankedLayer, budget: number, context: BudgetContext, params: z.infer<S>): number[];
  /** Where it decides the total: the least and the most that any layer can get, mean over its heads. */
  bounds?(context: BudgetContext, params: z.infer<S>): { min: number; max: number }[];
  /** Beside `decidesTotal`: its counts go by lengths alone, so that it can say them of a running sequence too, again and again. kvpress has none that does. */
  readonly whileDecoding?: boolean;
  /** How many of its best every head keeps for sure. A head budget that has it counts before the selection ranks, and the layer's budget must be planned. */
  sure?(budget: number, context: BudgetContext, params: z.infer<S>): number;
}

/** A ranked layer on the host. */
export interface RankedLayer {
  readonly index: number; // 0-based
  readonly protectedTokens: number; // P
  /** [H] scores of the evictable tokens, best first: as many as are still held. Empty where no part asks for them. */
  readonly sorted: readonly Float32Array[];
}

/**
 * Which entries are kept, given scores and budgets? A selection turns scores into one order of every head's rows; a budget of b keeps the first b.
 */
export interface Selection<S extends z.ZodObject = z.ZodObject> extends PartInfo<S> {
  /** How many of the last queries it needs beside the scorer's own; `scorerQueries` is the scorer's W. */
  queries?(params: z.infer<S>, scorerQueries: number): number;
  /** What it keeps whatever the scores say, beside what the scorer protects. */
  protect?(params: z.infer<S>, n: number): Protected;
  rank(context: RankContext, params: z.infer<S>): Ranked | Promise<Ranked>;
  /** Where the order alone does not say how much is kept: the counts of each head, instead of the head budget's. Scores are read back for it. */
  counts?(layer: RankedLayer, budget: number, context: BudgetContext, params: z.infer<S>): number[];
  /** Beside `counts`: the least and the most that any layer can get. */
  bounds?(context: BudgetContext, params: z.infer<S>): { min: number; max: number }[];
  /** `counts` is kvpress's rounding: only under compat; else the head budget deals the exact total. */
  readonly countsInCompat?: boolean;
  /** All heads and layers of equal length count the same. */
  readonly evenCounts?: boolean;
  /** The scores that it hands back are ranks or shares, which say no more whether the scorer's were numbers. */
  readonly ownScores?: boolean;
  /** It can rank what is left of a running sequence too, one head after the other where they differ. */
  readonly whileDecoding?: boolean;
  /** It must know the exact budget before it ranks, the same for all heads. */
  readonly exact?: boolean;
}

/** What is stored of a layer, before it is stored. */
export interface TransformContext extends ScoreContext {
  readonly order: RankOrder; // rows of k, v
  readonly counts: readonly number[]; // [H] rows kept of each head's order
  /** Of a running sequence: its heads, how many tokens were read since something went last, and numbers in [0, 1) from the request's seed. Else absent. */
  readonly running?: { readonly heads: readonly RunningHead[]; readonly steps: number; random(): number };
  /** The rows that the press chose from, ascending; null = all n, as they are unless an earlier press of a composition took some. */
  readonly among: RankOrder | null;
  readonly keep: Protected;
}

/** What a transform while decoding knows of one head's rows, on the host. */
export interface RunningHead {
  /** [n] where each row stood in the text. */
  readonly positions: Uint32Array;
  /** [n] rows in rank order: the first `kept` stay. */
  readonly ranks: Uint32Array;
  readonly kept: number;
  readonly scores: Float32Array; // [n]
  /** [n] the attention that each row received from every token since it was stored, mean over the group's query heads. */
  readonly attention: Float64Array;
}

/** What becomes of kept entries, by way of those that go? Changes k and v in place, right before the kept rows are stored. Its budgets must be final then. */
export interface Transform<S extends z.ZodObject = z.ZodObject> extends PartInfo<S> {
  /** How many of the last queries it needs. */
  queries?(params: z.infer<S>): number;
  /** It acts on what stays alone: no matter which budgets fall later. */
  readonly anyBudget?: boolean;
  /** It changes what stays even where nothing goes; otherwise a press that removes nothing is no press. */
  readonly actsAlone?: boolean;
  /** Kept entries stand at positions 0..b-1 afterwards, and what follows goes on at b. */
  readonly renumbers?: boolean;
  /** It works on a running sequence, and on that alone. */
  readonly whileDecoding?: boolean;
  /** It takes what one token leaves to another of the same place in every head: where heads share nothing by score they keep the same tokens, by the mean of their scores. */
  readonly sameTokens?: boolean;
  /** Rows of its own that every layer keeps beside what stays, where something goes: as many fewer tokens stay. */
  adds?(artifact: ArtifactOf, params: z.infer<S>): AddedRows;
  /** Absent: what stays is as it was. */
  apply?(context: TransformContext, params: z.infer<S>): void | Promise<void>;
}

/**
 * Rows in the place of tokens: they go through the model at positions n, n+1, ... over the whole prompt, causally, and their K,V are kept in every layer.
 * For them alone the model is an adapted one; what follows stands behind them.
 */
export interface AddedRows {
  readonly rows: number; // R
  readonly embeddings: Float32Array; // [R, D]
  /** What multiplies every product B A. */
  readonly scale: number;
  /** By layer; none for layers that are as they were. */
  readonly adapters: readonly (LayerAdapter | undefined)[];
}

export const projections = ['q', 'k', 'v', 'o', 'gate', 'up', 'down'] as const;
export type Projection = (typeof projections)[number];

/** W x becomes W x + scale B A x. */
export interface LowRank {
  readonly rank: number;
  readonly a: Float32Array; // [rank, in features]
  readonly b: Float32Array; // [out features, rank]
}
export type LayerAdapter = Readonly<Partial<Record<Projection, LowRank>>>;

/** When does the press act? */
export interface Schedule<S extends z.ZodObject = z.ZodObject> extends PartInfo<S> {
  /** On the prompt. */
  readonly prefill: boolean;
  /** While the answer grows, on all that the cache then holds; null = not. */
  readonly decoding: null | {
    /** Tokens that are read between two compressions. */
    interval(params: z.infer<S>): number;
    /** T: entries that one leaves in every layer, mean over the KV heads; `tokens` = all that were read so far. */
    target(params: z.infer<S>, tokens: number, math: BudgetMath, compat: boolean): number;
    /** How many of the last tokens are remembered for scorers that look at all of them. */
    buffer(params: z.infer<S>): number;
  };
}

/** Rows of one layer that are kept. Per KV head, in rank order. */
export interface KeptRows {
  readonly order: RankOrder; // on the device, until `keep` returns
  readonly counts: readonly number[]; // [H]
  /** What the ledger is told, once it has come back from the device. */
  readonly host: Promise<HostRows>;
}

export interface HostRows {
  readonly ranks: readonly Uint32Array[]; // [H] the order
  readonly scores: readonly Float32Array[]; // [H] of [n]
}

/** Where kept entries go: the engine's paged cache. Lists are (layer, KV head). Entries arrive in rank order, so that shrinking is truncation. */
export interface KeptStore {
  /** Makes the layer's lists, empty until now, hold the first counts[h] rows of each head's order: at once, but for the positions and scores, which come with `host`. */
  keep(tensors: LayerTensors, rows: KeptRows): void | Promise<void>;
  /** Lets go of all but the first `count` entries; pages return to the pool at once. */
  truncate(layer: number, head: number, count: number): void;
}

export type Scope = 'prompt' | 'context' | { readonly protect_last: number };

/** A press, parsed and complete: every part chosen, every parameter filled in. */
export interface Press extends PressParts {
  /** Preset name, or the parts spelled out: scorer+layer_budget+head_budget. */
  readonly name: string;
  /** Where the request has it: "press", or "press[1]" in a list. */
  readonly path: string;
  /** Fraction removed, 0 <= r < 1. Null when `memoryBudgetBytes` decides; 0 when a part does. */
  readonly compressionRatio: number | null;
  readonly memoryBudgetBytes: number | null;
  readonly mode: 'streaming' | 'deferred';
  readonly compat: boolean;
  /** What to do when the average budget is below the number of protected tokens. */
  readonly onTight: 'reject' | 'uniform';
}

/** What a request asks for: presses composed in order (usually one), what they cover, and how kept entries are stored. */
export interface PressRequest {
  readonly presses: readonly Press[]; // empty = no press
  readonly name: string;
  readonly scope: Scope | null; // null = "context" where something comes before the last text part of the last user message, else "prompt"
  /** Whether the report says what was kept and what other layer budgets would have dealt. */
  readonly explain: boolean;
  readonly entryType: EntryType | null; // null = the server's default
}

/** What really happened, for usage.kv_cache and inspect. */
export interface PressReport {
  readonly press: string;
  readonly compressionRatio: number; // really removed: 1 - kept / (L * n), added rows among the kept
  readonly keptPerLayer: number[]; // mean over the layer's KV heads = its budget
  readonly lmbaPerLayer: (number | null)[]; // mean over the heads that were counted: KV heads, or query heads under lmba_from "attention"
  readonly retainedMassPerLayer: (number | null)[]; // share of the observation window's attention mass on kept entries
  readonly layerBudget: string; // the one really used
  /** Where the next token stands: n, behind rows that were added, or fewer where kept entries were renumbered. */
  readonly nextPosition: number;
  /** What each other layer budget would have dealt from the same layers; null unless asked for. */
  readonly otherBudgets: readonly OtherBudget[] | null;
  readonly notes: string[]; // every deviation from what was asked, in words
}

/** Budgets [L] of a layer budget that was not used, with its default parameters; null where it says nothing on this press, and why. */
export interface OtherBudget {
  readonly layerBudget: string;
  readonly budgets: readonly number[] | null;
  readonly why: string | null;
}
