/**
 * One layer implementation for every family, in two orders:
 *   prefill  layer-major: all prompt tokens (in chunks) go through layer 0, then layer 1, ... Only one layer's full K,V exists at a time, and
 *            a press acts on it before the next layer begins. It never changes the hidden states: a layer attends over its full keys first.
 *   extend   token-major over the paged, ragged cache: a question after a pressed context, or one decoded token.
 */
import type { AddedRows, LayerModel, LayerTensors, PassTensors, Projection } from '../../presses/contract.ts';
import { type AttentionShape, at, type Backend, type DeviceBuffer, type PagedLayer, type View } from '../backend/backend.ts';
import { Borrowed } from '../backend/borrowed.ts';
import { ropeTable } from '../backend/rope-table.ts';
import { type Adapter, adapterWeights, addedBytes } from './added-rows.ts';
import { NO_PASSES, passSize, prefillBytes, type Reads, type TokenList } from './forward-bytes.ts';
import { HiddenRows, type HiddenType } from './hidden-rows.ts';
import type { ForwardShape, LayerWeights, ModelWeights } from './model-weights.ts';
import type { RecentRows } from './recent-rows.ts';

const F32 = 4;

/** The cache as the forward pass needs it: room for new entries, then a layer to attend over. */
export interface AppendableCache {
  /** Appends rows 0..n-1 of k, v ([n, H, d]) to every list of the layer, at positions start.. */
  append(layer: number, k: View, v: View, n: number, start: number): void;
  layer(layer: number): PagedLayer;
  /** By how many positions a press moved kept entries together: what follows them is turned as if it stood so many earlier. Positions of entries stay those of the tokens. */
  readonly shift: number;
}

/** What `extend` keeps of the tokens that it reads, for presses that act while decoding. */
export interface Recent {
  readonly queries: RecentRows | null; // [Hq, d] a token, after RoPE
  readonly hidden: RecentRows | null; // [D] a token: the attention module's input
}

export type TakeLogits = (logits: View) => void | Promise<void>;

export interface PrefillOptions extends Reads {
  /** Handed the logits [vocab] after the last token, within the piece of work that makes them: the next piece writes over them. Null = not wanted. */
  readonly logits: TakeLogits | null;
  /** Called once a layer, when its K,V are whole; not within `run`. */
  onLayer(tensors: LayerTensors): void | Promise<void>;
  /** Runs one bounded piece of work; the scheduler puts other requests between pieces. */
  run<T>(piece: () => T | Promise<T>): Promise<T>;
  /** Runs a piece of a pass; absent = `run`. */
  runPass?<T>(piece: () => T | Promise<T>): Promise<T>;
  /**
   * Token lists to read over the prompt as if each alone followed it, at positions N, N+1, ...: layer by layer, right after the prompt, so that no
   * cache of all layers is needed. What they compute is forgotten, but for what `onPass` takes of it: it is called for every piece, within `runPass`.
   */
  readonly passes?: readonly TokenList[];
  onPass?(rows: PassTensors): void;
  /** Rows to read behind the prompt in the same way, after the passes, by an adapted model: what they compute is kept layer by layer. Both are called within `runPass`. */
  readonly added?: {
    readonly rows: number; // R
    readonly embeddings: Float32Array; // [R, D]
    adapter(layer: number): Adapter | null;
    keep(layer: number, k: View, v: View): void;
  } | null;
}

export class Forward {
  readonly chunkTokens: number;
  /** How hidden states of a prompt that is being read are kept from layer to layer. */
  readonly hiddenType: HiddenType;
  readonly #backend: Backend;
  readonly #shape: ForwardShape;
  readonly #weights: ModelWeights;
  readonly #invFreq: Float32Array;
  readonly #buffers: DeviceBuffer[] = [];
  /** What the hungriest product of a chunk and sampling take for themselves. */
  readonly #scratchBytes: number;
  readonly #tokens: DeviceBuffer; // [C] u32
  readonly #hidden: DeviceBuffer; // [C, D], extend; while a prompt is read, what a piece was before attention changed it
  readonly #normed: DeviceBuffer; // [C, D]
  readonly #q: DeviceBuffer; // [C, Hq, d]
  readonly #k: DeviceBuffer; // [C, H, d], extend only
  readonly #v: DeviceBuffer; // [C, H, d], extend only
  readonly #attended: DeviceBuffer; // [C, Hq, d]
  readonly #gate: DeviceBuffer; // [C, I]
  readonly #up: DeviceBuffer; // [C, I]
  readonly #rope: DeviceBuffer; // [C, d], extend only
  readonly #logits: DeviceBuffer; // [vocab]

  constructor(
    backend: Backend,
    shape: ForwardShape,
    weights: ModelWeights,
    invFreq: Float32Array,
    { chunkTokens, hiddenType = 'f32' }: { readonly chunkTokens: number; readonly hiddenType?: HiddenType },
  ) {
    this.#backend = backend;
    this.#shape = shape;
    this.#weights = weights;
    this.#invFreq = invFreq;
    this.chunkTokens = chunkTokens;
    this.hiddenType = hiddenType;
    const { hiddenSize: D, intermediateSize: I, queryHeads: Hq, kvHeads: H, headDim: d, vocabSize } = shape;
    const rows = (cols: number, label: string): DeviceBuffer => this.#alloc(chunkTokens * cols * F32, label);
    this.#tokens = rows(1, 'tokens');
    this.#hidden = rows(D, 'hidden states');
    this.#normed = rows(D, 'normed');
    this.#q = rows(Hq * d, 'queries');
    this.#k = rows(H * d, 'new keys');
    this.#v = rows(H * d, 'new values');
    this.#attended = rows(Hq * d, 'attended');
    this.#gate = rows(I, 'gate');
    this.#up = rows(I, 'up');
    this.#rope = rows(d, 'rope table');
    this.#logits = this.#alloc(vocabSize * F32, 'logits');
    const products = weights.layers.flatMap(({ q, k, v, o, gate, up, down }) => [q, k, v, o, gate, up, down]);
    const kinds = new Map([...products, weights.head].map((weight) => [`${weight.type} ${weight.rows} ${weight.cols}`, weight]));
    this.#scratchBytes =
      (backend.sampleScratchBytes?.(vocabSize) ?? 0) +
      Math.max(...[...kinds.values()].map((weight) => backend.linearScratchBytes(weight, chunkTokens)));
  }

  get hiddenSize(): number {
    return this.#shape.hiddenSize;
  }

  get vocabSize(): number {
    return this.#shape.vocabSize;
  }

  /** Device bytes that reading a prompt takes at most, beside the fixed buffers and what attention takes for itself. */
  readingBytes(tokens: number, reads: Reads, passes = NO_PASSES): number {
    return prefillBytes(this.#shape, tokens, reads, this, passes) + this.#scratchBytes;
  }

  /** Device bytes that reading rows with an adapter takes beside that: they and what they compute, the matrices of one layer, and what products keep. */
  addedBytes(added: AddedRows): number {
    const { kvHeads, headDim } = this.#shape;
    const rows = Math.min(added.rows, this.chunkTokens);
    const kinds = new Map(adapterWeights(added).map((weight) => [`${weight.rows} ${weight.cols}`, weight]));
    const products = Math.max(0, ...[...kinds.values()].map((weight) => this.#backend.linearScratchBytes(weight, rows)));
    return addedBytes(added, { layers: this.#weights.layers.length, kvHeads, headDim }, this.chunkTokens) + products;
  }

  /** Reads the prompt. */
  async prefill(tokens: readonly number[], options: PrefillOptions): Promise<void> {
    const { hiddenSize: D, queryHeads: Hq, kvHeads: H, headDim: d } = this.#shape;
    const N = tokens.length;
    const window = Math.min(options.queries, N);
    const { passes = [], added = null, runPass = options.run } = options;
    const { tokens: passTokens, longest } = passSize(passes, added);
    const borrowed = new Borrowed(this.#backend);
    const alloc = (floats: number, label: string): DeviceBuffer => borrowed.scratch(Math.max(floats, 1) * F32, label);
    try {
      const states = (rows: number, label: string) => new HiddenRows(this.#backend, borrowed, this.hiddenType, rows, D, this.chunkTokens, label);
      const hidden = states(N, 'hidden states of the prompt'); // [N, D]
      const k = alloc((N + longest) * H * d, 'keys of one layer'); // [N + longest, H, d]: the prompt's, then those of what is being read over it
      const v = alloc((N + longest) * H * d, 'values of one layer'); // [N + longest, H, d]
      const table = alloc((N + longest) * d, 'rope table of the prompt'); // [N + longest, d]
      const passHidden = passTokens > 0 ? states(passTokens, 'hidden states of the passes') : hidden; // [passTokens, D], one pass after the other, then added rows
      const lastRow = alloc(D, 'hidden states of the last token'); // [D], from below the last layer's attention on
      const windowQ = alloc(window * Hq * d, 'window queries'); // [window, Hq, d]
      const inputs = options.hidden ? alloc(N * D, 'inputs of the attention module') : null; // [N, D]
      const change = options.change ? alloc(N, 'what attention changes') : null; // [N]
      await options.run(() => {
        this.#backend.write(table, ropeTable(this.#invFreq, 0, N + longest));
        this.#embedAll(hidden, tokens);
      });
      if (passes.length > 0) await runPass(() => this.#embedAll(passHidden, passes.flat()));
      if (added)
        await runPass(() => {
          for (let start = 0; start < added.rows; start += this.chunkTokens) {
            const n = Math.min(this.chunkTokens, added.rows - start);
            const first = passTokens - added.rows + start;
            this.#backend.write(passHidden.blank(first), added.embeddings.subarray(start * D, (start + n) * D));
            passHidden.keep(first, n);
          }
        });

      const last = this.#weights.layers.length - 1;
      for (let l = 0; l <= last; l++) {
        const weights = this.#weights.layers[l];
        const shape = this.attention(l);
        for (let start = 0; start < N; start += this.chunkTokens) {
          const n = Math.min(this.chunkTokens, N - start);
          await options.run(() => {
            const x = hidden.open(start, n);
            this.#norm(this.#normed, x, weights.attnNorm, n);
            if (inputs) this.#backend.copy(at(inputs, start * D * F32), this.#normed, n * D * F32);
            const rows = at(table, start * d * F32);
            // Above the last layer nobody reads the hidden states, but for the last token's logits: its queries serve the press only.
            const asks = l < last || change !== null || start + n > N - Math.max(window, 1);
            this.#project(weights, this.#normed, asks ? this.#q : null, at(k, start * H * d * F32), at(v, start * H * d * F32), rows, n);
            if (asks) this.#keepWindow(windowQ, start, n, N, window);
            if (l < last) {
              this.#backend.attendCausal(this.#attended, this.#q, k, v, n, start, shape);
              this.#afterAttention(weights, x, this.#attended, n, change && at(change, start * F32));
              hidden.keep(start, n);
              return;
            }
            if (change) {
              this.#backend.attendCausal(this.#attended, this.#q, k, v, n, start, shape);
              this.#whatAttentionChanges(at(change, start * F32), weights, x, this.#attended, n);
            }
            if (options.logits && start + n === N) {
              const row = (n - 1) * Hq * d * F32;
              this.#backend.attendCausal(this.#attended, at(this.#q, row), k, v, 1, N - 1, shape);
              this.#backend.copy(lastRow, at(x, (n - 1) * D * F32), D * F32);
              this.#afterAttention(weights, lastRow, this.#attended, 1);
            }
          });
        }
        /** Reads rows over the prompt, in pieces; `each` sees them before they attend. */
        const readOver = async (first: number, length: number, adapter: Adapter | null, each?: (start: number, n: number) => void): Promise<void> => {
          for (let start = 0; start < length; start += this.chunkTokens) {
            const n = Math.min(this.chunkTokens, length - start);
            await runPass(() => {
              const x = passHidden.open(first + start, n);
              const row = N + start;
              this.#norm(this.#normed, x, weights.attnNorm, n);
              this.#project(weights, this.#normed, this.#q, at(k, row * H * d * F32), at(v, row * H * d * F32), at(table, row * d * F32), n, adapter);
              each?.(start, n);
              if (l === last) return; // nobody reads what comes above
              this.#backend.attendCausal(this.#attended, this.#q, k, v, n, row, shape);
              this.#afterAttention(weights, x, this.#attended, n, null, adapter);
              passHidden.keep(first + start, n);
            });
          }
        };
        let before = 0; // rows of the passes before
        for (const [pass, { length }] of passes.entries()) {
          await readOver(before, length, null, (start, n) =>
            options.onPass?.({ layer: l, pass, length, n: N, start, rows: n, q: this.#q, k, v, hidden: this.#normed, hiddenSize: D, shape }),
          );
          before += length;
        }
        if (added) {
          await readOver(before, added.rows, await runPass(() => added.adapter(l)));
          await runPass(() => added.keep(l, at(k, N * H * d * F32), at(v, N * H * d * F32)));
        }
        const model = this.layerModel(l);
        await options.onLayer({
          layer: l,
          n: N,
          k,
          v,
          q: windowQ,
          window,
          hidden: inputs,
          change: change && { cosines: change, tokens: N },
          rope: table,
          shape,
          model,
        });
      }
      const take = options.logits;
      if (take) await options.run(() => take(this.#head(lastRow)));
    } finally {
      borrowed.giveBack();
    }
  }

  /**
   * Reads at most `chunkTokens` new tokens at positions start.. over the cache and appends their entries; a single token may lie on the
   * device. Returns the logits [vocab] after the last one, good until the next call, or null when not wanted.
   */
  extend(tokens: readonly number[] | View, start: number, cache: AppendableCache, wantLogits: boolean, recent: Recent | null = null): View | null {
    const D = this.#shape.hiddenSize;
    const onDevice = 'buffer' in tokens;
    const n = onDevice ? 1 : tokens.length;
    if (n === 0 || n > this.chunkTokens) throw new Error(`extend takes 1 to ${this.chunkTokens} tokens, got ${n}`);
    const backend = this.#backend;
    backend.write(this.#rope, ropeTable(this.#invFreq, start - cache.shift, n));
    if (onDevice) backend.embed(this.#hidden, this.#weights.embed, tokens, 1);
    else this.#embed(this.#hidden, tokens);
    const last = this.#weights.layers.length - 1;
    for (let l = 0; l <= last; l++) {
      const weights = this.#weights.layers[l];
      const goesOn = l < last || wantLogits;
      // One token's rows are computed where they are kept; those of several may go round the ring's end.
      const x = (n === 1 && recent?.hidden?.next(l)) || this.#normed;
      const q = (n === 1 && recent?.queries?.next(l)) || this.#q;
      this.#norm(x, this.#hidden, weights.attnNorm, n);
      this.#project(weights, x, goesOn || recent?.queries ? q : null, this.#k, this.#v, this.#rope, n);
      if (n > 1) {
        recent?.hidden?.put(l, x, n, n);
        recent?.queries?.put(l, q, n, n);
      }
      cache.append(l, this.#k, this.#v, n, start);
      if (!goesOn) break;
      backend.attendPaged(this.#attended, q, cache.layer(l), n, start, this.attention(l));
      this.#afterAttention(weights, this.#hidden, this.#attended, n);
    }
    recent?.hidden?.advance(n);
    recent?.queries?.advance(n);
    return wantLogits ? this.#head(at(this.#hidden, (n - 1) * D * F32)) : null;
  }

  close(): void {
    for (const buffer of this.#buffers) this.#backend.free(buffer);
    this.#buffers.length = 0;
  }

  #alloc(bytes: number, label: string): DeviceBuffer {
    const buffer = this.#backend.alloc(bytes, label);
    this.#buffers.push(buffer);
    return buffer;
  }

  layerModel(layer: number): LayerModel {
    return { hiddenSize: this.#shape.hiddenSize, invFreq: this.#invFreq, output: this.#weights.layers[layer].o };
  }

  attention(layer: number): AttentionShape {
    const { queryHeads, kvHeads, headDim, slidingWindows } = this.#shape;
    return { queryHeads, kvHeads, headDim, scale: 1 / Math.sqrt(headDim), slidingWindow: slidingWindows[layer] };
  }

  #embedAll(out: HiddenRows, tokens: readonly number[]): void {
    for (let start = 0; start < tokens.length; start += this.chunkTokens) {
      const chunk = tokens.slice(start, start + this.chunkTokens);
      this.#embed(out.blank(start), chunk);
      out.keep(start, chunk.length);
    }
  }

  /** At most a chunk. */
  #embed(out: View, tokens: readonly number[]): void {
    this.#backend.write(this.#tokens, Uint32Array.from(tokens));
    this.#backend.embed(out, this.#weights.embed, this.#tokens, tokens.length);
  }

  #norm(out: View, x: View, weight: View, rows: number): void {
    this.#backend.rmsNorm([{ out, x, weight, rows }], this.#shape.hiddenSize, this.#shape.normEps);
  }

  /** k = rope(norm(W_k x + b)), v = W_v x + b and, where wanted, q = rope(norm(W_q x + b)) of the normed rows x. */
  #project(w: LayerWeights, x: View, q: View | null, k: View, v: View, rope: View, n: number, adapter: Adapter | null = null): void {
    const { queryHeads: Hq, kvHeads: H, headDim: d, normEps } = this.#shape;
    const targets = [
      { out: k, weight: w.k, bias: w.kBias },
      { out: v, weight: w.v, bias: w.vBias },
    ];
    const norms = w.kNorm ? [{ out: k, x: k, weight: w.kNorm, rows: n * H }] : [];
    const turned = [{ x: k, heads: H }];
    if (q) {
      targets.unshift({ out: q, weight: w.q, bias: w.qBias });
      if (w.qNorm) norms.unshift({ out: q, x: q, weight: w.qNorm, rows: n * Hq });
      turned.unshift({ x: q, heads: Hq });
    }
    this.#backend.linear(targets, x, n);
    this.#adapt(adapter, { q, k, v }, x, n);
    if (norms.length > 0) this.#backend.rmsNorm(norms, d, normEps);
    this.#backend.rope(turned, rope, n, d);
  }

  /** Copies those of the chunk's queries that belong to the last `window` of the prompt. */
  #keepWindow(windowQ: View, start: number, n: number, total: number, window: number): void {
    const from = Math.max(start, total - window);
    const count = start + n - from;
    if (count <= 0) return;
    const row = this.#shape.queryHeads * this.#shape.headDim * F32;
    this.#backend.copy(at(windowQ, (from - (total - window)) * row), at(this.#q, (from - start) * row), count * row);
  }

  /** x += W_o attended;  x += W_down(silu(W_gate y) * W_up y), y = norm(x). Where wanted, change [n] = cosine of x before and after the first. */
  #afterAttention(w: LayerWeights, x: View, attended: View, n: number, change: View | null = null, adapter: Adapter | null = null): void {
    const backend = this.#backend;
    const D = this.#shape.hiddenSize;
    if (change) backend.copy(this.#hidden, x, n * D * F32);
    backend.linear([{ out: x, weight: w.o, accumulate: true }], attended, n);
    this.#adapt(adapter, { o: x }, attended, n);
    if (change) backend.rowCosine(change, this.#hidden, x, n, D);
    this.#norm(this.#normed, x, w.ffnNorm, n);
    const inner = [
      { out: this.#gate, weight: w.gate },
      { out: this.#up, weight: w.up },
    ];
    backend.linear(inner, this.#normed, n);
    this.#adapt(adapter, { gate: this.#gate, up: this.#up }, this.#normed, n);
    backend.swiglu(this.#gate, this.#gate, this.#up, n * this.#shape.intermediateSize);
    backend.linear([{ out: x, weight: w.down, accumulate: true }], this.#gate, n);
    this.#adapt(adapter, { down: x }, this.#gate, n);
  }

  /** out += B A x, B with its scale, for those projections of the same x that the adapter has. */
  #adapt(adapter: Adapter | null, outs: Readonly<Partial<Record<Projection, View | null>>>, x: View, n: number): void {
    if (adapter === null) return;
    for (const [projection, out] of Object.entries(outs)) {
      const product = adapter.products[projection as Projection];
      if (product === undefined || out === null) continue;
      this.#backend.linear([{ out: adapter.low, weight: product.a }], x, n);
      this.#backend.linear([{ out, weight: product.b, accumulate: true }], adapter.low, n);
    }
  }

  /** The same cosines, and x stays as it is. */
  #whatAttentionChanges(change: View, w: LayerWeights, x: View, attended: View, n: number): void {
    const backend = this.#backend;
    const D = this.#shape.hiddenSize;
    backend.copy(this.#hidden, x, n * D * F32);
    backend.linear([{ out: this.#hidden, weight: w.o, accumulate: true }], attended, n);
    backend.rowCosine(change, x, this.#hidden, n, D);
  }

  #head(x: View): View {
    this.#norm(this.#normed, x, this.#weights.finalNorm, 1);
    this.#backend.linear([{ out: this.#logits, weight: this.#weights.head }], this.#normed, 1);
    return this.#logits;
  }
}
