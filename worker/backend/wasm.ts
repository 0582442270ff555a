/** The Backend on AssemblyScript kernels: every operation runs at once, on one memory. Each method is a call of the kernel of its name. */
import {
  type AttentionShape,
  type Backend,
  type Columns,
  type DeviceBuffer,
  type EntryRuns,
  entryTypes,
  type GateShape,
  type KeptSet,
  type LinearTarget,
  type MassMap,
  type NormKind,
  type NormPart,
  type PagedLayer,
  type Pool,
  type Protected,
  type RankOrder,
  type RopePart,
  type TokenForms,
  type TokenWeights,
  type View,
  type Weight,
} from './backend.ts';
import type { Kernels } from './kernels.ts';

/** Device memory on WASM is an address. */
class Block implements DeviceBuffer {
  readonly buffer = this;
  readonly offset = 0;
  readonly address: number;
  readonly bytes: number;
  readonly label: string;
  constructor(address: number, bytes: number, label: string) {
    this.address = address;
    this.bytes = bytes;
    this.label = label;
  }
}

function address(view: View): number {
  return (view.buffer as Block).address + view.offset;
}
/** Null is address 0 in every kernel. */
function addressOrNull(view: View | null | undefined): number {
  return view ? address(view) : 0;
}

const NORM_KINDS: Record<NormKind, number> = { key: 0, value: 1, kv_avg: 2, kv_product: 3 };
const MASS_MAPS: Record<MassMap, number> = { identity: 0, affine: 1, softmax: 2, shift: 3, exp: 4 };

/** Even; so many numbers fit into the scratch that attention takes in any case. */
const PLACES_AT_ONCE = 2048;

export class WasmBackend implements Backend {
  readonly name = 'wasm';
  readonly failure = null;
  readonly queued = false;
  readonly software = false;
  readonly headDims = { multipleOf: 2, most: Infinity };
  readonly kernels: Kernels;
  #scratch: Block | null = null;

  constructor(kernels: Kernels) {
    this.kernels = kernels;
  }

  get variant(): string {
    return this.kernels.variant;
  }
  get largestBytes(): number {
    return this.kernels.heap.limitBytes;
  }
  get memory(): Backend['memory'] {
    const { usedBytes, peakBytes, freeBytes, limitBytes } = this.kernels.heap;
    return { usedBytes, peakBytes, freeBytes: freeBytes + (this.#scratch?.bytes ?? 0), limitBytes };
  }
  trim(): void {
    if (this.#scratch) this.free(this.#scratch);
    this.#scratch = null;
  }
  /** The memory goes with the module. */
  close(): void {
    this.trim();
  }
  linearScratchBytes({ type, rows, cols }: Pick<Weight, 'type' | 'rows' | 'cols'>, n: number): number {
    let most = 0; // few rows may take another way than many
    for (let i = 1; i <= n; i++) most = Math.max(most, this.#call(`${LINEAR[type]}Scratch`, rows, cols, i));
    return most;
  }
  scratchBytes(n: number, window: number, { queryHeads, kvHeads, headDim }: Pick<AttentionShape, 'queryHeads' | 'kvHeads' | 'headDim'>): number {
    const attend = this.#call('attendScratchBytes', headDim);
    if (n === 0) return attend;
    // The sum, for a block that grows may leave a hole behind that nothing fits into.
    const [norms, ranks] = [this.#call('normShareScratchBytes', n), this.#call('topKScratchBytes', n)];
    const forms = Math.max(
      this.#call('weightedGramScratchBytes', headDim),
      this.#call('quadraticFormScratchBytes', headDim),
      this.#call('choleskyInverseScratchBytes', headDim),
    );
    // scoreColumns and windowMoments take what scoreWindow does.
    return attend + norms + ranks + forms + this.#call('scoreWindowScratchBytes', window, n, queryHeads, kvHeads, headDim);
  }

  alloc(bytes: number, label: string): DeviceBuffer {
    return new Block(this.kernels.heap.alloc(bytes, label), bytes, label);
  }
  free(buffer: DeviceBuffer): void {
    this.kernels.heap.free((buffer as Block).address);
  }
  write(target: View, data: ArrayBufferView): void {
    this.kernels.u8(address(target), data.byteLength).set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  async read(source: View, bytes: number): Promise<Uint8Array> {
    return this.kernels.u8(address(source), bytes).slice();
  }
  copy(target: View, source: View, bytes: number): void {
    this.kernels.u8(0, this.kernels.memory.buffer.byteLength).copyWithin(address(target), address(source), address(source) + bytes);
  }
  async pace(): Promise<void> {}
  /** The bytes in place: good until memory grows. */
  view(source: View, bytes: number): Uint8Array<ArrayBuffer> {
    return this.kernels.u8(address(source), bytes) as Uint8Array<ArrayBuffer>;
  }

  embed(out: View, table: Weight, tokens: View, n: number): void {
    this.#call(EMBED[table.type], address(out), address(table), address(tokens), table.cols, n);
  }

  rmsNorm(parts: readonly NormPart[], cols: number, eps: number): void {
    for (const { out, x, weight, rows } of parts) this.#call('rmsNorm', address(out), address(x), address(weight), rows, cols, eps);
  }

  linear(targets: readonly LinearTarget[], x: View, n: number): void {
    for (const { out, weight, bias, accumulate = false } of targets) {
      const { rows, cols } = weight;
      const kernel = LINEAR[weight.type];
      const scratch = this.#room(this.#call(`${kernel}Scratch`, rows, cols, n));
      this.#call(kernel, address(out), address(x), address(weight), addressOrNull(bias), rows, cols, n, Number(accumulate), scratch);
    }
  }

  rope(parts: readonly RopePart[], table: View, n: number, headDim: number): void {
    for (const { x, heads } of parts) this.#call('rope', address(x), address(table), n, heads, headDim);
  }

  swiglu(out: View, gate: View, up: View, count: number): void {
    this.#call('swiglu', address(out), address(gate), address(up), count);
  }

  gelu(out: View, x: View, count: number): void {
    this.#call('gelu', address(out), address(x), count);
  }

  halve(out: View, x: View, count: number): void {
    this.#call('halve', address(out), address(x), count);
  }

  widen(out: View, x: View, count: number): void {
    this.#call('widen', address(out), address(x), count);
  }

  attendCausal(out: View, q: View, k: View, v: View, n: number, start: number, shape: AttentionShape): void {
    const { queryHeads, kvHeads, headDim, scale, slidingWindow } = shape;
    const scratch = this.#room(this.#call('attendScratchBytes', headDim));
    this.#call(
      'attendCausal',
      address(out),
      address(q),
      address(k),
      address(v),
      n,
      start,
      queryHeads,
      kvHeads,
      headDim,
      scale,
      slidingWindow,
      scratch,
    );
  }

  attendPaged(out: View, q: View, cache: PagedLayer, n: number, start: number, shape: AttentionShape): void {
    const { queryHeads, kvHeads, headDim, scale, slidingWindow } = shape;
    const scratch = this.#room(this.#call('attendScratchBytes', headDim));
    this.#call(
      'attendPaged',
      address(out),
      address(q),
      address(cache.pool),
      cache.pageBytes,
      entryTypes.indexOf(cache.entryType),
      cache.entriesPerPage,
      cache.lengths,
      cache.pageTable,
      cache.tableStride,
      cache.positions,
      cache.slotStride,
      n,
      start,
      queryHeads,
      kvHeads,
      headDim,
      scale,
      slidingWindow,
      scratch,
    );
  }

  storeEntries(
    cache: PagedLayer,
    { from, counts }: EntryRuns,
    k: View,
    v: View,
    order: RankOrder | null,
    { kvHeads, headDim }: Pick<AttentionShape, 'kvHeads' | 'headDim'>,
  ): void {
    for (let head = 0; head < kvHeads; head++) {
      this.#call(
        'storeEntries',
        address(cache.pool),
        cache.pageBytes,
        entryTypes.indexOf(cache.entryType),
        cache.entriesPerPage,
        cache.pageTable + head * cache.tableStride * 4,
        from[head],
        address(k),
        address(v),
        order ? address(order.rows) + head * order.stride * 4 : 0,
        counts[head],
        head,
        kvHeads,
        headDim,
      );
    }
  }

  readEntries(k: View, v: View, pool: Pool, places: Uint32Array, headDim: number): void {
    for (let start = 0; start < places.length; start += PLACES_AT_ONCE) {
      const some = places.subarray(start, start + PLACES_AT_ONCE);
      const skipped = start * headDim * 4;
      const to = [address(k) + skipped, address(v) + skipped];
      this.#call('readEntries', ...to, ...this.#pool(pool), this.#uploaded(some), some.length, headDim);
    }
  }

  moveEntries(pool: Pool, moves: Uint32Array, headDim: number): void {
    for (let start = 0; start < moves.length; start += PLACES_AT_ONCE) {
      const some = moves.subarray(start, start + PLACES_AT_ONCE);
      this.#call('moveEntries', ...this.#pool(pool), this.#uploaded(some), some.length / 2, headDim);
    }
  }

  gather(out: View, x: View, { rows, stride }: RankOrder, count: number, kvHeads: number, headDim: number): void {
    this.#call('gather', address(out), address(x), address(rows), stride, count, kvHeads, headDim);
  }

  scoreWindow(out: View, q: View, k: View, window: number, n: number, shape: AttentionShape): void {
    const { queryHeads, kvHeads, headDim, scale, slidingWindow } = shape;
    const scratch = this.#room(this.#call('scoreWindowScratchBytes', window, n, queryHeads, kvHeads, headDim));
    this.#call('scoreWindow', address(out), address(q), address(k), window, n, queryHeads, kvHeads, headDim, scale, slidingWindow, scratch);
  }

  scoreColumns(out: View, q: View, k: View, columns: Columns, shape: AttentionShape): void {
    const { queries, n, start, reduce, stride, rowScale, accumulate } = columns;
    const { queryHeads, kvHeads, headDim, scale } = shape;
    const slidingWindow = start === null ? 0 : shape.slidingWindow;
    const scratch = this.#room(this.#call('scoreColumnsScratchBytes', n));
    this.#call(
      'scoreColumns',
      address(out),
      address(q),
      address(k),
      addressOrNull(rowScale),
      queries,
      n,
      start ?? n,
      columns.columns,
      stride,
      Number(reduce === 'max'),
      Number(accumulate),
      queryHeads,
      kvHeads,
      headDim,
      scale,
      slidingWindow,
      scratch,
    );
  }

  windowMoments(out: View, q: View, k: View, window: number, n: number, shape: AttentionShape): void {
    const { queryHeads, kvHeads, headDim, scale, slidingWindow } = shape;
    const scratch = this.#room(this.#call('windowMomentsScratchBytes', n));
    this.#call('windowMoments', address(out), address(q), address(k), window, n, queryHeads, kvHeads, headDim, scale, slidingWindow, scratch);
  }

  normScale(out: View, x: View, v: View, n: number, count: number, kvHeads: number, headDim: number): void {
    this.#call('normScale', address(out), address(x), address(v), n, count, kvHeads, headDim);
  }

  rowCosine(out: View, x: View, y: View, rows: number, cols: number): void {
    this.#call('rowCosine', address(out), address(x), address(y), rows, cols);
  }

  avgPool(out: View, x: View, rows: number, cols: number, stride: number, kernelSize: number): void {
    this.#call('avgPool', address(out), address(x), rows, cols, stride, kernelSize);
  }

  groupMean(out: View, x: View, groups: number, group: number, n: number): void {
    this.#call('groupMean', address(out), address(x), groups, group, n);
  }

  groupMax(out: View, x: View, groups: number, group: number, n: number): void {
    this.#call('groupMax', address(out), address(x), groups, group, n);
  }

  maxPool(out: View, x: View, rows: number, cols: number, stride: number, kernelSize: number): void {
    this.#call('maxPool', address(out), address(x), rows, cols, stride, kernelSize);
  }

  weigh(out: View, x: View, w: View, rows: number, wRows: number, n: number, epsilon: number): void {
    this.#call('weigh', address(out), address(x), address(w), rows, wRows, n, epsilon);
  }

  blend(out: View, x: View, y: View, a: number, b: number, count: number): void {
    this.#call('blend', address(out), address(x), address(y), a, b, count);
  }

  reciprocal(out: View, x: View, count: number): void {
    this.#call('reciprocal', address(out), address(x), count);
  }

  zScore(x: View, rows: number, stride: number, first: number, cols: number, whole: boolean): void {
    this.#call('zScore', address(x), rows, stride, first, cols, Number(whole));
  }

  keyNorm(out: View, k: View, n: number, kvHeads: number, headDim: number, sign: number): void {
    this.#call('keyNorm', address(out), address(k), n, kvHeads, headDim, sign);
  }

  cosineToMean(out: View, k: View, n: number, kvHeads: number, headDim: number, sign: number): void {
    const scratch = this.#room(this.#call('cosineToMeanScratchBytes', headDim));
    this.#call('cosineToMean', address(out), address(k), n, kvHeads, headDim, sign, scratch);
  }

  normShare(out: View, k: View, v: View, n: number, kvHeads: number, headDim: number, segment: number, kind: NormKind): void {
    const scratch = this.#room(this.#call('normShareScratchBytes', n));
    this.#call('normShare', address(out), address(k), address(v), n, kvHeads, headDim, segment, NORM_KINDS[kind], scratch);
  }

  lagScore(out: View, k: View, v: View, n: number, first: number, lag: number, kvHeads: number, headDim: number): void {
    const scratch = this.#room(this.#call('lagScoreScratchBytes', headDim, lag));
    this.#call('lagScore', address(out), address(k), address(v), n, first, lag, kvHeads, headDim, scratch);
  }

  segmentRank(out: View, x: View, rows: number, n: number, first: number, width: number, segments: number): void {
    this.#call('segmentRank', address(out), address(x), rows, n, first, width, segments);
  }

  segmentMean(out: View, x: View, rows: number, n: number, first: number, end: number, width: number): void {
    this.#call('segmentMean', address(out), address(x), rows, n, first, end, width);
  }

  outputNorm(
    out: View,
    v: View,
    w: View,
    n: number,
    rows: number,
    { queryHeads, kvHeads, headDim }: Pick<AttentionShape, 'queryHeads' | 'kvHeads' | 'headDim'>,
    p: 1 | 2,
    accumulate: boolean,
  ): void {
    this.#call('outputNorm', address(out), address(v), address(w), n, rows, queryHeads, kvHeads, headDim, p, Number(accumulate));
  }

  gateScore(out: View, q: View, k: View, base: View, bias: View, n: number, { kvHeads, group, width, sinks }: GateShape): void {
    this.#call('gateScore', address(out), address(q), address(k), address(base), address(bias), n, kvHeads, group, width, sinks);
  }

  tokenMean(out: View, x: View, n: number, heads: number, headDim: number): void {
    this.#call('tokenMean', address(out), address(x), n, heads, headDim);
  }

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
  ): void {
    const scratch = this.#room(this.#call('weightedGramScratchBytes', headDim));
    const [weightsAt, stride, epsilon] = [addressOrNull(weights?.rows), weights?.stride ?? 0, weights?.epsilon ?? 0];
    this.#call(
      'weightedGram',
      address(out),
      address(x),
      weightsAt,
      stride,
      addressOrNull(centres),
      n,
      rows,
      heads,
      headDim,
      epsilon,
      factor,
      scratch,
    );
  }

  quadraticForm(
    out: View,
    stride: number,
    x: View,
    { linear, quadratic }: TokenForms,
    n: number,
    rows: number,
    heads: number,
    headDim: number,
  ): void {
    const scratch = this.#room(this.#call('quadraticFormScratchBytes', headDim));
    this.#call(
      'quadraticForm',
      address(out),
      stride,
      address(x),
      addressOrNull(linear?.vectors),
      addressOrNull(quadratic?.matrices),
      Number(quadratic?.squared ?? false),
      n,
      rows,
      heads,
      headDim,
      linear?.factor ?? 0,
      quadratic?.factor ?? 0,
      scratch,
    );
  }

  choleskyInverse(out: View, tries: View, matrices: View, rows: number, d: number, ridge: number, most: number): void {
    const scratch = this.#room(this.#call('choleskyInverseScratchBytes', d));
    this.#call('choleskyInverse', address(out), address(tries), address(matrices), rows, d, ridge, most, scratch);
  }

  sketch(out: View, x: View, centres: View, phi: View, n: number, heads: number, headDim: number, width: number): void {
    const scratch = this.#room(this.#call('sketchScratchBytes', headDim));
    this.#call('sketch', address(out), address(x), address(centres), address(phi), n, heads, headDim, width, scratch);
  }

  rowSoftmax(x: View, rows: number, cols: number, stride: number, peak: boolean): void {
    this.#call('rowSoftmax', address(x), rows, cols, stride, Number(peak));
  }

  cosineTo(out: View, stride: number, x: View, anchors: View, n: number, rows: number, heads: number, headDim: number, scale: number): void {
    this.#call('cosineTo', address(out), stride, address(x), address(anchors), n, rows, heads, headDim, scale);
  }

  turnKeys(k: View, table: View, { rows, stride }: RankOrder, count: number, n: number, kvHeads: number, headDim: number): void {
    this.#call('turnKeys', address(k), address(table), address(rows), stride, count, n, kvHeads, headDim, this.#room(n));
  }

  nearestKept(
    target: View,
    similarity: View,
    k: View,
    norms: View,
    { order, counts }: KeptSet,
    among: RankOrder | null,
    n: number,
    kvHeads: number,
    headDim: number,
  ): void {
    const [scratch, countsAt] = this.#roomAndCounts(this.#call('nearestKeptScratchBytes', n, headDim), counts);
    this.#call(
      'nearestKept',
      address(target),
      address(similarity),
      address(k),
      address(norms),
      address(order.rows),
      order.stride,
      countsAt,
      addressOrNull(among?.rows),
      among?.stride ?? 0,
      n,
      kvHeads,
      headDim,
      scratch,
    );
  }

  mergeValues(v: View, target: View, similarity: View, norms: View, threshold: View, n: number, kvHeads: number, headDim: number): void {
    const scratch = this.#room(this.#call('mergeValuesScratchBytes', n));
    const views = [v, target, similarity, norms, threshold].map(address);
    this.#call('mergeValues', ...views, n, kvHeads, headDim, scratch);
  }

  pruneChannels(
    k: View,
    q: View,
    window: number,
    { order, counts }: KeptSet,
    zeroed: number,
    { queryHeads, kvHeads, headDim }: Pick<AttentionShape, 'queryHeads' | 'kvHeads' | 'headDim'>,
  ): void {
    const [scratch, countsAt] = this.#roomAndCounts(this.#call('pruneChannelsScratchBytes', headDim), counts);
    const { rows, stride } = order;
    this.#call('pruneChannels', address(k), address(q), window, address(rows), stride, countsAt, zeroed, queryHeads, kvHeads, headDim, scratch);
  }

  topK(order: View, scores: View, rows: number, n: number, count: number, keep: Protected): void {
    const scratch = this.#room(this.#call('topKScratchBytes', n));
    for (let r = 0; r < rows; r++)
      this.#call('topK', address(order) + r * count * 4, address(scores) + r * n * 4, n, count, keep.first, keep.last, scratch);
  }

  async massCount(scores: View, order: View, n: number, kvHeads: number, keep: Protected, threshold: number, map: MassMap): Promise<number[]> {
    const counts = this.#room(kvHeads * 4);
    this.#call('massCount', counts, address(scores), address(order), n, kvHeads, keep.first, keep.last, threshold, MASS_MAPS[map]);
    return [...this.kernels.u32(counts, kvHeads)];
  }

  #pool({ pool, pageBytes, entryType, entriesPerPage }: Pool): number[] {
    return [address(pool), pageBytes, entryTypes.indexOf(entryType), entriesPerPage];
  }

  /** Where a kernel finds numbers of the host, for its one call. */
  #uploaded(data: Uint32Array): number {
    const room = this.#room(data.byteLength);
    this.kernels.u32(room, data.length).set(data);
    return room;
  }

  #call(kernel: string, ...args: number[]): number {
    return this.kernels.exports[kernel](...args) as number;
  }

  /** Addresses of scratch, and of the counts behind it. */
  #roomAndCounts(bytes: number, counts: readonly number[]): [number, number] {
    const scratch = this.#room(Math.ceil(bytes / 4) * 4 + counts.length * 4);
    const countsAt = scratch + Math.ceil(bytes / 4) * 4;
    this.kernels.u32(countsAt, counts.length).set(counts);
    return [scratch, countsAt];
  }

  /** Address of scratch for one call: one block that grows to the most any call has asked for. */
  #room(bytes: number): number {
    if (!this.#scratch || this.#scratch.bytes < bytes) {
      this.trim();
      this.#scratch = this.alloc(Math.ceil(Math.max(bytes, 1) / 64) * 64, 'kernel scratch') as Block; // all of what the heap takes for it
    }
    return this.#scratch.address;
  }
}

const LINEAR = { f32: 'linearF32', f16: 'linearF16', bf16: 'linearBf16', q8: 'linearQ8', q4: 'linearQ4' } as const;
const EMBED = { f32: 'embedF32', f16: 'embedF16', bf16: 'embedBf16', q8: 'embedQ8', q4: 'embedQ4' } as const;
