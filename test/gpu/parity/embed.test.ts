import { afterAll, beforeAll, expect, test } from 'vitest';
import type { WeightType } from '../../../worker/backend/backend.ts';
import { pack } from '../../../worker/backend/layout/pack.ts';
import { unpack, weightBytes } from '../../../worker/backend/layout/records.ts';
import { GpuBlock } from '../../../worker/backend/webgpu/buffers.ts';
import { type Backends, Bench, openBackends } from '../../support/gpu-backends.ts';
import { Random } from '../../support/random.ts';

const types: readonly WeightType[] = ['f32', 'f16', 'bf16', 'q8', 'q4'];

let backends: Backends;
beforeAll(async () => {
  backends = await openBackends();
});
afterAll(() => {
  expect(backends.gpu.buffers.live).toEqual([]);
  backends.gpu.close();
});

/** toEqual takes a second for so many numbers. */
function expectEqual(what: string, got: Uint32Array, want: Uint32Array): void {
  expect(got.length, what).toBe(want.length);
  expect(
    got.findIndex((bits, i) => bits !== want[i]),
    `${what}: the first that differs`,
  ).toBe(-1);
}

test.each(types)('embed %s: rows equal those of WASM and what the layout stands for, bit for bit', async (type) => {
  const random = new Random(types.indexOf(type) + 1);
  const quantized = type === 'q8' || type === 'q4';
  const run = async (bench: Bench, cols: number, n: number): Promise<void> => {
    const rows = random.int(1, 100);
    const values = random.normals(rows * cols);
    values.set([0, -0, 1e-6, -6e-8, 65504].slice(0, values.length)); // f16's subnormals and its largest number among them
    const bytes = pack(type, values, rows, cols);
    const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4); // odd f16
    padded.set(bytes);
    const tokens = Uint32Array.from({ length: n }, (_, i) => (i === 0 ? rows - 1 : random.int(0, rows - 1)));
    const out = bench.room(n * cols * 4);
    bench.backend.embed(out, { buffer: bench.put(padded).buffer, offset: 0, type, rows, cols }, bench.put(tokens), n);
    const wasm = new Bench(backends.wasm);
    const other = wasm.room(n * cols * 4);
    wasm.backend.embed(other, { buffer: wasm.put(bytes).buffer, offset: 0, type, rows, cols }, wasm.put(tokens), n);
    const onWasm = await wasm.u32(other, n * cols);
    wasm.close();
    const table = unpack(type, bytes, rows, cols);
    const want = Float32Array.from([...tokens].flatMap((token) => [...table.subarray(token * cols, (token + 1) * cols)]));
    const got = await bench.u32(out, n * cols);
    expectEqual(`${n} of ${rows} x ${cols}, WASM`, got, onWasm);
    expectEqual(`${n} of ${rows} x ${cols}`, got, new Uint32Array(want.buffer));
  };
  const bench = new Bench(backends.gpu);
  await Promise.all((quantized ? [32, 96, 576] : [1, 3, 32, 33, 192, 576]).flatMap((cols) => [1, 5, 130].map((n) => run(bench, cols, n))));
  bench.close();
});

test.each(types)('embed %s: a table in several buffers, a dispatch each', async (type) => {
  const random = new Random(9);
  const { gpu, wasm } = backends;
  const [rows, cols, n] = [90, 64, 40];
  const bytes = pack(type, random.normals(rows * cols), rows, cols);
  const group = weightBytes(type, 4, cols);
  const cuts = [0, 3 * group, 4 * group, 20 * group, bytes.length];
  const segments = cuts.slice(1).map((end, i) => {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    return { gpu: gpu.recorder.device.createBuffer({ size: end - cuts[i], usage }), start: cuts[i], bytes: end - cuts[i] };
  });
  const block = new GpuBlock(bytes.length, 'table in pieces', segments);
  gpu.write(block, bytes);
  const tokens = Uint32Array.from({ length: n }, () => random.int(0, rows - 1));
  tokens.set([0, 11, 12, 15, 16, 79, 80, 89]); // first and last rows of each piece
  const [onGpu, onWasm] = [new Bench(gpu), new Bench(wasm)];
  const [out, want] = [onGpu.room(n * cols * 4), onWasm.room(n * cols * 4)];
  const before = gpu.recorder.counts.dispatches;
  gpu.embed(out, { buffer: block, offset: 0, type, rows, cols }, onGpu.put(tokens), n);
  expect(gpu.recorder.counts.dispatches - before).toBe(segments.length);
  wasm.embed(want, { buffer: onWasm.put(bytes).buffer, offset: 0, type, rows, cols }, onWasm.put(tokens), n);
  expect(await onGpu.u32(out, n * cols)).toEqual(await onWasm.u32(want, n * cols));
  for (const bench of [onGpu, onWasm]) bench.close();
  gpu.recorder.forget();
  for (const segment of segments) segment.gpu.destroy();
});
