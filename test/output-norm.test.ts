/** presses/output-norm.ts: W_o in every layout it can be stored in, in one slab and in several, against float64. */
import { expect, test } from 'vitest';
import type { ScoreContext } from '../presses/contract.ts';
import { groupOutputNorms, outputNorms, outputNormsBytes } from '../presses/output-norm.ts';
import type { DeviceBuffer, WeightType } from '../worker/backend/backend.ts';
import { pack } from '../worker/backend/layout/pack.ts';
import { unpack } from '../worker/backend/layout/records.ts';
import { shapeOf } from './support/press-run.ts';
import { compared } from './support/press-runtimes.ts';
import { Random } from './support/random.ts';

const [, { make }] = compared;

test.each([
  { type: 'f32', D: 24 },
  { type: 'f16', D: 24 },
  { type: 'bf16', D: 23 },
  { type: 'q8', D: 24 },
  { type: 'q4', D: 24 },
  { type: 'f16', D: 20_000 }, // three slabs
] as const)('output norms through W_o in $type with $D rows, within 1e-5 of float64 and within the scratch that is told', async ({ type, D }) => {
  const { backend } = await make();
  const random = new Random(71);
  const [n, shape] = [5, shapeOf(4, 2, 32)];
  const [Hq, H, d] = [4, 2, 32];
  const before = backend.memory.usedBytes;
  const values = random.normals(n * H * d);
  const bytes = pack(type as WeightType, random.normals(D * Hq * d, 0.1), D, Hq * d);
  const w = unpack(type, bytes, D, Hq * d);
  const borrowed: DeviceBuffer[] = [];
  const scratch = (size: number, label: string): DeviceBuffer => {
    borrowed.push(backend.alloc(size, label));
    return borrowed[borrowed.length - 1];
  };
  const v = scratch(values.byteLength, 'values');
  const output = { buffer: scratch(bytes.byteLength, 'W_o'), offset: 0, type, rows: D, cols: Hq * d };
  backend.write(v, values);
  backend.write(output, bytes);
  const given = backend.memory.usedBytes;
  const context = { backend, scratch, v, n, shape, model: { hiddenSize: D, output } } as unknown as ScoreContext;
  for (const p of [1, 2] as const) {
    const used = backend.memory.usedBytes;
    const norms = outputNorms(context, p);
    const took = backend.memory.usedBytes - used;
    expect(took).toBeLessThanOrEqual(outputNormsBytes({ n, window: 0, queryHeads: Hq, kvHeads: H, headDim: d, hiddenSize: D }));
    const means = groupOutputNorms(context, p);
    const got = new Float32Array((await backend.read(norms, Hq * n * 4)).slice().buffer);
    const gotMeans = new Float32Array((await backend.read(means, H * n * 4)).slice().buffer);
    for (let a = 0; a < Hq; a++) {
      for (let t = 0; t < n; t++) {
        let total = 0;
        for (let r = 0; r < D; r++) {
          let y = 0;
          for (let c = 0; c < d; c++) y += values[(t * H + (a >> 1)) * d + c] * w[r * Hq * d + a * d + c];
          total += Math.abs(y) ** p;
        }
        expect(Math.abs(got[a * n + t] / total ** (1 / p) - 1)).toBeLessThan(1e-5);
      }
    }
    for (let i = 0; i < H * n; i++) {
      const [h, t] = [Math.floor(i / n), i % n];
      expect(gotMeans[i]).toBeCloseTo((got[2 * h * n + t] + got[(2 * h + 1) * n + t]) / 2, 3);
    }
  }
  expect(given).toBeGreaterThan(before);
  for (const buffer of borrowed) backend.free(buffer);
});
