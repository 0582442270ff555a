/** Transforms: what becomes of kept keys and values, against the formulas in float64. FINCH, whose keys are re-rotated. */
import { describe, expect, test } from 'vitest';
import { checkPress } from '../presses/check-press.ts';
import { isNoOp, parsePress } from '../presses/config.ts';
import { InputError } from '../presses/input-error.ts';
import type { AttentionShape } from '../worker/backend/backend.ts';
import { type LayerNumbers, noModel, type PressRun, randomLayers, runPress, shapeOf } from './support/press-run.ts';
import { runtimes } from './support/press-runtimes.ts';
import { Random } from './support/random.ts';
import { referenceBudgetMath } from './support/reference-budget-math.ts';

/** Odd lengths and groups; d is a multiple of 4, as GPUs want it. */
const SHAPES: readonly { n: number; shape: AttentionShape }[] = [
  { n: 2, shape: shapeOf(1, 1, 4) },
  { n: 63, shape: shapeOf(6, 2, 20) },
  { n: 65, shape: shapeOf(2, 2, 64) },
  { n: 140, shape: shapeOf(3, 1, 80) },
];
/** f32 sums in another order, and angles rounded to f32. */
const CLOSE = 2e-5;

const rowOf = (x: Float32Array, t: number, h: number, { kvHeads: H, headDim: d }: AttentionShape): Float32Array =>
  x.subarray((t * H + h) * d, (t * H + h + 1) * d);
const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => Array.from(a).reduce((sum, x, i) => sum + x * b[i], 0);
const norm = (a: ArrayLike<number>): number => Math.sqrt(dot(a, a));

function expectRows(got: Float32Array, want: ArrayLike<number>[], what: string): void {
  const flat = want.flatMap((row) => Array.from(row));
  expect(got.length, what).toBe(flat.length);
  const off = flat.findIndex((x, i) => !(Math.abs(got[i] - x) <= CLOSE * (1 + Math.abs(x))));
  if (off >= 0) throw new Error(`${what}: [${off}] is ${got[off]}, not ${flat[off]}`);
}

/** Calls `check` with every layer and head of a run. */
function eachHead(run: PressRun, layers: readonly LayerNumbers[], shape: AttentionShape, check: (one: Head) => void): void {
  for (const [l, { k, v }] of layers.entries())
    for (let h = 0; h < shape.kvHeads; h++) check({ l, h, k, v: v!, kept: run.kept[l][h], stored: run.rows[l][h], name: `layer ${l} head ${h}` });
}
interface Head {
  readonly l: number;
  readonly h: number;
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly kept: readonly number[];
  readonly stored: { k: Float32Array; v: Float32Array };
  readonly name: string;
}

/** A key turned by so many positions, in f64. */
function turned(key: Float32Array, positions: number): number[] {
  const half = key.length / 2;
  const { invFreq } = noModel(shapeOf(1, 1, key.length)).model;
  const out = Array<number>(key.length);
  for (let c = 0; c < half; c++) {
    const [cos, sin] = [Math.cos(invFreq[c] * positions), Math.sin(invFreq[c] * positions)];
    out[c] = key[c] * cos - key[c + half] * sin;
    out[c + half] = key[c + half] * cos + key[c] * sin;
  }
  return out;
}

/** What MergingPress makes of a head's values. `going`: the rows that are let go by this press. */
function merged(
  { k, v, h, kept }: Head,
  going: readonly number[],
  shape: AttentionShape,
  { threshold = 0, fraction = 1, compat = false }: { threshold?: number; fraction?: number; compat?: boolean } = {},
): number[][] {
  const key = (t: number): Float32Array => rowOf(k, t, h, shape);
  const value = (t: number): Float32Array => rowOf(v, t, h, shape);
  const ascending = [...kept].sort((a, b) => a - b);
  const nearest = going.map((e) => {
    const cosines = ascending.map((r) => dot(key(e), key(r)) / (Math.max(norm(key(e)), 1e-6) * Math.max(norm(key(r)), 1e-6)));
    const most = Math.max(...cosines);
    return { e, r: ascending[cosines.indexOf(most)], sigma: most };
  });
  const candidates = compat
    ? nearest.map(({ sigma }) => (sigma >= threshold ? sigma : -Infinity))
    : nearest.map(({ sigma }) => sigma).filter((sigma) => sigma >= threshold);
  candidates.sort((a, b) => a - b);
  const rank = (1 - fraction) * (candidates.length - 1);
  const [low, high] = [candidates[Math.floor(rank)], candidates[Math.ceil(rank)]];
  const theta = fraction === 1 ? -Infinity : rank % 1 < 0.5 ? low + (rank % 1) * (high - low) : high - (high - low) * (1 - (rank % 1));
  return kept.map((row) => {
    const sum = Array.from(value(row));
    let total = 0;
    for (const { e, r, sigma } of nearest) {
      if (r !== row || !(sigma >= threshold) || !(sigma >= theta)) continue;
      const w = (Math.max(sigma, 0) * norm(value(e))) / (norm(value(e)) + norm(value(r)) + 1e-6);
      for (let c = 0; c < sum.length; c++) sum[c] += w * value(e)[c];
      total += w;
    }
    return sum.map((x) => x / (1 + total));
  });
}

const others = (kept: readonly number[], n: number): number[] => Array.from({ length: n }, (_, t) => t).filter((t) => !kept.includes(t));

/** ThinK's channels of a head, from its kept rows. */
function leastChannels({ k, h, kept }: Head, q: Float32Array, window: number, count: number, shape: AttentionShape): Set<number> {
  const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
  const queries = q.subarray(q.length - window * Hq * d);
  const energy = Array.from({ length: d }, (_, c) => {
    let [ofQueries, ofKeys] = [0, 0];
    for (let i = 0; i < window; i++)
      for (let a = (h * Hq) / H; a < ((h + 1) * Hq) / H; a++) ofQueries += queries[(i * Hq + a) * d + c] ** 2 / ((window * Hq) / H);
    for (const t of kept) ofKeys += rowOf(k, t, h, shape)[c] ** 2 / kept.length;
    return ofQueries * ofKeys;
  });
  return new Set(
    Array.from({ length: d }, (_, c) => c)
      .sort((a, b) => energy[a] - energy[b] || a - b)
      .slice(0, count),
  );
}

const pruned = (key: Float32Array, channels: Set<number>): number[] => Array.from(key, (x, c) => (channels.has(c) ? 0 : x));

function refusal(run: () => unknown): InputError {
  try {
    run();
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
  throw new Error('was accepted');
}

describe.each(runtimes)('transforms on $name', ({ make }) => {
  const rows = { rows: true };

  test('rerotate: kept keys stand at positions 0, 1, 2, ..; their values, their order and the positions told stay; the next token follows them', async () => {
    const random = new Random(91);
    for (const { n, shape } of SHAPES) {
      for (const mode of ['streaming', 'deferred']) {
        const layers = randomLayers(random, 2, n, shape);
        const press = { preset: 'key_rerotation_knorm', compression_ratio: 0.5, mode };
        const [plain, run] = [await runPress(await make(), 'knorm', n, shape, layers), await runPress(await make(), press, n, shape, layers, rows)];
        expect(run.kept).toEqual(plain.kept);
        expect(run.report.nextPosition).toBe(Math.floor(n / 2));
        expect(plain.report.nextPosition).toBe(n);
        expect(run.report.notes).toContain(
          `kept keys were turned to positions 0 to ${Math.floor(n / 2) - 1}; what follows is read from position ${Math.floor(n / 2)} on`,
        );
        eachHead(run, layers, shape, ({ h, k, v, kept, stored, name }) => {
          const ascending = [...kept].sort((a, b) => a - b);
          const keys = kept.map((t) => turned(rowOf(k, t, h, shape), ascending.indexOf(t) - t));
          expectRows(stored.k, keys, `keys of ${name}`);
          expectRows(
            stored.v,
            kept.map((t) => rowOf(v, t, h, shape)),
            `values of ${name}`,
          );
        });
      }
    }
  });

  test('rerotate after another press turns from the positions that tokens had, not from places in what is left', async () => {
    const [n, shape] = [65, shapeOf(4, 2, 20)];
    const layers = randomLayers(new Random(92), 1, n, shape);
    const press = [
      { preset: 'keydiff', compression_ratio: 0.4 },
      { preset: 'key_rerotation_knorm', compression_ratio: 0.5 },
    ];
    const run = await runPress(await make(), press, n, shape, layers, rows);
    eachHead(run, layers, shape, ({ h, k, kept, stored, name }) => {
      const ascending = [...kept].sort((a, b) => a - b);
      expect(kept.length).toBe(run.report.nextPosition);
      const keys = kept.map((t) => turned(rowOf(k, t, h, shape), ascending.indexOf(t) - t));
      expectRows(stored.k, keys, name);
    });
  });

  test('merge: every token that goes leaves its value to the kept token of the most similar key; keys stay', async () => {
    const random = new Random(93);
    for (const { n, shape } of SHAPES) {
      const layers = randomLayers(random, 2, n, shape);
      for (const [press, options] of [
        [{ preset: 'merging_knorm', compression_ratio: 0.5 }, {}],
        [{ preset: 'merging_knorm', compression_ratio: 0.5, similarity_threshold: 0.25, mode: 'deferred' }, { threshold: 0.25 }],
        [
          { preset: 'merging_knorm', compression_ratio: 0.3, similarity_threshold: 0.2, merge_fraction: 0.6 },
          { threshold: 0.2, fraction: 0.6 },
        ],
        [{ scorer: 'keydiff', head_budget: 'adakv', transforms: ['merge'], compression_ratio: 0.5 }, {}],
        [{ scorer: 'knorm', layer_budget: { name: 'per_layer', compression_ratios: [0.2, 0.5] }, transforms: ['merge'] }, {}],
      ] as const) {
        const run = await runPress(await make(), press, n, shape, layers, rows);
        eachHead(run, layers, shape, (head) => {
          expectRows(head.stored.v, merged(head, others(head.kept, n), shape, options), `${JSON.stringify(press)}, values of ${head.name}`);
          expectRows(
            head.stored.k,
            head.kept.map((t) => rowOf(head.k, t, head.h, shape)),
            `keys of ${head.name}`,
          );
        });
      }
    }
  });

  test('merge after another press: what that one let go is gone, and leaves nothing', async () => {
    const [n, shape] = [90, shapeOf(4, 2, 20)];
    const layers = randomLayers(new Random(94), 2, n, shape);
    const first = { preset: 'keydiff', compression_ratio: 0.4 };
    const left = await runPress(await make(), first, n, shape, layers);
    const run = await runPress(await make(), [first, { preset: 'merging_knorm', compression_ratio: 0.5 }], n, shape, layers, rows);
    eachHead(run, layers, shape, (head) => {
      const going = left.kept[head.l][head.h].filter((t) => !head.kept.includes(t)).sort((a, b) => a - b);
      expect(going.length).toBeGreaterThan(20);
      expectRows(head.stored.v, merged(head, going, shape), head.name);
    });
  });

  test('kvpress row 12: a quantile over tokens that fail the threshold is no number, and nothing merges; here the fraction is one of those that pass', async () => {
    const [n, shape] = [64, shapeOf(2, 2, 20)];
    const layers = randomLayers(new Random(95), 1, n, shape);
    const press = { preset: 'merging_knorm', compression_ratio: 0.5, similarity_threshold: 0.45, merge_fraction: 0.8 };
    const options = { threshold: 0.45, fraction: 0.8 };
    const [run, compat] = [
      await runPress(await make(), press, n, shape, layers, rows),
      await runPress(await make(), { ...press, compat: 'kvpress' }, n, shape, layers, rows),
    ];
    let moved = 0;
    eachHead(run, layers, shape, (head) => {
      expectRows(head.stored.v, merged(head, others(head.kept, n), shape, options), head.name);
      const plain = head.kept.flatMap((t) => Array.from(rowOf(head.v, t, head.h, shape)));
      moved += plain.filter((x, i) => x !== head.stored.v[i]).length;
    });
    expect(moved).toBeGreaterThan(0);
    eachHead(compat, layers, shape, (head) => {
      const plain = head.kept.map((t) => rowOf(head.v, t, head.h, shape));
      expect([...head.stored.v]).toEqual(plain.flatMap((row) => [...row])); // to the bit
      expectRows(head.stored.v, merged(head, others(head.kept, n), shape, { ...options, compat: true }), head.name); // as the formula has it: NaN
    });
  });

  test('think: the channels that the last queries make least of are zero in what stays, the same in every row; values stay', async () => {
    const random = new Random(96);
    for (const { n, shape } of SHAPES.slice(1)) {
      const layers = randomLayers(random, 2, n, shape);
      for (const [press, share, window] of [
        ['think', 0.5, 32],
        [{ preset: 'think', key_channel_compression_ratio: 0.3, think_window_size: 5 }, 0.3, 5],
        [{ scorer: 'knorm', transforms: [{ name: 'think', key_channel_compression_ratio: 0.3 }], compression_ratio: 0.5 }, 0.3, 32],
        [{ preset: 'snap_think', window_size: 8, compression_ratio: 0.5 }, 0.5, 32],
        [{ scorer: 'keydiff', head_budget: 'adakv', transforms: ['think'], compression_ratio: 0.5 }, 0.5, 32],
      ] as const) {
        const run = await runPress(await make(), press, n, shape, layers, rows);
        eachHead(run, layers, shape, (head) => {
          const channels = leastChannels(head, layers[head.l].q!, window, Math.trunc(shape.headDim * share), shape);
          expectRows(
            head.stored.k,
            head.kept.map((t) => pruned(rowOf(head.k, t, head.h, shape), channels)),
            `${JSON.stringify(press)}, keys of ${head.name}`,
          );
          expectRows(
            head.stored.v,
            head.kept.map((t) => rowOf(head.v, t, head.h, shape)),
            `values of ${head.name}`,
          );
        });
      }
    }
  });

  test('presses in a row: snapkv then think is snap_think; think then snapkv prunes by all tokens, and scores pruned keys', async () => {
    const [n, shape] = [90, shapeOf(4, 2, 20)];
    const layers = randomLayers(new Random(97), 2, n, shape);
    const snap = { preset: 'snapkv', window_size: 8, compression_ratio: 0.5 };
    const once = await runPress(await make(), { preset: 'snap_think', window_size: 8, compression_ratio: 0.5 }, n, shape, layers, rows);
    const inARow = await runPress(await make(), [snap, { preset: 'think' }], n, shape, layers, rows);
    const sorted = (run: PressRun): string =>
      JSON.stringify(
        run.kept.map((layer, l) =>
          layer.map((list, h) => {
            const { headDim: d } = shape;
            return list.map((t, i) => [t, [...run.rows[l][h].k.subarray(i * d, (i + 1) * d)]] as const).sort(([a], [b]) => a - b);
          }),
        ),
      );
    expect(sorted(inARow)).toBe(sorted(once));
    expect(inARow.report.compressionRatio).toBe(0.5); // tokens: channels that are zero are still there

    const other = await runPress(await make(), ['think', snap], n, shape, layers, rows);
    const zeroed = layers.map(({ k, v, q }, l) => {
      const keys = k.slice();
      for (let h = 0; h < shape.kvHeads; h++) {
        const all = others([], n);
        const head = { l, h, k, v: v!, kept: all, stored: { k, v: v! }, name: '' };
        const channels = leastChannels(head, q!, 32, 10, shape);
        for (const t of all) rowOf(keys, t, h, shape).set(pruned(rowOf(k, t, h, shape), channels));
      }
      return { k: keys, v, q };
    });
    const direct = await runPress(await make(), snap, n, shape, zeroed, rows);
    expect(other.kept).toEqual(direct.kept);
    expect(sorted(other)).toBe(sorted(direct));
  });

  test('finch: attention of the last queries in units of an even share, mean over them and the group; the window stays', async () => {
    const random = new Random(98);
    for (const { n, shape } of SHAPES) {
      const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
      const layers = randomLayers(random, 1, n, shape);
      const W = n === 2 ? 1 : 9;
      const { k, q } = layers[0];
      const queries = q!.subarray(q!.length - W * Hq * d);
      for (const [options, count] of [
        [{}, (i: number) => n - W + i + 1],
        [{ compat: 'kvpress' }, (i: number) => n - W + i],
        [{ normalize_scores: false }, () => 1],
      ] as const) {
        const press = { preset: 'finch', window_size: W, compression_ratio: 0.5, ...options };
        const run = await runPress(await make(), press, n, shape, layers);
        for (let h = 0; h < H; h++) {
          const want = Array<number>(n - W).fill(0);
          for (let a = (h * Hq) / H; a < ((h + 1) * Hq) / H; a++) {
            for (let i = 0; i < W; i++) {
              const query = queries.subarray((i * Hq + a) * d, (i * Hq + a + 1) * d);
              const weights = others([], n - W + i + 1).map((j) => Math.exp(shape.scale * dot(query, rowOf(k, j, h, shape))));
              const total = weights.reduce((x, y) => x + y, 0);
              for (let j = 0; j < n - W; j++) want[j] += ((weights[j] / total) * count(i)) / W / (Hq / H);
            }
          }
          expectRows(run.scores[0][h].subarray(0, n - W), [want], `${JSON.stringify(options)}, head ${h} of ${n}`);
          const kept = Math.floor(n / 2);
          const best = others([], n - W).sort((x, y) => run.scores[0][h][y] - run.scores[0][h][x] || x - y);
          const window = others([], n).slice(n - W);
          expect([...run.kept[0][h]].sort((x, y) => x - y)).toEqual([...best.slice(0, kept - W), ...window].sort((x, y) => x - y));
        }
      }
    }
  });

  test('finch_chunks: every stretch keeps about the same share of its tokens, the best of them; the total is exact, and kvpress rounds each stretch', async () => {
    const [n, shape, length] = [130, shapeOf(4, 2, 20), 40];
    const layers = randomLayers(new Random(99), 2, n, shape);
    const press = { preset: 'finch_chunks', window_size: 6, segment_length: length, compression_ratio: 0.45 };
    const scored = await runPress(await make(), { preset: 'finch', window_size: 6, compression_ratio: 0.45 }, n, shape, layers, rows);
    const [own, compat] = [
      await runPress(await make(), press, n, shape, layers, rows),
      await runPress(await make(), { ...press, compat: 'kvpress' }, n, shape, layers, rows),
    ];
    const parts = [0, 40, 80, 120].map((first) => others([], n).slice(first, first + length));
    const quotas = [22, 22, 22, 5]; // max(1, int(len 0.55)); the last stretch has 10 tokens, 6 of them the window
    expect([own.report.nextPosition, compat.report.nextPosition]).toEqual([71, 72]); // int(130 x 0.55); 22 + 22 + 22 + 5, and the sixth of the window
    for (const run of [own, compat]) {
      eachHead(run, layers, shape, ({ l, h, k, kept, stored, name }) => {
        const score = (t: number): number => (t >= n - 6 ? Infinity : scored.scores[l][h][t]);
        for (const [i, part] of parts.entries()) {
          const best = [...part].sort((x, y) => (score(y) === score(x) ? x - y : score(y) - score(x)));
          const chosen = kept.filter((t) => part.includes(t));
          expect(chosen.sort((x, y) => x - y)).toEqual(best.slice(0, chosen.length).sort((x, y) => x - y));
          if (run === compat) expect(chosen.length).toBe(Math.max(quotas[i], i === 3 ? 6 : 0));
          else expect(Math.abs(chosen.length / part.length - 0.55)).toBeLessThan(1 / part.length + 0.05);
        }
        const ascending = [...kept].sort((x, y) => x - y);
        expect(kept.length).toBe(run.report.nextPosition);
        const keys = kept.map((t) => turned(rowOf(k, t, h, shape), ascending.indexOf(t) - t));
        expectRows(stored.k, keys, name);
      });
    }
  });

  test('kvpress row 19: FINCH weighs a query by the keys that it sees, its own among them; kvpress forgets one', async () => {
    // Blind queries: each gives 1 / (keys that it sees) to every key, so that the weighed score is exactly 1. kvpress: (n - W + i) / (n - W + i + 1).
    const [n, shape] = [6, shapeOf(1, 1, 4)];
    const layer = { k: new Float32Array(n * 4).fill(1), q: new Float32Array(2 * 4) };
    const press = { scorer: { name: 'finch', window_size: 2 }, compression_ratio: 0.5 };
    const own = await runPress(await make(), press, n, shape, [layer], { massWindow: 0 });
    for (const score of own.scores[0][0].subarray(0, 4)) expect(score).toBeCloseTo(1, 6);
    const compat = await runPress(await make(), { ...press, compat: 'kvpress' }, n, shape, [layer], { massWindow: 0 });
    for (const score of compat.scores[0][0].subarray(0, 4)) expect(score).toBeCloseTo((4 / 5 + 5 / 6) / 2, 6);
  });
});

describe('what transforms go with', () => {
  test('with nothing to remove, rerotate and merge are no press; think is one', () => {
    const idle = (preset: string): boolean => isNoOp(parsePress({ preset, compression_ratio: 0 }));
    expect(['key_rerotation_snapkv', 'finch', 'merging_knorm', 'think', 'snap_think'].map(idle)).toEqual([true, true, true, false, false]);
  });

  test.each([
    [{ scorer: 'knorm', head_budget: 'adakv', transforms: ['rerotate'] }, 'press.transforms', /all layers and heads must keep equally many/],
    [{ scorer: 'snapkv', layer_budget: 'pyramid', transforms: ['rerotate'] }, 'press.transforms', /all layers and heads must keep equally many/],
    [{ scorer: 'snapkv', layer_budget: 'zigzag', transforms: ['merge'] }, 'press.transforms', /must know what is kept when a layer is stored/],
    [{ scorer: 'snapkv', layer_budget: 'zigzag', transforms: ['think'] }, 'press.transforms', /must know what is kept when a layer is stored/],
    [{ scorer: 'snapkv', transforms: ['merge', 'merge'] }, 'press.transforms', /named twice/],
    [{ preset: 'finch_chunks', window_size: 40, segment_length: 40 }, 'press', /a segment_length above 40 would work/],
    [['finch', 'knorm'], 'press[0]', /put "finch" last/],
    [{ preset: 'think', window_size: 8 }, 'press.window_size', /did you mean "think_window_size"|unknown field/],
    [{ preset: 'merging_knorm', merge_fraction: 0 }, 'press.merge_fraction', /must be above 0 and at most 1, got 0/],
  ])('%j is refused', (json, param, message) => {
    const error = refusal(() => parsePress(json));
    expect(error.param).toBe(param);
    expect(error.message).toMatch(message);
  });

  test('rerotate after layers that were left unequal is refused: all go on at one position', () => {
    const press = parsePress([
      { preset: 'pyramidkv', compression_ratio: 0.5, window_size: 8 },
      { preset: 'key_rerotation_knorm', compression_ratio: 0.5 },
    ]);
    const error = refusal(() => checkPress(press, { tokens: 200, layers: 4, kvHeads: 2, math: referenceBudgetMath }));
    expect(error).toMatchObject({
      code: 'press_composition',
      message: expect.stringMatching(/all layers must keep equally many.*from \d+ to \d+ tokens/),
    });
  });

  test('think after a press that keeps none of the last tokens: its queries look at no keys', () => {
    expect(parsePress(['knorm', 'think']).presses.length).toBe(2);
    expect(refusal(() => parsePress(['knorm', 'snapkv'])).code).toBe('press_composition');
  });
});
