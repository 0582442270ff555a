/**
 * What is measured offline and read by presses later: DuoAttention's pattern and expected attention's statistics. Pure arithmetic, in float64, on queries and
 * keys before RoPE, as the model's own projections and norms make them (kvpress asks the layer in place of its attention for the norms, and finds none).
 */

/** One layer of one text: rows of all tokens, before RoPE. */
export interface LayerRows {
  readonly layer: number;
  readonly n: number;
  readonly q: Float32Array; // [n, Hq, d]
  readonly k: Float32Array; // [n, H, d]
}

export interface CalibrationShape {
  readonly layers: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly invFreq: Float32Array; // [d / 2]
}

/** Turns rows [n, heads, d] back in place: row t by -t positions. */
export function unrotate(rows: Float32Array, heads: number, headDim: number, invFreq: Float32Array): Float32Array {
  const half = headDim / 2;
  const n = rows.length / (heads * headDim);
  for (let t = 0; t < n; t++) {
    for (let c = 0; c < half; c++) {
      const [cos, sin] = [Math.cos(t * invFreq[c]), Math.sin(t * invFreq[c])];
      for (let h = 0; h < heads; h++) {
        const at = (t * heads + h) * headDim + c;
        const [a, b] = [rows[at], rows[at + half]];
        rows[at] = a * cos + b * sin;
        rows[at + half] = b * cos - a * sin;
      }
    }
  }
  return rows;
}

/**
 * DuoAttention on the fly: heads whose mean query still sees mean keys far behind retrieve.
 *      a_t = softmax over t < span of R_{span-1} q . R_t k / sqrt d;   score = mean over t of sum_{u <= t} a_u, mean over the group, mean over the texts
 *  q, k: means over a text's tokens before RoPE
 */
export class DuoCalibration {
  readonly #shape: CalibrationShape;
  readonly #span: number;
  readonly #sums: number[][];
  #texts = 0;

  constructor(shape: CalibrationShape, span = 500) {
    this.#shape = shape;
    this.#span = span;
    this.#sums = Array.from({ length: shape.layers }, () => new Array<number>(shape.kvHeads).fill(0));
  }

  add({ layer, n, q, k }: LayerRows): void {
    const { queryHeads: Hq, kvHeads: H, headDim: d, invFreq } = this.#shape;
    if (layer === 0) this.#texts++;
    const [query, key] = [mean(q, n, Hq * d), mean(k, n, H * d)];
    for (let a = 0; a < Hq; a++) {
      const h = Math.floor((a * H) / Hq);
      // q.k at a distance: each pair of channels turns by the distance times its frequency.
      const logits = Array.from({ length: this.#span }, (_, t) => {
        let product = 0;
        for (let c = 0; c < d / 2; c++) {
          const [q1, q2] = [query[a * d + c], query[a * d + c + d / 2]];
          const [k1, k2] = [key[h * d + c], key[h * d + c + d / 2]];
          const angle = invFreq[c] * (this.#span - 1 - t);
          product += (q1 * k1 + q2 * k2) * Math.cos(angle) + (q1 * k2 - q2 * k1) * Math.sin(angle);
        }
        return product / Math.sqrt(d);
      });
      const most = Math.max(...logits);
      const weights = logits.map((x) => Math.exp(x - most));
      const total = weights.reduce((sum, x) => sum + x, 0);
      let [running, area] = [0, 0];
      for (const weight of weights) {
        running += weight / total;
        area += running;
      }
      this.#sums[layer][h] += area / this.#span / (Hq / H);
    }
  }

  /** [L][H] */
  get scores(): number[][] {
    return this.#sums.map((row) => row.map((sum) => sum / this.#texts));
  }
}

/** Mean and unbiased covariance of the queries of all texts together, without the first `sinks` of each. */
export class QueryMoments {
  readonly #shape: CalibrationShape;
  readonly #sinks: number;
  readonly #sums: Float64Array; // [L, Hq, d]
  readonly #products: Float64Array; // [L, Hq, d, d], the lower half
  #count = 0;

  constructor(shape: CalibrationShape, sinks = 4) {
    const { layers, queryHeads, headDim: d } = shape;
    this.#shape = shape;
    this.#sinks = sinks;
    this.#sums = new Float64Array(layers * queryHeads * d);
    this.#products = new Float64Array(layers * queryHeads * d * d);
  }

  add({ layer, n, q }: LayerRows): void {
    const { queryHeads: Hq, headDim: d } = this.#shape;
    if (layer === 0) this.#count += Math.max(0, n - this.#sinks);
    for (let a = 0; a < Hq; a++) {
      const head = layer * Hq + a;
      const sums = this.#sums.subarray(head * d, (head + 1) * d);
      const products = this.#products.subarray(head * d * d, (head + 1) * d * d);
      for (let t = this.#sinks; t < n; t++) {
        const row = q.subarray((t * Hq + a) * d, (t * Hq + a + 1) * d);
        for (let i = 0; i < d; i++) {
          const x = row[i];
          sums[i] += x;
          for (let j = 0; j <= i; j++) products[i * d + j] += x * row[j];
        }
      }
    }
  }

  get tokens(): number {
    return this.#count;
  }

  /** [L, Hq, d] */
  get mean(): Float32Array {
    return Float32Array.from(this.#sums, (sum) => sum / this.#count);
  }

  /** [L, Hq, d, d] */
  get cov(): Float32Array {
    const { layers, queryHeads, headDim: d } = this.#shape;
    const N = this.#count;
    const cov = new Float32Array(layers * queryHeads * d * d);
    for (let head = 0; head < layers * queryHeads; head++) {
      for (let i = 0; i < d; i++) {
        for (let j = 0; j <= i; j++) {
          const product = this.#products[(head * d + i) * d + j] - (this.#sums[head * d + i] * this.#sums[head * d + j]) / N;
          cov[(head * d + i) * d + j] = cov[(head * d + j) * d + i] = product / (N - 1);
        }
      }
    }
    return cov;
  }
}

/** Over the n rows of [n, width]. */
function mean(rows: Float32Array, n: number, width: number): Float64Array {
  const sums = new Float64Array(width);
  for (let t = 0; t < n; t++) for (let c = 0; c < width; c++) sums[c] += rows[t * width + c];
  return sums.map((sum) => sum / n);
}
