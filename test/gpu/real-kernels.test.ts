/** Whole models by the kernels that real GPUs get: tests run on software adapters, which take others where barriers are slow. */
import { expect, test } from 'vitest';
import { parsePress } from '../../presses/config.ts';
import type { EdgeEngine } from '../../worker/engine/engine.ts';
import { openGolden, tokensOf } from '../support/golden.ts';
import { openOnGpu } from '../support/gpu-backends.ts';
import { Random } from '../support/random.ts';

const none = parsePress('no_press');

/** Tolerances as in model.test.ts. */
test.each([
  ['needle', 1e-3],
  ['mistral', 1e-3],
  ['qwen3', 1e-3],
  ['tiny-llama', 0.25],
  ['tiny-qwen2', 1e-2],
])('%s: logits and tokens of WASM, %d apart at most', async (name, tolerance) => {
  const { engine: gpu, backend } = await openOnGpu(name, { contextLength: 512 });
  Object.defineProperty(backend, 'software', { value: false });
  const wasm = await openGolden(name, { contextLength: 512 });
  try {
    const random = new Random(5);
    for (const length of [1, 40, 170]) {
      const tokens = Array.from({ length }, () => random.int(0, wasm.info.vocabSize - 1));
      const [got, want] = [await gpu.logits({ kind: 'tokens', tokens }, none), await wasm.logits({ kind: 'tokens', tokens }, none)];
      expect(got.reduce((most, value, i) => Math.max(most, Math.abs(value - want[i])), 0)).toBeLessThan(tolerance);
    }
    const prompt = Array.from({ length: 170 }, () => random.int(0, wasm.info.vocabSize - 1));
    for (const press of ['no_press', 'zigzag_snapkv', { preset: 'keydiff', entry_type: 'int8' }]) {
      const answer = (engine: EdgeEngine) => tokensOf(engine, prompt, press, { maxTokens: 16 });
      const [got, want] = [await answer(gpu), await answer(wasm)];
      if (name === 'needle') expect(got).toEqual(want);
      else expect(got[0]).toBe(want[0]); // random weights: a near-tie later on may fall either way
    }
  } finally {
    gpu.close();
    wasm.close();
  }
});
