/** Parts that read trained files, against their formulas in float64; DuoAttention's and LU-KV's counts. */
import { describe, expect, test } from 'vitest';
import type { ArtifactModel } from '../presses/artifacts.ts';
import { parsePress } from '../presses/config.ts';
import type { BudgetContext } from '../presses/contract.ts';
import { keptShares, kvpressEntries } from '../presses/curves.ts';
import { streamingHeads } from '../presses/duo-pattern.ts';
import { webster } from '../presses/head-budgets/curves.ts';
import { curves as curveLayers } from '../presses/layer-budgets/curves.ts';
import { artifactsOf, withArtifacts } from './support/artifacts.ts';
import { erfc } from './support/erfc.ts';
import { generation } from './support/generation.ts';
import { openGolden } from './support/golden.ts';
import { blankLayers, type LayerNumbers, noModel, runPress, shapeOf } from './support/press-run.ts';
import { runtimes } from './support/press-runtimes.ts';
import { Random } from './support/random.ts';
import { referenceBudgetMath } from './support/reference-budget-math.ts';

const shape = shapeOf(6, 2, 8);
const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
const D = noModel(shape).model.hiddenSize;
const L = 2;
const model: ArtifactModel = { ...shape, layers: L, hiddenSize: D, intermediateSize: D };

/** Layers of random keys and hidden states. */
function layersOf(random: Random, n: number): Required<Pick<LayerNumbers, 'k' | 'hidden'>>[] {
  return Array.from({ length: L }, () => ({ k: random.normals(n * H * d), hidden: random.normals(n * D) }));
}

const dot = (a: ArrayLike<number>, from: number, b: ArrayLike<number>, start: number, length: number): number => {
  let sum = 0;
  for (let c = 0; c < length; c++) sum += a[from + c] * b[start + c];
  return sum;
};

/** The tensors of one layer of the file that a part is given here. */
async function tensors(press: object, file: string): Promise<(layer: number, part: string) => Float32Array> {
  const artifact = (await artifactsOf(parsePress(press), model))(file);
  return (layer, part) => artifact.tensors.get(`layers.${layer}.${part}`)!.values;
}

function expectScores(got: Float32Array[], want: (h: number, t: number) => number, what: string): void {
  const most = Math.max(...got.flatMap((row) => [...row].map(Math.abs)));
  for (const [h, row] of got.entries())
    for (const [t, score] of row.entries())
      if (!(Math.abs(score - want(h, t)) <= 1e-5 * most)) throw new Error(`${what} [${h},${t}]: ${score}, not ${want(h, t)}`);
}

describe.each(runtimes)('on $name', ({ make }) => {
  test('qfilter: s = -f.k', async () => {
    const press = { ...withArtifacts('qfilter'), compression_ratio: 0.5 };
    const { values } = (await artifactsOf(parsePress(press), model))('qfilter.safetensors').tensors.get('filters')!;
    for (const n of [2, 63, 300]) {
      const layers = layersOf(new Random(n), n);
      const { scores } = await runPress(await make(), press, n, shape, layers, { massWindow: 0 });
      for (let l = 0; l < L; l++)
        expectScores(scores[l], (h, t) => -dot(values, (l * H + h) * d, layers[l].k, (t * H + h) * d, d), `layer ${l} of ${n}`);
    }
  });

  test('kvzap, a linear map: s = W x + b', async () => {
    const press = { preset: 'kvzap_mlp_head', artifact: 'kvzap-linear.safetensors', compression_ratio: 0.5 };
    const of = await tensors(press, press.artifact);
    for (const n of [2, 63, 300]) {
      const layers = layersOf(new Random(n), n);
      const { scores } = await runPress(await make(), press, n, shape, layers, { massWindow: 0 });
      for (let l = 0; l < L; l++)
        expectScores(scores[l], (h, t) => of(l, 'bias')[h] + dot(of(l, 'weight'), h * D, layers[l].hidden, t * D, D), `layer ${l} of ${n}`);
    }
  });

  test('kvzap, an MLP: s = W_down gelu(W_up x + b_up) + b_down, over several slabs too', async () => {
    const press = { preset: 'kvzap_mlp_head', artifact: 'kvzap-mlp.safetensors', compression_ratio: 0.5 };
    const of = await tensors(press, press.artifact);
    const gelu = (x: number): number => (x * erfc(-x / Math.SQRT2)) / 2;
    for (const n of [2, 300, 1500]) {
      const layers = layersOf(new Random(n), n);
      const { scores } = await runPress(await make(), press, n, shape, layers, { massWindow: 0 });
      for (let l = 0; l < L; l++) {
        const m = of(l, 'up.bias').length;
        const inner = Array.from({ length: n }, (_, t) =>
          Array.from({ length: m }, (_, i) => gelu(of(l, 'up.bias')[i] + dot(of(l, 'up.weight'), i * D, layers[l].hidden, t * D, D))),
        );
        expectScores(scores[l], (h, t) => of(l, 'down.bias')[h] + dot(of(l, 'down.weight'), h * m, inner[t], 0, m), `layer ${l} of ${n}`);
      }
    }
  });

  test('fastkvzip: the gate in float64, over several slabs too', async () => {
    const press = { scorer: { name: 'fastkvzip', artifact: 'fastkvzip.safetensors', n_sink: 1, window_ratio: 0 }, compression_ratio: 0.5 };
    const of = await tensors(press, 'fastkvzip.safetensors');
    const G = Hq / H;
    for (const n of [3, 70, 1100]) {
      const layers = layersOf(new Random(n), n);
      const { scores } = await runPress(await make(), press, n, shape, layers, { massWindow: 0 });
      for (let l = 0; l < L; l++) {
        const e = of(l, 'q_norm.weight').length;
        const sinks = of(l, 'k_base').length / H / e;
        const normed = (part: 'q' | 'k', row: number, t: number): number[] => {
          const bias = part === 'q' ? of(l, 'q_proj.bias') : null;
          const x = Array.from(
            { length: e },
            (_, c) => dot(of(l, `${part}_proj.weight`), (row * e + c) * D, layers[l].hidden, t * D, D) + (bias?.[row * e + c] ?? 0),
          );
          const rms = Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / e + 1e-6);
          return x.map((value, c) => (value / rms) * of(l, `${part}_norm.weight`)[c]);
        };
        const want = (h: number, t: number): number => {
          const k = normed('k', h, t);
          let mean = 0;
          for (let g = 0; g < G; g++) {
            const q = normed('q', h * G + g, t);
            const z = dot(k, 0, q, 0, e) / Math.sqrt(e) + of(l, 'b')[h * G + g];
            let others = 0;
            for (let s = 0; s < sinks; s++) others += Math.exp(dot(of(l, 'k_base'), (h * sinks + s) * e, q, 0, e) / Math.sqrt(e) - z);
            mean += 1 / (1 + others) / G;
          }
          return mean;
        };
        expectScores(scores[l], want, `layer ${l} of ${n}`);
      }
    }
  });

  test('kvpress row 14: below 50 tokens fastkvzip protects no last token and still tells tokens apart; under compat all scores are 1', async () => {
    const press = { scorer: { name: 'fastkvzip', artifact: 'fastkvzip.safetensors' }, compression_ratio: 0.5 };
    const layers = layersOf(new Random(3), 49);
    const corrected = await runPress(await make(), press, 49, shape, layers, { massWindow: 0 });
    for (const row of corrected.scores.flat()) expect(new Set(row).size).toBe(49);
    const kept = corrected.kept.flat();
    expect(kept.every((list) => list.slice(0, 4).join() === '0,1,2,3' && list.length === 24)).toBe(true);
    expect(kept.some((list) => !list.includes(48))).toBe(true);
    const compat = await runPress(await make(), { ...press, compat: 'kvpress' }, 49, shape, layers, { massWindow: 0 });
    for (const row of compat.scores.flat()) expect(new Set(row)).toEqual(new Set([1]));
    expect(compat.kept.flat()).toEqual(Array(L * H).fill([...Array(24).keys()]));
    const longer = await runPress(await make(), press, 100, shape, layersOf(new Random(4), 100), { massWindow: 0 });
    for (const list of longer.kept.flat()) expect(list.slice(0, 6)).toEqual([0, 1, 2, 3, 98, 99]);
  });

  test('duo: streaming heads keep the first and the last tokens, the others all', async () => {
    const press = { preset: 'duo_attention', artifact: 'duo.json', head_compression_ratio: 0.5 }; // sink 3, recent 9
    const file = (await artifactsOf(parsePress(press), model))('duo.json');
    const streaming = streamingHeads(file, 0.5);
    expect(streaming.size).toBe((L * H) / 2);
    const { kept, report } = await runPress(await make(), press, 40, shape, blankLayers(L, 40, shape), { massWindow: 0 });
    const few = [0, 1, 2, 39, 38, 37, 36, 35, 34, 33, 32, 31];
    for (const [l, heads] of kept.entries())
      for (const [h, list] of heads.entries()) {
        if (streaming.has(l * H + h)) expect(list).toEqual(few);
        else expect([...list].sort((a, b) => a - b)).toEqual([...Array(40).keys()]);
      }
    expect(report.compressionRatio).toBeCloseTo(0.5 * (1 - 12 / 40), 12);
    const short = await runPress(await make(), press, 11, shape, blankLayers(L, 11, shape), { massWindow: 0 });
    expect(short.kept.flat().every((list) => list.length === 11)).toBe(true);
  });

  test('lukv: curves deal layers and heads; the total is the press’s own', async () => {
    const curves = { name: 'curves', curves: 'curves.safetensors' };
    const press = { scorer: 'knorm', layer_budget: curves, head_budget: curves, compression_ratio: 0.6 };
    const { kept, report } = await runPress(await make(), press, 101, shape, layersOf(new Random(8), 101));
    expect(kept.flat(2).length).toBe(L * H * 40); // floor(101 * 0.4)
    const counts = kept.map((heads) => heads.map((list) => list.length));
    expect(new Set(counts.flat()).size).toBeGreaterThan(1);
    expect(report.keptPerLayer).toEqual(counts.map((heads) => heads.reduce((a, b) => a + b, 0) / H));
  });
});

describe('which heads stream', () => {
  const of = (scores: number[][], ratio: number) => [
    ...streamingHeads({ name: 'x', tensors: new Map(), json: { sink: 1, recent: 1, scores } }, ratio),
  ];
  test('those of the smallest scores, ties to the lower layer and head; scores beyond [0, 1] are as 0 and 1', () => {
    expect(
      of(
        [
          [0.5, 0.1],
          [0.3, 0.1],
        ],
        0.5,
      ),
    ).toEqual([1, 3]);
    expect(
      of(
        [
          [7, 1],
          [-3, 0],
        ],
        0.5,
      ),
    ).toEqual([2, 3]);
    expect(
      of(
        [
          [7, 1],
          [-3, 0],
        ],
        0.75,
      ),
    ).toEqual([2, 3, 0]);
  });
  test('a half rounds to even, as Python rounds', () => {
    expect(of([[0.1, 0.2, 0.3, 0.4, 0.5]], 0.5)).toHaveLength(2); // 2.5
    expect(of([[0.1, 0.2, 0.3]], 0.5)).toHaveLength(2); // 1.5
    expect([0, 1].map((ratio) => of([[0.1, 0.2, 0.3]], ratio).length)).toEqual([0, 3]);
  });
});

describe('curves', () => {
  test('kvpress’s entries: floor, then the largest remainders, each head one at least', () => {
    expect(kvpressEntries([0.25, 0.5, 0.375], 10)).toEqual([2, 5, 4]); // 2.5 5 3.75 = 11.25 -> 11: 2 5 3 and one to .75
    expect(kvpressEntries([0, 0.01, 1], 10)).toEqual([1, 1, 10]); // 0 .1 10 -> 10; nobody has none
    expect(kvpressEntries([1, 1], 7)).toEqual([7, 7]);
  });

  test('webster: sums, bounds, and every head’s share only falls as the total does', () => {
    const random = new Random(77);
    for (let i = 0; i < 300; i++) {
      const heads = random.int(1, 8);
      const shares = Array.from({ length: heads }, () => random.pick([0, 1, random.next(), random.next() ** 4]));
      const most = random.int(1, 60);
      const least = random.int(0, most);
      let before = Array(heads).fill(most) as number[];
      for (let total = heads * most; total >= heads * least; total--) {
        const counts = webster(shares, total, least, most);
        expect(counts.reduce((a, b) => a + b, 0)).toBe(total);
        for (const [h, count] of counts.entries()) {
          expect(count).toBeGreaterThanOrEqual(least);
          expect(count).toBeLessThanOrEqual(before[h]);
        }
        before = counts;
      }
    }
  });

  test('webster: within one of the exact proportion where nothing binds', () => {
    expect(webster([0.5, 0.25, 0.25], 8, 0, 100)).toEqual([4, 2, 2]);
    expect(webster([0.6, 0.4], 7, 0, 100)).toEqual([4, 3]);
    expect(webster([0.9, 0.1], 10, 3, 100)).toEqual([7, 3]);
    expect(webster([0.9, 0.1], 10, 0, 6)).toEqual([6, 4]);
  });

  test('layers: the exact total in entries, floors and caps kept, for every ratio and length', async () => {
    const random = new Random(78);
    const press = { ...withArtifacts('lukv') };
    for (let i = 0; i < 200; i++) {
      const layers = random.int(1, 6);
      const kvHeads = random.int(1, 4);
      const artifact = await artifactsOf(parsePress(press), { layers, queryHeads: kvHeads, kvHeads, headDim: 4, hiddenSize: 8, intermediateSize: 8 });
      const tokens = random.int(2, 300);
      const compressionRatio = random.next() * 0.98;
      const even = Array(layers).fill(referenceBudgetMath.keptCount(tokens, compressionRatio, false)) as number[];
      if (even[0] < 1) continue;
      const P = random.int(0, even[0]);
      const context = {
        layers,
        tokens,
        caps: Array(layers).fill(tokens),
        even,
        averageBudget: even[0],
        protectedTokens: P,
        compressionRatio,
        compat: false,
        kvHeads,
        math: referenceBudgetMath,
        artifact,
      } as BudgetContext;
      const budgets = curveLayers.limits([], context, { curves: 'curves.safetensors' });
      expect(Math.round(budgets.reduce((a, b) => a + b * kvHeads, 0))).toBe(layers * kvHeads * even[0]);
      for (const b of budgets) {
        expect(Number.isInteger(Math.round(b * kvHeads * 1e9) / 1e9)).toBe(true);
        expect(b).toBeGreaterThanOrEqual(Math.max(1, P) - 1e-9);
        expect(b).toBeLessThanOrEqual(tokens);
      }
      const compat = curveLayers.limits([], { ...context, compat: true }, { curves: 'curves.safetensors' });
      const own = Array.from({ length: layers }, (_, l) => kvpressEntries(keptShares(artifact('curves.safetensors'), l, context), tokens));
      expect(compat).toEqual(own.map((counts) => counts.reduce((a, b) => a + b, 0) / kvHeads));
    }
  });
});

describe('bytes', () => {
  test('duo and lukv free what they evict: pages within one a head of what the counts say', async () => {
    const engine = await openGolden('needle', { contextLength: 512 });
    const tokens = Array.from({ length: 300 }, (_, i) => 5 + ((i * 7) % 900));
    for (const press of [
      { ...withArtifacts('duo_attention'), head_compression_ratio: 0.6 },
      { ...withArtifacts('lukv'), compression_ratio: 0.7 },
    ]) {
      const { usage } = await generation(engine, tokens, press, { maxTokens: 2 });
      const entries = usage.kept_per_layer.reduce((a, b) => a + b, 0) * 2;
      const entryBytes = 2 * 32 * 4;
      expect(usage.bytes_kept).toBeGreaterThanOrEqual(entries * entryBytes);
      expect(usage.bytes_kept).toBeLessThan(entries * entryBytes + 12 * 4096);
      expect(usage.bytes_kept).toBeLessThan(usage.bytes_full);
    }
    engine.close();
  });
});
