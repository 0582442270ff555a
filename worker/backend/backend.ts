/**
 * The Backend seam: a small, fixed vocabulary of operations over opaque device memory. The engine and the presses are
 * written once, against this file. `wasm.ts` runs an operation at once; a GPU backend records it. Only `read` waits.
 *
 * Adding a kernel = one file in asm/, its twin in wgsl/, one method here, one parity case in test/parity/.
 *
 * Shapes: n tokens, D hidden size, Hq query heads, H KV heads, G = Hq / H, d head_dim, L layers. Matrices are row-major.
 * Activations are f32. Keys and values of one layer while the prompt is read: [n, H, d] (token-major), keys after RoPE.
 */

/** A block of device memory. Opaque to everyone but the backend that made it. It is its own view at offset 0. */
export interface DeviceBuffer extends View {
  readonly bytes: number;
  readonly label: string;
}

/** A place in a buffer, `offset` in bytes. */
export interface View {
  readonly buffer: DeviceBuffer;
  readonly offset: number;
}

/** The view `bytes` further on. */
export function at(view: View, bytes: number): View {
  return { buffer: view.buffer, offset: view.offset + bytes };
}

/** How a weight matrix lies in memory; `layout/records.ts` draws q8 and q4. f16 and bf16 are plain rows of 16-bit values. */
export type WeightType = 'f32' | 'f16' | 'bf16' | 'q8' | 'q4';

/** A weight matrix W [rows, cols] = [out features, in features]. */
export interface Weight extends View {
  readonly type: WeightType;
  readonly rows: number;
  readonly cols: number;
}

export type EntryType = 'f32' | 'int8';

/** Geometry of attention in one layer. */
export interface AttentionShape {
  readonly queryHeads: number; // Hq
  readonly kvHeads: number; // H
  readonly headDim: number; // d
  /** Multiplies q.k; 1/sqrt(d) in every family so far. */
  readonly scale: number;
  /** A query at position p sees keys at positions > p - slidingWindow only; 0 = no window. */
  readonly slidingWindow: number;
}

/**
 * One layer of one sequence in the paged, ragged cache. Per KV head: a length and a list of pages, kept by the ledger.
 * Addresses are into the memory of the AssemblyScript module, where the ledger lives on every backend.
 */
export interface PagedLayer {
  readonly pool: DeviceBuffer;
  readonly pageBytes: number;
  readonly entryType: EntryType;
  readonly entriesPerPage: number;
  /** Address of u32 lengths [H]: entries held by each KV head. */
  readonly lengths: number;
  /** Address of u32 page numbers [H, tableStride]; page p lies at pool + p * pageBytes. */
  readonly pageTable: number;
  readonly tableStride: number;
  /** Address of u32 original positions, indexed [page * slotStride + slot]; read only with a sliding window. */
  readonly positions: number;
  readonly slotStride: number;
}

/** Tokens that are kept whatever their score: the first `first` (sinks) and the last `last` (observation window). */
export interface Protected {
  readonly first: number;
  readonly last: number;
}

/** How scores become non-negative masses for LMBA. `affine` is (s + 1) / 2; `softmax` has the standard deviation of the head's scores as temperature. */
export type MassMap = 'identity' | 'affine' | 'softmax';

export interface Backend {
  readonly name: 'wasm' | 'webgpu';
  /** What /health says of it, e.g. "plain simd" or "relaxed simd". */
  readonly variant: string;
  /** Bytes allocated now and at the highest point so far; `freeBytes` could be had in one piece after a `trim`. */
  readonly memory: { readonly usedBytes: number; readonly peakBytes: number; readonly freeBytes: number; readonly limitBytes: number };
  /** Gives back what operations keep for themselves from call to call. */
  trim(): void;
  /** The most that `linear` keeps for itself on up to n rows. */
  linearScratchBytes(weight: Weight, n: number): number;
  /** The most that the others keep for themselves while the keys of one layer are attended over and, where `n` > 0, n of them scored and ranked. */
  scratchBytes(n: number, window: number, shape: Pick<AttentionShape, 'queryHeads' | 'kvHeads' | 'headDim'>): number;

  /** Throws OutOfDeviceMemory. Contents are undefined. 64-byte aligned. */
  alloc(bytes: number, label: string): DeviceBuffer;
  free(buffer: DeviceBuffer): void;
  write(target: View, data: ArrayBufferView): void;
  /** A copy of `bytes` bytes at `source`. */
  read(source: View, bytes: number): Promise<Uint8Array>;
  copy(target: View, source: View, bytes: number): void;
  /**
   * Address, in the AssemblyScript module's memory (where the ledger and the budget math live), of bytes that equal the view's: the place
   * itself on WASM, elsewhere a copy that is good until the next call.
   */
  mirror(source: View, bytes: number): number | Promise<number>;

  /** out[i] = table[tokens[i]].   out [n, cols] f32, tokens [n] u32 */
  embed(out: View, table: Weight, tokens: View, n: number): void;
  /** out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight.   x, out [rows, cols] f32 (may be the same), weight [cols] f32 */
  rmsNorm(out: View, x: View, weight: View, rows: number, cols: number, eps: number): void;
  /** out = x Wᵀ (+ bias) (+ out when `accumulate`).   x [n, W.cols], out [n, W.rows], bias [W.rows] f32 */
  linear(out: View, x: View, weight: Weight, n: number, bias?: View | null, accumulate?: boolean): void;
  /** Rotates in place, half-split convention: channel c turns with channel c + d/2.   x [n, heads, d]; table [n, d]: row i = cos (d/2) then sin (d/2) of its position */
  rope(x: View, table: View, n: number, heads: number, headDim: number): void;
  /** out = silu(gate) * up.   [count] f32; out may be gate */
  swiglu(out: View, gate: View, up: View, count: number): void;
  /**
   * Causal attention of n queries at positions start..start+n-1 over the layer's own keys 0..start+n-1; flash-style, no score matrix.
   * out, q [n, Hq, d]; k, v [>= start+n, H, d]
   */
  attendCausal(out: View, q: View, k: View, v: View, n: number, start: number, shape: AttentionShape): void;
  /**
   * Attention of n new queries over the paged cache. The n newest entries of every list are the queries' own: query i sees
   * all but the last n-1-i entries. `start` is the position of query 0.   out, q [n, Hq, d]
   */
  attendPaged(out: View, q: View, cache: PagedLayer, n: number, start: number, shape: AttentionShape): void;
  /**
   * Writes `count` entries of KV head `head` into its pages, from slot `from` of its list on. Entry i is row order[i] of k, v
   * ([*, H, d]), or row i when `order` is null. int8 rows carry one f32 scale each (max |x| / 127).
   */
  storeEntries(
    cache: PagedLayer,
    head: number,
    from: number,
    k: View,
    v: View,
    order: View | null,
    count: number,
    shape: Pick<AttentionShape, 'kvHeads' | 'headDim'>,
  ): void;

  /**
   * Window attention: out[a, j] = mean over the W queries i of softmax_j(q[i,a].k[j,h(a)] * scale), causal inside the
   * window, queries at positions n-W..n-1. All n columns are written; callers drop the last W.   out [Hq, n], q [W, Hq, d], k [n, H, d]
   */
  scoreWindow(out: View, q: View, k: View, window: number, n: number, shape: AttentionShape): void;
  /** Average pooling: stride 1, zero padding, divides by `kernelSize` at the edges too.   x, out [rows, stride], first `cols` columns of each row */
  avgPool(out: View, x: View, rows: number, cols: number, stride: number, kernelSize: number): void;
  /** out[g] = mean of rows g*group .. g*group+group-1.   x [groups * group, n], out [groups, n] */
  groupMean(out: View, x: View, groups: number, group: number, n: number): void;
  /** out[h, j] = sign * |k[j,h]|₂.   k [n, H, d], out [H, n] */
  keyNorm(out: View, k: View, n: number, kvHeads: number, headDim: number, sign: number): void;
  /** out[h, j] = sign * cosine(k[j,h], mean over t of k[t,h]/|k[t,h]|).   k [n, H, d], out [H, n] */
  cosineToMean(out: View, k: View, n: number, kvHeads: number, headDim: number, sign: number): void;
  /**
   * The rank order of one head: protected tokens first (ascending position), then the `count - protected` best of the others, higher score first,
   * ties to the lower position. NaN ranks last.   scores [n] f32, order [count] u32; count between protected and n
   */
  topK(order: View, scores: View, n: number, count: number, keep: Protected): void;
  /**
   * MBA of each head: the fewest evictable tokens whose mass reaches `threshold` of the evictable mass; ceil(threshold * evictable)
   * when the mass is 0 or not finite.   scores [H, n]; order [H, n] full rank orders from topK.  Resolves to H integers
   */
  massCount(scores: View, order: View, n: number, kvHeads: number, keep: Protected, threshold: number, map: MassMap): Promise<number[]>;
}

export class OutOfDeviceMemory extends Error {
  readonly neededBytes: number;
  readonly freeBytes: number;
  constructor(label: string, neededBytes: number, freeBytes: number) {
    super(`out of device memory: ${label} needs ${neededBytes} bytes, ${freeBytes} are free`);
    this.name = 'OutOfDeviceMemory';
    this.neededBytes = neededBytes;
    this.freeBytes = freeBytes;
  }
}
