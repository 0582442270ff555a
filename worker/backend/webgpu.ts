/**
 * The Backend on WebGPU: every operation is a WGSL kernel of its name (wgsl/), recorded in order and submitted together. What comes back goes
 * through `read`. A device that is lost, out of memory or told nonsense is no device any more: everything fails with `DeviceFailed` from then on.
 */
import type {
  AttentionShape,
  Backend,
  Columns,
  CutBefore,
  DeviceBuffer,
  EntryRuns,
  GateShape,
  KeptSet,
  LinearTarget,
  MassMap,
  NormKind,
  NormPart,
  PagedLayer,
  Pool,
  Protected,
  RankOrder,
  RopePart,
  SampleSettings,
  TokenForms,
  TokenWeights,
  View,
  Weight,
} from './backend.ts';
import { DeviceFailed } from './backend.ts';
import { attendCausal, attendPaged, attentionScratchBytes, HEAD_DIMS, storeEntries } from './webgpu/attention.ts';
import { Buffers, type GpuBlock } from './webgpu/buffers.ts';
import { type DeviceOptions, type Feature, type OpenedDevice, openDevice } from './webgpu/device.ts';
import { gelu, halve, rmsNorm, rope, swiglu, widen } from './webgpu/elementwise.ts';
import { moveEntries, readEntries } from './webgpu/entries.ts';
import { Faults } from './webgpu/faults.ts';
import { choleskyInverse, cosineTo, quadraticForm, rowSoftmax, sketch, tokenMean, weightedGram } from './webgpu/forms.ts';
import type { Gpu } from './webgpu/gpu.ts';
import { embed, linear } from './webgpu/linear.ts';
import { Readback } from './webgpu/readback.ts';
import { Recorder } from './webgpu/recorder.ts';
import { sample, sampleScratchBytes } from './webgpu/sampling.ts';
import {
  avgPool,
  blend,
  cosineToMean,
  gateScore,
  gather,
  groupMax,
  groupMean,
  keyNorm,
  lagScore,
  massCount,
  maxPool,
  normScale,
  normShare,
  outputNorm,
  reciprocal,
  rowCosine,
  scoreColumns,
  scoreWindow,
  scoringScratchBytes,
  segmentMean,
  segmentRank,
  topK,
  weigh,
  windowMoments,
  zScore,
} from './webgpu/scoring.ts';
import { mergeValues, nearestKept, pruneChannels, turnKeys } from './webgpu/transforms.ts';

export interface WebGpuOptions {
  /** Most device memory in bytes. WebGPU does not say how much there is: without a limit the driver decides. */
  readonly limitBytes?: number;
  /** The AssemblyScript module's memory, where the ledger lives. */
  readonly ledgerMemory: WebAssembly.Memory;
  /** Most bytes of one buffer, where a test wants less than the device can bind. */
  readonly largestBytes?: number;
}

/** Null where the GPU object has no adapter. */
export async function openWebGpu(gpu: GPU, options: WebGpuOptions & DeviceOptions): Promise<WebGpuBackend | null> {
  const opened = await openDevice(gpu, options);
  return opened && new WebGpuBackend(opened, options);
}

const NO_LIMIT = Infinity;
/** Submissions that the host may be ahead of the device: a wait costs 11 ms on wgpu under Deno, whatever it is for. */
const MOST_AHEAD = 8;

export class WebGpuBackend implements Backend, Gpu {
  readonly name = 'webgpu';
  readonly queued = true;
  readonly headDims = HEAD_DIMS;
  readonly variant: string;
  readonly features: ReadonlySet<Feature>;
  readonly software: boolean;
  readonly ledgerMemory: WebAssembly.Memory;
  readonly recorder: Recorder;
  readonly buffers: Buffers;
  readonly #device: GPUDevice;
  readonly #faults: Faults;
  readonly #readback: Readback;
  #unwaited = 0; // submissions since the device was last waited for
  #closed = false;

  constructor({ device, features, adapterName, software }: OpenedDevice, { limitBytes = NO_LIMIT, ledgerMemory, largestBytes }: WebGpuOptions) {
    this.#device = device;
    this.features = features;
    this.software = software;
    this.ledgerMemory = ledgerMemory;
    const kernels = [features.has('subgroups') ? 'subgroups' : null, features.has('shader-f16') ? 'f16' : null].filter((x) => x !== null);
    this.variant = `${adapterName}, ${kernels.length > 0 ? kernels.join(' and ') : 'plain'} kernels`;
    this.#faults = new Faults(device);
    this.recorder = new Recorder(device, () => {
      this.#unwaited++;
      this.#faults.check();
    });
    this.buffers = new Buffers(device, limitBytes, () => this.recorder.forget(), largestBytes);
    this.#readback = new Readback(device, this.recorder, this.#faults);
  }

  /** Why the device is of no use any more; null while it is. */
  get failure(): DeviceFailed | null {
    return this.#faults.failure;
  }
  get memory(): Backend['memory'] {
    const { usedBytes, peakBytes, freeBytes, limitBytes } = this.buffers;
    return { usedBytes, peakBytes, freeBytes, limitBytes };
  }
  trim(): void {
    this.buffers.trim();
  }
  linearScratchBytes(): number {
    return 0;
  }
  scratchBytes(n: number, window: number, shape: Pick<AttentionShape, 'queryHeads' | 'kvHeads' | 'headDim'>): number {
    return attentionScratchBytes(this, shape) + (n === 0 ? 0 : scoringScratchBytes(n, window, shape));
  }
  /** Destroys the device and all that lies on it. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#faults.close();
    this.recorder.close();
    this.#readback.close();
    this.buffers.close();
    this.#device.destroy();
  }

  get largestBytes(): number {
    return Math.min(this.buffers.mostBytes, this.buffers.limitBytes);
  }
  alloc(bytes: number, label: string, cutBefore?: CutBefore): DeviceBuffer {
    this.#faults.throwIfFailed();
    if (this.#closed) throw new DeviceFailed('lost', 'it was closed');
    return this.buffers.alloc(bytes, label, cutBefore);
  }
  free(buffer: DeviceBuffer): void {
    if (!this.#closed) this.buffers.free(buffer as GpuBlock);
  }
  write(target: View, data: ArrayBufferView): void {
    this.recorder.write(target, data);
  }
  async read(source: View, bytes: number): Promise<Uint8Array> {
    const read = await this.#readback.read(source, bytes);
    this.#unwaited = 0;
    return read;
  }
  copy(target: View, source: View, bytes: number): void {
    this.recorder.copy(target, source, bytes);
  }
  async pace(): Promise<void> {
    this.#faults.throwIfFailed();
    this.recorder.submit();
    await this.recorder.profiler?.collect(); // before its slots run out
    if (this.#unwaited < MOST_AHEAD) return;
    this.#unwaited = 0;
    await this.#faults.unlessFailed(this.#device.queue.onSubmittedWorkDone());
  }

  embed(out: View, table: Weight, tokens: View, n: number): void {
    embed(this, out, table, tokens, n);
  }
  rmsNorm(parts: readonly NormPart[], cols: number, eps: number): void {
    rmsNorm(this, parts, cols, eps);
  }
  linear(targets: readonly LinearTarget[], x: View, n: number): void {
    linear(this, targets, x, n);
  }
  rope(parts: readonly RopePart[], table: View, n: number, headDim: number): void {
    rope(this, parts, table, n, headDim);
  }
  swiglu(out: View, gate: View, up: View, count: number): void {
    swiglu(this, out, gate, up, count);
  }
  gelu(out: View, x: View, count: number): void {
    gelu(this, out, x, count);
  }
  halve(out: View, x: View, count: number): void {
    halve(this, out, x, count);
  }
  widen(out: View, x: View, count: number): void {
    widen(this, out, x, count);
  }
  attendCausal(out: View, q: View, k: View, v: View, n: number, start: number, shape: AttentionShape): void {
    attendCausal(this, out, q, k, v, n, start, shape);
  }
  attendPaged(out: View, q: View, cache: PagedLayer, n: number, start: number, shape: AttentionShape): void {
    attendPaged(this, out, q, cache, n, start, shape);
  }
  storeEntries(
    cache: PagedLayer,
    runs: EntryRuns,
    k: View,
    v: View,
    order: RankOrder | null,
    shape: Pick<AttentionShape, 'kvHeads' | 'headDim'>,
  ): void {
    storeEntries(this, cache, runs, k, v, order, shape);
  }
  readEntries(k: View, v: View, pool: Pool, places: Uint32Array, headDim: number): void {
    readEntries(this, k, v, pool, places, headDim);
  }
  moveEntries(pool: Pool, moves: Uint32Array, headDim: number): void {
    moveEntries(this, pool, moves, headDim);
  }
  scoreWindow(out: View, q: View, k: View, window: number, n: number, shape: AttentionShape): void {
    scoreWindow(this, out, q, k, window, n, shape);
  }
  scoreColumns(out: View, q: View, k: View, columns: Columns, shape: AttentionShape): void {
    scoreColumns(this, out, q, k, columns, shape);
  }
  windowMoments(out: View, q: View, k: View, window: number, n: number, shape: AttentionShape): void {
    windowMoments(this, out, q, k, window, n, shape);
  }
  normScale(out: View, x: View, v: View, n: number, count: number, kvHeads: number, headDim: number): void {
    normScale(this, out, x, v, n, count, kvHeads, headDim);
  }
  rowCosine(out: View, x: View, y: View, rows: number, cols: number): void {
    rowCosine(this, out, x, y, rows, cols);
  }
  avgPool(out: View, x: View, rows: number, cols: number, stride: number, kernelSize: number): void {
    avgPool(this, out, x, rows, cols, stride, kernelSize);
  }
  groupMean(out: View, x: View, groups: number, group: number, n: number): void {
    groupMean(this, out, x, groups, group, n);
  }
  groupMax(out: View, x: View, groups: number, group: number, n: number): void {
    groupMax(this, out, x, groups, group, n);
  }
  maxPool(out: View, x: View, rows: number, cols: number, stride: number, kernelSize: number): void {
    maxPool(this, out, x, rows, cols, stride, kernelSize);
  }
  weigh(out: View, x: View, w: View, rows: number, wRows: number, n: number, epsilon: number): void {
    weigh(this, out, x, w, rows, wRows, n, epsilon);
  }
  blend(out: View, x: View, y: View, a: number, b: number, count: number): void {
    blend(this, out, x, y, a, b, count);
  }
  reciprocal(out: View, x: View, count: number): void {
    reciprocal(this, out, x, count);
  }
  zScore(x: View, rows: number, stride: number, first: number, cols: number, whole: boolean): void {
    zScore(this, x, rows, stride, first, cols, whole);
  }
  keyNorm(out: View, k: View, n: number, kvHeads: number, headDim: number, sign: number): void {
    keyNorm(this, out, k, n, kvHeads, headDim, sign);
  }
  cosineToMean(out: View, k: View, n: number, kvHeads: number, headDim: number, sign: number): void {
    cosineToMean(this, out, k, n, kvHeads, headDim, sign);
  }
  normShare(out: View, k: View, v: View, n: number, kvHeads: number, headDim: number, segment: number, kind: NormKind): void {
    normShare(this, out, k, v, n, kvHeads, headDim, segment, kind);
  }
  lagScore(out: View, k: View, v: View, n: number, first: number, lag: number, kvHeads: number, headDim: number): void {
    lagScore(this, out, k, v, n, first, lag, kvHeads, headDim);
  }
  segmentRank(out: View, x: View, rows: number, n: number, first: number, width: number, segments: number): void {
    segmentRank(this, out, x, rows, n, first, width, segments);
  }
  segmentMean(out: View, x: View, rows: number, n: number, first: number, end: number, width: number): void {
    segmentMean(this, out, x, rows, n, first, end, width);
  }
  outputNorm(
    out: View,
    v: View,
    w: View,
    n: number,
    rows: number,
    shape: Pick<AttentionShape, 'queryHeads' | 'kvHeads' | 'headDim'>,
    p: 1 | 2,
    accumulate: boolean,
  ): void {
    outputNorm(this, out, v, w, n, rows, shape, p, accumulate);
  }
  gateScore(out: View, q: View, k: View, base: View, bias: View, n: number, shape: GateShape): void {
    gateScore(this, out, q, k, base, bias, n, shape);
  }
  tokenMean(out: View, x: View, n: number, heads: number, headDim: number): void {
    tokenMean(this, out, x, n, heads, headDim);
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
    weightedGram(this, out, x, weights, centres, n, rows, heads, headDim, factor);
  }
  quadraticForm(out: View, stride: number, x: View, forms: TokenForms, n: number, rows: number, heads: number, headDim: number): void {
    quadraticForm(this, out, stride, x, forms, n, rows, heads, headDim);
  }
  choleskyInverse(out: View, tries: View, matrices: View, rows: number, d: number, ridge: number, most: number): void {
    choleskyInverse(this, out, tries, matrices, rows, d, ridge, most);
  }
  sketch(out: View, x: View, centres: View, phi: View, n: number, heads: number, headDim: number, width: number): void {
    sketch(this, out, x, centres, phi, n, heads, headDim, width);
  }
  rowSoftmax(x: View, rows: number, cols: number, stride: number, peak: boolean): void {
    rowSoftmax(this, x, rows, cols, stride, peak);
  }
  cosineTo(out: View, stride: number, x: View, anchors: View, n: number, rows: number, heads: number, headDim: number, scale: number): void {
    cosineTo(this, out, stride, x, anchors, n, rows, heads, headDim, scale);
  }
  gather(out: View, x: View, order: RankOrder, count: number, kvHeads: number, headDim: number): void {
    gather(this, out, x, order, count, kvHeads, headDim);
  }
  turnKeys(k: View, table: View, order: RankOrder, count: number, _n: number, kvHeads: number, headDim: number): void {
    turnKeys(this, k, table, order, count, kvHeads, headDim);
  }
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
  ): void {
    nearestKept(this, target, similarity, k, norms, kept, among, n, kvHeads, headDim);
  }
  mergeValues(v: View, target: View, similarity: View, norms: View, threshold: View, n: number, kvHeads: number, headDim: number): void {
    mergeValues(this, v, target, similarity, norms, threshold, n, kvHeads, headDim);
  }
  pruneChannels(
    k: View,
    q: View,
    window: number,
    kept: KeptSet,
    zeroed: number,
    shape: Pick<AttentionShape, 'queryHeads' | 'kvHeads' | 'headDim'>,
  ): void {
    pruneChannels(this, k, q, window, kept, zeroed, shape);
  }
  topK(order: View, scores: View, rows: number, n: number, count: number, keep: Protected): void {
    topK(this, order, scores, rows, n, count, keep);
  }
  async massCount(scores: View, order: View, n: number, kvHeads: number, keep: Protected, threshold: number, map: MassMap): Promise<number[]> {
    const counts = this.alloc(kvHeads * 4, 'mass counts');
    try {
      massCount(this, counts, scores, order, n, kvHeads, keep, threshold, map);
      const bytes = await this.read(counts, kvHeads * 4);
      return [...new Uint32Array(bytes.buffer, bytes.byteOffset, kvHeads)];
    } finally {
      this.free(counts);
    }
  }
  readonly sampleScratchBytes = sampleScratchBytes;
  sample(token: View, logits: View, vocab: number, counts: View | null, settings: SampleSettings, draw: number): void {
    sample(this, token, logits, vocab, counts, settings, draw);
  }
}
