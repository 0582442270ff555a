/** Presses that read the prompt again, on models/needle: scores, budgets and kept entries against the formulas in float64 of the reference model. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parsePress } from '../presses/config.ts';
import type { EdgeEngine, Inspection } from '../worker/engine/engine.ts';
import { needleSamples, openGolden } from './support/golden.ts';
import { ReferenceModel, type ReferenceState } from './support/reference-model.ts';

/** f32 attention of the model and of the pass, relative to the largest score of the layer. */
const TOLERANCE = 2e-4;

const prompt = needleSamples()
  .find((s) => s.task === 'niah_multikey' && s.context_length === 256)!
  .prompt_token_ids.slice(0, 180);
const n = prompt.length;
const QUESTION = [301, 302, 303];
const AGAIN = [311, 312];
const ANSWER = [321];

let engine: EdgeEngine;
const model = new ReferenceModel('models/needle');
const { layers: L, queryHeads: Hq, kvHeads: H, headDim: d } = model;
const G = Hq / H;
let read: ReferenceState;
beforeAll(async () => {
  engine = await openGolden('needle', { contextLength: 1024 });
  read = model.start();
  model.read(read, prompt);
});
afterAll(() => engine.close());

const inspect = (press: unknown): Promise<Inspection> => engine.inspect({ kind: 'tokens', tokens: prompt }, parsePress(press));
const indices = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const sum = (values: Iterable<number>): number => [...values].reduce((a, b) => a + b, 0);
const norm = (values: ArrayLike<number>): number => Math.sqrt(sum(Array.from(values, (x) => x * x)));
const dot = (x: Float64Array, at: number, y: Float64Array, from: number): number => {
  let total = 0;
  for (let c = 0; c < d; c++) total += x[at + c] * y[from + c];
  return total;
};

/** softmax over these positions of q.k / sqrt d. */
function attention(layer: ReferenceState['layers'][number], a: number, i: number, seen: readonly number[]): number[] {
  const h = Math.floor(a / G);
  const logits = seen.map((j) => dot(layer.q[i], a * d, layer.k[j], h * d) / Math.sqrt(d));
  const most = Math.max(...logits);
  const exps = logits.map((x) => Math.exp(x - most));
  const total = sum(exps);
  return exps.map((x) => x / total);
}

/** [layer][head][n]: KVzip's formula, pass after pass over the whole prompt. */
function kvzip({ sinks = 4, chunkSize = 2048, prefix = 0, plus = false }): number[][][] {
  const scores = indices(L).map(() => indices(H).map(() => Array<number>(n).fill(0)));
  for (let from = prefix; from < n; from += chunkSize) {
    const to = Math.min(n, from + chunkSize);
    const asked = from === prefix ? QUESTION : [...AGAIN, ...prompt.slice(from - 8, from)];
    const pass = [...asked, ...ANSWER, ...prompt.slice(from, to)];
    const state = model.fork(read);
    model.read(state, pass);
    const before = [...indices(Math.min(sinks, from)), ...indices(to - from).map((j) => from + j)];
    for (const [l, layer] of state.layers.entries()) {
      for (const a of indices(Hq)) {
        const h = Math.floor(a / G);
        const changes = plus ? indices(n).map((j) => outputNorm(l, a, layer.v[j])) : null;
        for (let i = n; i < n + pass.length; i++) {
          const seen = [...before, ...indices(i - n + 1).map((j) => n + j)];
          const weights = attention(layer, a, i, seen);
          for (let at = Math.min(sinks, from); at < before.length; at++) {
            const j = before[at];
            const weight = changes ? (weights[at] * changes[j]) / norm(layer.x[i]) : weights[at];
            scores[l][h][j] = Math.max(scores[l][h][j], weight);
          }
        }
      }
    }
  }
  return scores;
}

/** |V_j W_o,a|_2. */
function outputNorm(layer: number, a: number, v: Float64Array): number {
  const { rows, data } = model.output(layer);
  const from = Math.floor(a / G) * d;
  return norm(indices(rows).map((r) => dot(data, r * Hq * d + a * d, v, from)));
}

function expectScores({ layers }: Inspection, want: readonly number[][][], protectedTokens: number): void {
  for (const [l, { heads }] of layers.entries()) {
    const largest = Math.max(...want[l].flatMap((scores) => scores.slice(protectedTokens)));
    for (const [h, { kept, scores }] of heads.entries()) {
      for (const [rank, position] of kept.entries()) {
        const score = scores[rank];
        if (position < protectedTokens) expect(score, `layer ${l} head ${h} position ${position} is protected`).toBe(null);
        else expect(Math.abs(score! - want[l][h][position]) / largest, `layer ${l} head ${h} position ${position}`).toBeLessThan(TOLERANCE);
      }
    }
  }
}

/** The best `total` evictable entries of all layers and heads are kept, but for those as near to the cut as f32 is to the formula. */
function expectBestOfAll({ layers }: Inspection, want: readonly number[][][], protectedTokens: number, total: number): void {
  const all = want.flatMap((heads, l) => heads.flatMap((scores, h) => scores.map((score, j) => ({ score, j, key: `${l}.${h}.${j}` }))));
  const evictable = all.filter(({ j }) => j >= protectedTokens).sort((x, y) => y.score - x.score);
  const cut = evictable[total - 1].score;
  const near = TOLERANCE * evictable[0].score;
  const kept = new Set(layers.flatMap(({ heads }, l) => heads.flatMap(({ kept }, h) => kept.map((j) => `${l}.${h}.${j}`))));
  expect(kept.size).toBe(total + L * H * protectedTokens);
  for (const { score, key } of evictable) {
    if (score > cut + near) expect(kept.has(key), `${key}, score ${score}, cut ${cut}`).toBe(true);
    if (score < cut - near) expect(kept.has(key), `${key}, score ${score}, cut ${cut}`).toBe(false);
  }
}

const asked = { repeat_prompt: QUESTION, repeat_next_prompt: AGAIN, repeat_answer_start: ANSWER };

describe('kvzip', () => {
  test('scores are the largest attention of the tokens that repeat a chunk; the best entries of the whole model stay', async () => {
    const seen = await inspect({ preset: 'kvzip', ...asked, compression_ratio: 0.5 });
    const want = kvzip({});
    expectScores(seen, want, 4);
    expectBestOfAll(seen, want, 4, L * H * (n / 2 - 4));
  });

  test('in chunks, with sinks before them and tokens that are not repeated', async () => {
    const seen = await inspect({ preset: 'kvzip', ...asked, chunk_size: 64, prefix_tokens: 6, compression_ratio: 0.25 });
    const want = kvzip({ chunkSize: 64, prefix: 6 });
    expectScores(seen, want, 4);
    expectBestOfAll(seen, want, 4, L * H * (n * 0.75 - 4));
  });

  test('a header shorter than the sinks: the chunk begins among them', async () => {
    const seen = await inspect({ preset: 'kvzip', ...asked, prefix_tokens: 2, compression_ratio: 0.5 });
    const want = kvzip({ prefix: 2 });
    expectScores(seen, want, 4);
    expectBestOfAll(seen, want, 4, L * H * (n / 2 - 4));
  });

  test('kvzip_plus: by what the value changes, beside the input of the token that asks', async () => {
    const seen = await inspect({ preset: 'kvzip_plus', ...asked, chunk_size: 100, n_sink: 2, compression_ratio: 0.75 });
    const want = kvzip({ chunkSize: 100, sinks: 2, plus: true });
    expectScores(seen, want, 2);
    expectBestOfAll(seen, want, 2, L * H * (n / 4 - 2));
  });
});
