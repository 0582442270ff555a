/**
 * What a press is made of. A press is a value, a composition of parts without state: scorer x layer budget x head budget. Every part is interchangeable with every other; rounding, caps and protected tokens live once, beside this contract.
 *
 * n tokens of the pressed scope, L layers, H KV heads, N counts n. Scores are [H, n] f32, higher = keep.
 */
import type { z } from 'zod';
import type { AttentionShape, Backend, DeviceBuffer, EntryType, MassMap, Protected, RankOrder, View } from '../worker/backend/backend.ts';
import type { BudgetMath } from './budget-math.ts';

/** One layer's tensors, right after its attention was computed with all of them. */
export interface LayerTensors {
  readonly layer: number; // 0-based
  readonly n: number;
  readonly k: View; // [n, H, d] f32, after RoPE
  readonly v: View; // [n, H, d] f32
  /** The last `window` queries, after RoPE, [window, Hq, d]; window <= what the compressor asked for. */
  readonly q: View;
  readonly window: number;
  readonly shape: AttentionShape;
}

export interface ScoreContext extends LayerTensors {
  readonly backend: Backend;
  readonly layers: number; // L
  /** A random number of this request, for scorers that draw and were given no seed. */
  readonly seed: number;
  /** Scratch that lives until this layer is done; the compressor frees it on every path. */
  scratch(bytes: number, label: string): DeviceBuffer;
  /** A line for the report. Said twice, it stands there once. */
  note(text: string): void;
}

/** A scored layer, as a layer budget measures it. */
export interface SignalContext extends ScoreContext {
  readonly scores: View; // [H, n] f32
  readonly order: View; // [H, n] u32, full rank orders
  readonly keep: Protected;
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
}

/** How much does each (head, token) matter? Scores and protected tokens are two things: what is protected counts in selection only. */
export interface Scorer<S extends z.ZodObject = z.ZodObject> extends PartInfo<S> {
  /** How many of the last queries `score` needs (W); 0 = none. */
  queries(params: z.infer<S>): number;
  protect(params: z.infer<S>, n: number): Protected;
  /** The parameter that sets how many tokens are protected, for error messages; null = none does. */
  readonly protectedBy: string | null;
  /** Scores of different heads have a common unit, so that a head budget may compare them; where they have none, the report says so. */
  readonly comparable: boolean;
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
}

interface LayerBudgetPart<S extends z.ZodObject> extends PartInfo<S> {
  /** False when every layer gets its even share: layers that were equal stay equal. */
  readonly ragged: boolean;
  /** For parameters that hold the layers' ratios themselves: which one, and what it amounts to. Absent = `compression_ratio` or `memory_budget` decides. */
  readonly ownRatio?: { readonly param: string; mean(params: z.infer<S>): number };
  /** Why this budget cannot work with these parts, or null. Asked when a config is parsed. */
  refuses?(scorer: Scorer, params: z.infer<S>): string | null;
  /**
   * Entitlements of layers 0..m once their signals are known (m+1 = signals.length for signal 'lmba', all layers at once for 'none').
   * Before the last layer: upper limits that can only fall (ceilings). At the last layer: the exact budgets.
   */
  limits(signals: readonly number[], context: BudgetContext, params: z.infer<S>): number[];
  /** The least and the most that any layer can get: for /v1/press/plan, without running. */
  bounds(context: BudgetContext, params: z.infer<S>): { min: number; max: number }[];
}

/** Budgets that are known before the prompt is read. */
export interface PlannedBudget<S extends z.ZodObject = z.ZodObject> extends LayerBudgetPart<S> {
  readonly signal: 'none';
}

/** Budgets that depend on one integer per layer, u_l: the sum over heads of MBA (LMBA_l = u_l / heads, the mean, is what reports show). */
export interface MeasuredBudget<S extends z.ZodObject = z.ZodObject> extends LayerBudgetPart<S> {
  readonly signal: 'lmba';
  /** How many of the last queries `measure` needs; `scorerQueries` is the scorer's W. */
  queries(params: z.infer<S>, scorerQueries: number): number;
  /** MBA of each head that is counted; the layer's signal u_l is their sum. */
  measure(context: SignalContext, params: z.infer<S>): Promise<number[]>;
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
  /** `sorted[h]`: scores of head h's evictable tokens, best first. Returns the number of tokens head h keeps, protected ones included. */
  counts(sorted: readonly Float32Array[], budget: number, protectedTokens: number, context: BudgetContext, params: z.infer<S>): number[];
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
export interface Press {
  /** Preset name, or scorer+layer_budget+head_budget spelled out. */
  readonly name: string;
  /** Where the request has it: "press", or "press[1]" in a list. */
  readonly path: string;
  readonly scorer: { readonly part: Scorer; readonly params: Record<string, unknown> };
  readonly layerBudget: { readonly part: LayerBudget; readonly params: Record<string, unknown> };
  readonly headBudget: { readonly part: HeadBudget; readonly params: Record<string, unknown> };
  /** Fraction removed, 0 <= r < 1. Null when `memoryBudgetBytes` decides. */
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
  readonly entryType: EntryType | null; // null = the server's default
}

/** What really happened, for usage.kv_cache and inspect. */
export interface PressReport {
  readonly press: string;
  readonly compressionRatio: number; // really removed: 1 - kept / (L * n)
  readonly keptPerLayer: number[]; // mean over the layer's KV heads = its budget
  readonly lmbaPerLayer: (number | null)[]; // mean over the heads that were counted: KV heads, or query heads under lmba_from "attention"
  readonly retainedMassPerLayer: (number | null)[]; // share of the observation window's attention mass on kept entries
  readonly layerBudget: string; // the one really used
  readonly notes: string[]; // every deviation from what was asked, in words
}
