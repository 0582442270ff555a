/** What a press while decoding leaves, written plainly in float64: rows of a list in ascending position, the real queries of the last tokens. */
import type { ReferenceModel, ReferenceState } from './reference-model.ts';
import type { Left } from './watch-retained.ts';

/** Scores of one head's rows (ascending positions), higher stays; Infinity = protected. */
export type ScoreRows = (rows: readonly number[], layer: number, head: number, state: ReferenceState) => number[];

export class EvictingReference {
  readonly model: ReferenceModel;
  readonly state: ReferenceState;
  readonly left: Left;

  constructor(model: ReferenceModel, state: ReferenceState) {
    this.model = model;
    this.state = state;
    const all = () => Array.from({ length: state.tokens }, (_, t) => t);
    this.left = Array.from({ length: model.layers }, () => Array.from({ length: model.kvHeads }, all));
  }

  /** Logits after one more token. */
  read(token: number): Float64Array {
    const seen = this.left.map((heads) => heads.map((positions) => new Set(positions)));
    const logits = this.model.read(this.state, [token], (layer, head, position) => seen[layer][head].has(position));
    for (const heads of this.left) for (const positions of heads) positions.push(this.state.tokens - 1);
    return logits;
  }

  /**
   * Every list keeps its `target` best. Which those are is looked up in `kept` (keys of one token at two positions have one norm, up to rounding);
   * throws where a row was left out that is better than one that stayed.
   */
  compress(target: number, score: ScoreRows, kept: Left): void {
    for (const [layer, heads] of this.left.entries()) {
      for (const [head, rows] of heads.entries()) {
        const where = `layer ${layer}, head ${head}, at ${this.state.tokens} tokens`;
        const stay = new Set(kept[layer][head]);
        if (stay.size !== Math.min(target, rows.length)) throw new Error(`${where}: ${stay.size} of ${rows.length} rows stay, not ${target}`);
        const scores = score(rows, layer, head, this.state);
        const [staying, going] = [rows.filter((p) => stay.has(p)), rows.filter((p) => !stay.has(p))];
        if (staying.length !== stay.size) throw new Error(`${where}: rows stay that were not there`);
        const of = (position: number): number => scores[rows.indexOf(position)];
        const [worst, best] = [Math.min(...staying.map(of)), Math.max(...going.map(of))];
        if (best > worst + 1e-5 * Math.abs(worst)) throw new Error(`${where}: a row of ${best} goes, one of ${worst} stays`);
        heads[head] = staying;
      }
    }
  }

  /** How much the last W queries attend to each row, [G] of [rows]: causal, over the rows that are left. */
  attention(rows: readonly number[], layer: number, head: number, window: number): number[][] {
    const { queryHeads, kvHeads, headDim: d } = this.model;
    const { q, k } = this.state.layers[layer];
    const group = queryHeads / kvHeads;
    return Array.from({ length: group }, (_, g) => {
      const mean = new Array<number>(rows.length).fill(0);
      for (let at = this.state.tokens - window; at < this.state.tokens; at++) {
        const logits = rows.map((position) =>
          position > at ? -Infinity : dot(q[at], (head * group + g) * d, k[position], head * d, d) / Math.sqrt(d),
        );
        const most = Math.max(...logits);
        const weights = logits.map((x) => Math.exp(x - most));
        const total = weights.reduce((a, b) => a + b, 0);
        for (const [i, weight] of weights.entries()) mean[i] += weight / total / window;
      }
      return mean;
    });
  }
}

export function dot(a: ArrayLike<number>, from: number, b: ArrayLike<number>, start: number, length: number): number {
  let sum = 0;
  for (let c = 0; c < length; c++) sum += a[from + c] * b[start + c];
  return sum;
}
