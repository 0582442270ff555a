/** What a decoded token costs beside the arithmetic: dispatches, submissions, readbacks. Bounds of the issue that built this backend. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Counts, countsSince } from '../../worker/backend/webgpu/recorder.ts';
import type { WebGpuBackend } from '../../worker/backend/webgpu.ts';
import type { EdgeEngine } from '../../worker/engine/engine.ts';
import { requestOf } from '../support/generation.ts';
import { openOnGpu } from '../support/gpu-backends.ts';

/** Qwen3 has norms of its heads: a dispatch more. */
const models: [name: string, perLayer: number][] = [
  ['needle', 11],
  ['qwen3', 12],
];

describe.each(models)('%s', (name, perLayer) => {
  let engine: EdgeEngine;
  let backend: WebGpuBackend;
  beforeAll(async () => {
    ({ engine, backend } = await openOnGpu(name, { contextLength: 512 }));
  });
  afterAll(() => engine.close());

  /** What generating so many tokens took in all. */
  const costOf = async (tokens: number, press: string): Promise<Counts> => {
    const before = { ...backend.recorder.counts };
    const prompt = Array.from({ length: 160 }, (_, i) => i % engine.info.vocabSize);
    for await (const _ of engine.generate(requestOf(prompt, press, { maxTokens: tokens })));
    return countsSince(before, backend.recorder.counts);
  };

  test.each(['no_press', 'snapkv'])('%s: at most 12 dispatches a layer and 2 submissions a token', async (press) => {
    const [few, many] = [await costOf(17, press), await costOf(81, press)];
    const perToken = (what: keyof Counts): number => (many[what] - few[what]) / 64;
    console.log(
      `${name}, ${press}: ${perToken('dispatches')} dispatches, ${perToken('submissions')} submissions, ${perToken('uploadedBytes')} bytes up, ${perToken('readBytes')} bytes back a decoded token`,
    );
    const besideLayers = 5; // embedding, last norm, head, two for sampling
    expect(perToken('dispatches')).toBeLessThanOrEqual(perLayer * engine.info.layers + besideLayers);
    expect(perToken('submissions')).toBeLessThanOrEqual(2);
  });
});
