/**
 * The Backend seam: a small, fixed vocabulary of operations over opaque device memory. The engine and the presses are
 * written once, against this file. `wasm.ts` runs an operation at once; `webgpu.ts` records it, and submits what it has when somebody
 * reads, or when there is much of it. Only `read`, `massCount` and `pace` wait.
 *
 * What a new kernel takes beside its method here: README.md, "How to add".
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

/** A copy of `count` f32 values at `source`. */
export async function readFloats(backend: Pick<Backend, 'read'>, source: View, count: number): Promise<Float32Array> {
  const { buffer, byteOffset } = await backend.read(source, count * 4);
  return new Float32Array(buffer, byteOffset, count);
}

/** A copy of `count` u32 values at `source`. */
export async function readWords(backend: Pick<Backend, 'read'>, source: View, count: number): Promise<Uint32Array> {
  const { buffer, byteOffset } = await backend.read(source, count * 4);
  return new Uint32Array(buffer, byteOffset, count);
}

/** How a weight matrix lies in memory; `layout/records.ts` draws q8 and q4. f16 and bf16 are plain rows of 16-bit values. */
export type WeightType = 'f32' | 'f16' | 'bf16' | 'q8' | 'q4';

/** A weight matrix W [rows, cols] = [out features, in features]. */
export interface Weight extends View {
  readonly type: WeightType;
  readonly rows: number;
  readonly cols: number;
}

/** How entries of the cache can be stored; kernels know a type by its place here. Pages are drawn in asm/entry-page.ts. */
export const entryTypes = ['f32', 'f16', 'int8'] as const;
export type EntryType = (typeof entryTypes)[number];

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

/** What places of entries are in: place = page * entriesPerPage + slot. */
export type Pool = Pick<PagedLayer, 'pool' | 'pageBytes' | 'entryType' | 'entriesPerPage'>;

/** Tokens that are kept whatever their score: the first `first` (sinks) and the last `last` (observation window). */
export interface Protected {
  readonly first: number;
  readonly last: number;
}

/**
 * How scores become non-negative masses for LMBA. `affine` is (s + 1) / 2; `softmax` has the standard deviation of the head's scores as temperature;
 * `shift` is s - min s, for what was non-negative before it was standardised; `exp` is exp(s - max s), for logarithms.
 */
export type MassMap = 'identity' | 'affine' | 'softmax' | 'shift' | 'exp';

/** What `normShare` takes the squared norms of. */
export type NormKind = 'key' | 'value' | 'kv_avg' | 'kv_product';

/** Which columns of softmax attention `scoreColumns` makes. */
export interface Columns {
  readonly queries: number; // m
  readonly n: number;
  /** Query i sees keys 0..start+i; null: all n of them, whatever the sliding window. */
  readonly start: number | null;
  readonly reduce: 'sum' | 'max';
  /** Of the keys, the first so many: only they are written. */
  readonly columns: number;
  /** Of out's rows. */
  readonly stride: number;
  /** [m] f32, what each query's weights are multiplied by, not negative; null = 1. */
  readonly rowScale: View | null;
  /** To what is there: a sum is added, a maximum is taken of both. */
  readonly accumulate: boolean;
}

/** Geometry of `gateScore`. */
export interface GateShape {
  readonly kvHeads: number; // H
  readonly group: number; // G
  readonly width: number; // e
  readonly sinks: number;
}

/** Forms of every token x of row r's head, a and A row r's own: linear a.x; quadratic xᵀ A x with A symmetric, or |A x|² with A lower triangular, zeros above. */
export interface TokenForms {
  readonly linear?: { readonly vectors: View; readonly factor: number }; // [R, d]
  readonly quadratic?: { readonly matrices: View; readonly factor: number; readonly squared: boolean }; // [R, d, d]
}

/** What tokens weigh in `weightedGram`: row r, [n], lies at r * stride numbers; `epsilon` is added to each. */
export interface TokenWeights {
  readonly rows: View;
  readonly stride: number;
  readonly epsilon: number;
}

/** One of the norms that are taken at once, all of the same width. */
export interface NormPart {
  readonly out: View;
  readonly x: View;
  readonly weight: View;
  readonly rows: number;
}

/** One of the matrices that are applied to the same rows. */
export interface LinearTarget {
  readonly out: View;
  readonly weight: Weight;
  readonly bias?: View | null;
  readonly accumulate?: boolean;
}

export interface RopePart {
  readonly x: View;
  readonly heads: number;
}

/** Per KV head: where in its list entries go, and how many. */
export interface EntryRuns {
  readonly from: readonly number[]; // [H]
  readonly counts: readonly number[]; // [H]
}

/** Row numbers, u32 [H, stride]. */
export interface RankOrder {
  readonly rows: View;
  readonly stride: number;
}

/** Rows that are kept: of every KV head h the first counts[h] of its order. */
export interface KeptSet {
  readonly order: RankOrder;
  readonly counts: readonly number[]; // [H]
}

/** The last offset in (start, most] at which a block may be cut in two; null where there is none. */
export type CutBefore = (start: number, most: number) => number | null;

export interface Backend {
  readonly name: 'wasm' | 'webgpu';
  /** What /health says of it, e.g. "plain simd" or "relaxed simd". */
  readonly variant: string;
  /** Why the device is of no use any more; null while it is. */
  readonly failure: DeviceFailed | null;
  /** Operations run later than they are called: the host's clock says little of one of them. */
  readonly queued: boolean;
  /** A GPU that is none: a driver that computes on the CPU, far slower than WASM does. */
  readonly software: boolean;
  /** The widths of heads that its kernels take. */
  readonly headDims: { readonly multipleOf: number; readonly most: number };
  /** The largest block that is not cut. */
  readonly largestBytes: number;
  /** Bytes allocated now and at the highest point so far; `freeBytes` could be had in one piece after a `trim`. */
  readonly memory: { readonly usedBytes: number; readonly peakBytes: number; readonly freeBytes: number; readonly limitBytes: number };
  /** Gives back what operations keep for themselves from call to call. */
  trim(): void;
  /** Gives everything back. Nothing may be asked of it afterwards but to free. */
  close(): void;
  /** The most that `linear` keeps for itself on up to n rows. */
  linearScratchBytes(weight: Pick<Weight, 'type' | 'rows' | 'cols'>, n: number): number;
  /** The most that the others, but for those that only transforms call, keep for themselves while the keys of one layer are attended over and, where `n` > 0, n of them scored and ranked. */
  scratchBytes(n: number, window: number, shape: Pick<AttentionShape, 'queryHeads' | 'kvHeads' | 'headDim'>): number;

  /**
   * Throws OutOfDeviceMemory. Contents are undefined. 64-byte aligned. `cutBefore` says where a block that is too large for one binding of a
   * device may be cut: what an operation reads or writes lies between two cuts, but for the matrices of `linear` and `embed`.
   */
  alloc(bytes: number, label: string, cutBefore?: CutBefore): DeviceBuffer;
  free(buffer: DeviceBuffer): void;
  write(target: View, data: ArrayBufferView): void;
  /** A copy of `bytes` bytes at `source`, at an address that values of 4 bytes may have. */
  read(source: View, bytes: number): Promise<Uint8Array>;
  copy(target: View, source: View, bytes: number): void;
  /** Resolves when the device is at most a little behind what was recorded, so that work does not pile up. Rejects when it is lost. */
  pace(): Promise<void>;

  /** out[i] = table[tokens[i]].   out [n, cols] f32, tokens [n] u32 */
  embed(out: View, table: Weight, tokens: View, n: number): void;
  /** Of each: out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight.   x, out [rows, cols] f32 (may be the same), weight [cols] f32 */
  rmsNorm(parts: readonly NormPart[], cols: number, eps: number): void;
  /** Of each target: out = x Wᵀ (+ bias) (+ out when `accumulate`).   x [n, W.cols], out [n, W.rows], bias [W.rows] f32 */
  linear(targets: readonly LinearTarget[], x: View, n: number): void;
  /** Rotates each in place, half-split convention: channel c turns with channel c + d/2.   x [n, heads, d]; table [n, d]: row i = cos (d/2) then sin (d/2) of its position */
  rope(parts: readonly RopePart[], table: View, n: number, headDim: number): void;
  /** out = silu(gate) * up.   [count] f32; out may be gate */
  swiglu(out: View, gate: View, up: View, count: number): void;
  /** out = x * Phi(x), Phi the normal distribution's: GELU with erf.   [count] f32; out may be x */
  gelu(out: View, x: View, count: number): void;
  /** out [count] f16 = x [count] f32, to nearest; beyond +-65504 that, NaN stays NaN. count even, out not x */
  halve(out: View, x: View, count: number): void;
  /** out [count] f32 = x [count] f16, which \`halve\` wrote. count even, out not x */
  widen(out: View, x: View, count: number): void;
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
   * Writes counts[h] entries of every KV head h into its pages, from slot from[h] of its list on. Entry i is row order[h, i] of k, v
   * ([*, H, d]), or row i when `order` is null. int8 rows carry one f32 scale each (max |x| / 127);
   * in f16 rows values beyond +-65504 become that.
   */
  storeEntries(
    cache: PagedLayer,
    runs: EntryRuns,
    k: View,
    v: View,
    order: RankOrder | null,
    shape: Pick<AttentionShape, 'kvHeads' | 'headDim'>,
  ): void;
  /** The inverse, by place: row i of k and v is the entry at places[i]. f32 and f16 come out as they are stored, int8 as value * scale.   k, v [places.length, d] f32 */
  readEntries(k: View, v: View, pool: Pool, places: Uint32Array, headDim: number): void;
  /** The entry at place moves[2i] stands at moves[2i + 1] too, bit for bit. No place is read and written, none is written twice. */
  moveEntries(pool: Pool, moves: Uint32Array, headDim: number): void;

  /**
   * Window attention: out[a, j] = mean over the W queries i of softmax_j(q[i,a].k[j,h(a)] * scale), causal inside the
   * window, queries at positions n-W..n-1. All n columns are written; callers drop the last W.   out [Hq, n], q [W, Hq, d], k [n, H, d]
   */
  scoreWindow(out: View, q: View, k: View, window: number, n: number, shape: AttentionShape): void;
  /**
   * Columns of softmax attention of m queries over n keys, m x n never stored: out[a, j] = sum or max over i of
   * softmax_j(q[i,a].k[j,h(a)] * scale) * rowScale[i].   out [Hq, stride], q [m, Hq, d], k [n, H, d]; start + m <= n
   */
  scoreColumns(out: View, q: View, k: View, columns: Columns, shape: AttentionShape): void;
  /**
   * How window attention is spread over the window: mean, variance (divided by W - 1) and entropy -sum of A ln(A + 1e-10) over the W queries of each
   * column A of scoreWindow's weights.   out [3, Hq, n], q [W, Hq, d], k [n, H, d]
   */
  windowMoments(out: View, q: View, k: View, window: number, n: number, shape: AttentionShape): void;
  /** out[h] = x[h] * the largest L1 norm of v[t, h], t < count.   x, out [H, n], v [>= count, H, d] */
  normScale(out: View, x: View, v: View, n: number, count: number, kvHeads: number, headDim: number): void;
  /** out[r] = cosine of x[r] and y[r], norms below 1e-8 as 1e-8.   x, y [rows, cols], out [rows] */
  rowCosine(out: View, x: View, y: View, rows: number, cols: number): void;
  /** Average pooling: stride 1, zero padding, divides by `kernelSize` at the edges too.   x, out [rows, stride], first `cols` columns of each row */
  avgPool(out: View, x: View, rows: number, cols: number, stride: number, kernelSize: number): void;
  /** out[g] = mean of rows g*group .. g*group+group-1.   x [groups * group, n], out [groups, n] */
  groupMean(out: View, x: View, groups: number, group: number, n: number): void;
  /** out[g] = the largest of rows g*group .. g*group+group-1.   x [groups * group, n], out [groups, n] */
  groupMax(out: View, x: View, groups: number, group: number, n: number): void;
  /** Max pooling: stride 1, beyond the edges there is nothing.   x, out [rows, stride], first `cols` columns of each row */
  maxPool(out: View, x: View, rows: number, cols: number, stride: number, kernelSize: number): void;
  /** out[r] = (x[r] + epsilon) * w[floor(r * wRows / rows)].   x, out [rows, n], w [wRows, n], rows a multiple of wRows */
  weigh(out: View, x: View, w: View, rows: number, wRows: number, n: number, epsilon: number): void;
  /** out = a x + b y.   [count] f32 */
  blend(out: View, x: View, y: View, a: number, b: number, count: number): void;
  /** out = 1 / x.   [count] f32 */
  reciprocal(out: View, x: View, count: number): void;
  /**
   * x = (x - mean) / max(std, 1e-6) in place, mean and std (divided by one less than the count) of each row, or of all rows when `whole`.
   * x [rows, stride], of each row the `cols` columns from `first` on
   */
  zScore(x: View, rows: number, stride: number, first: number, cols: number, whole: boolean): void;
  /** out[h, j] = sign * |k[j,h]|₂.   k [n, H, d], out [H, n] */
  keyNorm(out: View, k: View, n: number, kvHeads: number, headDim: number, sign: number): void;
  /** out[h, j] = sign * cosine(k[j,h], mean over t of k[t,h]/|k[t,h]|).   k [n, H, d], out [H, n] */
  cosineToMean(out: View, k: View, n: number, kvHeads: number, headDim: number, sign: number): void;
  /**
   * out[h, t] = z / sum over t of z, z made of |k[t,h]|² and |v[t,h]|² as `kind` says: one of them, their mean or their product. Before that, with
   * segment > 0, each is divided by its sum over the segment of so many tokens, counted from token 0. A share of a sum of 0 is 0.
   * k, v [n, H, d], out [H, n]
   */
  normShare(out: View, k: View, v: View, n: number, kvHeads: number, headDim: number, segment: number, kind: NormKind): void;
  /**
   * LagKV's shares. Partitions of `lag` tokens begin at `first`; every one but the last is scored by the next: sigma[i] = std over the channels (divided
   * by d - 1) of k[i] brought to [0, 1] by the next partition's least and most of each channel, 0 where those are equal. out[h, i] = softmax of sigma over the
   * partition, mean of k's and v's; 1 for tokens of no partition or of the last.   k, v [n, H, d], out [H, n]
   */
  lagScore(out: View, k: View, v: View, n: number, first: number, lag: number, kvHeads: number, headDim: number): void;
  /**
   * out[r, j] = how many values of its segment x[r, j] stands before, / width: higher first, ties to the lower column, NaN last. `segments` of `width` columns
   * begin at column `first`; the other columns are copied.   x, out [rows, n]
   */
  segmentRank(out: View, x: View, rows: number, n: number, first: number, width: number, segments: number): void;
  /**
   * out[r, j] = the mean of x[r] over the columns of j's segment that lie in [first, end); segments of `width` columns begin at column 0. The columns outside
   * [first, end) are copied.   x, out [rows, n]
   */
  segmentMean(out: View, x: View, rows: number, n: number, first: number, end: number, width: number): void;
  /**
   * out[a, t] = |v[t, h(a)] W_aᵀ|_p, W_a the columns a d .. a d + d - 1 of `w`: the size of a value once it went through W_o. With `accumulate` the norm of that and of
   * what out[a, t] was taken of before, so that W_o may come in slabs of rows.   v [n, H, d], w f32 [rows, Hq d], out [Hq, n]
   */
  outputNorm(
    out: View,
    v: View,
    w: View,
    n: number,
    rows: number,
    shape: Pick<AttentionShape, 'queryHeads' | 'kvHeads' | 'headDim'>,
    p: 1 | 2,
    accumulate: boolean,
  ): void;
  /**
   * Fast KVzip's gate: out[h, t] = mean over the group of 1 / (1 + sum over s of exp(base[h,s].q[t,h,g] / sqrt e - z)), z = k[t,h].q[t,h,g] / sqrt e + bias[h,g].
   * q [n, H, G, e], k [n, H, e], base [H, sinks, e], bias [H, G], out [H, n]; e a multiple of 4
   */
  gateScore(out: View, q: View, k: View, base: View, bias: View, n: number, shape: GateShape): void;
  /** out[h] = mean over t of x[t, h].   x [n, H, d], out [H, d] */
  tokenMean(out: View, x: View, n: number, heads: number, headDim: number): void;
  /**
   * out[r] = factor * sum over j of w[r, j] (x[j, h(r)] - m[r]) (x[j, h(r)] - m[r])ᵀ, h(r) = floor(r H / R); null: all weigh 1, nothing is taken off.
   * x [n, H, d], centres m [R, d], out [R, d, d], symmetric
   */
  weightedGram(
    out: View,
    x: View,
    weights: TokenWeights | null,
    centres: View | null,
    n: number,
    rows: number,
    heads: number,
    headDim: number,
    factor: number,
  ): void;
  /** out[r, j] = the sum of `forms` of x[j, h(r)], each times its factor, h(r) = floor(r H / R).   x [n, H, d]; row r of out, [n], lies at r * stride numbers */
  quadraticForm(out: View, stride: number, x: View, forms: TokenForms, n: number, rows: number, heads: number, headDim: number): void;
  /**
   * out[r] = W with Wᵀ W = (M[r] + ridge I)⁻¹, lower triangular, zeros above (Cholesky); where there is none, ridge is taken 10 times as large, `most` times in
   * all. tries[r] = how many it took; 0 = none was enough, and out[r] is 0.   matrices M, out [R, d, d] f32 (not the same), tries [R] u32
   */
  choleskyInverse(out: View, tries: View, matrices: View, rows: number, d: number, ridge: number, most: number): void;
  /** out[t, h] = (x[t, h] - m[h]) phi[h].   x [n, H, d], centres m [H, d], phi [H, d, width], out [n, H, width]; width a multiple of 4 */
  sketch(out: View, x: View, centres: View, phi: View, n: number, heads: number, headDim: number, width: number): void;
  /** Softmax over the columns of every row, in place; with `peak` not divided by its sum, so that the largest is 1.   row r of x, [cols], lies at r * stride numbers */
  rowSoftmax(x: View, rows: number, cols: number, stride: number, peak: boolean): void;
  /** out[r, j] = scale * cosine(x[j, h(r)], anchors[r]), h(r) = floor(r H / R).   x [n, H, d], anchors [R, d]; row r of out, [n], lies at r * stride numbers */
  cosineTo(out: View, stride: number, x: View, anchors: View, n: number, rows: number, heads: number, headDim: number, scale: number): void;
  /** out[j, h] = x[order[h, j], h].   x [*, H, d] f32, out [count, H, d] */
  gather(out: View, x: View, order: RankOrder, count: number, kvHeads: number, headDim: number): void;
  /**
   * Of every head, the rows p = order[h, i], i < count, are turned back by p - j positions, j = how many of these rows have a lower number: in place. table [n, d]:
   * row t = cos (d/2) then sin (d/2) of position t.   k [n, H, d]
   */
  turnKeys(k: View, table: View, order: RankOrder, count: number, n: number, kvHeads: number, headDim: number): void;
  /**
   * Of every row e that goes: target[h, e] = the kept row of the head whose key has the largest cosine with e's, ties to the lower row; similarity[h, e] = that cosine. Rows
   * that go are those of `among` ([H, stride], all of them; null = all n rows) that are not kept. Elsewhere, and where there is no cosine: 0xffffffff and -2.
   * norms [H, n] = |k|, which count as 1e-6 at least.   k [n, H, d], target [H, n] u32, similarity [H, n] f32
   */
  nearestKept(
    target: View,
    similarity: View,
    k: View,
    norms: View,
    kept: KeptSet,
    among: RankOrder | null,
    n: number,
    kvHeads: number,
    headDim: number,
  ): void;
  /**
   * v[r] = (v[r] + sum w_e v[e]) / (1 + sum w_e) in place, over the rows e of the head with target[h, e] = r: w_e = max(s, 0) |v[e]| / (|v[e]| + |v[r]| + 1e-6) where
   * s = similarity[h, e] reaches threshold[h], else 0. Targets are rows that have none themselves (0xffffffff).   v [n, H, d], norms [H, n] = |v|, threshold [H]
   */
  mergeValues(v: View, target: View, similarity: View, norms: View, threshold: View, n: number, kvHeads: number, headDim: number): void;
  /**
   * Sets `zeroed` channels of every kept row of a head to 0, in place: those with the least (mean of q²) (mean of k²), over the W queries of the head's group and over its
   * kept rows; ties to the lower channel.   k [n, H, d], q [W, Hq, d]; d at most 256
   */
  pruneChannels(
    k: View,
    q: View,
    window: number,
    kept: KeptSet,
    zeroed: number,
    shape: Pick<AttentionShape, 'queryHeads' | 'kvHeads' | 'headDim'>,
  ): void;
  /**
   * The rank order of every row: protected tokens first (ascending position), then the `count - protected` best of the others, higher score first,
   * ties to the lower position. NaN ranks last.   scores [rows, n] f32, order [rows, count] u32; count between protected and n
   */
  topK(order: View, scores: View, rows: number, n: number, count: number, keep: Protected): void;
  /**
   * MBA of each head: the fewest evictable tokens whose mass reaches `threshold` of the evictable mass; ceil(threshold * evictable)
   * when the mass is 0 or not finite.   scores [H, n]; order [H, n] full rank orders from topK.  Resolves to H integers
   */
  massCount(scores: View, order: View, n: number, kvHeads: number, keep: Protected, threshold: number, map: MassMap): Promise<number[]>;
  /**
   * Absent where logits are as near to the host as to the kernels: it samples them itself, in f64. Else: token = what is drawn from `logits` [vocab]
   * at `draw` in [0, 1), and counts[token] += 1; 0xffffffff where a logit is NaN or infinite. Three buffers, none of them another.   token [1] u32; counts [vocab] u32 for the penalties
   */
  readonly sampleScratchBytes?: (vocab: number) => number;
  sample?(token: View, logits: View, vocab: number, counts: View | null, settings: SampleSettings, draw: number): void;
}

/** How a token is drawn from logits; `worker/engine/sampler.ts` has the formulas. */
export interface SampleSettings {
  readonly temperature: number; // 0 = greedy
  readonly topK: number; // 0 = off
  readonly topP: number; // 1 = off
  readonly minP: number; // 0 = off
  readonly frequencyPenalty: number;
  readonly presencePenalty: number;
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

/** The device cannot be used any more: lost, out of memory, or it refused a command. */
export class DeviceFailed extends Error {
  readonly kind: 'lost' | 'out of memory' | 'refused';
  constructor(kind: DeviceFailed['kind'], detail: string) {
    const what = { lost: 'the GPU was lost', 'out of memory': 'the GPU has no memory left', refused: 'the GPU refused a command' };
    super(`${what[kind]}: ${detail || 'no reason was given'}`);
    this.name = 'DeviceFailed';
    this.kind = kind;
  }
}
