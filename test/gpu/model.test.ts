/** Whole models on the GPU beside the same on WASM: logits, greedy tokens, what every press keeps. */
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { z } from 'zod';
import { parsePress } from '../../presses/config.ts';
import type { PartInfo } from '../../presses/contract.ts';
import { FAMILIES, presetParts } from '../../presses/presets.ts';
import { headBudgets, layerBudgets, schedules, scorers, selections, transforms } from '../../presses/registry.ts';
import type { EdgeEngine } from '../../worker/engine/engine.ts';
import type { Inspection } from '../../worker/engine/inspection.ts';
import { drawsLots, ratioPresets, shownPresets, withArtifacts } from '../support/artifacts.ts';
import { generation } from '../support/generation.ts';
import { golden, needleSamples, openGolden, tokensOf } from '../support/golden.ts';
import { openOnGpu } from '../support/gpu-backends.ts';
import { Random } from '../support/random.ts';
import { watchKept } from '../support/watch-retained.ts';

const none = parsePress('no_press');
const [LAYERS, KV_HEADS] = [6, 2]; // of needle

/** f32 sums in another order, logits of order 10: the bar for f32 weights, f16 and bf16 ones included. */
const EXACT = 1e-3;
/** 8-bit blocks: WASM rounds activations before they meet them, the GPU does not. */
const ROUNDED = 1e-2;
/** 4-bit blocks of random weights, where nothing averages out: WASM's rounding of activations to 12 bits moves the worst of 512 logits, with a spread of 5, by so much. */
const ROUNDED_MOST = 0.25;

const models: [name: string, tolerance: number][] = [
  ['needle', EXACT],
  ['llama3', EXACT],
  ['mistral', EXACT],
  ['qwen2', EXACT],
  ['qwen3', EXACT],
  ['tiny-llama', ROUNDED_MOST],
  ['tiny-qwen2', ROUNDED],
];

describe.each(models)('%s on the GPU', (name, tolerance) => {
  let gpu: EdgeEngine;
  let wasm: EdgeEngine;
  beforeAll(async () => {
    gpu = await openGolden(name, { backend: 'webgpu', contextLength: 1024 });
    wasm = await openGolden(name, { contextLength: 1024 });
  });
  afterAll(() => {
    gpu.close();
    wasm.close();
  });

  test.each([1, 2, 33, 200])('logits after %i tokens are those of WASM', async (length) => {
    const random = new Random(length);
    const tokens = Array.from({ length }, () => random.int(0, wasm.info.vocabSize - 1));
    const [got, want] = [await gpu.logits({ kind: 'tokens', tokens }, none), await wasm.logits({ kind: 'tokens', tokens }, none)];
    expect(got.length).toBe(want.length);
    expect(got.reduce((most, value, i) => Math.max(most, Math.abs(value - want[i])), 0)).toBeLessThan(tolerance);
  });

  test('logits are those of transformers', async () => {
    const { prompts } = golden<{ prompts: { token_ids: number[]; last_logits: number[] }[] }>(`logits/${name}.json`);
    const { token_ids: tokens, last_logits: want } = prompts.at(-1)!;
    const got = await gpu.logits({ kind: 'tokens', tokens }, none);
    const requantised = name === 'tiny-llama'; // Q5_K and Q6_K become 8-bit blocks of another shape: golden-logits.test.ts
    expect(got.reduce((most, value, i) => Math.max(most, Math.abs(value - want[i])), 0)).toBeLessThan(requantised ? 0.6 : EXACT);
  });

  test('nothing stays taken after requests but weights, cache and fixed buffers', async () => {
    const before = gpu.health().memory;
    await tokensOf(gpu, [1, 2, 3], 'no_press', { maxTokens: 4 });
    const after = gpu.health().memory;
    expect([after.used_bytes, after.kv_used_bytes, after.kv_reserved_bytes]).toEqual([before.used_bytes, 0, 0]);
  });
});

test.each(['needle', 'tiny-llama'])('%s: weights in many pieces, matrices cut among them, give the same bits', async (name) => {
  const largestBytes = 256 * 1024;
  const whole = await openOnGpu(name, { contextLength: 128, chunkTokens: 16, kvPoolBytes: 192 * 1024 });
  const cut = await openOnGpu(name, { contextLength: 128, chunkTokens: 16, kvPoolBytes: 192 * 1024, largestBytes });
  const tokens = Array.from({ length: 40 }, (_, i) => (i * 37 + 5) % whole.engine.info.vocabSize); // rows of every piece of the embedding
  const read = ({ engine }: typeof cut) => engine.logits({ kind: 'tokens', tokens }, none);
  expect(await read(cut)).toEqual(await read(whole));
  expect(cut.engine.info.weightBytes).toBeGreaterThan(2 * largestBytes);
  expect(Math.max(...cut.backend.buffers.sizes)).toBeLessThanOrEqual(largestBytes);
  for (const { engine } of [whole, cut]) engine.close();
});

describe('needle on the GPU', () => {
  const samples = needleSamples();
  const tokens = samples.find((sample) => sample.context_length === 256 && sample.task === 'niah_multikey')!.prompt_token_ids;
  let gpu: EdgeEngine;
  let wasm: EdgeEngine;
  beforeAll(async () => {
    gpu = await openGolden('needle', { backend: 'webgpu', contextLength: 1024 });
    wasm = await openGolden('needle', { contextLength: 1024 });
  });
  afterAll(() => {
    gpu.close();
    wasm.close();
  });

  const press = (preset: string) => ({
    ...withArtifacts(preset),
    ...(preset === 'lagkv' ? { lag_size: 32 } : {}),
    ...(drawsLots(preset) && { seed: 7 }),
    ...(ratioPresets.includes(preset) ? { compression_ratio: 0.5 } : {}),
  });

  /** What no preset has. */
  const others: Record<string, unknown>[] = [
    { scorer: 'knorm', layer_budget: { name: 'per_layer', compression_ratios: [0.2, 0.7, 0.4, 0.6, 0.3, 0.5] } },
    { scorer: 'keydiff', selection: { name: 'segments', segment_length: 100 }, compression_ratio: 0.5 }, // ranks within segments: ties, which knorm has of equal tokens, cannot be told by scores
    { scorer: 'snapkv', layer_budget: 'zigzag_shuffled', compression_ratio: 0.5 },
  ];
  /** Where they run on the device: test/gpu/schedules.test.ts. */
  const WHILE_DECODING = ['decoding', 'prefill_and_decoding', 'cam'];

  const onPrompt = shownPresets.filter((name) => presetParts(name)?.schedule.prefill !== false);
  const { runs, covered } = covering([...onPrompt.map((name) => (name === 'no_press' ? name : press(name))), ...others]);

  test('every part of the registry is among them', () => {
    const all = [scorers, layerBudgets, headBudgets, selections, transforms, schedules].flatMap((kind) => Object.values<PartInfo<z.ZodObject>>(kind));
    expect(all.filter((part) => !covered.has(part) && !WHILE_DECODING.includes(part.name)).map(({ name }) => name)).toEqual([]);
  });

  test.each(runs)(
    '$name: keeps the positions and deals the budgets of WASM, and answers with the same $maxTokens tokens',
    async ({ asked, maxTokens }) => {
      const kept = watchKept(LAYERS, KV_HEADS);
      const both = async () => [await generation(gpu, tokens, asked, { maxTokens }), await generation(wasm, tokens, asked, { maxTokens })];
      const [answer, expected] = await both().finally(kept.stop);
      const [got, want] = kept.seen;
      expect(kept.seen.length).toBe(2);
      expect(answer.tokens).toEqual(expected.tokens);
      expect(answer.usage.kept_per_layer).toEqual(expected.usage.kept_per_layer);
      expect(answer.usage.lmba_per_layer).toEqual(expected.usage.lmba_per_layer);
      if (!isDeepStrictEqual(got, want)) {
        const inspect = (engine: EdgeEngine) => engine.inspect({ kind: 'tokens', tokens }, parsePress(asked));
        expectSameKept(await inspect(gpu), await inspect(wasm)); // ties aside
        return;
      }
      for (const [i, mass] of answer.usage.retained_mass_per_layer.entries())
        if (mass !== null) expect(Math.abs(mass - expected.usage.retained_mass_per_layer[i]!)).toBeLessThan(1e-4);
    },
  );

  test.each(['int8', 'f16'])('%s entries: the same tokens as WASM, a tie aside', async (entry_type) => {
    const asked = { preset: 'snapkv', compression_ratio: 0.5, entry_type };
    const [got, want] = [await generation(gpu, tokens, asked), await generation(wasm, tokens, asked)];
    expect(got.usage.bytes_kept).toBe(want.usage.bytes_kept);
    expect(got.tokens.slice(0, 8)).toEqual(want.tokens.slice(0, 8));
  });

  test('a composed press keeps what it keeps on WASM', async () => {
    const asked = [
      { preset: 'snapkv', compression_ratio: 0.25 },
      { preset: 'keydiff', compression_ratio: 0.25 },
    ];
    expectSameKept(
      await gpu.inspect({ kind: 'tokens', tokens }, parsePress(asked)),
      await wasm.inspect({ kind: 'tokens', tokens }, parsePress(asked)),
    );
  });

  test('sampling with a seed, penalties and cut-offs: twice the same, and the tokens that the host draws on WASM', async () => {
    const sampling = { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.01, seed: 11, frequencyPenalty: 0.3, presencePenalty: 0.2, maxTokens: 48 };
    const first = await tokensOf(gpu, tokens, 'no_press', sampling);
    expect(await tokensOf(gpu, tokens, 'no_press', sampling)).toEqual(first);
    const onWasm = await tokensOf(wasm, tokens, 'no_press', sampling);
    const differs = first.findIndex((id, i) => id !== onWasm[i]);
    expect(differs === -1 || differs >= 24, `differs from token ${differs} on`).toBe(true); // a draw may fall between two tokens' borders
  });

  test('logprobs are read from the whole distribution: those of WASM', async () => {
    const [got, want] = [
      await generation(gpu, tokens, 'no_press', { topLogprobs: 5, maxTokens: 4 }),
      await generation(wasm, tokens, 'no_press', { topLogprobs: 5, maxTokens: 4 }),
    ];
    expect(got.tokens).toEqual(want.tokens);
    for (const [i, { logprob, top }] of got.logprobs.entries()) {
      expect(Math.abs(logprob - want.logprobs[i].logprob)).toBeLessThan(1e-3);
      expect(top.map(({ tokenId }) => tokenId)).toEqual(want.logprobs[i].top.map(({ tokenId }) => tokenId));
    }
  });

  test('two requests at once get what each gets alone', async () => {
    const other = samples.find((sample) => sample.context_length === 256 && sample.task === 'qa')!.prompt_token_ids;
    const alone = [await tokensOf(gpu, tokens, 'no_press', { maxTokens: 20 }), await tokensOf(gpu, other, 'snapkv', { maxTokens: 20 })];
    const together = await Promise.all([tokensOf(gpu, tokens, 'no_press', { maxTokens: 20 }), tokensOf(gpu, other, 'snapkv', { maxTokens: 20 })]);
    expect(together).toEqual(alone);
  });
});

/**
 * Every part once with an answer of 64 tokens; other compositions with one of 16. Of families, whose scorers have run, one for each way that the layer
 * budget takes scores.
 */
function covering(presses: readonly unknown[]) {
  const covered = new Set<unknown>();
  const ways = new Set<string>();
  const runs = presses.flatMap((asked) => {
    const request = parsePress(asked);
    const { scorer, layerBudget, headBudget, selection, transforms, schedule } = request.presses[0] ?? {};
    const parts = [scorer, layerBudget, headBudget, selection, ...(transforms ?? []), schedule].flatMap((chosen) => chosen?.part ?? []);
    const brings = parts.some((part) => !covered.has(part));
    for (const part of parts) covered.add(part);
    const family = FAMILIES.find((budget) => request.name.startsWith(`${budget}_`));
    const way = `${family} ${scorer?.part.massMap}`;
    if (!brings && family !== undefined && ways.has(way)) return [];
    ways.add(way);
    return [{ name: request.name, asked, maxTokens: brings ? 64 : 16 }];
  });
  return { runs, covered };
}

/** Positions that only one keeps must have scores within 1e-5, of the largest, of the last one kept: f32 sums in another order. */
function expectSameKept(got: Inspection, want: Inspection): void {
  for (const [l, { heads }] of want.layers.entries()) {
    for (const [h, { kept, scores }] of heads.entries()) {
      const other = got.layers[l].heads[h];
      const numbers = scores.filter((score) => score !== null);
      const [last, most] = [numbers.at(-1) ?? 0, Math.max(0, ...numbers.map(Math.abs))];
      for (const [a, b] of [
        [{ kept, scores }, new Set(other.kept)],
        [other, new Set(kept)],
      ] as const) {
        for (const [rank, position] of a.kept.entries()) {
          if (b.has(position)) continue;
          const score = a.scores[rank];
          if (score === null || Math.abs(score - last) > 1e-5 * most)
            throw new Error(`layer ${l} head ${h}: position ${position} (score ${score}, cut ${last}) is kept by one only`);
        }
      }
    }
  }
}
