/** Kept positions and continuations against kvpress on models/needle, under compat "kvpress" (test/golden/README.md says how the files are made). */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parsePress } from '../presses/config.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { golden, greedy, openGolden } from './support/golden.ts';
import { keeping } from './support/golden-library.ts';

interface Golden {
  presses: Record<string, { class: string; scores: string | null; window_size?: number; kernel_size?: number; n_sink?: number }>;
  scores_file: string;
  contexts: {
    name: string;
    context_ids: number[];
    suffix_ids: number[];
    scores: Record<string, { offset: number; shape: [layers: number, heads: number, tokens: number] }>;
    runs: { press: string; ratio: number; kept_counts: number[][]; kept: number[][][]; generated: number[] }[];
  }[];
}

const { presses, contexts } = golden<Golden>('kvpress/needle.json');
const scoreBytes = readFileSync(new URL('./golden/kvpress/scores.bin', import.meta.url));

/** Two scores closer than this, relative to the largest, are a tie: f32 sums in another order than torch's. */
const TIE = 1e-5;

/** Our config for kvpress's press. */
function config(name: string, ratio: number): unknown {
  const [preset] = name.split('-');
  const { window_size, kernel_size, n_sink } = presses[name];
  const given = name.includes('-') ? { window_size, kernel_size, n_sink } : {};
  const params = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  return { preset, ...params, compression_ratio: ratio, compat: 'kvpress' };
}

describe('kvpress', () => {
  let engine: EdgeEngine;
  beforeAll(async () => {
    engine = await openGolden('needle');
  });
  afterAll(() => engine.close());

  for (const context of contexts) {
    for (const run of context.runs) {
      test(`${run.press} at ${run.ratio} on ${context.context_ids.length} tokens keeps kvpress's positions`, async () => {
        const seen = await engine.inspect({ kind: 'tokens', tokens: context.context_ids }, parsePress(config(run.press, run.ratio)));
        let ties = 0;
        for (const [l, { heads }] of seen.layers.entries()) {
          for (const [h, { kept }] of heads.entries()) {
            const expected = new Set(run.kept[l][h]);
            const ours = new Set(kept);
            if (presses[run.press].class !== 'AdaKVPress') expect(kept.length).toBe(run.kept_counts[l][h]);
            const scores = scoresOf(context, run.press, l, h);
            const differ = [...ours].filter((t) => !expected.has(t)).concat([...expected].filter((t) => !ours.has(t)));
            ties += differ.length;
            // What only one of us keeps must lie at the border, within the tie band.
            if (differ.length === 0) continue;
            expect(scores, `${run.press} depends on positions only: no ties`).not.toBeNull();
            const border = borderScore(scores!, run, l, h, context);
            const largest = Math.max(...scores!.map(Math.abs));
            for (const t of differ) expect(Math.abs(scores![t] - border) / largest).toBeLessThan(TIE);
          }
          const total = heads.reduce((sum, { kept }) => sum + kept.length, 0);
          expect(total).toBe(run.kept_counts[l].reduce((sum, count) => sum + count, 0));
        }
        // Ties are rare: a wrong formula would not hide behind them.
        expect(ties).toBeLessThanOrEqual(24);
      });

      test(`${run.press} at ${run.ratio} on ${context.context_ids.length} tokens continues as kvpress does`, async () => {
        const { context_ids, suffix_ids, name } = context;
        const request = parsePress({ ...(config(run.press, run.ratio) as object), scope: { protect_last: suffix_ids.length } });
        // Where a tie leaves the choice open (the test above), it goes on from kvpress's.
        const prompt = { kind: 'tokens' as const, tokens: [...context_ids, ...suffix_ids] };
        const seen: number[] = [];
        const sampling = { ...greedy, maxTokens: run.generated.length };
        for await (const event of engine.generate({ prompt, press: keeping(request, run.kept), sampling })) {
          if (event.type === 'text') seen.push(...event.tokenIds);
        }
        expect(seen, name).toEqual(run.generated);
      });
    }
  }

  function scoresOf(context: Golden['contexts'][number], press: string, layer: number, head: number): Float32Array | null {
    const scorer = presses[press].scores;
    if (scorer === null) return null;
    const { offset, shape } = context.scores[scorer];
    const start = scoreBytes.byteOffset + offset + (layer * shape[1] + head) * shape[2] * 4;
    return new Float32Array(scoreBytes.buffer.slice(start, start + shape[2] * 4));
  }

  /** The lowest score that kvpress kept: over the head, or over the layer where heads share a budget. */
  function borderScore(
    scores: Float32Array,
    run: Golden['contexts'][number]['runs'][number],
    l: number,
    h: number,
    context: Golden['contexts'][number],
  ): number {
    if (presses[run.press].class !== 'AdaKVPress') return Math.min(...run.kept[l][h].map((t) => scores[t]));
    return Math.min(...run.kept[l].map((kept, head) => Math.min(...kept.map((t) => scoresOf(context, run.press, l, head)![t]))));
  }
});
