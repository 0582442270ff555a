/** ZigZag on models/needle: measures, budgets and kept positions against the formulas in float64, from the reference model's own queries and keys. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parsePress } from '../presses/config.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import type { Inspection } from '../worker/engine/inspection.ts';
import { generation } from './support/generation.ts';
import { needleSamples, openGolden } from './support/golden.ts';
import { Random } from './support/random.ts';
import { ReferenceModel, type ReferenceState } from './support/reference-model.ts';

/** Scores closer than this, relative to the largest, are a tie; so are masses this close to the threshold: f32 sums in another order. */
const TIE = 1e-5;
const THRESHOLD = 0.9;
const BOUND_RATIO = 0.2;

const samples = needleSamples();
const tokensOf = (task: string, length: number): number[] => samples.find((s) => s.task === task && s.context_length === length)!.prompt_token_ids;
/** 1,024 tokens of real context: a sample's, then the next one's from its second token on. */
const thousand = [...tokensOf('niah_multikey', 1024), ...tokensOf('qa', 1024).slice(1)].slice(0, 1024);
const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

let engine: EdgeEngine;
beforeAll(async () => {
  engine = await openGolden('needle', { contextLength: 2048 });
});
afterAll(() => engine.close());

const inspect = (tokens: readonly number[], press: unknown): Promise<Inspection> => engine.inspect({ kind: 'tokens', tokens }, parsePress(press));
const budgetsOf = ({ layers }: Inspection): number[] => layers.map(({ budget }) => budget);
const lmbaOf = ({ layers }: Inspection): number[] => layers.map(({ lmba }) => lmba!);

// ---- the reference

interface Scored {
  /** [layer][head] of n scores. */
  readonly scores: Float64Array[][];
  /** How many of the last tokens are protected. */
  readonly last: number;
  /** Evictable scores, best first, to masses. */
  toMass(best: readonly number[]): number[];
}

class Reference {
  readonly model = new ReferenceModel('models/needle');
  readonly state: ReferenceState;
  readonly n: number;
  constructor(tokens: readonly number[]) {
    this.state = this.model.start();
    this.model.read(this.state, tokens);
    this.n = tokens.length;
  }

  /** softmax(q.k / sqrt(d)) of the last `window` queries, causal, mean over them: [query head][n], the window's own columns included. */
  #windowMean(layer: number, window: number): Float64Array[] {
    const { queryHeads: Hq, kvHeads: H, headDim: d } = this.model;
    const { q, k } = this.state.layers[layer];
    return Array.from({ length: Hq }, (_, a) => {
      const h = Math.floor((a * H) / Hq);
      const mean = new Float64Array(this.n);
      for (let i = this.n - window; i < this.n; i++) {
        const logits = new Float64Array(i + 1);
        for (let j = 0; j <= i; j++) {
          let dot = 0;
          for (let c = 0; c < d; c++) dot += q[i][a * d + c] * k[j][h * d + c];
          logits[j] = dot / Math.sqrt(d);
        }
        const most = logits.reduce((x, y) => Math.max(x, y));
        const total = logits.reduce((x, y) => x + Math.exp(y - most), 0);
        for (let j = 0; j <= i; j++) mean[j] += Math.exp(logits[j] - most) / total / window;
      }
      return mean;
    });
  }

  /** [layer][head] of f. */
  #each(f: (layer: number, head: number) => Float64Array): Float64Array[][] {
    return Array.from({ length: this.model.layers }, (_, l) => Array.from({ length: this.model.kvHeads }, (_, h) => f(l, h)));
  }

  #key(layer: number, head: number, t: number): Float64Array {
    const d = this.model.headDim;
    return this.state.layers[layer].k[t].subarray(head * d, (head + 1) * d);
  }

  /** Group mean of avgPool(window mean); the window is protected. */
  snapkv(window: number, kernel: number): Scored {
    const { queryHeads, kvHeads } = this.model;
    const group = queryHeads / kvHeads;
    const evictable = this.n - window;
    const half = (kernel - 1) / 2;
    const means = Array.from({ length: this.model.layers }, (_, l) => this.#windowMean(l, window));
    const scores = this.#each((l, h) => {
      const s = new Float64Array(this.n);
      for (let a = h * group; a < (h + 1) * group; a++) {
        for (let j = 0; j < evictable; j++) {
          for (let t = Math.max(0, j - half); t <= Math.min(evictable - 1, j + half); t++) s[j] += means[l][a][t] / kernel / group;
        }
      }
      return s;
    });
    return { scores, last: window, toMass: (best) => [...best] };
  }

  /** Mean over all query heads of the last token's attention; that token is protected. */
  tova(): Scored {
    const { queryHeads } = this.model;
    const means = Array.from({ length: this.model.layers }, (_, l) => this.#windowMean(l, 1));
    const scores = this.#each((l) => Float64Array.from({ length: this.n }, (_, j) => sum(means[l].map((row) => row[j])) / queryHeads));
    return { scores, last: 1, toMass: (best) => [...best] };
  }

  /** -|K_t|; masses by softmax with the scores' standard deviation as temperature. */
  knorm(): Scored {
    const scores = this.#each((l, h) => Float64Array.from({ length: this.n }, (_, t) => -Math.hypot(...this.#key(l, h, t))));
    const toMass = (best: readonly number[]): number[] => {
      const mean = sum([...best]) / best.length;
      const std = Math.sqrt(sum(best.map((s) => (s - mean) ** 2)) / best.length);
      return best.map((s) => Math.exp((s - best[0]) / std));
    };
    return { scores, last: 0, toMass };
  }

  /** -cosine(K_t, mean of K/|K|); masses (s + 1) / 2. */
  keydiff(): Scored {
    const scores = this.#each((l, h) => {
      const anchor = new Float64Array(this.model.headDim);
      for (let t = 0; t < this.n; t++) {
        const key = this.#key(l, h, t);
        const norm = Math.hypot(...key);
        for (const [c, x] of key.entries()) anchor[c] += x / norm / this.n;
      }
      const length = Math.hypot(...anchor);
      return Float64Array.from({ length: this.n }, (_, t) => {
        const key = this.#key(l, h, t);
        return -sum([...key.map((x, c) => x * anchor[c])]) / (Math.hypot(...key) * length);
      });
    });
    return { scores, last: 0, toMass: (best) => best.map((s) => (s + 1) / 2) };
  }

  /** u: [layer] the sum over heads of MBA, and how low and how high masses that tie with the threshold could make it. */
  signals({ scores, last, toMass }: Scored): { u: number; low: number; high: number }[] {
    const count = (masses: readonly number[], share: number): number => {
      const total = sum([...masses]);
      let running = 0;
      const at = masses.findIndex((mass) => {
        running += mass;
        return running >= share * total;
      });
      return at < 0 ? masses.length : at + 1;
    };
    return scores.map((heads) => {
      const masses = heads.map((s) => toMass([...s.subarray(0, this.n - last)].sort((a, b) => b - a)));
      const at = (share: number): number => sum(masses.map((head) => count(head, share)));
      return { u: at(THRESHOLD), low: at(THRESHOLD * (1 - TIE)), high: at(THRESHOLD * (1 + TIE)) };
    });
  }
}

/** B_l = B_bound + (B_avg - B_bound) L u_l / U, in integers. */
function budgets(u: readonly number[], n: number, ratio: number, protectedTokens: number): number[] {
  const average = Math.floor(n * (1 - ratio) + 1e-9);
  const floor = Math.min(average, Math.max(Math.floor(BOUND_RATIO * average), protectedTokens, 1));
  const result = u.map(() => n);
  let free = u.map((_, l) => l);
  let room = u.length * average - floor * u.length;
  for (;;) {
    const weight = sum(free.map((l) => u[l]));
    const over = free.filter((l) => floor * weight + room * u[l] >= n * weight);
    if (over.length === 0) {
      for (const l of free) result[l] = floor + Math.floor((room * u[l]) / weight);
      const left = u.length * average - sum(result);
      for (const l of [...free].sort((a, b) => ((room * u[b]) % weight) - ((room * u[a]) % weight) || a - b).slice(0, left)) result[l]++;
      return result;
    }
    free = free.filter((l) => !over.includes(l));
    room -= over.length * (n - floor);
  }
}

describe('LMBA, budgets and kept positions are those of the float64 reference', () => {
  let reference: Reference;
  beforeAll(() => {
    reference = new Reference(thousand);
  });

  const cases: [name: string, press: Record<string, unknown>, scored: () => Scored][] = [
    ['zigzag_snapkv', { preset: 'zigzag_snapkv' }, () => reference.snapkv(64, 5)],
    ['zigzag_snapkv with window_size 32', { preset: 'zigzag_snapkv', window_size: 32 }, () => reference.snapkv(32, 5)],
    ['zigzag_tova', { preset: 'zigzag_tova' }, () => reference.tova()],
    ['zigzag_knorm', { preset: 'zigzag_knorm' }, () => reference.knorm()],
    ['zigzag_keydiff', { preset: 'zigzag_keydiff' }, () => reference.keydiff()],
  ];

  test.each(cases)('%s on 1,024 tokens', async (name, press, scored) => {
    const n = thousand.length;
    const expected = scored();
    const signals = reference.signals(expected);
    const printed: number[][] = [];
    let ties = 0;
    for (const ratio of [0.2, 0.5, 0.8]) {
      const seen = await inspect(thousand, { ...press, compression_ratio: ratio });
      const heads = reference.model.kvHeads;
      const u = lmbaOf(seen).map((mean) => mean * heads);
      for (const [l, { u: exact, low, high }] of signals.entries()) {
        if (u[l] === exact) continue;
        ties++;
        expect(u[l], `layer ${l}: a tie would explain ${low} to ${high}`).toBeGreaterThanOrEqual(low);
        expect(u[l]).toBeLessThanOrEqual(high);
      }
      expect(budgetsOf(seen)).toEqual(budgets(u, n, ratio, expected.last));
      if (u.every((count, l) => count === signals[l].u))
        expect(budgetsOf(seen)).toEqual(
          budgets(
            signals.map((layer) => layer.u),
            n,
            ratio,
            expected.last,
          ),
        );
      printed.push(budgetsOf(seen));

      for (const [l, layer] of seen.layers.entries()) {
        for (const [h, { kept, scores }] of layer.heads.entries()) {
          const s = expected.scores[l][h];
          const evictable = s.subarray(0, n - expected.last);
          const largest = evictable.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
          expect(kept.length).toBe(layer.budget);
          expect(new Set(kept).size).toBe(kept.length);
          // Protected first, in order; then by falling score, and what is left out is no better than what is kept.
          expect(kept.slice(0, expected.last)).toEqual(Array.from({ length: expected.last }, (_, i) => n - expected.last + i));
          const best = kept.slice(expected.last);
          for (const [rank, t] of best.entries()) {
            expect(t).toBeLessThan(n - expected.last);
            expect(Math.abs(scores[expected.last + rank]! - s[t]) / largest).toBeLessThan(TIE);
            if (rank > 0) expect((s[t] - s[best[rank - 1]]) / largest).toBeLessThan(TIE);
          }
          const inside = new Set(best);
          const border = Math.min(...best.map((t) => s[t]));
          for (const [t, score] of evictable.entries()) if (!inside.has(t)) expect((score - border) / largest).toBeLessThan(TIE);
        }
      }
    }
    console.log(
      `${name}, 1,024 tokens: LMBA ${signals.map(({ u }) => u / 2).join(' ')}${ties > 0 ? ` (${ties} counts differ by a tie)` : ''}; budgets at 0.2, 0.5, 0.8: ${printed.map((b) => b.join(' ')).join(' | ')}`,
    );
    // A measure that says the same of every layer would be no measure.
    const seen = signals.map(({ u }) => u);
    expect(new Set(seen).size).toBeGreaterThan(3);
    // KeyDiff's masses are nearly even by nature, (1 + cosine) / 2; attention differs by a lot.
    expect(Math.max(...seen) / Math.min(...seen)).toBeGreaterThan(name.includes('keydiff') ? 1.01 : name.includes('knorm') ? 1.05 : 1.3);
  });
});

describe('on real contexts', () => {
  test.each(['niah_single', 'niah_multikey', 'qa', 'fwe'])('%s: layers differ, and the wider ones get more', async (task) => {
    for (const length of [256, 1024]) {
      const tokens = tokensOf(task, length);
      const seen = await inspect(tokens, { preset: 'zigzag_snapkv', window_size: 32, compression_ratio: 0.7 });
      const lmba = lmbaOf(seen);
      const kept = budgetsOf(seen);
      console.log(`${task}, ${tokens.length} tokens, zigzag_snapkv at 0.7: LMBA ${lmba.join(' ')}; budgets ${kept.join(' ')}`);
      expect(new Set(lmba).size).toBeGreaterThan(3);
      const byWidth = lmba.map((_, l) => l).sort((a, b) => lmba[a] - lmba[b]);
      for (const [i, l] of byWidth.entries())
        if (i > 0) expect(kept[l]).toBeGreaterThanOrEqual(kept[byWidth[i - 1]] - (lmba[l] === lmba[byWidth[i - 1]] ? 1 : 0));
    }
  });

  test('budgets sum to the total exactly, for every length and ratio', async () => {
    const random = new Random(1);
    for (const n of [70, 128, 201, 333, 511, 777]) {
      for (const ratio of [0.1, 0.25, 1 / 3, 0.5, 0.8, 0.9]) {
        const preset = random.pick(['zigzag_snapkv', 'zigzag_tova', 'zigzag_knorm', 'zigzag_keydiff', 'zigzag_adakv_snapkv']);
        const window = /snapkv/.test(preset) ? { window_size: 4 } : {};
        const seen = await inspect(thousand.slice(0, n), { preset, ...window, compression_ratio: ratio });
        const average = Math.floor(n * (1 - ratio) + 1e-9);
        expect(sum(budgetsOf(seen)), `${preset} ${n} ${ratio}`).toBe(6 * average);
        const entries = seen.layers.map(({ heads }) => sum(heads.map(({ kept }) => kept.length)));
        expect(entries).toEqual(budgetsOf(seen).map((budget) => 2 * budget)); // shared unequally under adakv, the same in sum
        expect(Math.min(...budgetsOf(seen))).toBeGreaterThanOrEqual(Math.floor(BOUND_RATIO * average));
        expect(Math.max(...budgetsOf(seen))).toBeLessThanOrEqual(n);
      }
    }
  });

  test.each(['zigzag_snapkv', 'zigzag_tova', 'zigzag_knorm', 'zigzag_keydiff', 'zigzag_adakv_snapkv'])(
    '%s: streaming keeps what deferred keeps, entry for entry, over 30 prompts',
    async (preset) => {
      const random = new Random(preset.length);
      const prompts = samples.filter(({ context_length }) => context_length === 128 || context_length === 256);
      for (let i = 0; i < 30; i++) {
        const tokens = random.pick(prompts).prompt_token_ids;
        const press = {
          preset,
          ...(/snapkv/.test(preset) ? { window_size: random.int(1, 8) } : {}),
          bound_ratio: random.pick([0, 0.2, 0.2, 0.6, 1]),
          threshold: random.pick([0.9, 0.9, 0.5, 1]),
          compression_ratio: random.pick([0.1, 0.3, 0.5, 0.7, 0.8, 0.9]),
          entry_type: random.pick(['f32', 'f16', 'int8']),
        };
        expect(await inspect(tokens, { ...press, mode: 'streaming' }), JSON.stringify(press)).toEqual(
          await inspect(tokens, { ...press, mode: 'deferred' }),
        );
      }
    },
  );

  test('bound_ratio 1 is SnapKV', async () => {
    for (const tokens of [tokensOf('qa', 256), tokensOf('niah_multikey', 512)]) {
      const zigzag = await inspect(tokens, { preset: 'zigzag_snapkv', bound_ratio: 1, window_size: 16, compression_ratio: 0.6 });
      const snapkv = await inspect(tokens, { preset: 'snapkv', window_size: 16, compression_ratio: 0.6 });
      expect(zigzag.layers.map(({ heads }) => heads)).toEqual(snapkv.layers.map(({ heads }) => heads));
      expect(lmbaOf(zigzag).every((lmba) => lmba > 0)).toBe(true);
      expect(lmbaOf(snapkv)).toEqual(Array(6).fill(null));
    }
  });

  test('streaming at ratio 0.8 peaks below 40% of the full cache on 1,024 tokens; deferred holds all of it', async () => {
    const usage = async (press: unknown) => (await generation(engine, thousand, press, { maxTokens: 1 })).usage;
    const press = { preset: 'zigzag_snapkv', compression_ratio: 0.8, scope: 'prompt' };
    const streaming = await usage({ ...press, mode: 'streaming' });
    const deferred = await usage({ ...press, mode: 'deferred' });
    const uniform = await usage({ ...press, preset: 'snapkv' });
    const none = await usage('no_press');
    const layer = 1024 * 2 * 32 * 2 * 4; // keys and values of the layer being read
    expect(none).toMatchObject({ bytes_full: 3 * 2 ** 20, bytes_kept: 3 * 2 ** 20, bytes_peak: 3 * 2 ** 20 + layer });
    expect(deferred).toMatchObject({ bytes_full: none.bytes_full, bytes_peak: none.bytes_peak, bytes_kept: streaming.bytes_kept });
    expect(deferred.kept_per_layer).toEqual(streaming.kept_per_layer);
    expect(streaming.bytes_peak).toBeLessThan(0.4 * none.bytes_full);
    const lines = {
      'no press, kept': none.bytes_kept,
      'no press, peak': none.bytes_peak,
      'deferred, peak': deferred.bytes_peak,
      'streaming, peak': streaming.bytes_peak,
      kept: streaming.bytes_kept,
      'snapkv, peak': uniform.bytes_peak,
      'snapkv, kept': uniform.bytes_kept,
    };
    for (const [what, bytes] of Object.entries(lines))
      console.log(
        `zigzag_snapkv at 0.8 on 1,024 tokens, ${what}: ${bytes} bytes, ${((100 * bytes) / none.bytes_full).toFixed(1)}% of the full cache`,
      );
  });
});
