import { afterAll, beforeAll, expect, test } from 'vitest';
import { at } from '../../../worker/backend/backend.ts';
import { type Backends, onEach, openBackends } from '../../support/gpu-backends.ts';
import { awkwardFloats } from '../../support/half.ts';

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => backends.gpu.close());

test('halve and widen: bits of float64 and of WASM, within a buffer too, one dispatch each', async () => {
  const all = awkwardFloats();
  const counts = [2, 6, 510, 512, 514, all.length];
  for (const count of counts) {
    const { gpu, wasm, reference } = await onEach(backends, async (bench) => {
      const [halves, out] = [bench.room(count * 2 + 64), bench.room(count * 4 + 64)];
      bench.backend.halve(at(halves, 64), bench.put(all.slice(-count)), count);
      bench.backend.widen(at(out, 64), at(halves, 64), count);
      return [await bench.u32(at(halves, 64), count / 2), await bench.f32(at(out, 64), count)];
    });
    expect(gpu[0]).toEqual(reference[0]);
    expect(wasm[0]).toEqual(reference[0]);
    expect(gpu[1]).toEqual(reference[1]);
    expect(wasm[1]).toEqual(reference[1]);
  }
  expect(backends.gpu.recorder.counts.dispatches).toBe(2 * counts.length);
  expect(backends.gpu.buffers.live).toEqual([]);
});
