/**
 * The Backend written plainly: loops as in the formulas, float64 inside, f32 where results are stored. What kernels, the engine and the presses
 * are checked against. Not fast, and single-valued: the same inputs give the same bits everywhere.
 */
import {
  type AttentionShape,
  at,
  type Backend,
  type Columns,
  type DeviceBuffer,
  type EntryRuns,
  type GateShape,
  type KeptSet,
  type LinearTarget,
  type MassMap,
  type NormKind,
  type NormPart,
  OutOfDeviceMemory,
  type PagedLayer,
  type Pool,
  type Protected,
  type RankOrder,
  type RopePart,
  type TokenForms,
  type TokenWeights,
  type View,
  type Weight,
} from '../../worker/backend/backend.ts';
import { erfc } from './erfc.ts';
import { fromHalf, toHalf } from './half.ts';

class Block implements DeviceBuffer {
  readonly buffer = this;
  readonly offset = 0;
  readonly bytes: number;
  readonly label: string;
  readonly memory: ArrayBuffer;
  freed = false;
  constructor(bytes: number, label: string) {
    this.bytes = bytes;
    this.label = label;
    this.memory = new ArrayBuffer(bytes);
    new Uint8Array(this.memory).fill(0xff); // NaN everywhere: whoever reads what was not written notices
  }
}

function live(view: View, bytes: number): Block {
  const block = view.buffer as Block;
  if (block.freed) throw new Error(`${block.label} was freed`);
  if (view.offset < 0 || view.offset + bytes > block.bytes) throw new Error(`${block.label}: ${bytes} bytes at ${view.offset} of ${block.bytes}`);
  return block;
}
const u8 = (view: View, length: number) => new Uint8Array(live(view, length).memory, view.offset, length);
const i8 = (view: View, length: number) => new Int8Array(live(view, length).memory, view.offset, length);
const u16 = (view: View, length: number) => new Uint16Array(live(view, length * 2).memory, view.offset, length);
const u32 = (view: View, length: number) => new Uint32Array(live(view, length * 4).memory, view.offset, length);
const f32 = (view: View, length: number) => new Float32Array(live(view, length * 4).memory, view.offset, length);

/** Memory in which page tables and lengths lie: the AssemblyScript module's, or any other that a test brings. */
export interface LedgerMemory {
  readonly buffer: ArrayBuffer | SharedArrayBuffer;
}

export class ReferenceBackend implements Backend {
  readonly name = 'wasm'; // stands in for it
  readonly variant = 'float64 reference';
  readonly #ledger: LedgerMemory | null;
  readonly #limit: number;
  readonly #live = new Set<Block>();
  #used = 0;
  #peak = 0;

  constructor(options: { ledger?: LedgerMemory; limitBytes?: number } = {}) {
    this.#ledger = options.ledger ?? null;
    this.#limit = options.limitBytes ?? 2 ** 40;
  }

  get memory(): Backend['memory'] {
    return { usedBytes: this.#used, peakBytes: this.#peak, freeBytes: this.#limit - this.#used, limitBytes: this.#limit };
  }
  /** Labels of what is allocated now: a test names what leaked. */
  get live(): string[] {
    return [...this.#live].map(({ label }) => label);
  }
  readonly failure = null;
  readonly queued = false;
  readonly software = false;
  readonly headDims = { multipleOf: 2, most: Infinity };
  get largestBytes(): number {
    return this.#limit;
  }
  trim(): void {}
  close(): void {}
  linearScratchBytes(): number {
    return 0;
  }
  scratchBytes(): number {
    return 0;
  }

  alloc(bytes: number, label: string): DeviceBuffer {
    if (!Number.isInteger(bytes) || bytes < 0) throw new Error(`${label}: ${bytes} bytes`);
    if (this.#used + bytes > this.#limit) throw new OutOfDeviceMemory(label, bytes, this.#limit - this.#used);
    const block = new Block(bytes, label);
    this.#live.add(block);
    this.#used += bytes;
    this.#peak = Math.max(this.#peak, this.#used);
    return block;
  }
  free(buffer: DeviceBuffer): void {
    const block = buffer as Block;
    if (!this.#live.delete(block)) throw new Error(`${block.label} was freed twice`);
    block.freed = true;
    this.#used -= block.bytes;
  }
  write(target: View, data: ArrayBufferView): void {
    u8(target, data.byteLength).set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  async read(source: View, bytes: number): Promise<Uint8Array> {
    return u8(source, bytes).slice();
  }
  copy(target: View, source: View, bytes: number): void {
    u8(target, bytes).set(u8(source, bytes).slice());
  }
  async pace(): Promise<void> {}

  embed(out: View, table: Weight, tokens: View, n: number): void {
    const w = weights(table);
    const ids = u32(tokens, n);
    const y = f32(out, n * table.cols);
    for (let i = 0; i < n; i++) for (let c = 0; c < table.cols; c++) y[i * table.cols + c] = w[ids[i] * table.cols + c];
  }

  rmsNorm(parts: readonly NormPart[], cols: number, eps: number): void {
    for (const part of parts) this.#rmsNorm(part, cols, eps);
  }
  #rmsNorm({ out, x, weight, rows }: NormPart, cols: number, eps: number): void {
    const input = f32(x, rows * cols);
    const w = f32(weight, cols);
    const y = f32(out, rows * cols);
    for (let r = 0; r < rows; r++) {
      let squares = 0;
      for (let c = 0; c < cols; c++) squares += input[r * cols + c] ** 2;
      const scale = 1 / Math.sqrt(squares / cols + eps);
      for (let c = 0; c < cols; c++) y[r * cols + c] = input[r * cols + c] * scale * w[c];
    }
  }

  linear(targets: readonly LinearTarget[], x: View, n: number): void {
    for (const target of targets) this.#linear(target, x, n);
  }
  #linear({ out, weight, bias, accumulate = false }: LinearTarget, x: View, n: number): void {
    const { rows, cols } = weight;
    const w = weights(weight);
    const input = f32(x, n * cols);
    const b = bias ? f32(bias, rows) : null;
    const y = f32(out, n * rows);
    for (let i = 0; i < n; i++) {
      for (let r = 0; r < rows; r++) {
        let sum = (b ? b[r] : 0) + (accumulate ? y[i * rows + r] : 0);
        for (let c = 0; c < cols; c++) sum += input[i * cols + c] * w[r * cols + c];
        y[i * rows + r] = sum;
      }
    }
  }

  rope(parts: readonly RopePart[], table: View, n: number, headDim: number): void {
    for (const part of parts) this.#rope(part, table, n, headDim);
  }
  #rope({ x, heads }: RopePart, table: View, n: number, headDim: number): void {
    const half = headDim / 2;
    const angles = f32(table, n * headDim); // [n, d]: cos, then sin
    const y = f32(x, n * heads * headDim);
    for (let i = 0; i < n; i++) {
      for (let h = 0; h < heads; h++) {
        const row = (i * heads + h) * headDim;
        for (let c = 0; c < half; c++) {
          const [cos, sin] = [angles[i * headDim + c], angles[i * headDim + half + c]];
          const [a, b] = [y[row + c], y[row + half + c]];
          y[row + c] = a * cos - b * sin;
          y[row + half + c] = b * cos + a * sin;
        }
      }
    }
  }

  swiglu(out: View, gate: View, up: View, count: number): void {
    const g = f32(gate, count);
    const u = f32(up, count);
    const y = f32(out, count);
    for (let i = 0; i < count; i++) y[i] = (g[i] / (1 + Math.exp(-g[i]))) * u[i];
  }

  gelu(out: View, x: View, count: number): void {
    const input = f32(x, count);
    const y = f32(out, count);
    for (let i = 0; i < count; i++) y[i] = (input[i] * erfc(-input[i] / Math.SQRT2)) / 2;
  }

  halve(out: View, x: View, count: number): void {
    u16(out, count).set(Array.from(f32(x, count), toHalf));
  }

  widen(out: View, x: View, count: number): void {
    f32(out, count).set(Array.from(u16(x, count), fromHalf));
  }

  attendCausal(out: View, q: View, k: View, v: View, n: number, start: number, shape: AttentionShape): void {
    const { queryHeads: Hq, kvHeads: H, headDim: d, slidingWindow } = shape;
    const keys = f32(k, (start + n) * H * d);
    const values = f32(v, (start + n) * H * d);
    for (let i = 0; i < n; i++) {
      const from = slidingWindow > 0 ? Math.max(0, start + i - slidingWindow + 1) : 0;
      for (let a = 0; a < Hq; a++) {
        const h = Math.floor((a * H) / Hq);
        const rows = range(from, start + i + 1).map((j) => (j * H + h) * d);
        attend(
          out,
          q,
          (i * Hq + a) * d,
          rows.map((row) => keys.subarray(row, row + d)),
          rows.map((row) => values.subarray(row, row + d)),
          shape,
        );
      }
    }
  }

  attendPaged(out: View, q: View, cache: PagedLayer, n: number, start: number, shape: AttentionShape): void {
    const { queryHeads: Hq, kvHeads: H, headDim: d, slidingWindow } = shape;
    const lengths = this.#u32(cache.lengths, H);
    for (let h = 0; h < H; h++) {
      const entries = range(0, lengths[h]).map((e) => this.#entry(cache, h, e, d));
      for (let i = 0; i < n; i++) {
        const position = start + i;
        const seen = entries.slice(0, lengths[h] - (n - 1 - i)).filter((entry) => slidingWindow === 0 || entry.position() > position - slidingWindow);
        for (let a = h * (Hq / H); a < (h + 1) * (Hq / H); a++) {
          attend(
            out,
            q,
            (i * Hq + a) * d,
            seen.map(({ key }) => key),
            seen.map(({ value }) => value),
            shape,
          );
        }
      }
    }
  }

  storeEntries(
    cache: PagedLayer,
    { from, counts }: EntryRuns,
    k: View,
    v: View,
    order: RankOrder | null,
    shape: Pick<AttentionShape, 'kvHeads' | 'headDim'>,
  ): void {
    for (let h = 0; h < shape.kvHeads; h++) {
      const rows = order ? u32(at(order.rows, h * order.stride * 4), counts[h]) : Uint32Array.from(range(0, counts[h]));
      this.#storeHead(cache, h, from[h], k, v, rows, shape);
    }
  }
  #storeHead(
    cache: PagedLayer,
    head: number,
    from: number,
    k: View,
    v: View,
    rows: Uint32Array,
    { kvHeads: H, headDim: d }: Pick<AttentionShape, 'kvHeads' | 'headDim'>,
  ): void {
    for (let i = 0; i < rows.length; i++) {
      const place = this.#place(cache, head, from + i, d);
      for (const [source, target] of [
        [k, place.key],
        [v, place.value],
      ] as const) {
        const row = f32(at(source, (rows[i] * H + head) * d * 4), d);
        if (cache.entryType === 'f32') {
          f32(target.row, d).set(row);
          continue;
        }
        if (cache.entryType === 'f16') {
          u16(target.row, d).set(Array.from(row, toHalf));
          continue;
        }
        const scale = Math.fround(row.reduce((most, x) => Math.max(most, Math.abs(x)), 0) / 127);
        f32(target.scale, 1)[0] = scale;
        i8(target.row, d).set(row.map((x) => (scale === 0 ? 0 : halfToEven(x / scale))));
      }
    }
  }

  readEntries(k: View, v: View, pool: Pool, places: Uint32Array, d: number): void {
    for (const [i, place] of places.entries()) {
      const { key, value } = this.#entryIn(pool, Math.floor(place / pool.entriesPerPage), place % pool.entriesPerPage, d);
      f32(at(k, i * d * 4), d).set(key);
      f32(at(v, i * d * 4), d).set(value);
    }
  }

  moveEntries(pool: Pool, moves: Uint32Array, d: number): void {
    const { entryType, entriesPerPage: E } = pool;
    const parts = ({ row, scale }: Place): Uint8Array[] => {
      const bytes = u8(row, { f32: d * 4, f16: d * 2, int8: d }[entryType]);
      return entryType === 'int8' ? [bytes, u8(scale, 4)] : [bytes];
    };
    for (let i = 0; i < moves.length; i += 2) {
      const [from, to] = [moves[i], moves[i + 1]].map((place) => placeIn(pool, Math.floor(place / E), place % E, d));
      for (const which of ['key', 'value'] as const) {
        const target = parts(to[which]);
        for (const [part, bytes] of parts(from[which]).entries()) target[part].set(bytes);
      }
    }
  }

  scoreWindow(out: View, q: View, k: View, window: number, n: number, shape: AttentionShape): void {
    const { queryHeads: Hq, kvHeads: H, headDim: d, scale, slidingWindow } = shape;
    const queries = f32(q, window * Hq * d);
    const keys = f32(k, n * H * d);
    const y = f32(out, Hq * n);
    for (let a = 0; a < Hq; a++) {
      const h = Math.floor((a * H) / Hq);
      const mean = new Float64Array(n);
      for (let i = 0; i < window; i++) {
        const position = n - window + i;
        const logits = new Float64Array(n).fill(-Infinity);
        for (let j = slidingWindow > 0 ? Math.max(0, position - slidingWindow + 1) : 0; j <= position; j++) {
          logits[j] = scale * dot(queries, (i * Hq + a) * d, keys, (j * H + h) * d, d);
        }
        const p = softmax(logits);
        for (let j = 0; j < n; j++) mean[j] += p[j] / window;
      }
      y.set(mean, a * n);
    }
  }

  scoreColumns(
    out: View,
    q: View,
    k: View,
    { queries: m, n, start, reduce, columns, stride, rowScale, accumulate }: Columns,
    shape: AttentionShape,
  ): void {
    const { queryHeads: Hq, kvHeads: H, headDim: d, scale, slidingWindow } = shape;
    const rows = f32(q, m * Hq * d);
    const keys = f32(k, n * H * d);
    const scales = rowScale ? f32(rowScale, m) : null;
    for (let a = 0; a < Hq; a++) {
      const h = Math.floor((a * H) / Hq);
      const y = f32(at(out, a * stride * 4), columns);
      const result = accumulate ? Float64Array.from(y) : new Float64Array(columns);
      for (let i = 0; i < m; i++) {
        const position = start === null ? n - 1 : start + i;
        const from = start !== null && slidingWindow > 0 ? Math.max(0, position - slidingWindow + 1) : 0;
        const logits = new Float64Array(n).fill(-Infinity);
        for (let j = from; j <= position; j++) logits[j] = scale * dot(rows, (i * Hq + a) * d, keys, (j * H + h) * d, d);
        const p = softmax(logits);
        for (let j = 0; j < columns; j++) {
          const given = p[j] * (scales ? scales[i] : 1);
          result[j] = reduce === 'sum' ? result[j] + given : Math.max(result[j], given);
        }
      }
      y.set(result);
    }
  }

  windowMoments(out: View, q: View, k: View, window: number, n: number, shape: AttentionShape): void {
    const { queryHeads: Hq, kvHeads: H, headDim: d, scale, slidingWindow } = shape;
    const queries = f32(q, window * Hq * d);
    const keys = f32(k, n * H * d);
    const y = f32(out, 3 * Hq * n);
    for (let a = 0; a < Hq; a++) {
      const h = Math.floor((a * H) / Hq);
      const weights = range(n - window, n).map((position, i) => {
        const logits = new Float64Array(n).fill(-Infinity);
        for (let j = slidingWindow > 0 ? Math.max(0, position - slidingWindow + 1) : 0; j <= position; j++)
          logits[j] = scale * dot(queries, (i * Hq + a) * d, keys, (j * H + h) * d, d);
        return softmax(logits);
      });
      for (let j = 0; j < n; j++) {
        const column = weights.map((row) => row[j]);
        const mean = column.reduce((sum, x) => sum + x, 0) / window;
        const squares = column.reduce((sum, x) => sum + (x - mean) ** 2, 0);
        const entropy = column.reduce((sum, x) => sum - x * Math.log(x + 1e-10), 0);
        for (const [plane, value] of [mean, window > 1 ? squares / (window - 1) : 0, entropy].entries()) y[(plane * Hq + a) * n + j] = value;
      }
    }
  }

  normScale(out: View, x: View, v: View, n: number, count: number, H: number, d: number): void {
    const [input, values, y] = [f32(x, H * n).slice(), f32(v, count * H * d), f32(out, H * n)];
    for (let h = 0; h < H; h++) {
      const norms = range(0, count).map((t) =>
        values.subarray((t * H + h) * d, (t * H + h + 1) * d).reduce((sum, value) => sum + Math.abs(value), 0),
      );
      for (let j = 0; j < n; j++) y[h * n + j] = input[h * n + j] * Math.max(...norms);
    }
  }

  rowCosine(out: View, x: View, y: View, rows: number, cols: number): void {
    const [a, b, result] = [f32(x, rows * cols), f32(y, rows * cols), f32(out, rows)];
    for (let r = 0; r < rows; r++) {
      const [xx, yy] = [a, b].map((z) => Math.max(Math.sqrt(dot(z, r * cols, z, r * cols, cols)), 1e-8));
      result[r] = dot(a, r * cols, b, r * cols, cols) / (xx * yy);
    }
  }

  avgPool(out: View, x: View, rows: number, cols: number, stride: number, kernelSize: number): void {
    const half = Math.floor(kernelSize / 2);
    const input = f32(x, (rows - 1) * stride + cols).slice();
    const y = f32(out, (rows - 1) * stride + cols);
    for (let r = 0; r < rows; r++) {
      for (let j = 0; j < cols; j++) {
        let sum = 0;
        for (let t = Math.max(0, j - half); t <= Math.min(cols - 1, j + half); t++) sum += input[r * stride + t];
        y[r * stride + j] = sum / kernelSize;
      }
    }
  }

  groupMean(out: View, x: View, groups: number, group: number, n: number): void {
    const input = f32(x, groups * group * n).slice();
    const y = f32(out, groups * n);
    for (let g = 0; g < groups; g++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let a = g * group; a < (g + 1) * group; a++) sum += input[a * n + j];
        y[g * n + j] = sum / group;
      }
    }
  }

  groupMax(out: View, x: View, groups: number, group: number, n: number): void {
    const input = f32(x, groups * group * n).slice();
    const y = f32(out, groups * n);
    for (let g = 0; g < groups; g++)
      for (let j = 0; j < n; j++) y[g * n + j] = Math.max(...range(g * group, (g + 1) * group).map((a) => input[a * n + j]));
  }

  maxPool(out: View, x: View, rows: number, cols: number, stride: number, kernelSize: number): void {
    const half = Math.floor(kernelSize / 2);
    const input = f32(x, (rows - 1) * stride + cols).slice();
    const y = f32(out, (rows - 1) * stride + cols);
    for (let r = 0; r < rows; r++)
      for (let j = 0; j < cols; j++)
        y[r * stride + j] = Math.max(...input.subarray(r * stride + Math.max(0, j - half), r * stride + Math.min(cols, j + half + 1)));
  }

  weigh(out: View, x: View, w: View, rows: number, wRows: number, n: number, epsilon: number): void {
    const [input, by, y] = [f32(x, rows * n).slice(), f32(w, wRows * n), f32(out, rows * n)];
    for (let r = 0; r < rows; r++)
      for (let j = 0; j < n; j++) y[r * n + j] = (input[r * n + j] + epsilon) * by[Math.floor((r * wRows) / rows) * n + j];
  }

  blend(out: View, x: View, y: View, a: number, b: number, count: number): void {
    const [first, second] = [f32(x, count), f32(y, count)];
    f32(out, count).set(first.map((value, i) => a * value + b * second[i]));
  }

  reciprocal(out: View, x: View, count: number): void {
    f32(out, count).set(f32(x, count).map((value) => 1 / value));
  }

  zScore(x: View, rows: number, stride: number, first: number, cols: number, whole: boolean): void {
    const parts = range(0, rows).map((r) => f32(at(x, (r * stride + first) * 4), cols));
    for (const group of whole ? [parts] : parts.map((part) => [part])) {
      const all = group.flatMap((part) => [...part]);
      const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
      const squares = all.reduce((sum, value) => sum + (value - mean) ** 2, 0);
      const std = all.length > 1 ? Math.sqrt(squares / (all.length - 1)) : 0;
      for (const part of group) for (let j = 0; j < cols; j++) part[j] = (part[j] - mean) / Math.max(std, 1e-6);
    }
  }

  keyNorm(out: View, k: View, n: number, kvHeads: number, headDim: number, sign: number): void {
    const keys = f32(k, n * kvHeads * headDim);
    const y = f32(out, kvHeads * n);
    for (let h = 0; h < kvHeads; h++) {
      for (let j = 0; j < n; j++) {
        const row = (j * kvHeads + h) * headDim;
        y[h * n + j] = sign * Math.sqrt(dot(keys, row, keys, row, headDim));
      }
    }
  }

  cosineToMean(out: View, k: View, n: number, kvHeads: number, headDim: number, sign: number): void {
    const keys = f32(k, n * kvHeads * headDim);
    const y = f32(out, kvHeads * n);
    for (let h = 0; h < kvHeads; h++) {
      const anchor = new Float64Array(headDim);
      const norms = range(0, n).map((j) => Math.sqrt(dot(keys, (j * kvHeads + h) * headDim, keys, (j * kvHeads + h) * headDim, headDim)));
      for (let j = 0; j < n; j++)
        for (let c = 0; c < headDim; c++) anchor[c] += keys[(j * kvHeads + h) * headDim + c] / Math.max(norms[j], 1e-12) / n;
      const length = Math.sqrt(dot(anchor, 0, anchor, 0, headDim));
      for (let j = 0; j < n; j++) {
        const product = dot(keys, (j * kvHeads + h) * headDim, anchor, 0, headDim);
        y[h * n + j] = (sign * product) / (Math.max(norms[j], 1e-8) * Math.max(length, 1e-8));
      }
    }
  }

  normShare(out: View, k: View, v: View, n: number, kvHeads: number, headDim: number, segment: number, kind: NormKind): void {
    const [keys, values] = [k, v].map((x) => f32(x, n * kvHeads * headDim));
    const y = f32(out, kvHeads * n);
    const shareOf = (x: number[]): number[] => {
      const total = x.reduce((a, b) => a + b, 0);
      return x.map((part) => (total === 0 ? 0 : part / total));
    };
    const local = (x: number[]): number[] =>
      segment === 0 ? x : range(0, Math.ceil(n / segment)).flatMap((s) => shareOf(x.slice(s * segment, (s + 1) * segment)));
    for (let h = 0; h < kvHeads; h++) {
      const squares = (x: Float32Array): number[] =>
        range(0, n).map((t) => dot(x, (t * kvHeads + h) * headDim, x, (t * kvHeads + h) * headDim, headDim));
      const [kk, vv] = [local(squares(keys)), local(squares(values))];
      const z = { key: kk, value: vv, kv_avg: kk.map((x, t) => (x + vv[t]) / 2), kv_product: kk.map((x, t) => x * vv[t]) };
      y.set(shareOf(z[kind]), h * n);
    }
  }

  lagScore(out: View, k: View, v: View, n: number, first: number, lag: number, H: number, d: number): void {
    const y = f32(out, H * n).fill(1);
    const tensors = [k, v].map((view) => f32(view, n * H * d));
    for (let h = 0; h < H; h++) {
      for (let start = first; start + 2 * lag <= n; start += lag) {
        const shares = tensors.map((tensor) => {
          const row = (t: number): Float32Array => tensor.subarray((t * H + h) * d, (t * H + h + 1) * d);
          const next = range(start + lag, start + 2 * lag).map(row);
          const low = range(0, d).map((c) => Math.min(...next.map((x) => x[c])));
          const width = range(0, d).map((c) => Math.max(...next.map((x) => x[c])) - low[c]);
          const sigma = range(start, start + lag).map((t) => {
            const x = Array.from(row(t), (value, c) => (width[c] < 2 ** -126 ? 0 : (value - low[c]) / width[c]));
            const mean = x.reduce((sum, value) => sum + value, 0) / d;
            return Math.sqrt(x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (d - 1));
          });
          const most = Math.max(...sigma);
          const total = sigma.reduce((sum, value) => sum + Math.exp(value - most), 0);
          return sigma.map((value) => Math.exp(value - most) / total);
        });
        for (let i = 0; i < lag; i++) y[h * n + start + i] = (shares[0][i] + shares[1][i]) / 2;
      }
    }
  }

  segmentRank(out: View, x: View, rows: number, n: number, first: number, width: number, segments: number): void {
    const input = f32(x, rows * n);
    const y = f32(out, rows * n);
    y.set(input);
    for (let r = 0; r < rows; r++) {
      for (let start = first; start < first + segments * width; start += width) {
        const places = range(r * n + start, r * n + start + width);
        const value = (j: number): number => (Number.isNaN(input[j]) ? -Infinity : input[j]);
        const worstFirst = [...places].sort(
          (a, b) => Number(Number.isNaN(input[b])) - Number(Number.isNaN(input[a])) || (value(a) === value(b) ? b - a : value(a) - value(b)),
        );
        for (const [rank, j] of worstFirst.entries()) y[j] = rank / width;
      }
    }
  }

  segmentMean(out: View, x: View, rows: number, n: number, first: number, end: number, width: number): void {
    const input = f32(x, rows * n);
    const y = f32(out, rows * n);
    const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    for (let r = 0; r < rows; r++) {
      for (let j = 0; j < n; j++) {
        const segment = range(first, end).filter((t) => Math.floor(t / width) === Math.floor(j / width));
        y[r * n + j] = j < first || j >= end ? input[r * n + j] : mean(segment.map((t) => input[r * n + t]));
      }
    }
  }

  outputNorm(
    out: View,
    v: View,
    w: View,
    n: number,
    rows: number,
    { queryHeads: Hq, kvHeads: H, headDim: d }: Pick<AttentionShape, 'queryHeads' | 'kvHeads' | 'headDim'>,
    p: 1 | 2,
    accumulate: boolean,
  ): void {
    const values = f32(v, n * H * d);
    const columns = f32(w, rows * Hq * d);
    const y = f32(out, Hq * n);
    for (let a = 0; a < Hq; a++) {
      for (let t = 0; t < n; t++) {
        const value = (t * H + Math.floor((a * H) / Hq)) * d;
        let sum = accumulate ? y[a * n + t] ** p : 0;
        for (let r = 0; r < rows; r++) sum += Math.abs(dot(values, value, columns, (r * Hq + a) * d, d)) ** p;
        y[a * n + t] = sum ** (1 / p);
      }
    }
  }

  gateScore(out: View, q: View, k: View, base: View, bias: View, n: number, { kvHeads: H, group: G, width: e, sinks: S }: GateShape): void {
    const [queries, keys, bases, biases] = [f32(q, n * H * G * e), f32(k, n * H * e), f32(base, H * S * e), f32(bias, H * G)];
    const y = f32(out, H * n);
    for (let t = 0; t < n; t++) {
      for (let h = 0; h < H; h++) {
        const shares = range(0, G).map((g) => {
          const query = ((t * H + h) * G + g) * e;
          const z = dot(queries, query, keys, (t * H + h) * e, e) / Math.sqrt(e) + biases[h * G + g];
          const others = range(0, S).map((s) => Math.exp(dot(queries, query, bases, (h * S + s) * e, e) / Math.sqrt(e) - z));
          return 1 / (1 + others.reduce((sum, x) => sum + x, 0));
        });
        y[h * n + t] = shares.reduce((sum, x) => sum + x, 0) / G;
      }
    }
  }

  tokenMean(out: View, x: View, n: number, H: number, d: number): void {
    const input = f32(x, n * H * d);
    const sums = new Float64Array(H * d);
    for (const [i, value] of input.entries()) sums[i % (H * d)] += value;
    f32(out, H * d).set(sums.map((sum) => sum / n));
  }

  weightedGram(
    out: View,
    x: View,
    weights: TokenWeights | null,
    centres: View | null,
    n: number,
    R: number,
    H: number,
    d: number,
    factor: number,
  ): void {
    const input = f32(x, n * H * d);
    const y = f32(out, R * d * d);
    for (let r = 0; r < R; r++) {
      const mean = centres ? f32(at(centres, r * d * 4), d) : new Float32Array(d);
      const w = weights ? f32(at(weights.rows, r * weights.stride * 4), n) : null;
      const sums = new Float64Array(d * d);
      for (let t = 0; t < n; t++) {
        const row = (t * H + Math.floor((r * H) / R)) * d;
        const weight = w && weights ? w[t] + weights.epsilon : 1;
        for (let i = 0; i < d; i++) for (let j = 0; j < d; j++) sums[i * d + j] += weight * (input[row + i] - mean[i]) * (input[row + j] - mean[j]);
      }
      y.set(
        sums.map((sum) => factor * sum),
        r * d * d,
      );
    }
  }

  quadraticForm(out: View, stride: number, x: View, { linear, quadratic }: TokenForms, n: number, R: number, H: number, d: number): void {
    const input = f32(x, n * H * d);
    for (let r = 0; r < R; r++) {
      const y = f32(at(out, r * stride * 4), n);
      for (let t = 0; t < n; t++) {
        const row = (t * H + Math.floor((r * H) / R)) * d;
        let sum = 0;
        if (linear) sum += linear.factor * dot(f32(linear.vectors, R * d), r * d, input, row, d);
        if (quadratic) {
          const matrix = f32(at(quadratic.matrices, r * d * d * 4), d * d);
          const product = range(0, d).map((i) => dot(matrix, i * d, input, row, d));
          sum += quadratic.factor * (quadratic.squared ? dot(product, 0, product, 0, d) : dot(product, 0, input, row, d));
        }
        y[t] = sum;
      }
    }
  }

  choleskyInverse(out: View, tries: View, matrices: View, R: number, d: number, ridge: number, most: number): void {
    for (let r = 0; r < R; r++) {
      const matrix = f32(at(matrices, r * d * d * 4), d * d);
      const y = f32(at(out, r * d * d * 4), d * d).fill(0);
      let lower: Float64Array | null = null;
      let taken = 0;
      while (lower === null && taken < most) lower = cholesky(matrix, d, ridge * 10 ** taken++);
      u32(at(tries, r * 4), 1)[0] = lower === null ? 0 : taken;
      if (lower === null) continue;
      const inverse = new Float64Array(d * d);
      for (let j = 0; j < d; j++) {
        for (let i = j; i < d; i++) {
          let sum = i === j ? 1 : 0;
          for (let k = j; k < i; k++) sum -= lower[i * d + k] * inverse[k * d + j];
          inverse[i * d + j] = sum / lower[i * d + i];
        }
      }
      y.set(inverse);
    }
  }

  sketch(out: View, x: View, centres: View, phi: View, n: number, H: number, d: number, width: number): void {
    const [input, mean, matrix] = [f32(x, n * H * d), f32(centres, H * d), f32(phi, H * d * width)];
    const y = f32(out, n * H * width);
    for (let row = 0; row < n * H; row++) {
      const h = row % H;
      for (let j = 0; j < width; j++) {
        let sum = 0;
        for (let c = 0; c < d; c++) sum += (input[row * d + c] - mean[h * d + c]) * matrix[(h * d + c) * width + j];
        y[row * width + j] = sum;
      }
    }
  }

  rowSoftmax(x: View, rows: number, cols: number, stride: number, peak: boolean): void {
    for (let r = 0; r < rows; r++) {
      const row = f32(at(x, r * stride * 4), cols);
      const p = softmax(Float64Array.from(row));
      const most = Math.max(...p);
      row.set(peak ? p.map((value) => value / most) : p);
    }
  }

  cosineTo(out: View, stride: number, x: View, anchors: View, n: number, R: number, H: number, d: number, scale: number): void {
    const [input, g] = [f32(x, n * H * d), f32(anchors, R * d)];
    for (let r = 0; r < R; r++) {
      const y = f32(at(out, r * stride * 4), n);
      const length = Math.max(Math.sqrt(dot(g, r * d, g, r * d, d)), 1e-12);
      for (let t = 0; t < n; t++) {
        const row = (t * H + Math.floor((r * H) / R)) * d;
        const cosine = dot(input, row, g, r * d, d) / length / Math.max(Math.sqrt(dot(input, row, input, row, d)), 1e-12);
        y[t] = scale * Math.min(1, Math.max(-1, cosine));
      }
    }
  }

  gather(out: View, x: View, { rows, stride }: RankOrder, count: number, H: number, d: number): void {
    for (let h = 0; h < H; h++) {
      const order = u32(at(rows, h * stride * 4), count);
      for (let j = 0; j < count; j++) this.copy(at(out, (j * H + h) * d * 4), at(x, (order[j] * H + h) * d * 4), d * 4);
    }
  }

  turnKeys(k: View, table: View, { rows, stride }: RankOrder, count: number, n: number, H: number, d: number): void {
    const keys = f32(k, n * H * d);
    const angles = f32(table, n * d);
    for (let h = 0; h < H; h++) {
      const ascending = [...u32(at(rows, h * stride * 4), count)].sort((a, b) => a - b);
      for (const [j, p] of ascending.entries()) {
        const [row, angle] = [(p * H + h) * d, (p - j) * d];
        for (let c = 0; c < d / 2; c++) {
          const [cos, sin] = [angles[angle + c], angles[angle + d / 2 + c]];
          const [a, b] = [keys[row + c], keys[row + d / 2 + c]];
          keys[row + c] = a * cos + b * sin;
          keys[row + d / 2 + c] = b * cos - a * sin;
        }
      }
    }
  }

  nearestKept(
    target: View,
    similarity: View,
    k: View,
    norms: View,
    { order, counts }: KeptSet,
    among: RankOrder | null,
    n: number,
    H: number,
    d: number,
  ): void {
    const keys = f32(k, n * H * d);
    const lengths = f32(norms, H * n);
    const nearest = u32(target, H * n).fill(0xffffffff);
    const cosines = f32(similarity, H * n).fill(-2);
    for (let h = 0; h < H; h++) {
      const kept = [...u32(at(order.rows, h * order.stride * 4), counts[h])].sort((a, b) => a - b);
      const all = among ? [...u32(at(among.rows, h * among.stride * 4), among.stride)] : range(0, n);
      for (const e of all.filter((row) => !kept.includes(row))) {
        for (const r of kept) {
          const product = dot(keys, (e * H + h) * d, keys, (r * H + h) * d, d);
          const cosine = product / (Math.max(lengths[h * n + e], 1e-6) * Math.max(lengths[h * n + r], 1e-6));
          if (!(Math.fround(cosine) > cosines[h * n + e])) continue;
          cosines[h * n + e] = cosine;
          nearest[h * n + e] = r;
        }
      }
    }
  }

  mergeValues(v: View, target: View, similarity: View, norms: View, threshold: View, n: number, H: number, d: number): void {
    const values = f32(v, n * H * d);
    const nearest = u32(target, H * n);
    const cosines = f32(similarity, H * n);
    const lengths = f32(norms, H * n);
    const least = f32(threshold, H);
    for (let h = 0; h < H; h++) {
      for (let r = 0; r < n; r++) {
        const sum = Float64Array.from(values.subarray((r * H + h) * d, (r * H + h + 1) * d));
        let total = 0;
        for (const e of range(0, n).filter((row) => nearest[h * n + row] === r)) {
          const [s, own, other] = [cosines[h * n + e], lengths[h * n + r], lengths[h * n + e]];
          const weight = s >= least[h] ? (Math.max(s, 0) * other) / (other + own + 1e-6) : 0;
          for (let c = 0; c < d; c++) sum[c] += weight * values[(e * H + h) * d + c];
          total += weight;
        }
        if (total > 0)
          values.set(
            sum.map((x) => x / (1 + total)),
            (r * H + h) * d,
          );
      }
    }
  }

  pruneChannels(
    k: View,
    q: View,
    window: number,
    { order, counts }: KeptSet,
    zeroed: number,
    { queryHeads: Hq, kvHeads: H, headDim: d }: Pick<AttentionShape, 'queryHeads' | 'kvHeads' | 'headDim'>,
  ): void {
    const queries = f32(q, window * Hq * d);
    for (let h = 0; h < H; h++) {
      const rows = [...u32(at(order.rows, h * order.stride * 4), counts[h])].map((row) => f32(at(k, (row * H + h) * d * 4), d));
      const heads = range(h * (Hq / H), (h + 1) * (Hq / H));
      const mean = (squares: number[]): number => squares.reduce((sum, x) => sum + x, 0) / squares.length;
      const energy = range(0, d).map(
        (c) => mean(heads.flatMap((a) => range(0, window).map((i) => queries[(i * Hq + a) * d + c] ** 2))) * mean(rows.map((row) => row[c] ** 2)),
      );
      const least = range(0, d).sort((a, b) => energy[a] - energy[b] || a - b);
      for (const row of rows) for (const c of least.slice(0, zeroed)) row[c] = 0;
    }
  }

  topK(order: View, scores: View, rows: number, n: number, count: number, keep: Protected): void {
    for (let r = 0; r < rows; r++) this.#topK(at(order, r * count * 4), at(scores, r * n * 4), n, count, keep);
  }
  #topK(order: View, scores: View, n: number, count: number, keep: Protected): void {
    const s = f32(scores, n);
    const [first, evictableEnd] = evictable(n, keep);
    const rank = (t: number): number => (Number.isNaN(s[t]) ? -Infinity : s[t]);
    const best = range(first, evictableEnd).sort((x, y) =>
      Number.isNaN(s[x]) !== Number.isNaN(s[y])
        ? Number(Number.isNaN(s[x])) - Number(Number.isNaN(s[y]))
        : rank(x) === rank(y)
          ? x - y
          : rank(y) - rank(x),
    );
    const all = [...range(0, first), ...range(evictableEnd, n), ...best];
    const held = n - (evictableEnd - first);
    if (count < held || count > n) throw new Error(`topK: ${count} of ${n} tokens, ${held} protected`);
    u32(order, count).set(all.slice(0, count));
  }

  async massCount(scores: View, order: View, n: number, kvHeads: number, keep: Protected, threshold: number, map: MassMap): Promise<number[]> {
    const [first, end] = evictable(n, keep);
    const held = n - (end - first);
    return range(0, kvHeads).map((h) => {
      const s = f32(at(scores, h * n * 4), n);
      const ranked = Array.from(u32(at(order, h * n * 4), n).subarray(held), (t) => s[t]); // best first
      const masses = toMasses(ranked, map);
      const total = masses.reduce((sum, mass) => sum + mass, 0);
      if (total === 0 || !Number.isFinite(total)) return Math.ceil(threshold * masses.length);
      let sum = 0;
      const running = masses.map((mass) => {
        sum += mass;
        return sum;
      });
      return running.findIndex((mass) => mass >= threshold * total) + 1;
    });
  }

  #u32(address: number, length: number): Uint32Array {
    if (!this.#ledger) throw new Error('paged operations need the memory of a ledger');
    return new Uint32Array(this.#ledger.buffer, address, length);
  }

  #pageOf(cache: PagedLayer, head: number, entry: number): number {
    return this.#u32(cache.pageTable + (head * cache.tableStride + Math.floor(entry / cache.entriesPerPage)) * 4, 1)[0];
  }

  #place(cache: PagedLayer, head: number, entry: number, d: number): { key: Place; value: Place } {
    return placeIn(cache, this.#pageOf(cache, head, entry), entry % cache.entriesPerPage, d);
  }

  #entry(cache: PagedLayer, head: number, entry: number, d: number) {
    const [page, slot] = [this.#pageOf(cache, head, entry), entry % cache.entriesPerPage];
    const position = () => this.#u32(cache.positions + (page * cache.slotStride + slot) * 4, 1)[0];
    return { ...this.#entryIn(cache, page, slot, d), position };
  }

  #entryIn(pool: Pool, page: number, slot: number, d: number): { key: Float64Array; value: Float64Array } {
    const { key, value } = placeIn(pool, page, slot, d);
    const row = ({ row, scale }: Place): Float64Array => {
      if (pool.entryType === 'f32') return Float64Array.from(f32(row, d));
      if (pool.entryType === 'f16') return Float64Array.from(u16(row, d), fromHalf);
      return Float64Array.from(i8(row, d), (x) => x * f32(scale, 1)[0]);
    };
    return { key: row(key), value: row(value) };
  }
}

interface Place {
  readonly row: View;
  readonly scale: View; // int8 only
}

/** Where an entry lies. f32, f16: K [E, d], V [E, d]. int8: K [E, d], V [E, d], then at a multiple of 4 one f32 scale a row, K's and V's. */
function placeIn({ pool, pageBytes, entryType, entriesPerPage: E }: Pool, page: number, slot: number, d: number): { key: Place; value: Place } {
  const start = at(pool, page * pageBytes);
  const width = { f32: d * 4, f16: d * 2, int8: d }[entryType];
  const scales = (2 * E * d + 3) & ~3;
  const place = (row: number): Place => ({ row: at(start, row * width), scale: at(start, scales + row * 4) });
  return { key: place(slot), value: place(E + slot) };
}

/** Evictable positions: [first, end). */
function evictable(n: number, keep: Protected): [number, number] {
  const first = Math.min(keep.first, n);
  return [first, Math.max(first, n - keep.last)];
}

function toMasses(best: readonly number[], map: MassMap): number[] {
  if (map === 'affine') return best.map((s) => (s + 1) / 2);
  if (map === 'shift') return best.map((s) => s - (best.at(-1) as number));
  if (map === 'exp') return best.map((s) => Math.exp(s - best[0]));
  if (map === 'softmax') {
    const mean = best.reduce((sum, s) => sum + s, 0) / best.length;
    const std = Math.sqrt(best.reduce((sum, s) => sum + (s - mean) ** 2, 0) / best.length);
    return best.map((s) => (std > 0 ? Math.exp((s - best[0]) / std) : 1));
  }
  return [...best];
}

function attend(
  out: View,
  q: View,
  row: number,
  keys: readonly ArrayLike<number>[],
  values: readonly ArrayLike<number>[],
  { headDim: d, scale }: AttentionShape,
): void {
  const query = f32(at(q, row * 4), d);
  const p = softmax(Float64Array.from(keys, (key) => scale * dot(query, 0, key, 0, d)));
  const y = f32(at(out, row * 4), d);
  for (let c = 0; c < d; c++) y[c] = values.reduce((sum, value, j) => sum + p[j] * value[c], 0);
}

function softmax(logits: Float64Array): Float64Array {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const exps = logits.map((x) => Math.exp(x - most));
  const total = exps.reduce((a, b) => a + b, 0);
  return exps.map((x) => x / total);
}

/** L of M + ridge I = L Lᵀ; null where a pivot is not above 0. */
function cholesky(matrix: ArrayLike<number>, d: number, ridge: number): Float64Array | null {
  const lower = new Float64Array(d * d);
  for (let j = 0; j < d; j++) {
    const pivot = matrix[j * d + j] + ridge - dot(lower, j * d, lower, j * d, j);
    if (!(pivot > 0 && pivot < 3.4e38)) return null;
    for (let i = j; i < d; i++) {
      const rest = matrix[i * d + j] + (i === j ? ridge : 0) - dot(lower, i * d, lower, j * d, j);
      lower[i * d + j] = rest / Math.sqrt(pivot);
    }
  }
  return lower;
}

function dot(a: ArrayLike<number>, from: number, b: ArrayLike<number>, start: number, length: number): number {
  let sum = 0;
  for (let c = 0; c < length; c++) sum += a[from + c] * b[start + c];
  return sum;
}

function weights(weight: Weight): Float32Array {
  if (weight.type !== 'f32') throw new Error(`the reference backend reads f32 weights, got ${weight.type}`);
  return f32(weight, weight.rows * weight.cols);
}

function range(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
}

function halfToEven(x: number): number {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low & 1) : Math.round(x);
}
