/** Selections and head budgets on numbers worked by hand, and against their formulas written a second time, plainly. Rows: kvpress's defects, test/coverage.md. */
import { describe, expect, test } from 'vitest';
import { checkPress } from '../presses/check-press.ts';
import { parsePress } from '../presses/config.ts';
import { InputError } from '../presses/input-error.ts';
import { scorers } from '../presses/registry.ts';
import type { AttentionShape } from '../worker/backend/backend.ts';
import { blankLayers, givenScores, type LayerNumbers, type PressRun, randomLayers, runPress, shapeOf, withScorer } from './support/press-run.ts';
import { type PressRuntime, runtimes } from './support/press-runtimes.ts';
import { Random } from './support/random.ts';
import { referenceBudgetMath } from './support/reference-budget-math.ts';

const heads = (shape: AttentionShape): number[] => Array.from({ length: shape.kvHeads }, (_, h) => h);
const range = (from: number, to: number): number[] => Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
const ascending = (list: readonly number[]): number[] => [...list].sort((a, b) => a - b);
/** Positions by falling value; equal ones by position. */
const bestFirst = (positions: readonly number[], value: (t: number) => number): number[] =>
  [...positions].sort((a, b) => value(b) - value(a) || a - b);

function refusal(json: unknown): string {
  try {
    parsePress(json);
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
  throw new Error('was accepted');
}

/** Keys along one channel, of these norms: knorm's scores are minus them. */
const keysOf = (norms: readonly number[]): LayerNumbers => ({ k: Float32Array.from(norms.flatMap((norm) => [norm, 0, 0, 0])) });

/** |V_t W_o,a|_1, mean over the group: [H][n], from the formula. */
function outputNorms({ v, k, output }: LayerNumbers, n: number, { queryHeads: Hq, kvHeads: H, headDim: d }: AttentionShape): number[][] {
  const values = v ?? k;
  const D = Hq * d;
  return range(0, H).map((h) =>
    range(0, n).map((t) => {
      let sum = 0;
      for (let a = (h * Hq) / H; a < ((h + 1) * Hq) / H; a++) {
        for (let row = 0; row < D; row++) {
          let y = 0;
          for (let c = 0; c < d; c++) y += values[(t * H + h) * d + c] * (output as Float32Array)[row * D + a * d + c];
          sum += Math.abs(y);
        }
      }
      return sum / (Hq / H);
    }),
  );
}

/** Layers with a W_o of their own. */
function withOutput(layers: readonly LayerNumbers[], shape: AttentionShape, random: Random): LayerNumbers[] {
  return layers.map((layer) => ({ ...layer, output: random.normals((shape.queryHeads * shape.headDim) ** 2, 0.2) }));
}

/** Every query [*, Hq, d] turned by so many positions more. */
function turned(q: Float32Array, by: number, d: number): Float32Array {
  const out = q.slice();
  for (let row = 0; row < q.length; row += d) {
    for (let c = 0; c < d / 2; c++) {
      const angle = by * 10000 ** ((-2 * c) / d);
      const [x, y] = [q[row + c], q[row + c + d / 2]];
      out[row + c] = x * Math.cos(angle) - y * Math.sin(angle);
      out[row + c + d / 2] = y * Math.cos(angle) + x * Math.sin(angle);
    }
  }
  return out;
}

describe.each(runtimes)('selections on $name', ({ make }) => {
  const one = shapeOf(1, 1, 4);

  describe('chunks', () => {
    const two = shapeOf(2, 2, 4);
    // Chunks of 3 of 9 tokens, token 0 and token 8 protected. Means over the heads: 2 2 | 3 3 3 | 2 3; of the chunks 2, 3, 2.5
    const scores = [Float32Array.of(9, 1, 1, 5, 5, 5, 2, 2, 9, 9, 3, 3, 1, 1, 1, 2, 4, 9)];
    const given = givenScores(scores, { first: 1, last: 1 });
    const press = (ratio: number, rest = {}) =>
      withScorer({ selection: { name: 'chunks', chunk_length: 3 }, compression_ratio: ratio, ...rest }, given);

    test('whole chunks by their mean over the evictable tokens, the same in all heads; the last one is cut', async () => {
      const runtime = await make();
      const kept = async (ratio: number): Promise<number[][]> => (await runPress(runtime, press(ratio), 9, two, blankLayers(1, 9, two))).kept[0];
      expect(await kept(2 / 9)).toEqual(Array(2).fill([0, 8, 3, 4, 5, 6, 7]));
      expect(await kept(5 / 9)).toEqual(Array(2).fill([0, 8, 3, 4]));
    });

    test('compat: max(1, int(C(1 - r))) whole chunks, the protected tokens in them with the largest score + 1', async () => {
      // Padded with 6: chunk means (6 + 6, 2.., 2..) are sums over heads / 3: chunk 0: (12 + 4 + 4)/3, chunk 1: 6, chunk 2: (4 + 6 + 12)/3: order 2, 0, 1
      const runtime = await make();
      const run = async (ratio: number): Promise<PressRun> => runPress(runtime, press(ratio, { compat: 'kvpress' }), 9, two, blankLayers(1, 9, two));
      expect((await run(0.5)).kept[0]).toEqual(Array(2).fill([6, 7, 8])); // int(1.5)
      expect((await run(0.3)).kept[0]).toEqual(Array(2).fill([6, 7, 8, 0, 1, 2])); // int(2.1)
      expect((await run(0.3)).report.keptPerLayer).toEqual([6]); // and not int(9 * 0.7)
    });

    test('compat: a last chunk that is shorter counts with its own tokens; a prompt shorter than a chunk is pressed token by token', async () => {
      const runtime = await make();
      const run = async (values: number[], ratio: number): Promise<number[]> => {
        const request = withScorer(
          { selection: { name: 'chunks', chunk_length: 3 }, compression_ratio: ratio, compat: 'kvpress' },
          givenScores([Float32Array.from(values)]),
        );
        const n = values.length;
        const { report, kept } = await runPress(runtime, request, n, one, blankLayers(1, n, one));
        expect(report.keptPerLayer).toEqual([kept[0][0].length]);
        const { bounds } = checkPress(request, { tokens: n, layers: 1, kvHeads: 1, math: referenceBudgetMath });
        expect(kept[0][0].length).toBeGreaterThanOrEqual(bounds[0].min);
        expect(kept[0][0].length).toBeLessThanOrEqual(bounds[0].max);
        return kept[0][0];
      };
      expect(await run([1, 1, 1, 2, 2, 2, 3, 3], 0.5)).toEqual([6, 7]); // C = 3, one of them
      expect(await run([1, 1, 1, 4, 4, 4, 3, 3], 0.5)).toEqual([3, 4, 5]);
      expect(await run([1, 1, 1, 4, 4, 4, 3, 3], 0.3)).toEqual([3, 4, 5, 6, 7]);
      expect(await run([1, 5], 0.5)).toEqual([1]);
    });

    test('kvpress row 16: every sequence is pressed by its own chunks, for its lists are its own', async () => {
      const runtime = await make();
      const kept = async (values: number[]): Promise<number[]> => {
        const request = withScorer({ selection: { name: 'chunks', chunk_length: 2 } }, givenScores([Float32Array.from(values)]));
        return (await runPress(runtime, request, 4, one, blankLayers(1, 4, one))).kept[0][0];
      };
      expect([await kept([1, 1, 2, 2]), await kept([2, 2, 1, 1])]).toEqual([
        [2, 3],
        [0, 1],
      ]);
    });
  });

  describe('segments', () => {
    const press = (ratio: number, rest = {}) => ({
      scorer: 'knorm',
      selection: { name: 'segments', segment_length: 4 },
      compression_ratio: ratio,
      ...rest,
    });
    const layer = keysOf([4, 3, 2, 1, 8, 7, 6, 5, 1, 2]); // the smallest stay: of 4 tokens 3 2 1 0 and 7 6 5 4, of the last two 8 9

    test('the same share of every segment, the total exact', async () => {
      const runtime = await make();
      const kept = async (ratio: number, rest = {}): Promise<number[]> => (await runPress(runtime, press(ratio, rest), 10, one, [layer])).kept[0][0];
      expect(await kept(0.5)).toEqual([3, 7, 2, 6, 8]);
      expect(await kept(0.8)).toEqual([3, 7]); // kvpress would keep one of the last two as well
      expect(ascending(await kept(0.8, { compat: 'kvpress' }))).toEqual([3, 7, 8]);
      expect(ascending(await kept(0.5, { compat: 'kvpress' }))).toEqual([2, 3, 6, 7, 8]);
    });

    test('every prefix of the order, so every budget, takes equally many of equal segments, to within one', async () => {
      const runtime = await make();
      const shape = shapeOf(4, 2, 8);
      const layers = randomLayers(new Random(31), 1, 120, shape);
      const { kept } = await runPress(runtime, { ...press(1 / 120), selection: { name: 'segments', segment_length: 20 } }, 120, shape, layers);
      for (const list of kept[0]) {
        for (let b = 1; b <= list.length; b++) {
          const counts = range(0, 6).map((s) => list.slice(0, b).filter((t) => Math.floor(t / 20) === s).length);
          expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
        }
      }
    });

    test('compat: max(1, int(len(1 - r))) of each segment, whatever the lengths', async () => {
      const runtime = await make();
      const random = new Random(32);
      for (let i = 0; i < 12; i++) {
        const [n, length, ratio] = [random.int(5, 60), random.int(2, 20), random.pick([0.1, 0.3, 0.5, 0.75, 0.9])];
        const numbers = keysOf(range(0, n).map(() => random.next()));
        const config = { scorer: 'knorm', selection: { name: 'segments', segment_length: length }, compression_ratio: ratio, compat: 'kvpress' };
        if (Math.trunc(n * (1 - ratio)) < 1) continue;
        const { kept } = await runPress(runtime, config, n, one, [numbers]);
        const expected = range(0, Math.ceil(n / length)).flatMap((s) => {
          const segment = range(s * length, Math.min(n, (s + 1) * length));
          const quota = Math.max(1, Math.trunc(segment.length * (1 - ratio)));
          return bestFirst(segment, (t) => -numbers.k[4 * t]).slice(0, quota);
        });
        expect(ascending(kept[0][0]), JSON.stringify({ n, length, ratio })).toEqual(ascending(expected));
      }
    });

    test('kvpress row 18: a scorer of a window sees the queries of every segment where they are; under compat, where kvpress has them', async () => {
      const runtime = await make();
      const shape = shapeOf(4, 2, 8);
      const [length, n] = [40, 95]; // 40, 40, 15
      const [layer] = randomLayers(new Random(33), 1, n, shape);
      const snapkv = { name: 'snapkv', window_size: 6, kernel_size: 3 };
      const run = async (compat: object): Promise<number[][]> => {
        const config = { scorer: snapkv, selection: { name: 'segments', segment_length: length }, compression_ratio: 0.05, ...compat };
        return (await runPress(runtime, config, n, shape, [layer])).kept[0];
      };
      /** What SnapKV keeps first of the segment alone, its queries further on by so much. */
      const alone = async (first: number, end: number, by: number): Promise<number[][]> => {
        const [kv, hq] = [shape.kvHeads * 8, shape.queryHeads * 8];
        const part = { k: layer.k.slice(first * kv, end * kv), v: layer.v?.slice(first * kv, end * kv) };
        const q = turned((layer.q as Float32Array).slice(first * hq, end * hq), by, 8);
        const config = { scorer: snapkv, compression_ratio: 0.2 };
        return (await runPress(runtime, config, end - first, shape, [{ ...part, q }])).kept[0].map((list) => list.map((t) => t + first));
      };
      let moved = 0;
      for (const compat of [{}, { compat: 'kvpress' }]) {
        const kept = await run(compat);
        for (const [first, end] of [
          [0, 40],
          [40, 80],
          [80, 95],
        ]) {
          const [where, further] = [await alone(first, end, 0), await alone(first, end, n - end)];
          if (JSON.stringify(where) !== JSON.stringify(further)) moved++;
          for (const h of heads(shape)) {
            // The window of the last segment is protected of the whole prompt, and stands first in the order.
            const order = kept[h].filter((t) => t >= first && t < end);
            const expected = 'compat' in compat ? further[h] : where[h];
            expect(ascending(order.slice(0, 6))).toEqual(ascending(expected.slice(0, 6)));
            expect(order.slice(6, expected.length)).toEqual(expected.slice(6));
          }
        }
      }
      expect(moved).toBeGreaterThanOrEqual(4); // positions matter: both ways are told apart
    });

    test('kvpress row 18: a last segment no longer than the window belongs to the one before it', async () => {
      const runtime = await make();
      const shape = shapeOf(4, 2, 8);
      const layers = randomLayers(new Random(34), 1, 46, shape);
      const config = { scorer: { name: 'snapkv', window_size: 6 }, selection: { name: 'segments', segment_length: 20 }, compression_ratio: 0.5 };
      for (const compat of [{}, { compat: 'kvpress' }]) {
        const { kept } = await runPress(runtime, { ...config, ...compat }, 46, shape, layers);
        for (const list of kept[0]) {
          expect(list.length).toBe(23);
          expect(ascending(list.slice(0, 6))).toEqual(range(40, 46));
          expect(list.filter((t) => t < 20).length).toBeGreaterThanOrEqual(9);
        }
      }
      expect(refusal({ ...config, scorer: 'snapkv' })).toMatch(/segments.*segment_length 20.*snapkv.*64.*above 64/);
    });
  });

  describe('blocks', () => {
    /** KeyDiff among the given rows: minus the cosine to the mean of the unit keys. */
    const keydiff = ({ k }: LayerNumbers, rows: readonly number[], h: number, { kvHeads: H, headDim: d }: AttentionShape): Map<number, number> => {
      const unit = (t: number): number[] => {
        const key = [...k.slice((t * H + h) * d, (t * H + h + 1) * d)];
        const norm = Math.hypot(...key);
        return key.map((x) => x / norm);
      };
      const anchor = range(0, d).map((c) => rows.reduce((sum, t) => sum + unit(t)[c], 0) / rows.length);
      const length = Math.hypot(...anchor);
      return new Map(rows.map((t) => [t, -unit(t).reduce((sum, x, c) => sum + x * anchor[c], 0) / length]));
    };

    test('what is kept so far must hold its own against the next block, scored together', async () => {
      const runtime = await make();
      const shape = shapeOf(4, 2, 8);
      const n = 90;
      for (const [size, b] of [
        [16, 30],
        [1, 60],
        [500, 20],
      ]) {
        const [layer] = randomLayers(new Random(35), 1, n, shape);
        const config = { scorer: 'keydiff', selection: { name: 'blocks', block_size: size }, compression_ratio: 1 - b / n };
        const { kept, scores } = await runPress(runtime, config, n, shape, [layer]);
        for (const h of heads(shape)) {
          let best = range(0, b);
          let last = new Map<number, number>();
          for (let first = b; first < n; first += size) {
            last = keydiff(layer, [...best, ...range(first, Math.min(n, first + size))], h, shape);
            best = bestFirst([...last.keys()], (t) => last.get(t) as number).slice(0, b);
          }
          expect(kept[0][h]).toEqual(best);
          for (const t of range(0, n)) expect(scores[0][h][t]).toBeCloseTo(last.get(t) ?? -Infinity, 4);
        }
      }
    });

    test('what the scorer protects stays, block after block', async () => {
      const runtime = await make();
      const [layer] = randomLayers(new Random(36), 1, 60, one);
      const config = { scorer: { name: 'cur', num_sinks: 3 }, selection: { name: 'blocks', block_size: 7 }, compression_ratio: 0.75 };
      const { kept } = await runPress(runtime, config, 60, one, [layer]);
      expect(kept[0][0].slice(0, 3)).toEqual([0, 1, 2]);
      expect(kept[0][0].length).toBe(15);
      expect(kept[0][0].some((t) => t > 45)).toBe(true);
    });

    test('a scorer is told where every row stands, also of rows that an earlier press left, and where the block ends', async () => {
      const runtime = await make();
      const shape = shapeOf(2, 2, 4);
      const [layer] = randomLayers(new Random(37), 1, 60, shape);
      const ends: number[] = [];
      const wrong: string[] = [];
      const checks: Promise<void>[] = [];
      const given = givenScores([Float32Array.from({ length: 120 }, (_, i) => (i * 37) % 61)]);
      const looking: typeof given = {
        ...given,
        score(context, params) {
          const { backend, scratch, k, n, positions, start, end = n } = context;
          ends.push(end);
          const rows = scratch(n * 8 * 4, 'a copy of the keys');
          backend.copy(rows, k, n * 8 * 4);
          const check = async (): Promise<void> => {
            const keys = new Float32Array((await backend.read(rows, n * 8 * 4)).slice().buffer);
            for (let i = 0; i < n * 8; i++) {
              const [t, h, c] = [Math.floor(i / 8), Math.floor(i / 4) % 2, i % 4];
              const position = positions === null ? start + t : positions[h][start + t];
              if (keys[i] !== layer.k[(position * 2 + h) * 4 + c]) wrong.push(`row ${t} of head ${h} is not of position ${position}`);
            }
          };
          checks.push(check());
          return given.score(context, params);
        },
      };
      const parsed = parsePress({ scorer: 'knorm', selection: { name: 'blocks', block_size: 10 }, compression_ratio: 0.5 });
      const request = { ...parsed, presses: parsed.presses.map((press) => ({ ...press, scorer: { part: looking, params: {} } })) };
      await runPress(runtime, request, 60, shape, [layer]);
      const knorm = parsePress({ scorer: 'knorm', compression_ratio: 1 / 3 }).presses;
      await runPress(runtime, { ...request, presses: [...knorm, ...request.presses] }, 60, shape, [layer]);
      await Promise.all(checks);
      expect(wrong).toEqual([]);
      expect(ends.slice(0, 3)).toEqual([40, 50, 60]);
      expect(ends.at(-1)).toBe(60);
    });

    test('kvpress row 17: scorers that read more than keys and values are refused by name', () => {
      const reading = Object.values(scorers).filter((part) => {
        const params = part.params.safeParse({});
        return part.hidden || (params.success && part.queries(params.data as never) > 0);
      });
      expect(reading.map(({ name }) => name)).toEqual(expect.arrayContaining(['snapkv', 'tova']));
      for (const { name, params } of reading) {
        if (!params.safeParse({}).success) continue;
        expect(refusal({ scorer: name, selection: 'blocks' })).toMatch(new RegExp(`"blocks".*"${name}"`));
      }
    });
  });

  test('threshold keeps what scores at least that, head by head, and the last tokens; what scores exactly that stays', async () => {
    const runtime = await make();
    const shape = shapeOf(2, 2, 4);
    const norms = [
      [3, 1],
      [2, 9],
      [4, 2],
      [2.5, 9],
      [9, 9],
    ];
    const layer = { k: Float32Array.from(norms.flatMap(([a, b]) => [a, 0, 0, 0, b, 0, 0, 0])) };
    const config = (threshold: number) => ({ scorer: 'knorm', selection: { name: 'threshold', threshold, sliding_window_size: 1 } });
    const { kept, report } = await runPress(runtime, config(-2.5), 5, shape, [layer]);
    expect(kept[0]).toEqual([
      [4, 1, 3],
      [4, 0, 2],
    ]);
    expect(report.keptPerLayer).toEqual([3]);
    expect(report.compressionRatio).toBeCloseTo(0.4, 12);
    expect((await runPress(runtime, { ...config(-1), mode: 'deferred' }, 5, shape, [layer])).kept[0]).toEqual([[4], [4, 0]]);
    expect((await runPress(runtime, config(-100), 5, shape, [layer])).report.compressionRatio).toBe(0);
    expect(refusal({ ...config(0), scorer: 'snapkv' })).toMatch(/"threshold".*"snapkv".*depend on the other tokens/);
    expect(refusal({ ...config(0), layer_budget: 'pyramid' })).toMatch(/threshold and sliding_window_size.*"pyramid"/);
    expect(refusal({ ...config(0), compression_ratio: 0.3 })).toMatch(/compression_ratio 0.3.*"threshold"/);
    expect(refusal({ scorer: 'knorm', selection: 'threshold' })).toMatch(/threshold is missing/);
  });

  describe('two stages', () => {
    const shape = shapeOf(4, 2, 8);
    const [n, W] = [80, 6];
    const scorer = { name: 'snapkv', window_size: W, kernel_size: 3 };
    const numbers = withOutput(
      randomLayers(new Random(41), 1, n, shape, () => 2),
      shape,
      new Random(42),
    );
    const scoresOf = async (runtime: PressRuntime): Promise<Float32Array[]> => (await runPress(runtime, { scorer }, n, shape, numbers)).scores[0];
    /** The order of one head: its window, its best by score until there are k1, then by (s + epsilon) w. */
    const order = (s: Float32Array, w: readonly number[], k1: number, epsilon: number): number[] => {
      const byScore = [...range(n - W, n), ...bestFirst(range(0, n - W), (t) => s[t])];
      return [...byScore.slice(0, k1), ...bestFirst(byScore.slice(k1), (t) => (s[t] + epsilon) * w[t])];
    };

    test('the best scores, then the best of scores times output norms; every budget is a prefix of one order', async () => {
      const runtime = await make();
      const [s, w] = [await scoresOf(runtime), outputNorms(numbers[0], n, shape)];
      const uniform = await runPress(runtime, { scorer, selection: 'two_stage', compression_ratio: 0.55 }, n, shape, numbers);
      const more = { name: 'two_stage', first_stage_ratio: 0.75, second_stage_epsilon: 0.01 };
      const other = await runPress(runtime, { scorer, selection: more, compression_ratio: 0.55 }, n, shape, numbers);
      for (const h of heads(shape)) {
        expect(uniform.kept[0][h]).toEqual(order(s[h], w[h], 18, 1e-4).slice(0, 36));
        expect(other.kept[0][h]).toEqual(order(s[h], w[h], 27, 0.01).slice(0, 36));
        expect(uniform.kept[0][h]).not.toEqual(order(s[h], w[h], 36, 0).slice(0, 36)); // the second stage chooses others
        for (const [t, score] of uniform.scores[0][h].entries()) if (t < n - W) expect(score).toBeCloseTo((s[h][t] + 1e-4) * w[h][t], 5);
      }
      // Layers of other budgets: the first stage stays that of the average
      const layers = [numbers[0], numbers[0]];
      const perLayer = { name: 'per_layer', compression_ratios: [0.3, 0.8] };
      const ragged = await runPress(runtime, { scorer, selection: 'two_stage', layer_budget: perLayer }, n, shape, layers);
      for (const h of heads(shape)) {
        expect(ragged.kept[0][h]).toEqual(order(s[h], w[h], 18, 1e-4).slice(0, 56));
        expect(ragged.kept[1][h]).toEqual(order(s[h], w[h], 18, 1e-4).slice(0, 16));
      }
    });

    test('scorers whose scores may be negative are refused, and heads that would share by another order', () => {
      expect(refusal({ scorer: 'knorm', selection: 'two_stage' })).toMatch(/"two_stage".*"knorm" may be negative/);
      expect(refusal({ scorer: 'snapkv', selection: 'two_stage', head_budget: 'adakv' })).toMatch(/"two_stage".*"adakv".*"critical_adakv"/);
      expect(refusal({ scorer: 'snapkv', head_budget: 'critical_adakv' })).toMatch(/"critical_adakv".*"top_k".*"two_stage"/);
      expect(refusal({ scorer: 'snapkv', head_budget: 'critical_adakv', selection: 'two_stage', layer_budget: 'zigzag' })).toMatch(
        /"critical_adakv".*"zigzag"/,
      );
    });

    test('kvpress row 9: critical_adakv counts the heads of one sequence, and each head spends its own count in two stages', async () => {
      const runtime = await make();
      const [s, w] = [await scoresOf(runtime), outputNorms(numbers[0], n, shape)];
      const [b, alpha, ratio] = [36, 0.3, 0.6];
      const config = {
        scorer,
        head_budget: { name: 'critical_adakv', alpha_safeguard: alpha },
        selection: { name: 'two_stage', first_stage_ratio: ratio },
        compression_ratio: 0.55,
      };
      const sure = Math.floor(b * alpha);
      const ranked = s.map((scores) => bestFirst(range(0, n - W), (t) => scores[t]));
      const rest = ranked.flatMap((list, h) => list.slice(sure - W).map((t) => ({ h, score: s[h][t] })));
      const shared = rest.sort((x, y) => y.score - x.score).slice(0, 2 * (b - sure));
      const counts = s.map((_, h) => sure + shared.filter((entry) => entry.h === h).length);
      expect(counts.reduce((x, y) => x + y)).toBe(2 * b);
      expect(counts[0]).not.toBe(counts[1]);
      for (const mode of ['streaming', 'deferred']) {
        const { kept } = await runPress(runtime, { ...config, mode }, n, shape, [numbers[0], numbers[0]]);
        for (const layer of kept)
          for (const h of heads(shape))
            expect(layer[h]).toEqual(order(s[h], w[h], Math.max(sure, Math.floor(counts[h] * ratio)), 1e-4).slice(0, counts[h]));
      }
    });
  });

  test('presses in a row, each with its own selection: a later one ranks the rows that are left, and the total is exact', async () => {
    const runtime = await make();
    const shape = shapeOf(4, 2, 8);
    const n = 120;
    const layers = withOutput(randomLayers(new Random(51), 2, n, shape), shape, new Random(52));
    const chunks = { scorer: 'knorm', selection: { name: 'chunks', chunk_length: 7 }, compression_ratio: 0.25 };
    const blocks = { scorer: 'keydiff', selection: { name: 'blocks', block_size: 10 }, compression_ratio: 0.5 };
    const segments = { scorer: 'knorm', selection: { name: 'segments', segment_length: 20 }, compression_ratio: 0.2 };
    const first = (await runPress(runtime, chunks, n, shape, layers)).kept;
    for (const second of [blocks, segments]) {
      const { kept } = await runPress(runtime, [chunks, second], n, shape, layers);
      for (const [l, layer] of kept.entries()) {
        for (const [h, list] of layer.entries()) {
          expect(list.length).toBe(90 * (1 - second.compression_ratio));
          for (const t of list) expect(first[l][h]).toContain(t);
        }
      }
    }
    // Segments of the 90 rows that are left of each head: 20, 20, 20, 20, 10, a fifth of each goes
    const { kept } = await runPress(runtime, [chunks, segments], n, shape, layers);
    const left = ascending(first[0][0]);
    const counts = range(0, 5).map((s) => kept[0][0].filter((t) => Math.floor(left.indexOf(t) / 20) === s).length);
    expect(counts).toEqual([16, 16, 16, 16, 8]);
  });

  test('kvpress row 4: 100 tokens at 0.8 keep 20, under compat 19; a budget of nothing is refused with a ratio that works', async () => {
    const runtime = await make();
    const keep = async (compat: object): Promise<number> =>
      (await runPress(runtime, { scorer: 'knorm', compression_ratio: 0.8, ...compat }, 100, one, blankLayers(1, 100, one))).kept[0][0].length;
    expect([await keep({}), await keep({ compat: 'kvpress' })]).toEqual([20, 19]);
    const size = { tokens: 5, layers: 1, kvHeads: 1, math: runtime.math };
    expect(() => checkPress(parsePress({ scorer: 'knorm', compression_ratio: 0.9 }), size)).toThrow(/leaves none of 5 tokens; .* up to 0.8 /);
    expect(() => checkPress(parsePress({ scorer: 'knorm', compression_ratio: 0.8, compat: 'kvpress' }), size)).toThrow(/leaves none of 5 tokens/);
  });

  test('kvpress row 10: per_layer wants one ratio for every layer, each below 1, and goes with scorers that read trained files', () => {
    const perLayer = (...compression_ratios: number[]) => ({ name: 'per_layer', compression_ratios });
    expect(refusal({ scorer: 'knorm', layer_budget: perLayer(0.5, 1) })).toMatch(/compression_ratios.* below 1, got 1/);
    const size = { tokens: 20, layers: 3, kvHeads: 1, math: referenceBudgetMath };
    expect(() => checkPress(parsePress({ scorer: 'knorm', layer_budget: perLayer(0.5, 0.5) }), size)).toThrow(/3 layers, got 2 ratios/);
    const trained = parsePress({ scorer: { name: 'qfilter', artifact: 'filters.safetensors' }, layer_budget: perLayer(0, 0.25, 0.8) });
    expect(checkPress(trained, size).bounds.map(({ max }) => max)).toEqual([20, 15, 4]); // and test/grid.test.ts runs the two
  });

  test('kvpress row 5: more protected tokens than the budget, or equal scores, and still a rule says which stay', async () => {
    const runtime = await make();
    const equal = givenScores([new Float32Array(20).fill(1)], { first: 3, last: 6 });
    const kept = async (rest: object): Promise<number[]> =>
      (await runPress(runtime, withScorer({ compression_ratio: 0.65, ...rest }, equal), 20, one, blankLayers(1, 20, one))).kept[0][0];
    await expect(kept({})).rejects.toThrow(/keeps 7 of 20 tokens per layer, fewer than the 9 .* protects/);
    expect(await kept({ on_tight: 'uniform' })).toEqual([0, ...range(14, 20)]); // the most recent, then the first
    expect(await kept({ compat: 'kvpress' })).toEqual([0, 1, 2, ...range(14, 18)]); // the lowest positions of the protected
    expect(await kept({ compression_ratio: 0.4 })).toEqual([0, 1, 2, ...range(14, 20), 3, 4, 5]); // ties: lower positions first
  });
});
