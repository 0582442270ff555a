/**
 * The Llama forward pass written once more, naively and in float64: no pages, no chunks, no kernels. Entries are never removed from its
 * cache; which of them a query may see is asked of `visible`, per layer and KV head. What eviction is checked against.
 */
import { readFileSync } from 'node:fs';

interface Config {
  vocab_size: number;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim: number;
  rms_norm_eps: number;
  rope_theta: number;
  sliding_window?: number | null;
  tie_word_embeddings: boolean;
}

type Row = Float64Array;

interface Matrix {
  readonly rows: number;
  readonly cols: number;
  readonly data: Float64Array; // float32 values: reading them as float64 saves a conversion each
}

/** May a later query of this layer see the entry of `head` at `position`? */
export type Visible = (layer: number, head: number, position: number) => boolean;

/** What is added to a projection's output on these rows, e.g. of self_attn.q_proj; null = nothing. */
export type Change = (layer: number, projection: string, rows: readonly Float64Array[]) => Float64Array[] | null;

/**
 * All that was read so far. Per layer, rows of positions 0, 1, ...: keys after RoPE and values [H * d], queries after RoPE [Hq * d], the attention module's
 * input [D], the cosine of the hidden state before and after attention.
 */
export interface ReferenceState {
  tokens: number;
  readonly layers: {
    readonly k: Float64Array[];
    readonly v: Float64Array[];
    readonly q: Float64Array[];
    readonly x: Float64Array[];
    readonly change: number[];
  }[];
}

export class ReferenceModel {
  readonly layers: number;
  readonly hiddenSize: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly #config: Config;
  readonly #tensors: ReadonlyMap<string, Matrix>;

  constructor(folder: string) {
    this.#config = JSON.parse(readFileSync(`${folder}/config.json`, 'utf8')) as Config;
    this.#tensors = readSafetensors(`${folder}/model.safetensors`);
    this.layers = this.#config.num_hidden_layers;
    this.hiddenSize = this.#config.hidden_size;
    this.queryHeads = this.#config.num_attention_heads;
    this.kvHeads = this.#config.num_key_value_heads;
    this.headDim = this.#config.head_dim;
  }

  /** W_o of a layer, row-major: [D, Hq * d]. */
  output(layer: number): { readonly rows: number; readonly data: Float64Array } {
    return this.#tensor(`model.layers.${layer}.self_attn.o_proj.weight`);
  }

  start(): ReferenceState {
    return { tokens: 0, layers: Array.from({ length: this.layers }, () => ({ k: [], v: [], q: [], x: [], change: [] })) };
  }

  /** A state that goes on from this one; the rows are shared, since nobody changes them. */
  fork(state: ReferenceState): ReferenceState {
    return {
      tokens: state.tokens,
      layers: state.layers.map(({ k, v, q, x, change }) => ({ k: [...k], v: [...v], q: [...q], x: [...x], change: [...change] })),
    };
  }

  /** Reads tokens after those of `state`. They see each other causally, and of the earlier ones what `visible` lets them. Logits of the last. */
  read(state: ReferenceState, tokens: readonly number[], visible: Visible = () => true): Float64Array {
    const { hidden_size: D } = this.#config;
    const embed = this.#tensor('model.embed_tokens.weight');
    return this.readRows(
      state,
      tokens.map((id) => embed.data.slice(id * D, (id + 1) * D)),
      visible,
    );
  }

  /** The same of rows [D] in the place of embedded tokens, read by a model whose projections `change` may change. */
  readRows(state: ReferenceState, rows: readonly Float64Array[], visible: Visible = () => true, change: Change = () => null): Float64Array {
    const { rms_norm_eps: eps, sliding_window } = this.#config;
    const [Hq, H, d] = [this.queryHeads, this.kvHeads, this.headDim];
    const start = state.tokens;
    const embed = this.#tensor('model.embed_tokens.weight');
    let x: Row[] = [...rows];
    for (let l = 0; l < this.layers; l++) {
      const part = (name: string): Matrix => this.#tensor(`model.layers.${l}.${name}.weight`);
      const kept = state.layers[l];
      const project = (input: readonly Row[], name: string): Row[] => {
        const out = product(input, part(name));
        const more = change(l, name, input);
        return more === null ? out : add(out, more);
      };
      const normed = x.map((row) => rmsNorm(row, part('input_layernorm').data, eps));
      const q = project(normed, 'self_attn.q_proj');
      const k = project(normed, 'self_attn.k_proj');
      for (const [i] of rows.entries()) {
        this.#rotate(q[i], Hq, start + i);
        this.#rotate(k[i], H, start + i);
      }
      kept.x.push(...normed);
      kept.q.push(...q);
      kept.k.push(...k);
      kept.v.push(...project(normed, 'self_attn.v_proj'));
      // Positions that are seen at all, per head: those of before that are visible, then the new ones.
      const seen = Array.from({ length: H }, (_, h) =>
        Uint32Array.from({ length: start + rows.length }, (_, t) => t).filter((t) => t >= start || visible(l, h, t)),
      );
      const attended = q.map((row, i) => {
        const out = new Float64Array(Hq * d);
        for (let a = 0; a < Hq; a++) {
          const h = Math.floor((a * H) / Hq);
          const from = sliding_window ? start + i - sliding_window + 1 : 0;
          attend(out, row, a * d, seen[h], from, start + i, kept.k, kept.v, h * d, d);
        }
        return out;
      });
      const before = x;
      x = add(x, project(attended, 'self_attn.o_proj'));
      kept.change.push(...x.map((row, i) => cosine(before[i], row)));
      const y = x.map((row) => rmsNorm(row, part('post_attention_layernorm').data, eps));
      const gate = project(y, 'mlp.gate_proj');
      const up = project(y, 'mlp.up_proj');
      const mixed = gate.map((row, i) => row.map((g, c) => (g / (1 + Math.exp(-g))) * up[i][c]));
      x = add(x, project(mixed, 'mlp.down_proj'));
    }
    state.tokens += rows.length;
    const last = rmsNorm(x[x.length - 1], this.#tensor('model.norm.weight').data, eps);
    return product([last], this.#config.tie_word_embeddings ? embed : this.#tensor('lm_head.weight'))[0];
  }

  /** Half-split convention, channel c with channel c + d/2; the angle rounded to f32 as everywhere. */
  #rotate(row: Float64Array, heads: number, position: number): void {
    const d = this.headDim;
    const half = d / 2;
    for (let c = 0; c < half; c++) {
      const angle = Math.fround(Math.fround(1 / this.#config.rope_theta ** ((2 * c) / d)) * position);
      const cos = Math.cos(angle);
      const sin = Math.sin(angle);
      for (let h = 0; h < heads; h++) {
        const a = row[h * d + c];
        const b = row[h * d + half + c];
        row[h * d + c] = a * cos - b * sin;
        row[h * d + half + c] = b * cos + a * sin;
      }
    }
  }

  #tensor(name: string): Matrix {
    const tensor = this.#tensors.get(name);
    if (!tensor) throw new Error(`no tensor ${name}`);
    return tensor;
  }
}

/** out[a] = softmax over the positions from..to that are seen of q.k / sqrt(d), times v. */
function cosine(a: Row, b: Row): number {
  const dot = (x: Row, y: Row): number => x.reduce((sum, value, c) => sum + value * y[c], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

function attend(
  out: Float64Array,
  q: Float64Array,
  at: number,
  seen: Uint32Array,
  from: number,
  to: number,
  keys: readonly Float64Array[],
  values: readonly Float64Array[],
  head: number,
  d: number,
): void {
  const scale = 1 / Math.sqrt(d);
  const logits = new Float64Array(seen.length);
  let most = -Infinity;
  for (let j = 0; j < seen.length; j++) {
    const t = seen[j];
    if (t < from || t > to) continue;
    const k = keys[t];
    let sum = 0;
    for (let c = 0; c < d; c++) sum += q[at + c] * k[head + c];
    logits[j] = sum * scale;
    if (logits[j] > most) most = logits[j];
  }
  let total = 0;
  for (let j = 0; j < seen.length; j++) {
    const t = seen[j];
    if (t < from || t > to) continue;
    const p = Math.exp(logits[j] - most);
    const v = values[t];
    total += p;
    for (let c = 0; c < d; c++) out[at + c] += p * v[head + c];
  }
  for (let c = 0; c < d; c++) out[at + c] /= total;
}

function rmsNorm(row: Float64Array, weight: Float64Array, eps: number): Float64Array {
  let squares = 0;
  for (const x of row) squares += x * x;
  const scale = 1 / Math.sqrt(squares / row.length + eps);
  return row.map((x, c) => x * scale * weight[c]);
}

/** x Wᵀ of each row. Four rows at a time, because a weight once read is then used four times. */
function product(x: readonly Float64Array[], { rows, cols, data }: Matrix): Float64Array[] {
  const out = x.map(() => new Float64Array(rows));
  for (let i = 0; i < x.length; i += 4) {
    const row = (k: number): number => Math.min(i + k, x.length - 1); // the last rows may be done twice
    four(out[row(0)], out[row(1)], out[row(2)], out[row(3)], x[row(0)], x[row(1)], x[row(2)], x[row(3)], data, rows, cols);
  }
  return out;
}

function four(o0: Row, o1: Row, o2: Row, o3: Row, x0: Row, x1: Row, x2: Row, x3: Row, data: Float64Array, rows: number, cols: number): void {
  for (let r = 0; r < rows; r++) {
    let s0 = 0;
    let s1 = 0;
    let s2 = 0;
    let s3 = 0;
    const base = r * cols;
    for (let j = 0; j < cols; j++) {
      const weight = data[base + j];
      s0 += x0[j] * weight;
      s1 += x1[j] * weight;
      s2 += x2[j] * weight;
      s3 += x3[j] * weight;
    }
    o0[r] = s0;
    o1[r] = s1;
    o2[r] = s2;
    o3[r] = s3;
  }
}

function add(x: readonly Float64Array[], y: readonly Float64Array[]): Float64Array[] {
  return x.map((row, i) => row.map((value, c) => value + y[i][c]));
}

function readSafetensors(path: string): Map<string, Matrix> {
  const file = readFileSync(path);
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerBytes)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, Matrix>();
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const bytes = file.subarray(8 + headerBytes + data_offsets[0], 8 + headerBytes + data_offsets[1]);
    const [rows, cols] = shape.length === 1 ? [1, shape[0]] : shape;
    if (dtype !== 'F16' && dtype !== 'F32') throw new Error(`${name} is ${dtype}`);
    const data = new Float64Array(rows * cols);
    for (let i = 0; i < data.length; i++) data[i] = dtype === 'F16' ? halfToNumber(bytes.readUInt16LE(i * 2)) : bytes.readFloatLE(i * 4);
    tensors.set(name, { rows, cols, data });
  }
  return tensors;
}

function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
