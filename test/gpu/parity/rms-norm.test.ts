import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { NormPart } from '../../../worker/backend/backend.ts';
import type { Feature } from '../../../worker/backend/webgpu/device.ts';
import { type Backends, expectClose, onEach, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

/** Where the adapter has subgroups (Dawn on lavapipe 25, Chromium; never wgpu), the entry that uses them too. */
const ways: [entry: string, software: boolean, without: readonly Feature[]][] = [
  ['alone', true, []],
  ['main', false, ['subgroups']],
  ['the best for real GPUs', false, []],
];

describe.each(ways)('by %s', (_, software, without) => {
  let backends: Backends;
  beforeAll(async () => {
    backends = await openBackends({ without });
    Object.defineProperty(backends.gpu, 'software', { value: software });
  });
  afterAll(() => backends.gpu.close());

  test('rms-norm: 2e-6 relative of float64 and of WASM (f32 sums in another order), one array or two, in place or not', async () => {
    const random = new Random(1);
    for (const cols of [1, 3, 32, 64, 80, 96, 128, 576, 2048]) {
      for (const [rows0, rows1, inPlace] of [
        [1, 0, false],
        [7, 0, true],
        [5, 3, true],
        [64, 65, false],
        [300, 1, true],
      ] as const) {
        const data = [random.normals(rows0 * cols), random.normals(cols), random.normals(Math.max(1, rows1) * cols), random.normals(cols)];
        const results = await onEach(backends, async (bench) => {
          const [x0, w0, x1, w1] = data.map((numbers) => bench.put(numbers));
          const out = (x: typeof x0, rows: number) => (inPlace ? x : bench.room(rows * cols * 4));
          const parts: NormPart[] = [{ out: out(x0, rows0), x: x0, weight: w0, rows: rows0 }];
          if (rows1 > 0) parts.push({ out: out(x1, rows1), x: x1, weight: w1, rows: rows1 });
          bench.backend.rmsNorm(parts, cols, 1e-5);
          const read = await Promise.all(parts.map((part) => bench.f32(part.out, part.rows * cols)));
          return Float32Array.from(read.flatMap((numbers) => [...numbers]));
        });
        for (const want of [results.reference, results.wasm])
          expectClose(`rms-norm ${rows0}+${rows1} x ${cols}`, results.gpu, want, (value) => 2e-6 * Math.abs(value) + 1e-9);
      }
    }
  });

  test('nothing stays allocated', () => {
    expect(backends.gpu.buffers.live).toEqual([]);
  });
});
