/** The adapter that every other test here stands on: it computes, and so does each optional feature that it names. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { stack, testGpu } from '../support/gpu.ts';

const optional: GPUFeatureName[] = ['shader-f16', 'subgroups', 'timestamp-query'];
let adapter: GPUAdapter;
let device: GPUDevice;

beforeAll(async () => {
  adapter = (await (await testGpu()).requestAdapter())!;
  const requiredFeatures = optional.filter((name) => adapter.features.has(name));
  device = await adapter.requestDevice({ requiredFeatures });
  const { vendor, architecture, description } = adapter.info;
  const features = optional.map((name) => `${name} ${requiredFeatures.includes(name) ? 'yes' : 'no'}`);
  console.log([`${stack}: ${vendor}, ${architecture}, ${description}`, ...features].join(', '));
});

afterAll(() => device?.destroy());

/** Runs a shader with `@binding(0)` in and `@binding(1)` out, 64 threads a workgroup; out is as long as in. */
async function compute(code: string, input: Float32Array<ArrayBuffer>, timestampWrites?: GPUComputePassTimestampWrites): Promise<Float32Array> {
  const module = device.createShaderModule({ code });
  const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } });
  const { STORAGE, COPY_DST, COPY_SRC, MAP_READ } = GPUBufferUsage;
  const buffer = (usage: number) => device.createBuffer({ size: input.byteLength, usage });
  const from = buffer(STORAGE | COPY_DST);
  const to = buffer(STORAGE | COPY_SRC);
  const read = buffer(COPY_DST | MAP_READ);
  device.queue.writeBuffer(from, 0, input);
  const entries = [from, to].map((buffer, binding) => ({ binding, resource: { buffer } }));
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass(timestampWrites && { timestampWrites });
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
  pass.dispatchWorkgroups(Math.ceil(input.length / 64));
  pass.end();
  encoder.copyBufferToBuffer(to, 0, read, 0, input.byteLength);
  device.queue.submit([encoder.finish()]);
  await read.mapAsync(GPUMapMode.READ);
  const output = new Float32Array(read.getMappedRange().slice(0));
  for (const used of [from, to, read]) used.destroy();
  return output;
}

const bindings = `
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
`;

const input = Float32Array.from({ length: 1000 }, (_, i) => i - 500);
const squares = `${bindings}
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= arrayLength(&x)) { return; }
  y[id.x] = x[id.x] * x[id.x];
}`;

test('a dispatch squares a thousand numbers, the last workgroup in part', async () => {
  expect(await compute(squares, input)).toEqual(input.map((value) => value * value));
});

test('a shader that is not WGSL is refused with a message', async () => {
  device.pushErrorScope('validation');
  const messages = (await device.createShaderModule({ code: 'fn main() -> u64 {}' }).getCompilationInfo()).messages;
  expect(await device.popErrorScope()).not.toBeNull();
  expect(messages.filter(({ type }) => type === 'error')).not.toEqual([]);
});

/** Without the feature its shader must not pass. */
async function isRefused(code: string): Promise<boolean> {
  device.pushErrorScope('validation');
  device.createShaderModule({ code });
  return (await device.popErrorScope()) !== null;
}

test('shader-f16: with it numbers are rounded to f16, without it `enable f16` is refused', async () => {
  const code = `enable f16;${bindings}
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
      if (id.x < arrayLength(&x)) { y[id.x] = f32(f16(x[id.x]) * 2.0h); }
    }`;
  if (!device.features.has('shader-f16')) return expect(await isRefused(code)).toBe(true);
  // 1 + 2^-11 lies half way to the next f16, 1 + 2^-10, and goes to the even one.
  const values = new Float32Array([1 + 2 ** -11, 1 + 2 ** -10, -0.5, 2048]);
  expect([...(await compute(code, values))]).toEqual([2, 2 + 2 ** -9, -1, 4096]);
});

test('subgroups: with them a sum over ones is the size, without them `enable subgroups` is refused', async () => {
  const code = `enable subgroups;${bindings}
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u, @builtin(subgroup_size) size: u32) {
      y[id.x] = subgroupAdd(x[id.x]) - f32(size);
    }`;
  if (!device.features.has('subgroups')) return expect(await isRefused(code)).toBe(true);
  expect([...(await compute(code, new Float32Array(64).fill(1)))]).toEqual(new Array(64).fill(0));
});

test('timestamp-query: with it a pass ends after it began, without it there is no such query', async () => {
  if (!device.features.has('timestamp-query')) return expect(() => device.createQuerySet({ type: 'timestamp', count: 2 })).toThrow(TypeError);
  const querySet = device.createQuerySet({ type: 'timestamp', count: 2 });
  await compute(squares, input, { querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 });
  const { QUERY_RESOLVE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
  const resolved = device.createBuffer({ size: 16, usage: QUERY_RESOLVE | COPY_SRC });
  const read = device.createBuffer({ size: 16, usage: COPY_DST | MAP_READ });
  const encoder = device.createCommandEncoder();
  encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
  encoder.copyBufferToBuffer(resolved, 0, read, 0, 16);
  device.queue.submit([encoder.finish()]);
  await read.mapAsync(GPUMapMode.READ);
  const [begin, end] = new BigUint64Array(read.getMappedRange());
  expect(end).toBeGreaterThanOrEqual(begin);
});
