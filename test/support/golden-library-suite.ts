/** The whole press library against the real kvpress, under compat "kvpress": scores, kept positions, continuations (test/golden/README.md says how the files are made). */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { protectedBy } from '../../presses/check-press.ts';
import { parsePress } from '../../presses/config.ts';
import type { PressRequest } from '../../presses/contract.ts';
import { sum } from '../../presses/sum.ts';
import type { EdgeEngine } from '../../worker/engine/engine.ts';
import { KvSequence } from '../../worker/engine/kv-cache.ts';
import type { LoadOptions } from '../../worker/node.ts';
import { golden, greedy, openGolden } from './golden.ts';
import { CONFIGS, DECODING, keeping, type Library, type LibraryRun, unpack, withRatio } from './golden-library.ts';

export interface SuiteOptions {
  readonly models: readonly string[];
  readonly load: LoadOptions;
  /** Which of an entry's runs. */
  pick(runs: LibraryRun[]): LibraryRun[];
}

/** Relative to a layer's largest score: the bar. */
const CLOSE = 1e-4;
/** Two scores closer than this, relative to the largest, are a tie: f32 sums in another order than torch's. */
const TIE = 1e-5;
/** A logit this close to the best may take its place: f32 sums again. None of the continuations here needs it on WASM. */
const NEAR = 2e-3;
/** kvpress marks what it keeps in any case by the largest float. */
const CERTAIN = 1e30;

export function configOf(name: string, { settings }: Library, ratio: number | null): unknown {
  if (!(name in CONFIGS)) {
    const config = DECODING[name]({ settings });
    return Array.isArray(config) ? config : { ...(config as object), compat: 'kvpress' };
  }
  return { ...withRatio(name, CONFIGS[name]({ settings }), ratio), compat: 'kvpress' };
}

/** Selections that rank by other numbers than the scorer's, where kvpress's are the scorer's own. */
const SCORES_OTHERWISE = ['chunks', 'segments', 'score_segments'];

/** Scores [layer] of [H, n] as the scorer and the selection gave them. */
interface Recorded {
  scored: Promise<Float32Array>[][]; // [layer] of every call
  ranked: Promise<Float32Array>[]; // [layer]
}

/** The same press; the scores of its first element are copied out. */
function recording(request: PressRequest, into: Recorded): PressRequest {
  const read = (bytes: Promise<Uint8Array>): Promise<Float32Array> => bytes.then((data) => new Float32Array(data.slice().buffer));
  const presses = request.presses.map((press, i) => {
    if (i > 0) return press;
    const { scorer, selection } = press;
    const score: typeof scorer.part.score = (context, params) => {
      const scores = scorer.part.score(context, params);
      (into.scored[context.layer] ??= []).push(read(context.backend.read(scores, context.shape.kvHeads * context.n * 4)));
      return scores;
    };
    const rank: typeof selection.part.rank = async (context, params) => {
      const ranked = await selection.part.rank(context, params);
      into.ranked[context.layer] = read(context.backend.read(ranked.scores, context.shape.kvHeads * context.n * 4));
      return ranked;
    };
    return {
      ...press,
      scorer: { ...scorer, part: { ...scorer.part, score } },
      selection: { ...selection, part: { ...selection.part, rank } },
    };
  });
  return { ...request, presses };
}

/** A continuation of the context that `request` covers, and which positions were left of it when it began: [layer][head], ascending. */
async function continued(engine: EdgeEngine, library: Library, request: PressRequest, steps: number): Promise<{ ids: number[]; kept: number[][][] }> {
  const { context_ids, suffix_ids, shape } = library;
  const ids: number[] = [];
  const kept: number[][][] = [];
  const append = KvSequence.prototype.append;
  const spy = vi.spyOn(KvSequence.prototype, 'append').mockImplementation(function (this: KvSequence, layer, ...rows) {
    const all = Array.from({ length: shape[1] }, (_, h) => h);
    kept[layer] ??= all.map((h) => [...this.positions(layer, h)].sort((a, b) => a - b)); // before the first token of the suffix
    return append.call(this, layer, ...rows);
  });
  try {
    const prompt = { kind: 'tokens' as const, tokens: [...context_ids, ...suffix_ids] };
    const press = { ...request, scope: { protect_last: suffix_ids.length } };
    for await (const event of engine.generate({ prompt, press, sampling: { ...greedy, maxTokens: steps } })) {
      if (event.type === 'text') ids.push(...event.tokenIds);
    }
  } finally {
    spy.mockRestore();
  }
  return { ids, kept };
}

const label = ({ ratio }: LibraryRun): string => (ratio === null ? '' : ` at ${ratio}`);

export function librarySuite({ models, load, pick }: SuiteOptions): void {
  describe.each(models)('%s', (model) => oneModel(model, load, pick));
}

function oneModel(model: string, load: LoadOptions, pick: SuiteOptions['pick']): void {
  const library = golden<Library>(`library/${model}.json`);
  const bytes = readFileSync(new URL(`../golden/library/${model}.bin`, import.meta.url));
  const [L, H, N] = library.shape;
  let engine: EdgeEngine;
  beforeAll(async () => {
    engine = await openGolden(model, { ...load, artifacts: `test/golden/library/artifacts/${model}` });
  });
  afterAll(() => engine.close());

  /** [layer] of [H, N] */
  const goldenScores = ({ scores }: LibraryRun): Float32Array[] | null =>
    scores === undefined
      ? null
      : Array.from({ length: L }, (_, l) => {
          const start = bytes.byteOffset + scores + l * H * N * 4;
          return new Float32Array(bytes.buffer.slice(start, start + H * N * 4));
        });

  for (const [name, runs] of Object.entries(library.entries)) {
    for (const run of pick(runs)) {
      test(`${name}${label(run)} scores, keeps and continues as kvpress does`, async () => {
        const request = parsePress(configOf(name, library, run.ratio));
        const into: Recorded = { scored: [], ranked: [] };
        const steps = run.generated.length;
        const first = await continued(engine, library, recording(request, into), steps);

        const expected = goldenScores(run);
        const protects = protectedBy(request.presses[0], N);
        if (expected !== null) {
          for (let l = 0; l < L; l++) {
            const whole = SCORES_OTHERWISE.includes(request.presses[0].selection.part.name);
            const ranked = whole ? together(await Promise.all(into.scored[l])) : await into.ranked[l];
            expect(ranked.length).toBe(H * N);
            const evictable = Array.from({ length: H * N }, (_, i) => i).filter((i) => i % N >= protects.first && i % N < N - protects.last);
            const finite = evictable.filter((i) => expected[l][i] < CERTAIN);
            // Where it marks them within its scores, ours come first in the order, with the scores that they have.
            const marked = request.presses[0].selection.part.name === 'two_stage' ? [] : evictable;
            for (const i of marked) if (expected[l][i] >= CERTAIN) expect(ranked[i]).toBeGreaterThanOrEqual(CERTAIN);
            const largest = finite.reduce((most, i) => Math.max(most, Math.abs(expected[l][i])), 0);
            const worst = finite.reduce((most, i) => Math.max(most, Math.abs(ranked[i] - expected[l][i])), 0);
            expect(worst / largest, `scores of layer ${l}`).toBeLessThanOrEqual(CLOSE);
          }
        }

        const kept = unpack(run.kept, library.shape, N);
        const same = JSON.stringify(first.kept) === JSON.stringify(kept);
        // Block after block the best of scores of each token alone are the best of all; their scores are in the other entry.
        const tied = expected ?? (name === 'block_knorm' ? goldenScores(library.entries.knorm[0]) : null);
        const { layerBudget } = request.presses[0];
        if (!same && layerBudget.part.name === 'composite') checkRanks(first.kept, kept, expected!, protects, layerBudget.params.agg_head as string);
        else if (!same) checkTies(first.kept, kept, tied);

        // Where a tie leaves the choice open, it goes on from kvpress's.
        const { ids } = same ? first : await continued(engine, library, keeping(request, kept), steps);
        const differs = ids.findIndex((id, i) => id !== run.generated[i]);
        // On a device sums come in another order, and a near-tie of logits may tip.
        if (!engine.backend.queued) expect(ids).toEqual(run.generated);
        else if (differs >= 0) expect(run.margins[differs], `token ${differs} is ${ids[differs]}, not ${run.generated[differs]}`).toBeLessThan(NEAR);
      });
    }
  }

  /** The scores of parts of the prompt, one after the other, as [H, N]. */
  function together(parts: readonly Float32Array[]): Float32Array {
    const all = new Float32Array(H * N);
    let first = 0;
    for (const part of parts) {
      for (let h = 0; h < H; h++) all.set(part.subarray((h * part.length) / H, ((h + 1) * part.length) / H), h * N + first);
      first += part.length / H;
    }
    expect(first).toBe(N);
    return all;
  }

  /**
   * Where one cut goes through ranks of all heads together, the ranks that only one of us keeps must pair up. kvpress gives layer 0 the largest of all
   * layers at every rank, which is then there twice: where the cut parts the two, it is open which of them stays.
   */
  function checkRanks(
    ours: number[][][],
    kept: number[][][],
    scores: Float32Array[],
    { first, last }: { first: number; last: number },
    aggHead: string,
  ): void {
    const own = scores.map((layer) => {
      const heads = Array.from({ length: H }, (_, h) =>
        layer
          .slice(h * N + first, (h + 1) * N - last)
          .sort()
          .reverse(),
      );
      return heads[0].map((_, k) => (aggHead === 'max' ? Math.max(...heads.map((head) => head[k])) : sum(heads.map((head) => head[k])) / H));
    });
    const ranks = own.map((list, l) => (l === 0 ? list.map((_, k) => Math.max(...own.map((layer) => layer[k]))) : list));
    const only = (mine: number[][][], theirs: number[][][]): number[] =>
      ranks
        .flatMap((list, l) => [...list.subarray(theirs[l][0].length - first - last, Math.max(mine[l][0].length, theirs[l][0].length) - first - last)])
        .sort((a, b) => a - b);
    for (const [l, heads] of ours.entries()) {
      for (const [h, positions] of heads.entries()) {
        expect(positions.length, 'as many ranks of every head').toBe(heads[0].length);
        const [fewer, more] = [positions, kept[l][h]].sort((a, b) => a.length - b.length);
        expect(more).toEqual(expect.arrayContaining(fewer));
      }
    }
    const [we, they] = [only(ours, kept), only(kept, ours)];
    expect(we.length).toBeGreaterThan(0);
    expect(we.length).toBe(they.length);
    for (const [i, rank] of we.entries())
      expect(Math.abs(rank - they[i]) / ranks[0][0], `ranks kept by one of us alone: ${we}, ${they}`).toBeLessThan(TIE);
  }

  /** What only one of us keeps must pair up within the tie band: in each head, or over a layer, or over all where counts of heads or layers differ. */
  function checkTies(ours: number[][][], kept: number[][][], scores: Float32Array[] | null): void {
    expect(scores, 'kept positions differ, and nothing ties: there are no scores').not.toBeNull();
    const all = kept.flatMap((layer, l) => layer.flatMap((_, h) => [{ l, h }]));
    const sameCounts = (of: (kept: number[][][], l: number, h: number) => number): boolean =>
      all.every(({ l, h }) => of(ours, l, h) === of(kept, l, h));
    const perHead = sameCounts((lists, l, h) => lists[l][h].length);
    const perLayer = sameCounts((lists, l) => lists[l].flat().length);
    expect(ours.flat(2).length).toBe(kept.flat(2).length);
    const groups = perHead ? all.map((one) => [one]) : perLayer ? kept.map((layer, l) => layer.map((_, h) => ({ l, h }))) : [all];
    const largest = Math.max(...scores!.flatMap((layer) => [...layer].filter((x) => x < CERTAIN).map(Math.abs)));
    for (const group of groups) {
      const only = (mine: number[][][], theirs: number[][][]): number[] =>
        group.flatMap(({ l, h }) => mine[l][h].filter((t) => !theirs[l][h].includes(t)).map((t) => scores![l][h * N + t])).sort((a, b) => a - b);
      const [we, they] = [only(ours, kept), only(kept, ours)];
      for (const [i, score] of we.entries()) {
        expect(Math.abs(score - they[i]) / largest, `kept by us alone: score ${score}; by kvpress alone: ${they[i]}`).toBeLessThan(TIE);
      }
    }
  }
}
