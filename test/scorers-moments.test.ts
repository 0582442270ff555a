/** Scorers that look at moments of queries and at leverages, against their formulas written plainly in float64. */
import { describe, expect, test } from 'vitest';
import type { Artifact } from '../presses/artifacts.ts';
import { parsePress } from '../presses/config.ts';
import { listPresses } from '../presses/list-presses.ts';
import { type LayerNumbers, noModel, runPress, shapeOf } from './support/press-run.ts';
import { runtimes } from './support/press-runtimes.ts';
import { Random } from './support/random.ts';

const shape = shapeOf(6, 2, 16);
const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
const G = Hq / H;
const { invFreq } = noModel(shape).model;
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, x, i) => sum + x * b[i], 0);
const mean = (list: readonly number[]): number => list.reduce((sum, x) => sum + x, 0) / list.length;

/** Head h of token t of a tensor [n, heads, d]. */
const vector = (x: Float32Array, t: number, heads: number, h: number): number[] => [...x.subarray((t * heads + h) * d, (t * heads + h + 1) * d)];

/** x turned by cos and sin [d/2], as RoPE turns. */
function turned(x: readonly number[], cos: readonly number[], sin: readonly number[]): number[] {
  const half = d / 2;
  return x.map((value, c) => (c < half ? value * cos[c] - x[c + half] * sin[c] : value * cos[c - half] + x[c - half] * sin[c - half]));
}

function before(x: readonly number[], position: number): number[] {
  const angles = [...invFreq].map((f) => Math.fround(f * position));
  return turned(
    x,
    angles.map(Math.cos),
    angles.map((angle) => -Math.sin(angle)),
  );
}

function ahead(x: readonly number[], start: number, count: number): number[] {
  const of = (f: (angle: number) => number) => [...invFreq].map((w) => mean(range(count).map((p) => f(Math.fround(w * (start + p))))));
  return turned(x, of(Math.cos), of(Math.sin));
}

const columnMean = (rows: readonly (readonly number[])[]): number[] => rows[0].map((_, c) => mean(rows.map((row) => row[c])));

/** x with M x = y, by elimination. */
function solve(M: readonly (readonly number[])[], y: readonly number[]): number[] {
  const rows = M.map((row, i) => [...row, y[i]]);
  const size = y.length;
  for (let i = 0; i < size; i++) {
    const best = range(size)
      .slice(i)
      .reduce((a, b) => (Math.abs(rows[b][i]) > Math.abs(rows[a][i]) ? b : a));
    [rows[i], rows[best]] = [rows[best], rows[i]];
    for (let j = 0; j < size; j++) {
      if (j === i) continue;
      const factor = rows[j][i] / rows[i][i];
      for (let c = i; c <= size; c++) rows[j][c] -= factor * rows[i][c];
    }
  }
  return rows.map((row, i) => row[size] / row[i]);
}

interface Layer extends LayerNumbers {
  readonly v: Float32Array;
  readonly q: Float32Array;
}

function layerOf(random: Random, n: number): Layer {
  const offset = random.normals(Hq * d, 2); // queries have a mean before RoPE would turn it away
  return {
    k: random.normals(n * H * d),
    v: random.normals(n * H * d),
    q: random.normals(n * Hq * d).map((value, i) => value + offset[i % (Hq * d)]),
  };
}

interface Moments {
  readonly mean: number[];
  readonly covariance: number[][];
}

function momentsOf(q: Float32Array, n: number, sinks: number, a: number): Moments {
  const queries = range(n - sinks).map((i) => before(vector(q, sinks + i, Hq, a), sinks + i));
  const mu = columnMean(queries);
  const centred = queries.map((row) => row.map((x, c) => x - mu[c]));
  return { mean: mu, covariance: range(d).map((i) => range(d).map((j) => mean(centred.map((row) => row[i] * row[j])))) };
}

interface ExpectedParams {
  readonly future: number;
  readonly sinks: number;
  readonly covariance: boolean;
  readonly vnorm: boolean;
  readonly epsilon: number;
}

function expectedAttention({ k, v, q }: Layer, n: number, given: ExpectedParams, statistics?: (a: number) => Moments): number[][] {
  const { future, sinks, covariance, vnorm, epsilon } = given;
  const tokens = range(n).slice(sinks);
  const shares = range(Hq).map((a) => {
    const moments = statistics?.(a) ?? momentsOf(q, n, sinks, a);
    const mu = ahead(moments.mean, n, future);
    const half = moments.covariance.map((row) => ahead(row, n, future)); // C Rᵀ
    const C = range(d).map((j) =>
      ahead(
        half.map((row) => row[j]),
        n,
        future,
      ),
    ); // R C Rᵀ, transposed; symmetric
    const logits = tokens.map((t) => {
      const key = vector(k, t, H, Math.floor(a / G));
      const spread = covariance
        ? dot(
            key,
            C.map((row) => dot(row, key)),
          ) /
          (2 * d)
        : 0;
      return dot(mu, key) / Math.sqrt(d) + spread;
    });
    const most = Math.max(...logits);
    const exps = logits.map((x) => Math.exp(x - most));
    return exps.map((x) => x / exps.reduce((sum, y) => sum + y, 0));
  });
  return range(H).map((h) =>
    tokens.map((t, i) => {
      const e = mean(range(G).map((g) => shares[h * G + g][i]));
      return vnorm ? (e + epsilon) * Math.hypot(...vector(v, t, H, h)) : e;
    }),
  );
}

function cap({ k, v, q }: Layer, n: number, tau: number, future: number, sinks: number, epsilon: number): number[][] {
  const tokens = range(n).slice(sinks);
  const byQueryHead = range(Hq).map((a) => {
    const h = Math.floor(a / G);
    const g = ahead(momentsOf(q, n, sinks, a).mean, n, future);
    const rho = tokens.map((t) => {
      const key = vector(k, t, H, h);
      return dot(g, key) / Math.hypot(...g) / Math.hypot(...key);
    });
    const w = rho.map((x) => Math.exp(tau * (x - Math.max(...rho))));
    const values = tokens.map((t) => vector(v, t, H, h));
    const M = range(d).map((i) => range(d).map((j) => Number(i === j) + values.reduce((sum, x, t) => sum + (w[t] + epsilon) * x[i] * x[j], 0)));
    return values.map((x, t) => w[t] * dot(x, solve(M, x)));
  });
  return range(H).map((h) => tokens.map((_, i) => mean(range(G).map((g) => byQueryHead[h * G + g][i]))));
}

/** Keys of head h as they lie, at the positions given; phi [H, d, k]. */
function leverages(keys: readonly (readonly number[])[][], positions: readonly (readonly number[])[], phi: Float32Array, k: number): number[][] {
  return keys.map((rows, h) => {
    const Y = rows.map((row, t) => before(row, positions[h][t]));
    const centre = columnMean(Y);
    const Z = Y.map((row) => range(k).map((j) => row.reduce((sum, x, c) => sum + (x - centre[c]) * phi[(h * d + c) * k + j], 0)));
    const M = range(k).map((i) => range(k).map((j) => 0.01 * Number(i === j) + Z.reduce((sum, row) => sum + row[i] * row[j], 0)));
    return Z.map((row) => Math.max(0, dot(row, solve(M, row))));
  });
}

/** Each head's mean and deviation, or those of all. */
function standardised(rows: readonly (readonly number[])[], whole: boolean): number[][] {
  return rows.map((row) => {
    const of = whole ? rows.flat() : row;
    const std = Math.max(1e-6, Math.sqrt(of.reduce((sum, x) => sum + (x - mean(of)) ** 2, 0) / (of.length - 1)));
    return row.map((x) => (x - mean(of)) / std);
  });
}

/** Of tokens first .. end - 1 alone, in blocks. */
function nonCausal({ k, v, q }: Layer, first: number, end: number, chunk: number): number[][] {
  const tokens = range(end).slice(first);
  const blockOf = (t: number): number[] => tokens.filter((j) => Math.floor((j - first) / chunk) === Math.floor((t - first) / chunk));
  const rows = range(H).map((h) => {
    const alpha = new Map(tokens.map((t) => [t, 0]));
    for (let a = h * G; a < (h + 1) * G; a++) {
      for (const i of tokens) {
        const block = blockOf(i);
        const exps = block.map((j) => Math.exp(dot(vector(q, i, Hq, a), vector(k, j, H, h)) / Math.sqrt(d)));
        const total = exps.reduce((sum, x) => sum + x, 0);
        for (const [at, j] of block.entries()) alpha.set(j, alpha.get(j)! + exps[at] / total / G);
      }
    }
    const weighed = tokens.map((t) => alpha.get(t)! * Math.hypot(...vector(v, t, H, h)));
    return weighed.map((x, i) => ((weighed[i - 1] ?? 0) + x + (weighed[i + 1] ?? 0)) / 3);
  });
  return standardised(rows, false);
}

function tensors(named: Record<string, { shape: number[]; values: Float32Array }>): (name: string) => Artifact {
  return (name) => ({ name, tensors: new Map(Object.entries(named)), json: undefined });
}

function expectClose(got: readonly Float32Array[], want: readonly (readonly number[])[], sinks: number, room: number): void {
  const largest = Math.max(...want.flat().map(Math.abs));
  for (const [h, row] of want.entries())
    for (const [i, value] of row.entries()) expect(Math.abs(got[h][sinks + i] - value) / largest, `[${h},${sinks + i}]`).toBeLessThanOrEqual(room);
}

describe.each(runtimes)('$name', ({ make }) => {
  const defaults = { future: 512, sinks: 4, covariance: true, vnorm: true, epsilon: 0 };
  test.each([
    ['as it is', {}, {}],
    ['by the mean alone', { use_covariance: false }, { covariance: false }],
    ['without lengths', { use_vnorm: false }, { vnorm: false }],
    ['with everything else', { n_future_positions: 40, n_sink: 9, epsilon: 0.02 }, { future: 40, sinks: 9, epsilon: 0.02 }],
  ])('expected_attention %s: the formula in float64 within 1e-5 of the largest score', async (_, params, changed) => {
    const runtime = await make();
    const random = new Random(81);
    for (const n of [12, 65, 130]) {
      const layer = layerOf(random, n);
      const press = { scorer: { name: 'expected_attention', ...params }, compression_ratio: 0.1 };
      const { scores } = await runPress(runtime, press, n, shape, [layer]);
      const given = { ...defaults, ...changed };
      expectClose(scores[0], expectedAttention(layer, n, given), given.sinks, 1e-5);
    }
  });

  test('expected_attention by statistics of a file: each layer its own, no queries read', async () => {
    const runtime = await make();
    const [random, n, L] = [new Random(82), 65, 2];
    const [means, roots] = [random.normals(L * Hq * d), random.normals(L * Hq * d * d, 0.3)];
    const covs = new Float32Array(L * Hq * d * d); // root rootᵀ
    for (let r = 0; r < L * Hq; r++) {
      const row = (i: number) => [...roots.subarray((r * d + i) * d, (r * d + i + 1) * d)];
      for (let i = 0; i < d; i++) for (let j = 0; j < d; j++) covs[(r * d + i) * d + j] = dot(row(i), row(j));
    }
    const artifact = tensors({ mean: { shape: [L, Hq, d], values: means }, cov: { shape: [L, Hq, d, d], values: covs } });
    const layers = [layerOf(random, n), layerOf(random, n)].map(({ k, v }) => ({ k, v, q: new Float32Array(0) }));
    const press = { scorer: { name: 'expected_attention', artifact: 'statistics.safetensors' }, compression_ratio: 0.5 };
    const { scores } = await runPress(runtime, press, n, shape, layers, { massWindow: 0, size: { artifact } });
    for (let l = 0; l < L; l++) {
      const of = (a: number): Moments => ({
        mean: [...means.subarray((l * Hq + a) * d, (l * Hq + a + 1) * d)],
        covariance: range(d).map((i) => [...covs.subarray(((l * Hq + a) * d + i) * d, ((l * Hq + a) * d + i + 1) * d)]),
      });
      expectClose(scores[l], expectedAttention(layers[l], n, defaults, of), 4, 1e-5);
    }
  });

  test('expected_attention by statistics of a file, after another press: the positions ahead are those behind the whole prompt', async () => {
    const runtime = await make();
    const [n, ungrouped] = [200, shapeOf(2, 2, d)]; // one query head each: order by softmax = order by logit, whatever else is left
    const random = new Random(95);
    const layer = { k: random.normals(n * H * d), v: random.normals(n * H * d) };
    const press = (ratio: number) => ({
      scorer: { name: 'expected_attention', artifact: 'statistics.safetensors', n_sink: 0, use_vnorm: false, n_future_positions: 16 },
      compression_ratio: ratio,
    });
    const knorm = { scorer: 'knorm', compression_ratio: 0.5 };
    const first = await runPress(runtime, knorm, n, ungrouped, [layer]);
    const { scores } = await runPress(runtime, press(0.1), n, ungrouped, [layer]);
    const { kept } = await runPress(runtime, [knorm, press(0.5)], n, ungrouped, [layer]);
    for (let h = 0; h < H; h++)
      expect(kept[0][h]).toEqual(
        first.kept[0][h]
          .slice()
          .sort((a, b) => scores[0][h][b] - scores[0][h][a])
          .slice(0, n / 4),
      );
  });

  test.each([
    [{}, [5, 512, 4, 1e-6]],
    [{ tau: 2, n_future_positions: 100, n_sink: 6, epsilon: 1e-3 }, [2, 100, 6, 1e-3]],
  ] as const)('cap %j: the formula in float64 within 1e-4 of the largest score', async (params, [tau, future, sinks, epsilon]) => {
    const runtime = await make();
    const random = new Random(83);
    for (const n of [12, 65, 130]) {
      const layer = layerOf(random, n);
      const { scores } = await runPress(runtime, { scorer: { name: 'cap', ...params }, compression_ratio: 0.1 }, n, shape, [layer]);
      expectClose(scores[0], cap(layer, n, tau, future, sinks, epsilon), sinks, 1e-4);
    }
  });

  const sketchOf = (random: Random, k: number) => {
    const phi = random.normals(H * d * k, 1 / Math.sqrt(k));
    return { phi, artifact: tensors({ sketch: { shape: [H, d, k], values: phi } }) };
  };
  const keysOf = ({ k }: LayerNumbers, positions: readonly (readonly number[])[]) => positions.map((list, h) => list.map((t) => vector(k, t, H, h)));

  test('leverage: the formula in float64 within 1e-4 of the largest score, for widths that are no whole vectors too', async () => {
    const runtime = await make();
    const random = new Random(84);
    for (const [n, k, compat] of [
      [65, 12, false],
      [130, 48, true],
      [130, 7, false],
    ] as const) {
      const layer = layerOf(random, n);
      const { phi, artifact } = sketchOf(random, k);
      const scorer = { name: 'leverage', sketch_dimension: k, artifact: 'sketch.safetensors' };
      const press = { scorer, compression_ratio: 0.5, ...(compat && { compat: 'kvpress' }) };
      const { scores } = await runPress(runtime, press, n, shape, [layer], { size: { artifact } });
      const all = range(H).map(() => range(n));
      expectClose(scores[0], standardised(leverages(keysOf(layer, all), all, phi, k), compat), 0, 1e-4);
    }
  });

  test('leverage after another press: what is left is turned back from where it stands in the prompt, in each head', async () => {
    const runtime = await make();
    const [random, n, k] = [new Random(85), 130, 12];
    const layer = layerOf(random, n);
    const { phi, artifact } = sketchOf(random, k);
    const first = { scorer: 'knorm', compression_ratio: 0.5 };
    const rows = (await runPress(runtime, first, n, shape, [layer])).kept[0].map((list) => [...list].sort((a, b) => a - b));
    expect(rows[0]).not.toEqual(rows[1]);
    const second = { scorer: { name: 'leverage', sketch_dimension: k, artifact: 'sketch.safetensors' }, compression_ratio: 0.5 };
    const { scores } = await runPress(runtime, [first, second], n, shape, [layer], { size: { artifact } });
    const want = standardised(leverages(keysOf(layer, rows), rows, phi, k), false);
    expectClose(
      scores[0].map((row, h) => Float32Array.from(rows[h], (t) => row[t])),
      want,
      0,
      1e-4,
    );
  });

  test('leverage: the same seed draws the same directions, each layer and head its own; without one the report says which', async () => {
    const runtime = await make();
    const [random, n] = [new Random(86), 65];
    const layer = layerOf(random, n);
    for (let t = 0; t < n; t++) layer.k.copyWithin((t * H + 1) * d, t * H * d, (t * H + 1) * d); // two heads with the same keys
    const run = (seed?: number) =>
      runPress(
        runtime,
        { scorer: { name: 'leverage', sketch_dimension: 4, ...(seed !== undefined && { seed }) }, compression_ratio: 0.5 },
        n,
        shape,
        [layer, layer],
      );
    const [one, same, other, drawn] = [await run(7), await run(7), await run(8), await run()];
    expect(same.scores).toEqual(one.scores);
    expect(other.scores).not.toEqual(one.scores);
    expect(one.scores[0]).not.toEqual(one.scores[1]);
    expect(one.scores[0][0]).not.toEqual(one.scores[0][1]);
    expect(one.report.notes.join()).not.toContain('seed');
    expect(drawn.report.notes.join()).toMatch(/leverage: seed \d+/);
  });

  test('leverage of keys that f32 cannot solve for: the report says which ridge it took, and the request fails where none is enough', async () => {
    const runtime = await make();
    const [random, n] = [new Random(87), 130];
    const layer = (scale: number): Layer => {
      const one = layerOf(random, n);
      const direction = random.normals(H * d, scale);
      const along = random.normals(n);
      return { ...one, k: one.k.map((_, i) => along[Math.floor(i / (H * d))] * direction[i % (H * d)]) }; // all keys along one line
    };
    const press = { scorer: { name: 'leverage', seed: 1 }, compression_ratio: 0.5 };
    const { report } = await runPress(runtime, press, n, shape, [layer(300)]);
    expect(report.notes.join()).toMatch(/leverage: a ridge of \d+(\.\d)? in place of 0.01 in layer 0/);
    await expect(runPress(runtime, press, n, shape, [layer(1e9)])).rejects.toThrow(/leverage: layer 0 has keys .* use another scorer/);
  });

  test('compactor: leverage times blending and non-causal attention of the tokens between the protected ones, in float64 within 1e-4', async () => {
    const runtime = await make();
    const random = new Random(89);
    for (const [n, params, [first, last, chunk, k, blending]] of [
      [130, {}, [8, 4, 256, 48, 0.5]],
      [65, { sink_size_start: 5, sink_size_end: 3, chunk_size: 16, sketch_dimension: 12, blending: 0.35 }, [5, 3, 16, 12, 0.35]],
      [40, { sink_size_end: 0, blending: 0 }, [8, 0, 256, 48, 0]],
    ] as const) {
      const layer = layerOf(random, n);
      const { phi, artifact } = sketchOf(random, k);
      const press = { preset: 'compactor', artifact: 'sketch.safetensors', ...params, compression_ratio: 0.5 };
      const { scores } = await runPress(runtime, press, n, shape, [layer], { size: { artifact } });
      const between = range(H).map(() => range(n - last).slice(first));
      const [one, other] = [standardised(leverages(keysOf(layer, between), between, phi, k), false), nonCausal(layer, first, n - last, chunk)];
      const want = one.map((row, h) => row.map((x, i) => blending * x + other[h][i]));
      expectClose(scores[0], want, first, 1e-4);
      for (const row of scores[0]) for (const t of [...range(first), ...range(n).slice(n - last)]) expect(row[t]).toBe(0);
    }
  });

  test('compactor: a prompt that is no longer than what it keeps is refused, or with on_tight "uniform" kept by position, which the report says', async () => {
    const runtime = await make();
    const layer = layerOf(new Random(90), 12);
    for (const n of [2, 8, 12])
      await expect(runPress(runtime, { preset: 'compactor', compression_ratio: 0.5 }, n, shape, [layer])).rejects.toThrow(/compactor/);
    const press = { preset: 'compactor', compression_ratio: 0.5, on_tight: 'uniform' };
    const { kept, report } = await runPress(runtime, press, 12, shape, [layer]);
    for (const list of kept[0]) expect(list.length).toBe(6);
    expect(report.notes.join()).toContain('compactor');
  });

  test('prompts that are all sinks, or one token more, are scored without a crash', async () => {
    const runtime = await make();
    const random = new Random(88);
    const sinks: Record<string, number> = { expected_attention: 4, cap: 4, leverage: 0, compactor: 0 };
    for (const scorer of ['expected_attention', 'cap', 'leverage', 'compactor']) {
      for (const n of [2, 4, 5, 6]) {
        const press = { scorer, compression_ratio: 0.5, on_tight: 'uniform' };
        const { kept, scores } = await runPress(runtime, press, n, shape, [layerOf(random, n)]);
        for (const [h, list] of kept[0].entries()) {
          expect(list.length).toBeGreaterThan(0);
          for (const score of scores[0][h].subarray(sinks[scorer])) expect(score).not.toBeNaN();
        }
      }
    }
  });
});

test("expected_attention is kvpress's preset: heads share by score, epsilon 0.01", () => {
  const preset = listPresses().presets.find(({ name }) => name === 'expected_attention');
  expect(JSON.stringify(preset)).toContain('0.01');
});

test.each(['expected_attention', 'cap', 'leverage', 'compactor'])('%s borrows no more than it says', async (name) => {
  const runtime = await runtimes[0].make();
  const random = new Random(91);
  for (const n of [20, 65, 300]) {
    for (const params of [{}, ...(name === 'expected_attention' ? [{ artifact: 'statistics.safetensors' }, { use_covariance: false }] : [])]) {
      const request = parsePress({ scorer: { name, ...params }, compression_ratio: 0.25 });
      const { part, params: all } = request.presses[0].scorer;
      let borrowed = 0;
      const score: typeof part.score = (context, given) => {
        const scratch: typeof context.scratch = (bytes, label) => {
          borrowed += Math.ceil(bytes / 64) * 64;
          return context.scratch(bytes, label);
        };
        return part.score({ ...context, scratch }, given);
      };
      const press = { ...request, presses: request.presses.map((one) => ({ ...one, scorer: { part: { ...part, score }, params: all } })) };
      await runPress(runtime, press, n, shape, [layerOf(random, n)]);
      const window = Math.max(Math.min(n, part.queries(all)), 32);
      const told = part.scratchBytes!({ n, window, queryHeads: Hq, kvHeads: H, headDim: d, hiddenSize: Hq * d }, all);
      const usual = 2 * H * n * 4 + 64; // scores, of which press-bytes.ts counts a pair
      expect(borrowed).toBeGreaterThan(0);
      expect(borrowed, JSON.stringify({ n, params })).toBeLessThanOrEqual(told + usual);
    }
  }
});
