/** Scorers that look at attention beyond the last window, on numbers worked by hand and against their formulas in float64. */
import { describe, expect, test } from 'vitest';
import type { AttentionShape } from '../worker/backend/backend.ts';
import { type LayerNumbers, randomLayers, runPress, shapeOf } from './support/press-run.ts';
import { runtimes } from './support/press-runtimes.ts';
import { Random } from './support/random.ts';

const round = (values: ArrayLike<number>, digits = 4): number[] => Array.from(values, (x) => Number(x.toFixed(digits)));
const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const range = (from: number, end: number): number[] => Array.from({ length: Math.max(0, end - from) }, (_, i) => from + i);

/** Weights of query i of head a over keys first..end-1, in float64. `blanks` keys of logit 0 stand beside them. */
function weights(
  { q, k }: LayerNumbers,
  { queryHeads: Hq, kvHeads: H, headDim: d }: AttentionShape,
  [a, i]: readonly [number, number],
  [first, end]: readonly [number, number],
  scale: number,
  blanks = 0,
): number[] {
  const h = Math.floor((a * H) / Hq);
  const logits = range(first, end).map((j) => scale * sum(range(0, d).map((c) => q![(i * Hq + a) * d + c] * k[(j * H + h) * d + c])));
  const most = Math.max(...logits, blanks > 0 ? 0 : -Infinity);
  const exps = logits.map((x) => Math.exp(x - most));
  const total = sum(exps) + blanks * Math.exp(-most);
  return exps.map((x) => x / total);
}

/** z of each head, or of all together. */
function standardised(rows: readonly number[][], whole: boolean): number[][] {
  const z = (values: readonly number[], all: readonly number[]): number[] => {
    const mean = sum(all) / all.length;
    const std = Math.sqrt(sum(all.map((x) => (x - mean) ** 2)) / (all.length - 1));
    return values.map((x) => (x - mean) / Math.max(std, 1e-6));
  };
  return rows.map((row) => z(row, whole ? rows.flat() : row));
}

interface NonCausal {
  readonly chunk: number;
  readonly scale: number;
  readonly padded: boolean;
  readonly whole: boolean;
}

function nonCausal(layer: LayerNumbers, n: number, shape: AttentionShape, { chunk, scale, padded, whole }: NonCausal): number[][] {
  const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
  const weighed = range(0, H).map((h) => {
    const alpha = Array<number>(n).fill(0);
    for (let first = 0; first < n; first += chunk) {
      const end = Math.min(n, first + chunk);
      const blanks = padded ? first + chunk - end : 0;
      for (const a of range((h * Hq) / H, ((h + 1) * Hq) / H)) {
        for (const i of range(first, end)) {
          for (const [t, w] of weights(layer, shape, [a, i], [first, end], scale, blanks).entries()) alpha[first + t] += w / (Hq / H);
        }
        for (const j of range(first, end)) alpha[j] += blanks / chunk / (Hq / H); // zero queries give every key alike
      }
    }
    return alpha.map((x, j) => x * Math.sqrt(sum(range(0, d).map((c) => layer.v![(j * H + h) * d + c] ** 2))));
  });
  const pooled = weighed.map((row) => row.map((x, j) => ((row[j - 1] ?? 0) + x + (row[j + 1] ?? 0)) / 3));
  return standardised(pooled, whole);
}

function expectScores(got: readonly Float32Array[], want: readonly number[][]): void {
  const largest = Math.max(...want.flat().map(Math.abs));
  for (const [h, row] of want.entries())
    for (const [j, x] of row.entries()) {
      if (!(Math.abs(got[h][j] - x) <= 1e-5 * largest)) throw new Error(`[${h},${j}] is ${got[h][j]}, not ${x}`);
    }
}

describe.each(runtimes)('attention beyond the last window, on $name', ({ make }) => {
  const blank = (n: number): LayerNumbers => ({ k: new Float32Array(n * 4), q: new Float32Array(n * 4) });

  test('observed_attention: what each key received, over the queries that could see it', async () => {
    // Equal logits: rows (1), (1/2, 1/2), (1/3, 1/3, 1/3); sums 11/6, 5/6, 1/3 of 3, 2 and 1 queries
    const { scores, kept } = await runPress(await make(), { preset: 'observed_attention', compression_ratio: 0.5 }, 3, shapeOf(1, 1, 4), [blank(3)]);
    expect(round(scores[0][0])).toEqual([0.6111, 0.4167, 0.3333]);
    expect(kept).toEqual([[[0]]]);
  });

  test('observed_attention: a sliding window hides keys from queries; under compat it is not asked', async () => {
    // Each sees 2 keys: rows (1), (1/2, 1/2), (0, 1/2, 1/2); sums 3/2, 1, 1/2 of 2, 2 and 1 queries; by kvpress of 3, 2 and 1
    const shape = { ...shapeOf(1, 1, 4), slidingWindow: 2 };
    const run = async (more: object) =>
      round((await runPress(await make(), { preset: 'observed_attention', compression_ratio: 0.5, ...more }, 3, shape, [blank(3)])).scores[0][0]);
    expect(await run({})).toEqual([0.75, 0.5, 0.5]);
    expect(await run({ compat: 'kvpress' })).toEqual([0.5, 0.5, 0.5]);
  });

  test('observed_attention: its formula in float64, heads in groups', async () => {
    const shape = shapeOf(6, 2, 8);
    const n = 101;
    const [layer] = randomLayers(new Random(31), 1, n, shape);
    const { scores } = await runPress(await make(), { preset: 'observed_attention', compression_ratio: 0.5 }, n, shape, [layer]);
    const want = [0, 1].map((h) => {
      const row = Array<number>(n).fill(0);
      for (const a of range(h * 3, h * 3 + 3))
        for (const i of range(0, n)) for (const [j, w] of weights(layer, shape, [a, i], [0, i + 1], shape.scale).entries()) row[j] += w / (n - j) / 3;
      return row;
    });
    expectScores(scores[0], want);
  });

  test('non_causal: its formula in float64, blocks that end with the prompt and a shorter one', async () => {
    const runtime = await make();
    const shape = shapeOf(6, 2, 8);
    for (const [n, chunk] of [
      [96, 32],
      [75, 32],
      [20, 32],
      [33, 1],
    ]) {
      const [layer] = randomLayers(new Random(n), 1, n, shape);
      const press = { scorer: { name: 'non_causal', chunk_size: chunk }, compression_ratio: 0.5 };
      const { scores } = await runPress(runtime, press, n, shape, [layer]);
      expectScores(scores[0], nonCausal(layer, n, shape, { chunk, scale: shape.scale, padded: false, whole: false }));
    }
  });

  test('kvpress row 11: non_causal masks the padding of the last block, scales by 1/sqrt(d) and standardises each head; compat does none of it', async () => {
    const runtime = await make();
    const shape = shapeOf(4, 2, 8);
    const [n, chunk] = [45, 32];
    const [layer] = randomLayers(new Random(33), 1, n, shape, () => 0.3);
    const run = async (more: object) =>
      (await runPress(runtime, { scorer: { name: 'non_causal', chunk_size: chunk }, compression_ratio: 0.5, ...more }, n, shape, [layer])).scores[0];
    const theirs = nonCausal(layer, n, shape, { chunk, scale: 1, padded: true, whole: true });
    const ours = nonCausal(layer, n, shape, { chunk, scale: shape.scale, padded: false, whole: false });
    expectScores(await run({ compat: 'kvpress' }), theirs);
    expectScores(await run({}), ours);
    for (const one of [{ scale: 1 }, { padded: true }, { whole: true }]) {
      const wrong = nonCausal(layer, n, shape, { chunk, scale: shape.scale, padded: false, whole: false, ...one });
      expect(Math.max(...wrong.flat().map((x, i) => Math.abs(x - ours.flat()[i])))).toBeGreaterThan(0.01); // each of the three shows
    }
  });

  test('non_causal: a prompt of blocks alone is the same with and without the padding', async () => {
    const shape = { ...shapeOf(2, 2, 8), scale: 1 };
    const [layer] = randomLayers(new Random(34), 1, 64, shape);
    const want = nonCausal(layer, 64, shape, { chunk: 32, scale: 1, padded: false, whole: true });
    const press = { scorer: { name: 'non_causal', chunk_size: 32 }, compression_ratio: 0.5, compat: 'kvpress' };
    expectScores((await runPress(await make(), press, 64, shape, [layer])).scores[0], want);
  });

  /** Attention of the last W queries, [Hq][W][n]. */
  const windowRows = (layer: LayerNumbers, n: number, shape: AttentionShape, W: number): number[][][] =>
    range(0, shape.queryHeads).map((a) =>
      range(n - W, n).map((i) => [...weights(layer, shape, [a, i], [0, i + 1], shape.scale), ...Array<number>(n - 1 - i).fill(0)]),
    );

  test('cake: mean and variance of what the last queries give, pooled, the mean over the group', async () => {
    const shape = shapeOf(6, 2, 8);
    const [n, W] = [60, 20];
    const [layer] = randomLayers(new Random(35), 1, n, shape);
    const press = { scorer: { name: 'cake', window_size: W, kernel_size: 3, gamma: 50 }, compression_ratio: 0.5 };
    const { scores, kept } = await runPress(await make(), press, n, shape, [layer]);
    const rows = windowRows(layer, n, shape, W);
    const want = [0, 1].map((h) => {
      const worth = range(0, n - W).map((j) => {
        const heads = range(h * 3, h * 3 + 3).map((a) => {
          const column = rows[a].map((row) => row[j]);
          const mean = sum(column) / W;
          return mean + (50 * sum(column.map((x) => (x - mean) ** 2))) / (W - 1);
        });
        return sum(heads) / 3;
      });
      return worth.map((x, j) => ((worth[j - 1] ?? 0) + x + (worth[j + 1] ?? 0)) / 3);
    });
    expectScores(scores[0], want);
    for (const list of kept[0]) expect(list.slice(0, W)).toEqual(range(n - W, n)); // the window stays
  });

  test('lava: the largest of the neighbours and of the group, by the largest L1 norm of a value outside the window', async () => {
    const shape = shapeOf(6, 2, 8);
    const [n, W] = [60, 20];
    const [layer] = randomLayers(new Random(36), 1, n, shape);
    layer.v!.fill(1e3, (n - W) * 2 * 8); // values of the window do not count
    const press = { scorer: { name: 'lava', window_size: W, kernel_size: 7 }, compression_ratio: 0.5 };
    const { scores, kept } = await runPress(await make(), press, n, shape, [layer]);
    const rows = windowRows(layer, n, shape, W);
    const want = [0, 1].map((h) => {
      const norm = Math.max(...range(0, n - W).map((t) => sum(range(0, 8).map((c) => Math.abs(layer.v![(t * 2 + h) * 8 + c])))));
      const most = range(0, n - W).map((j) => Math.max(...range(h * 3, h * 3 + 3).map((a) => sum(rows[a].map((row) => row[j])) / W)));
      return most.map((_, j) => norm * Math.max(...most.slice(Math.max(0, j - 3), j + 4)));
    });
    expectScores(scores[0], want);
    for (const list of kept[0]) expect(list.slice(0, W)).toEqual(range(n - W, n));
  });
});
