/** Logits and greedy tokens against Hugging Face transformers, in float32 (test/golden/README.md says how the files are made). */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parsePress } from '../presses/config.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { golden, openGolden, tokensOf } from './support/golden.ts';

interface Logits {
  model: string;
  vocab_size: number;
  prompts: { name: string; token_ids: number[]; last_logits: number[]; all_logits?: number[][]; greedy: number[]; greedy_margins: number[] }[];
}

/** f32 sums in another order than torch's; the logits are of order 10. The bar. */
const TOLERANCE = 1e-3;
/** Activations are rounded to 12 bits of a block's largest (decode) or 15 of a segment's (prefill) before they meet 4- and 8-bit weights: 1% of the logits' spread. */
const QUANTISED_TOLERANCE = 0.05;
/**
 * Q5_K and Q6_K move to 8-bit blocks of another shape, off by 1/253 of a block's largest weight, 0.6% of a typical one in each matrix. After 14
 * matrices of random weights, where nothing averages out, and the worst of 1,536 logits with a spread of 5: about a tenth of the spread.
 */
const REQUANTISED_TOLERANCE = 0.6;

const cases: [model: string, logits: string, tolerance: number][] = [
  ['needle', 'needle', TOLERANCE],
  ['llama', 'llama', TOLERANCE],
  ['llama-sharded', 'llama', TOLERANCE],
  ['llama3', 'llama3', TOLERANCE],
  ['llama-linear', 'llama-linear', TOLERANCE],
  ['mistral', 'mistral', TOLERANCE],
  ['qwen2', 'qwen2', TOLERANCE],
  ['qwen3', 'qwen3', TOLERANCE],
  ['tiny-llama', 'tiny-llama', REQUANTISED_TOLERANCE],
  ['tiny-qwen2', 'tiny-qwen2', QUANTISED_TOLERANCE],
];

const none = parsePress('no_press');

describe.each(cases)('golden logits: %s', (model, file, tolerance) => {
  const { prompts } = golden<Logits>(`logits/${file}.json`);
  let engine: EdgeEngine;
  beforeAll(async () => {
    engine = await openGolden(model, { contextLength: 2048 });
  });
  afterAll(() => engine.close());

  const worst = (seen: Float32Array, expected: number[]): number => expected.reduce((most, value, i) => Math.max(most, Math.abs(value - seen[i])), 0);

  test.each(prompts.map((prompt) => [prompt.name, prompt] as const))('%s: logits agree with transformers', async (_, prompt) => {
    const logits = await engine.logits({ kind: 'tokens', tokens: prompt.token_ids }, none);
    expect(logits.length).toBe(prompt.last_logits.length);
    expect(worst(logits, prompt.last_logits)).toBeLessThan(tolerance);
    for (const [i, expected] of (prompt.all_logits ?? []).entries()) {
      const at = await engine.logits({ kind: 'tokens', tokens: prompt.token_ids.slice(0, i + 1) }, none);
      expect(worst(at, expected)).toBeLessThan(tolerance);
    }
  });

  test.each(prompts.map((prompt) => [prompt.name, prompt] as const))('%s: 64 greedy tokens are those of transformers', async (_, prompt) => {
    const seen = await tokensOf(engine, prompt.token_ids);
    const differs = seen.findIndex((id, i) => id !== prompt.greedy[i]);
    // Quantised weights may decide a near-tie the other way; f32, f16 and bf16 may not.
    if (tolerance > TOLERANCE && differs >= 0) expect(prompt.greedy_margins[differs]).toBeLessThan(2 * tolerance);
    else expect(seen).toEqual(prompt.greedy);
  });
});
