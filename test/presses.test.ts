/** Scorers, budgets and compositions on numbers worked by hand, and what must hold for every press. */
import { describe, expect, test } from 'vitest';
import { checkPress, mostPages, type PressSize } from '../presses/check-press.ts';
import { Compressor } from '../presses/compressor.ts';
import { isNoOp, parsePress } from '../presses/config.ts';
import type { HeadBudget, ScoreContext, Scorer } from '../presses/contract.ts';
import { InputError } from '../presses/input-error.ts';
import { presetParts } from '../presses/presets.ts';
import { scorers } from '../presses/registry.ts';
import { normal } from '../presses/scorers/random.ts';
import type { AttentionShape, DeviceBuffer } from '../worker/backend/backend.ts';
import { drawsLots, ratioPresets, withArtifacts } from './support/artifacts.ts';
import {
  blankLayers,
  givenScores,
  type LayerNumbers,
  noModel,
  PositionStore,
  randomLayers,
  runPress,
  shapeOf,
  withScorer,
} from './support/press-run.ts';
import { compared, runtimes } from './support/press-runtimes.ts';
import { Random } from './support/random.ts';
import { ReferenceBackend } from './support/reference-backend.ts';
import { referenceBudgetMath } from './support/reference-budget-math.ts';

const names = ratioPresets;

/** Rows of four numbers, one after the other. */
const rows = (...list: number[][]): Float32Array => Float32Array.from(list.flatMap((row) => [...row, 0, 0, 0, 0].slice(0, 4)));
const round = (values: ArrayLike<number>, digits = 4): number[] => Array.from(values, (x) => Number(x.toFixed(digits)));

/** The share of the last 32 queries' attention that falls on kept rows, written from the formula: mean over the query heads. */
function attentionOn(
  { k, q }: LayerNumbers,
  kept: readonly number[][],
  n: number,
  { queryHeads: Hq, kvHeads: H, headDim: d, scale }: AttentionShape,
): number {
  const queries = (q as Float32Array).subarray(-32 * Hq * d);
  let share = 0;
  for (let a = 0; a < Hq; a++) {
    const h = Math.floor((a * H) / Hq);
    for (let i = 0; i < 32; i++) {
      const weights = Array.from({ length: n - 31 + i }, (_, j) => {
        let product = 0;
        for (let c = 0; c < d; c++) product += queries[(i * Hq + a) * d + c] * k[(j * H + h) * d + c];
        return Math.exp(scale * product);
      });
      const total = weights.reduce((x, y) => x + y, 0);
      share += kept[h].reduce((sum, j) => sum + (weights[j] ?? 0) / total, 0) / (32 * Hq);
    }
  }
  return share;
}

function refusal(run: () => unknown): InputError {
  try {
    run();
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
  throw new Error('was accepted');
}

describe.each(runtimes)('presses on $name', ({ make }) => {
  const unscaled = (queryHeads: number, kvHeads: number) => ({ ...shapeOf(queryHeads, kvHeads, 4), scale: 1 });

  test('knorm keeps the smallest keys', async () => {
    const layer = { k: rows([3, 4], [1, 0], [0, 2], [6, 8]) }; // norms 5, 1, 2, 10
    const { kept, scores } = await runPress(await make(), 'knorm', 4, unscaled(1, 1), [layer]);
    expect(kept).toEqual([[[1, 2]]]);
    expect(round(scores[0][0])).toEqual([-5, -1, -2, -10]);
  });

  test('keydiff keeps the keys that are unlike the mean of the unit keys', async () => {
    // unit keys (1,0), (.8944,.4472), (0,1), (-1,0); their mean (.2236, .3618); cosines .5257, .8507, .8507, -.5257
    const layer = { k: rows([1, 0], [2, 1], [0, 1], [-1, 0]) };
    const { kept, scores } = await runPress(await make(), 'keydiff', 4, unscaled(1, 1), [layer]);
    expect(round(scores[0][0])).toEqual([-0.5257, -0.8507, -0.8507, 0.5257]);
    expect(kept).toEqual([[[3, 0]]]);
  });

  test('tova keeps what the last token attends to, the mean over all query heads, and the last token', async () => {
    // Head 0 reads component 0, head 1 component 1: attention .1 .2 .3 .4 and .4 .1 .1 .4, mean .25 .15 .2 .4
    const ln = Math.log;
    const head = [0, 1, 2, 3].map((j) => [ln([1, 2, 3, 4][j]), ln([4, 1, 1, 4][j])]);
    const k = Float32Array.from(head.flatMap((row) => [...rows(row), ...rows(row)])); // [4, 2 heads, 4]
    const q = rows([1], [0, 1]); // [1, 2 heads, 4]
    const { kept, scores } = await runPress(await make(), 'tova', 4, unscaled(2, 2), [{ k, q }], { massWindow: 0 });
    expect(round(scores[0][0])).toEqual([0.25, 0.15, 0.2, 0.4]);
    expect(scores[0][1]).toEqual(scores[0][0]);
    expect(kept).toEqual([
      [
        [3, 0],
        [3, 0],
      ],
    ]);
  });

  test('snapkv pools what the window attends to, takes the mean over the group, and keeps the window', async () => {
    // Window: tokens 4 and 5. Query head 0 reads component 0 at token 4 and component 1 at token 5:
    //   token 4 sees 1 2 3 4 10 of 20 -> .05 .1 .15 .2;   token 5 sees 5 5 10 20 30 30 of 100 -> .05 .05 .1 .2
    //   mean .05 .075 .125 .2;  pooled by 3 with zeros outside: .0417 .0833 .1333 .1083
    // Query head 1 is blind: 1/5 and 1/6, mean .1833;  pooled .1222 .1833 .1833 .1222.   Group mean .0819 .1333 .1583 .1153
    const first = [1, 2, 3, 4, 10, 1];
    const second = [5, 5, 10, 20, 30, 30];
    const k = rows(...first.map((_, j) => [Math.log(first[j]), Math.log(second[j])]));
    const q = rows([1], [0], [0, 1], [0]); // [2, 2 heads, 4]
    const press = { preset: 'snapkv', window_size: 2, kernel_size: 3 };
    const { kept, scores } = await runPress(await make(), press, 6, unscaled(2, 1), [{ k, q }], { massWindow: 0 });
    expect(round(scores[0][0].subarray(0, 4))).toEqual([0.0819, 0.1333, 0.1583, 0.1153]);
    expect(kept).toEqual([[[4, 5, 2]]]);
  });

  test('streaming_llm keeps the first and the most recent tokens', async () => {
    const shape = shapeOf(2, 2, 4);
    const { kept } = await runPress(await make(), { preset: 'streaming_llm', n_sink: 2 }, 10, shape, blankLayers(1, 10, shape));
    expect(kept).toEqual([
      [
        [0, 1, 9, 8, 7],
        [0, 1, 9, 8, 7],
      ],
    ]);
  });

  test('cur keeps tokens whose keys and values are long among their neighbours, and the sinks', async () => {
    // Squared norms, in segments of 2: keys 4 4 | 1 3 | 0 0, shares .5 .5 | .25 .75 | 0 0;   values 1 1 | 1 4 | 2 6, shares .5 .5 | .2 .8 | .25 .75
    //   products .25 .25 .05 .6 0 0, of 1.15
    const layer = { k: rows([2], [0, 2], [1], [1, 1, 1], [0], [0]), v: rows([1], [1], [0, 1], [0, 0, 2], [1, 1], [1, 1, 2]) };
    const runtime = await make();
    const run = async (params: object) => {
      const { kept, scores } = await runPress(runtime, { preset: 'cur', num_sinks: 1, ...params }, 6, unscaled(1, 1), [layer]);
      return { kept: kept[0][0], scores: round(scores[0][0]) };
    };
    const products = { kept: [0, 3, 1], scores: [0.2174, 0.2174, 0.0435, 0.5217, 0, 0] };
    expect(await run({ local_window_size: 2 })).toEqual(products);
    expect(await run({ local_window_size: 2, compat: 'kvpress' })).toEqual(products);
    expect((await run({ local_window_size: 2, num_sinks: 0 })).kept).toEqual([3, 0, 1]);
    const whole = { use_local_approximation: false };
    expect((await run({ ...whole, leverage_type: 'key' })).scores).toEqual(round([4 / 12, 4 / 12, 1 / 12, 3 / 12, 0, 0]));
    expect(await run({ ...whole, leverage_type: 'value' })).toEqual({ kept: [0, 5, 3], scores: round([1, 1, 1, 4, 2, 6].map((x) => x / 15)) });
    expect((await run({ ...whole, leverage_type: 'kv_avg' })).scores).toEqual(round([5, 5, 2, 7, 2, 6].map((x) => x / 27)));
    expect((await run({ ...whole })).scores).toEqual(round([4, 4, 1, 12, 0, 0].map((x) => x / 21)));
  });

  test('cur, use_random_leverage: norms in 20 random directions, the same for all heads, others in every layer; without a seed the report says which', async () => {
    const runtime = await make();
    const shape = shapeOf(4, 2, 8);
    const n = 40;
    const layers = randomLayers(new Random(61), 2, n, shape);
    const run = (params: object) => runPress(runtime, { preset: 'cur', use_random_leverage: true, ...params }, n, shape, layers);
    const { scores } = await run({ seed: 9, use_local_approximation: false });
    for (const [l, { k, v = k }] of layers.entries()) {
      const gamma = Array.from({ length: 8 * 20 }, (_, i) => Math.fround(normal(9, l, i) / Math.sqrt(20)));
      const squares = (x: Float32Array, t: number, h: number): number => {
        const row = x.subarray((t * 2 + h) * 8, (t * 2 + h + 1) * 8);
        const projected = Array.from({ length: 20 }, (_, j) => row.reduce((sum, value, c) => sum + value * gamma[c * 20 + j], 0));
        return projected.reduce((sum, y) => sum + y * y, 0);
      };
      for (const [h, row] of scores[l].entries()) {
        const z = Array.from({ length: n }, (_, t) => squares(k, t, h) * squares(v, t, h));
        const total = z.reduce((a, b) => a + b, 0);
        const largest = Math.max(...z) / total;
        for (const [t, score] of row.entries()) expect(Math.abs(score - z[t] / total) / largest).toBeLessThan(1e-5);
      }
    }
    const [one, same, other] = [await run({ seed: 9 }), await run({ seed: 9 }), await run({ seed: 10 })];
    expect(same.kept).toEqual(one.kept);
    expect(other.kept).not.toEqual(one.kept);
    expect((await run({})).report.notes.join()).toMatch(/cur: seed \d+/);
  });

  test('lagkv ranks the tokens of a partition by their spread in the ranges of the next one; sinks and tail stay', async () => {
    // Sink 0, partitions (1, 2) (3, 4) (5, 6), and 7. Keys of the later ones run from 0 to 1 in channels 0 and 1; values are constant and count as 0.
    //   sigma of k over 4 channels: 1, 0 | 0, .5774;  softmax .7311 .2689 | .3595 .6405;  with v's halves .6155 .3845 | .4298 .5702
    const runtime = await make();
    const layer = { k: rows([9], [2], [0], [0], [1, 1], [1, 0], [0, 1], [9]), v: new Float32Array(32).fill(1) };
    const press = { preset: 'lagkv', n_sink: 1, lag_size: 2, compression_ratio: 0.125 };
    const ranked = await runPress(runtime, press, 8, unscaled(1, 1), [layer]);
    expect(round(ranked.scores[0][0])).toEqual([1, 0.5, 0, 0, 0.5, 1, 1, 1]);
    expect(ranked.kept).toEqual([[[0, 5, 6, 7, 1, 4, 2]]]);
    const crossed = await runPress(runtime, { ...press, cross_scoring: true }, 8, unscaled(1, 1), [layer]);
    expect(round(crossed.scores[0][0])).toEqual([1, 0.6155, 0.3845, 0.4298, 0.5702, 1, 1, 1]);
    expect(crossed.kept).toEqual([[[0, 5, 6, 7, 1, 4, 3]]]);
  });

  test('lagkv keeps the sinks and the most recent tokens of a prompt shorter than two partitions', async () => {
    const shape = shapeOf(1, 1, 4);
    const { kept, scores } = await runPress(await make(), { preset: 'lagkv', n_sink: 2, lag_size: 4 }, 8, shape, blankLayers(1, 8, shape));
    expect(round(scores[0][0])).toEqual([1, 1, 0, 0.1667, 0.3333, 0.5, 0.6667, 0.8333]);
    expect(kept).toEqual([[[0, 1, 7, 6]]]);
  });

  test('random keeps the same tokens for the same seed, others in other layers and heads, and reports the seed it drew', async () => {
    const runtime = await make();
    const shape = shapeOf(2, 2, 4);
    const layers = blankLayers(3, 40, shape);
    const press = { preset: 'random', seed: 7 };
    const { kept, scores, report } = await runPress(runtime, press, 40, shape, layers);
    expect((await runPress(runtime, press, 40, shape, layers)).kept).toEqual(kept);
    expect(new Set(kept.flat().map((list) => list.join())).size).toBe(6);
    expect(report.notes).toEqual([]);
    const all = scores.flat().flatMap((head) => [...head]);
    expect(Math.min(...all)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...all)).toBeLessThan(1);
    expect(all.reduce((a, b) => a + b) / all.length).toBeCloseTo(0.5, 1);

    const drawn = await runPress(runtime, 'random', 40, shape, layers);
    const [, seed] = /^random: seed (\d+)$/.exec(drawn.report.notes.join()) as RegExpExecArray;
    expect((await runPress(runtime, { preset: 'random', seed: Number(seed) }, 40, shape, layers)).kept).toEqual(drawn.kept);
  });

  test('random and leverage: heads of unequal length, scored one by one while decoding, draw each for itself, and random anew each time', async () => {
    const { backend } = await make();
    const n = 64;
    const borrowed: DeviceBuffer[] = [];
    const scratch = (bytes: number, label: string): DeviceBuffer => {
      borrowed.push(backend.alloc(bytes, label));
      return borrowed[borrowed.length - 1];
    };
    const k = scratch(n * 8 * 4, 'keys');
    backend.write(k, new Random(19).normals(n * 8));
    const shape = shapeOf(1, 1, 8);
    const context = { ...noModel(shape), backend, scratch, k, v: k, n, shape, layer: 1, start: 0, positions: null, compat: false, later: () => {} };
    const scoresOf = async (scorer: 'random' | 'leverage', where: object): Promise<string> => {
      const params = { seed: 3, sketch_dimension: 4, artifact: null };
      const once = <T>(_: string, make: () => T): T => make();
      const scores = (scorers[scorer] as Scorer).score({ ...context, once, ...where } as unknown as ScoreContext, params);
      return new Float32Array((await backend.read(scores, n * 4)).slice().buffer).join();
    };
    for (const scorer of ['random', 'leverage'] as const) {
      expect(await scoresOf(scorer, {})).toBe(await scoresOf(scorer, { firstHead: 0, step: 0 }));
      expect(await scoresOf(scorer, { firstHead: 1 })).not.toBe(await scoresOf(scorer, {}));
    }
    expect(await scoresOf('random', { step: 1 })).not.toBe(await scoresOf('random', {}));
    for (const block of borrowed) backend.free(block);
  });

  test('equal scores go to the lower position; infinite ones are told, and what is no number is refused', async () => {
    const shape = shapeOf(1, 1, 4);
    const run = async (...scores: number[]) => {
      const { kept, report } = await runPress(
        await make(),
        withScorer({}, givenScores([Float32Array.from(scores)])),
        6,
        shape,
        blankLayers(1, 6, shape),
      );
      return { kept: kept[0][0], notes: report.notes };
    };
    expect(await run(0, 1, 3, 1, 3, 1)).toEqual({ kept: [2, 4, 1], notes: [] });
    expect(await run(-Infinity, 1, Infinity, 1, 3, 1)).toEqual({
      kept: [2, 4, 1],
      notes: [expect.stringMatching(/^given: 2 of 6 scores of layer 0 are infinite/)],
    });
    await expect(run(NaN, 1, 3, 1, 3, 1)).rejects.toMatchObject({ code: 'press_numbers', param: 'press.scorer' });
  });

  test('pyramid: 4 layers, 100 tokens, 20 on average: 39, 26, 14, 1', async () => {
    // lo = 20/20 = 1, hi = 39; the line 39, 26.33, 13.67, 1, and the odd token to the larger remainder
    const shape = shapeOf(1, 1, 4);
    const press = { scorer: 'knorm', layer_budget: 'pyramid', compression_ratio: 0.8 };
    const { report } = await runPress(await make(), press, 100, shape, blankLayers(4, 100, shape));
    expect(report.keptPerLayer).toEqual([39, 26, 14, 1]);
    const one = await runPress(await make(), press, 100, shape, blankLayers(1, 100, shape));
    expect(one.report.keptPerLayer).toEqual([20]);
    expect([report.notes, one.report.notes]).toEqual([[], []]);
  });

  test('pyramid that is none says so, and why', async () => {
    const shape = shapeOf(1, 1, 4);
    const flat = async (press: Record<string, unknown>) => {
      const { report } = await runPress(
        await make(),
        { scorer: 'streaming_llm', layer_budget: 'pyramid', ...press },
        100,
        shape,
        blankLayers(3, 100, shape),
      );
      expect(new Set(report.keptPerLayer).size).toBe(1);
      return report.notes.join();
    };
    expect(await flat({ compression_ratio: 0.6 })).toMatch(
      /layer_budget "pyramid": every layer keeps 40 tokens, .* leave 2 to the last one, fewer than the 4 protected ones/,
    );
    expect(await flat({ compression_ratio: 0.02 })).toMatch(
      /every layer keeps 98 tokens, for none can keep more than the 96 that are not protected; a higher ratio/,
    );
  });

  test('per_layer gives each layer its own ratio', async () => {
    const shape = shapeOf(1, 1, 4);
    const press = { scorer: 'knorm', layer_budget: { name: 'per_layer', compression_ratios: [0, 0.25, 0.8] } };
    const { report } = await runPress(await make(), press, 20, shape, blankLayers(3, 20, shape));
    expect(report.keptPerLayer).toEqual([20, 15, 4]);
    expect(report.compressionRatio).toBeCloseTo(0.35, 12);
  });

  test('adakv: heads share 6 places by score, at least one each: 2 and 4', async () => {
    const shape = shapeOf(2, 2, 4);
    const scores = [Float32Array.from([0.6, 0.2, 0.1, 0.05, 0.03, 0.02, 0.2, 0.19, 0.18, 0.16, 0.14, 0.13])];
    const press = (alpha: number) => withScorer({ head_budget: { name: 'adakv', alpha_safeguard: alpha } }, givenScores(scores));
    const { kept, report } = await runPress(await make(), press(1 / 3), 6, shape, blankLayers(1, 6, shape));
    expect(kept).toEqual([
      [
        [0, 1],
        [0, 1, 2, 3],
      ],
    ]); // .6 .2 | .2 .19 .18 .16
    expect(report.keptPerLayer).toEqual([3]);
    const even = await runPress(await make(), press(1), 6, shape, blankLayers(1, 6, shape));
    expect(even.kept).toEqual([
      [
        [0, 1, 2],
        [0, 1, 2],
      ],
    ]);
  });

  test('adakv: a head that loses everywhere keeps alpha b rounded down, its protected tokens counted', async () => {
    const runtime = await make();
    const shape = shapeOf(2, 2, 4);
    const scores = [Float32Array.from({ length: 22 }, (_, j) => (j < 11 ? 1 : 2))]; // 11 tokens, 5 on average
    for (const [alpha, last, worst] of [
      [0.5, 0, 2], // floor(2.5)
      [0.5, 1, 2],
      [0.5, 3, 3], // the protected ones alone
      [0.79, 2, 3], // floor(3.95)
      [0, 0, 0],
    ]) {
      const request = withScorer({ head_budget: { name: 'adakv', alpha_safeguard: alpha } }, givenScores(scores, { first: 0, last }));
      const { kept } = await runPress(runtime, request, 11, shape, blankLayers(1, 11, shape), { massWindow: 0 });
      expect(kept[0].map((list) => list.length)).toEqual([worst, 10 - worst]);
    }
  });

  test('adakv: alpha 0.29 of 100 is 29 safe tokens; kvpress truncates the product in doubles to 28', async () => {
    const runtime = await make();
    const shape = shapeOf(2, 2, 4);
    const scores = [Float32Array.from({ length: 400 }, (_, j) => (j < 200 ? 1 : 2))];
    const counts = async (more: object) => {
      const request = withScorer({ head_budget: { name: 'adakv', alpha_safeguard: 0.29 }, ...more }, givenScores(scores));
      return (await runPress(runtime, request, 200, shape, blankLayers(1, 200, shape), { massWindow: 0 })).kept[0].map((list) => list.length);
    };
    expect(await counts({})).toEqual([29, 171]);
    expect(await counts({ compat: 'kvpress' })).toEqual([28, 172]);
  });

  test('adakv keeps every head its protected tokens and its safe ones, and H * b in all', async () => {
    const runtime = await make();
    const random = new Random(11);
    for (let i = 0; i < 50; i++) {
      const [heads, n] = [random.int(1, 4), random.int(10, 80)];
      const keep = { first: random.int(0, 2), last: random.int(0, 3) };
      const P = keep.first + keep.last;
      const alpha = random.pick([0, 0.2, 0.7, 1]);
      const scores = [Float32Array.from({ length: heads * n }, (_, j) => random.int(0, 5) * (1 + Math.floor(j / n)))];
      const request = withScorer({ head_budget: { name: 'adakv', alpha_safeguard: alpha } }, givenScores(scores, keep));
      const shape = shapeOf(heads, heads, 4);
      const { kept } = await runPress(runtime, request, n, shape, blankLayers(1, n, shape), { massWindow: 0 });
      const b = Math.floor(n / 2);
      expect(kept[0].flat().length).toBe(heads * b);
      for (const list of kept[0]) {
        expect(list.length).toBeGreaterThanOrEqual(Math.max(P, Math.floor(alpha * b)));
        expect(list.slice(0, P)).toEqual([...Array(n).keys()].filter((t) => t < keep.first || t >= n - keep.last));
      }
    }
  });

  test.each(names)('%s: streaming keeps what deferred keeps, the total is exact, nothing stays on the device', async (preset) => {
    const runtime = await make();
    const random = new Random(12);
    const [L, n] = [5, 200];
    const shape = shapeOf(4, 2, 8);
    const layers = randomLayers(random, L, n, shape, (l) => 0.5 + l / 2);
    const seed = drawsLots(preset) ? { seed: 1 } : {};
    const before = runtime.backend.memory.usedBytes;
    const streaming = await runPress(runtime, { ...withArtifacts(preset), compression_ratio: 0.6, ...seed }, n, shape, layers);
    const afterOne = runtime.backend.memory.usedBytes; // WASM keeps one block of kernel scratch
    const deferred = await runPress(runtime, { ...withArtifacts(preset), compression_ratio: 0.6, mode: 'deferred', ...seed }, n, shape, layers);
    expect(runtime.backend.memory.usedBytes).toBe(afterOne);
    if (runtime.backend instanceof ReferenceBackend) expect(afterOne).toBe(before);
    expect(streaming.kept).toEqual(deferred.kept);
    // What either mode says of itself.
    const own = streaming.report.notes.filter((note) => !note.endsWith('as with mode "deferred"'));
    const notes = presetParts(preset)!.selection.exact ? [expect.stringContaining('as with mode "streaming"')] : own;
    expect(deferred.report).toEqual({ ...streaming.report, notes });
    expect(streaming.report.press).toBe(preset);
    const added = presetParts(preset)!.transforms.some(({ adds }) => adds) ? 8 : 0; // rows in the place of so many tokens
    expect(streaming.kept.flat(2).length).toBe(2 * L * (80 - added));
    expect(streaming.report.keptPerLayer.reduce((a, b) => a + b)).toBe(L * (80 - added));
    expect(streaming.report.compressionRatio).toBeCloseTo(0.6, 12);
    for (const list of streaming.kept.flat()) expect(new Set(list).size).toBe(list.length);
    for (const [l, mass] of streaming.report.retainedMassPerLayer.entries())
      expect(mass).toBeCloseTo(attentionOn(layers[l], streaming.kept[l], n, shape), 5);
  });

  test("retained mass is the share of the last queries' attention on kept entries", async () => {
    // One query, attention .1 .2 .3 .4: tokens 2 and 3 hold .7 of it
    const k = rows(...[1, 2, 3, 4].map((weight) => [Math.log(weight)]));
    const layer = { k, q: rows([1]) };
    const scores = [Float32Array.from([0, 0, 1, 1])];
    const runtime = await make();
    const { report } = await runPress(runtime, withScorer({}, givenScores(scores)), 4, unscaled(1, 1), [layer], { massWindow: 1 });
    expect(round(report.retainedMassPerLayer as number[])).toEqual([0.7]);
    const off = await runPress(runtime, withScorer({}, givenScores(scores)), 4, unscaled(1, 1), [layer], { massWindow: 0 });
    expect(off.report.retainedMassPerLayer).toEqual([null]);
  });

  test('snapkv of a window keeps more of its attention than random does', async () => {
    const runtime = await make();
    const shape = shapeOf(4, 2, 8);
    const layers = randomLayers(new Random(13), 4, 200, shape, () => 2);
    const retained = async (press: unknown): Promise<number> =>
      (await runPress(runtime, press, 200, shape, layers)).report.retainedMassPerLayer.reduce<number>((a, b) => a + (b as number), 0);
    expect(await retained({ preset: 'snapkv', window_size: 32 })).toBeGreaterThan(await retained({ preset: 'random', seed: 1 }));
  });

  describe('composed', () => {
    const shape = shapeOf(2, 2, 8);
    const random = new Random(14);
    const n = 60;
    const layers = randomLayers(random, 3, n, shape, (l) => 1 + l);

    test('the later press sees what it would see in the shorter prompt of what is left', async () => {
      const runtime = await make();
      for (const later of [
        'keydiff',
        'knorm',
        { preset: 'zigzag_keydiff', compression_ratio: 0.4 },
        { preset: 'adakv_keydiff' },
        { preset: 'snapkv', window_size: 4 },
      ]) {
        const earlier = { preset: 'snapkv', window_size: 8, compression_ratio: 0.5 };
        const composed = await runPress(runtime, [earlier, later], n, shape, layers);
        const first = await runPress(runtime, earlier, n, shape, layers);
        const rowsLeft = first.kept.map((heads) => heads.map((list) => [...list].sort((a, b) => a - b)));
        const shorter: LayerNumbers[] = layers.map(({ k, q }, l) => ({
          q,
          k: Float32Array.from(
            { length: 30 * 2 * 8 },
            (_, i) => k[(rowsLeft[l][Math.floor(i / 8) % 2][Math.floor(i / 16)] * 2 + (Math.floor(i / 8) % 2)) * 8 + (i % 8)],
          ),
        }));
        const second = await runPress(runtime, later, 30, shape, shorter);
        expect(composed.kept).toEqual(second.kept.map((heads, l) => heads.map((list, h) => list.map((row) => rowsLeft[l][h][row]))));
        expect(composed.report.keptPerLayer).toEqual(second.report.keptPerLayer);
        for (const [l, mass] of composed.report.retainedMassPerLayer.entries())
          expect(mass).toBeCloseTo(attentionOn(layers[l], composed.kept[l], n, shape), 5);
        const scored = composed.scores[0][0];
        expect(round(rowsLeft[0][0].map((t) => scored[t]))).toEqual(round(second.scores[0][0]));
      }
    });

    test('ratios multiply, and the name says both', async () => {
      const { report } = await runPress(await make(), [{ preset: 'knorm' }, { preset: 'keydiff', compression_ratio: 0.8 }], n, shape, layers);
      expect(report.keptPerLayer).toEqual([6, 6, 6]); // 60 -> 30 -> 6
      expect(report.compressionRatio).toBeCloseTo(0.9, 12);
      expect(report.press).toBe('knorm|keydiff');
    });

    test('after layers of unequal length, zigzag deals out what the even shares add up to', async () => {
      const runtime = await make();
      const earlier = { scorer: 'knorm', layer_budget: { name: 'per_layer', compression_ratios: [0, 0.5, 0.8] } }; // 60, 30, 12 left
      const { report, kept } = await runPress(runtime, [earlier, { preset: 'zigzag_keydiff' }], n, shape, layers);
      const deferred = await runPress(runtime, [earlier, { preset: 'zigzag_keydiff', mode: 'deferred' }], n, shape, layers);
      expect(report.keptPerLayer.reduce((a, b) => a + b)).toBe(30 + 15 + 6);
      for (const [l, cap] of [60, 30, 12].entries()) expect(report.keptPerLayer[l]).toBeLessThanOrEqual(cap);
      expect(deferred.kept).toEqual(kept);
    });
  });

  test('whatever throws, the device gets its scratch back', async () => {
    const runtime = await make();
    const { backend, math } = runtime;
    const shape = shapeOf(2, 2, 8);
    const [layer] = randomLayers(new Random(15), 1, 80, shape);
    const blocks = [layer.k, layer.q as Float32Array].map((data, i) => {
      const block = backend.alloc(data.byteLength, 'kq'[i]);
      backend.write(block, data);
      return block;
    });
    const request = parsePress([{ preset: 'snapkv', window_size: 8 }, 'zigzag_keydiff']);
    const checked = checkPress(request, { tokens: 80, layers: 1, kvHeads: 2, math });
    const failing = (fail: Partial<{ score: true; counts: true; keep: true }>) => {
      const last = checked.stages[1];
      const scorer: Scorer = {
        ...last.press.scorer.part,
        ...(fail.score && {
          score: () => {
            throw new Error('score');
          },
        }),
      };
      const headBudget: HeadBudget = {
        ...last.press.headBudget.part,
        ...(fail.counts && {
          counts: () => {
            throw new Error('counts');
          },
        }),
      };
      const press = { ...last.press, scorer: { part: scorer, params: {} }, headBudget: { part: headBudget, params: {} } };
      const store = new PositionStore(backend);
      if (fail.keep) store.keep = () => Promise.reject(new Error('keep'));
      return new Compressor({ backend, store, checked: { ...checked, stages: [checked.stages[0], { ...last, press }] } });
    };
    await failing({}).layer({ layer: 0, n: 80, k: blocks[0], v: blocks[0], q: blocks[1], window: 64, shape, ...noModel(shape) }); // kernel scratch grows once
    const before = backend.memory.usedBytes;
    for (const fail of ['score', 'counts', 'keep'] as const) {
      const run = failing({ [fail]: true }).layer({
        layer: 0,
        n: 80,
        k: blocks[0],
        v: blocks[0],
        q: blocks[1],
        window: 64,
        shape,
        ...noModel(shape),
      });
      await expect(run).rejects.toThrow(fail);
      expect(backend.memory.usedBytes).toBe(before);
    }
  });

  test("compat keeps kvpress's counts, and the lowest positions where they are fewer than the protected", async () => {
    const runtime = await make();
    const shape = shapeOf(1, 1, 8);
    const layers = randomLayers(new Random(16), 2, 100, shape);
    const counts = async (press: Record<string, unknown>) =>
      (await runPress(runtime, { ...press, compat: 'kvpress' }, 100, shape, layers)).report.keptPerLayer;
    expect(await counts({ preset: 'knorm', compression_ratio: 0.8 })).toEqual([19, 19]); // int(100 * (1 - 0.8)) in doubles
    const { report, kept } = await runPress(runtime, { preset: 'snapkv', compression_ratio: 0.9, compat: 'kvpress' }, 100, shape, layers);
    expect(report.keptPerLayer).toEqual([9, 9]);
    expect(kept[0][0]).toEqual([36, 37, 38, 39, 40, 41, 42, 43, 44]); // of the window 36..99
  });

  test('on_tight "uniform" keeps the most recent tokens, equally many in every layer, and says so', async () => {
    const runtime = await make();
    const shape = shapeOf(1, 1, 8);
    const layers = randomLayers(new Random(17), 3, 100, shape);
    const tight = { preset: 'zigzag_snapkv', compression_ratio: 0.9, on_tight: 'uniform' };
    const { report, kept } = await runPress(runtime, tight, 100, shape, layers);
    expect(kept.flat()).toEqual(Array(3).fill([90, 91, 92, 93, 94, 95, 96, 97, 98, 99]));
    expect(report.layerBudget).toBe('uniform');
    expect(report.notes.join()).toMatch(/budget of 10 tokens is below the 64 that snapkv protects.*layer_budget "uniform" instead of "zigzag"/);
    const short = await runPress(
      runtime,
      tight,
      20,
      shape,
      layers.map(({ k, q }) => ({ k: k.subarray(0, 20 * 8), q })),
    );
    expect(short.kept.flat()).toEqual(Array(3).fill([18, 19]));
  });
});

describe.runIf(compared[1].name !== 'reference')('the reference and the kernels', () => {
  /** Scores closer than this, relative to the largest, are a tie: f32 sums in another order than the reference. */
  const TIE = 1e-5;

  test.each(names)('%s: the same budgets and LMBA, and the same positions but for ties', async (preset) => {
    const [L, n] = [5, 200];
    const shape = shapeOf(4, 2, 8);
    const layers = randomLayers(new Random(19), L, n, shape, (l) => 0.5 + l / 2);
    const seed = drawsLots(preset) ? { seed: 1 } : {};
    const [plain, kernels] = await Promise.all(
      compared.map(async ({ make }) => runPress(await make(), { ...withArtifacts(preset), compression_ratio: 0.6, ...seed }, n, shape, layers)),
    );
    expect(kernels.report).toMatchObject({
      keptPerLayer: plain.report.keptPerLayer,
      lmbaPerLayer: plain.report.lmbaPerLayer,
      layerBudget: plain.report.layerBudget,
      notes: plain.report.notes,
    });
    for (const [l, heads] of plain.kept.entries()) {
      const scores = plain.scores[l];
      const near = TIE * Math.max(...scores.flatMap((row) => [...row].map(Math.abs)));
      for (const [h, row] of scores.entries())
        for (const [t, score] of row.entries()) expect(Math.abs(kernels.scores[l][h][t] - score)).toBeLessThanOrEqual(near);
      // What only one of them keeps is a swap between equals: of a head, or of the layer where heads share a budget.
      const swapped = heads.map((kept, h) => {
        const theirs = kernels.kept[l][h];
        return [...kept.filter((t) => !theirs.includes(t)), ...theirs.filter((t) => !kept.includes(t))].map((t) => scores[h][t]);
      });
      expect(swapped.flat().length).toBeLessThanOrEqual(2); // a wrong formula would not hide behind ties
      expect(kernels.kept[l].flat().length).toBe(heads.flat().length);
      if (swapped.flat().length > 0) expect(Math.max(...swapped.flat()) - Math.min(...swapped.flat())).toBeLessThanOrEqual(near);
    }
  });
});

describe('checkPress', () => {
  const size = (more: Partial<PressSize> = {}): PressSize => ({ tokens: 301, layers: 4, kvHeads: 2, math: referenceBudgetMath, ...more });
  const check = (press: unknown, more: Partial<PressSize> = {}) => checkPress(parsePress(press), size(more));

  test('a budget below the protected tokens names them, and what would work', () => {
    const error = refusal(() => check({ preset: 'snapkv', compression_ratio: 0.8 }));
    expect(error).toMatchObject({ code: 'press_budget_tight', param: 'press.compression_ratio' });
    expect(error.message).toBe(
      'compression_ratio 0.8 keeps 60 of 301 tokens per layer, fewer than the 64 that snapkv protects; a compression_ratio up to 0.7873 or window_size up to 60 would work, or "on_tight": "uniform"',
    );
    expect(() => check({ preset: 'snapkv', compression_ratio: 0.7873 })).not.toThrow();
    expect(() => check({ preset: 'snapkv', compression_ratio: 0.8, window_size: 60 })).not.toThrow();
    expect(() => check({ preset: 'snapkv', compression_ratio: 0.8, on_tight: 'uniform' })).not.toThrow();
    expect(refusal(() => check({ preset: 'snapkv', compression_ratio: 0.7874 })).code).toBe('press_budget_tight');
    expect(refusal(() => check({ preset: 'streaming_llm', n_sink: 200 })).message).toMatch(/n_sink up to 150/);
  });

  test('a prompt that is all window is refused, also under compat', () => {
    const error = refusal(() => check('snapkv', { tokens: 64 }));
    expect(error).toMatchObject({ code: 'press_prompt_short', param: 'press.window_size' });
    expect(refusal(() => check({ scorer: 'snapkv' }, { tokens: 64 })).param).toBe('press.scorer.window_size');
    expect(refusal(() => check(['no_press', 'snapkv'], { tokens: 64 })).param).toBe('press[1].window_size');
    expect(refusal(() => check([{ scorer: 'snapkv' }], { tokens: 64 })).param).toBe('press[0].scorer.window_size');
    expect(error.message).toBe('snapkv protects 64 tokens, but only 64 are to be pressed; window_size up to 32 would work, or "on_tight": "uniform"');
    expect(refusal(() => check({ preset: 'snapkv', compat: 'kvpress' }, { tokens: 64 })).code).toBe('press_prompt_short');
    expect(() => check({ preset: 'snapkv', compression_ratio: 0.9, compat: 'kvpress' })).not.toThrow();
  });

  test('lagkv protects its sinks, the last whole partition and the rest', () => {
    const error = refusal(() => check({ preset: 'lagkv', compression_ratio: 0.5 })); // 4 + 128 + (301 - 4) % 128
    expect(error).toMatchObject({ code: 'press_budget_tight', param: 'press.compression_ratio' });
    expect(error.message).toMatch(
      /keeps 150 of 301 tokens per layer, fewer than the 173 that lagkv protects; a compression_ratio up to 0.4252 would work, or "on_tight": "uniform"$/,
    );
    expect(() => check({ preset: 'lagkv', compression_ratio: 0.4252 })).not.toThrow();
    expect(() => check({ preset: 'lagkv', compression_ratio: 0.5 }, { tokens: 259 })).not.toThrow(); // fewer than two partitions: sinks alone
    expect(refusal(() => check('lagkv', { tokens: 4 })).message).toBe(
      'lagkv protects 4 tokens, but only 4 are to be pressed; "on_tight": "uniform" would work',
    );
    expect(() =>
      check([
        { preset: 'lagkv', compression_ratio: 0.1 },
        { preset: 'snapkv', window_size: 128 },
      ]),
    ).not.toThrow();
    expect(refusal(() => check(['lagkv', { preset: 'snapkv', window_size: 256 }])).code).toBe('press_composition');
  });

  test('a budget of nothing is refused', () => {
    const error = refusal(() => check({ preset: 'knorm', compression_ratio: 0.99 }, { tokens: 50 }));
    expect(error).toMatchObject({ code: 'press_budget_empty', param: 'press.compression_ratio' });
    expect(error.message).toBe('compression_ratio 0.99 leaves none of 50 tokens; a compression_ratio up to 0.98 would work');
    expect(refusal(() => check({ preset: 'tova' }, { tokens: 1 })).code).toBe('press_budget_empty');
    const layered = { scorer: 'knorm', layer_budget: { name: 'per_layer', compression_ratios: [0, 0, 0.999, 0] } };
    expect(refusal(() => check(layered)).message).toMatch(/none of 301 tokens in layer 2/);
  });

  test('what a refusal suggests works: it was tried', () => {
    const pages = { pageBytes: 4096, entriesPerPage: 16, extraTokens: 5 };
    const cases: [Record<string, unknown>, number, RegExp, Record<string, unknown>][] = [
      // A ratio that keeps one token of each layer is no help where more is protected, or where layers are unequal.
      [
        { preset: 'compactor', compression_ratio: 0.999 },
        64,
        /none of 64 tokens; a compression_ratio up to 0.8125 would/,
        { compression_ratio: 0.8125 },
      ],
      [{ scorer: 'knorm', layer_budget: 'pyramid', compression_ratio: 0.97 }, 130, /compression_ratio up to (0\.\d+) would/, {}],
      [{ scorer: 'knorm', layer_budget: 'pyramid', memory_budget: 11 * 4096 }, 130, /a memory_budget of (\d+) bytes would work/, {}],
      // The scorer's parameter is no help where the selection protects too.
      [
        { preset: 'snapkv', protect_first: 40, compression_ratio: 0.75 },
        200,
        /104 that snapkv and selection "top_k" protect.* or window_size up to 10 /,
        { window_size: 10 },
      ],
      [
        { preset: 'knorm', protect_last: 30, compression_ratio: 0.5 },
        40,
        /fewer than the 30 that selection "top_k" protects; a compression_ratio up to 0.25 would/,
        { compression_ratio: 0.25 },
      ],
      [
        { preset: 'snapkv', window_size: 4, protect_last: 50 },
        50,
        /protect 50 tokens, but only 50 are to be pressed; "on_tight": "uniform" would/,
        { on_tight: 'uniform' },
      ],
    ];
    for (const [press, tokens, expected, works] of cases) {
      const { message, param } = refusal(() => check(press, { tokens, pages }));
      expect(message).toMatch(expected);
      const found = Number(expected.exec(message)?.[1]);
      const changed = found ? { [param!.replace('press.', '')]: found } : works;
      expect(() => check({ ...press, ...changed }, { tokens, pages })).not.toThrow();
    }
  });

  test('of one token nothing can be removed', () => {
    for (const scorer of ['tova', 'snapkv', 'knorm']) {
      const press = { scorer, compression_ratio: 1e-12, on_tight: 'uniform' };
      expect(check(press, { tokens: 1 })).toMatchObject({ stages: [], averageBudget: 1, notes: [expect.stringContaining('nothing of one token')] });
    }
  });

  test('per_layer needs a ratio for each layer', () => {
    const press = { scorer: 'knorm', layer_budget: { name: 'per_layer', compression_ratios: [0.5, 0.5] } };
    const error = refusal(() => check([press, 'keydiff']));
    expect(error).toMatchObject({ code: 'press_param_range', param: 'press[0].layer_budget.compression_ratios' });
    expect(error.message).toMatch(/4 layers, got 2 ratios/);
  });

  test('what is kept on average, and per layer, is known before running where nothing is measured', () => {
    expect(check({ preset: 'knorm', compression_ratio: 0.8 })).toMatchObject({ averageBudget: 60, bounds: Array(4).fill({ min: 60, max: 60 }) });
    const layered = { scorer: 'knorm', layer_budget: { name: 'per_layer', compression_ratios: [0, 0, 0.5, 0] } };
    expect(check(layered, { tokens: 3 })).toMatchObject({ averageBudget: 2.5, bounds: [3, 3, 1, 3].map((b) => ({ min: b, max: b })) });
    const { bounds } = check({ preset: 'zigzag_snapkv', window_size: 8, compression_ratio: 0.8 });
    expect(bounds).toEqual(Array(4).fill({ min: 12, max: 240 - 36 })); // floor(.2 * 60); T less the other floors
  });

  test('ratio 0 removes nothing, alone or in a composition', () => {
    expect(isNoOp(parsePress({ preset: 'snapkv', compression_ratio: 0 }))).toBe(true);
    expect(isNoOp(parsePress('no_press'))).toBe(true);
    expect(isNoOp(parsePress({ preset: 'snapkv' }))).toBe(false);
    expect(isNoOp(parsePress({ scorer: 'knorm', layer_budget: { name: 'per_layer', compression_ratios: [0, 0, 0, 0] } }))).toBe(true);
    expect(check({ preset: 'snapkv', compression_ratio: 0 }, { tokens: 5 }).stages).toEqual([]);
    expect(check([{ preset: 'snapkv', compression_ratio: 0 }, 'knorm']).stages.length).toBe(1);
  });

  test('adakv over scores without a common unit is noted', () => {
    expect(check({ scorer: 'knorm', head_budget: 'adakv' }).notes.join()).toMatch(/no common unit/);
    for (const preset of names.filter((name) => name.includes('adakv'))) expect(check(preset).notes.join()).not.toMatch(/no common unit/); // shares, cosines
  });

  describe('memory_budget', () => {
    const pages = { pageBytes: 1000, entriesPerPage: 16, extraTokens: 40 };

    test('equal lists fill their pages: the largest average that fits', () => {
      // 8 lists, 80 pages: 10 pages each = 160 entries, 40 of them for what follows
      expect(check({ preset: 'knorm', memory_budget: 80_000 }, { pages }).averageBudget).toBe(120);
      expect(check({ preset: 'knorm', memory_budget: 87_999 }, { pages }).averageBudget).toBe(120);
      expect(check({ preset: 'knorm', memory_budget: 88_000 }, { pages }).averageBudget).toBe(136);
    });

    test('a budget that holds everything removes nothing', () => {
      const all = 8 * Math.ceil((301 + 40) / 16) * 1000;
      expect(check({ preset: 'zigzag_snapkv', memory_budget: all }, { pages })).toMatchObject({ stages: [], averageBudget: 301 });
      expect(check({ preset: 'zigzag_snapkv', memory_budget: all - 1 }, { pages }).averageBudget).toBeLessThan(301);
    });

    test('unequal lists fit however badly their lengths round up', () => {
      const random = new Random(18);
      for (let i = 0; i < 300; i++) {
        const [layers, kvHeads, E, n] = [random.int(1, 8), random.int(1, 3), random.int(1, 20), random.int(50, 400)];
        const lists = layers * kvHeads;
        const extraTokens = random.int(0, 30);
        const room = random.int(lists * Math.ceil((extraTokens + 1 + E) / E), lists * Math.ceil((n + extraTokens) / E));
        const preset = random.pick(['adakv_keydiff', 'zigzag_knorm', 'knorm']);
        const sizes = { tokens: n, layers, kvHeads, pages: { pageBytes: 1000, entriesPerPage: E, extraTokens } };
        const average = check({ preset, memory_budget: room * 1000 }, sizes).averageBudget;
        let left = lists * average;
        const lengths = Array.from({ length: lists }, (_, j) => {
          const length = preset === 'knorm' ? average : Math.max(0, Math.min(n, left, random.pick([1, 1 + E, average + 1, n])));
          left -= j === lists - 1 ? 0 : length;
          return j === lists - 1 && preset !== 'knorm' ? Math.min(n, left) : length;
        });
        const used = lengths.reduce((sum, length) => sum + Math.ceil((length + extraTokens) / E), 0);
        expect(used).toBeLessThanOrEqual(room);
        if (preset === 'knorm' && average < n) expect(lists * Math.ceil((average + 1 + extraTokens) / E)).toBeGreaterThan(room);
      }
    });

    test('too little memory names the least that would work', () => {
      const error = refusal(() => check({ preset: 'snapkv', memory_budget: 30_000 }, { pages }));
      expect(error).toMatchObject({ code: 'memory_budget_too_small', param: 'press.memory_budget' });
      expect(error.message).toBe(
        'memory_budget of 30000 bytes is too small: 64 kept tokens and 40 that follow (the rest of the prompt, and max_tokens, which count too) in each of 8 lists need 56000 bytes; that much, or a smaller max_tokens, would work',
      );
      expect(() => check({ preset: 'snapkv', memory_budget: 56_000 }, { pages })).not.toThrow();
      expect(() => check({ preset: 'snapkv', memory_budget: 30_000, on_tight: 'uniform' }, { pages })).not.toThrow();
    });

    test('mostPages is reached by lists that each waste a page', () => {
      expect(mostPages(3, 3, 16)).toBe(3);
      expect(mostPages(17 + 1 + 1, 3, 16)).toBe(4);
    });
  });
});
