/** What lies between operations and the device: the order of uploads and dispatches, the arena, buffers and their pieces. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { at, type DeviceBuffer, OutOfDeviceMemory } from '../../worker/backend/backend.ts';
import { Buffers, GpuBlock } from '../../worker/backend/webgpu/buffers.ts';
import type { WebGpuBackend } from '../../worker/backend/webgpu.ts';
import { openBackends } from '../support/gpu-backends.ts';

let gpu: WebGpuBackend;
beforeEach(async () => {
  ({ gpu } = await openBackends());
});
afterEach(() => gpu.close());

const f32 = async (buffer: DeviceBuffer, length: number): Promise<number[]> => [
  ...new Float32Array((await gpu.read(buffer, length * 4)).slice().buffer),
];

/** silu(x) * up for x so large that silu(x) = x: a dispatch that multiplies. */
const times = (out: DeviceBuffer, x: DeviceBuffer, y: DeviceBuffer, count: number): void => gpu.swiglu(out, x, y, count);

test('a write comes between the dispatches that were recorded before and after it', async () => {
  const [x, y, first, second] = ['x', 'y', 'first', 'second'].map((label) => gpu.alloc(8, label));
  gpu.write(x, Float32Array.of(100, 200));
  gpu.write(y, Float32Array.of(1, 2));
  times(first, x, y, 2);
  gpu.write(y, Float32Array.of(3, 4));
  times(second, x, y, 2);
  expect(await f32(first, 2)).toEqual([100, 400]);
  expect(await f32(second, 2)).toEqual([300, 800]);
});

test('so does one that is too large for the arena', async () => {
  const count = 300_000; // 1.2 MB
  const [x, y, first, second] = ['x', 'y', 'first', 'second'].map((label) => gpu.alloc(count * 4, label));
  gpu.write(x, new Float32Array(count).fill(100));
  gpu.write(y, new Float32Array(count).fill(1));
  times(first, x, y, count);
  gpu.write(y, new Float32Array(count).fill(3));
  times(second, x, y, count);
  expect((await f32(first, count)).every((value) => value === 100)).toBe(true);
  expect((await f32(second, count)).every((value) => value === 300)).toBe(true);
});

test('more Dims than the arena holds go in several submissions, in order', async () => {
  const [x, y] = [gpu.alloc(4, 'x'), gpu.alloc(4, 'y')];
  gpu.write(x, Float32Array.of(50));
  gpu.write(y, Float32Array.of(1));
  const before = gpu.recorder.counts.submissions;
  for (let i = 0; i < 9000; i++) gpu.swiglu(x, x, y, 1); // 50 * sigmoid(50) = 50
  expect(await f32(x, 1)).toEqual([50]);
  expect(gpu.recorder.counts.submissions - before).toBeGreaterThan(2);
});

test('a copy within one buffer, which WebGPU refuses, goes by another', async () => {
  const x = gpu.alloc(32, 'x');
  gpu.write(x, Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8));
  gpu.copy(at(x, 16), x, 12);
  expect(await f32(x, 8)).toEqual([1, 2, 3, 4, 1, 2, 3, 8]);
});

test('more workgroups than one dimension has go on in the second', async () => {
  const count = 65_536 * 256 + 1000;
  const [x, y] = [gpu.alloc(count * 4, 'x'), gpu.alloc(count * 4, 'y')];
  gpu.write(x, new Float32Array(count).fill(100));
  gpu.write(y, new Float32Array(count).fill(2));
  gpu.swiglu(x, x, y, count);
  const tail = await f32(at(x, (count - 1200) * 4) as DeviceBuffer, 1200);
  expect(tail.every((value) => value === 200)).toBe(true);
});

test('reads of one turn of the event loop share a submission', async () => {
  const buffers = Array.from({ length: 5 }, (_, i) => {
    const buffer = gpu.alloc(4, `x${i}`);
    gpu.write(buffer, Float32Array.of(i));
    return buffer;
  });
  const before = gpu.recorder.counts.submissions;
  const read = await Promise.all(buffers.map((buffer) => f32(buffer, 1)));
  expect(read).toEqual([[0], [1], [2], [3], [4]]);
  expect(gpu.recorder.counts.submissions - before).toBe(1);
});

test('what is written, copied and bound must be whole words; a freed buffer is refused by name', () => {
  const x = gpu.alloc(16, 'x');
  expect(() => gpu.write(x, new Uint8Array(3))).toThrow(/multiple of 4/);
  expect(() => gpu.swiglu(at(x, 2), x, x, 1)).toThrow(/multiple of 4/);
  gpu.free(x);
  expect(() => gpu.free(x)).toThrow(/x was freed twice/);
  expect(() => gpu.write(x, new Uint8Array(4))).toThrow(/x is used after it was freed/);
});

describe('buffers', () => {
  /** What Buffers needs of a device, and how many GPU buffers there are. */
  function fakeDevice(most: number) {
    const state = { live: 0 };
    const createBuffer = () => {
      state.live++;
      return { destroy: () => state.live-- };
    };
    const device = { limits: { maxBufferSize: most, maxStorageBufferBindingSize: most }, createBuffer } as unknown as GPUDevice;
    return { state, device };
  }

  test('sizes are rounded by at most an eighth; a freed buffer serves the next of its size; trim destroys it', () => {
    const { state, device } = fakeDevice(2 ** 30);
    const buffers = new Buffers(device, 2 ** 30, () => {});
    for (let bytes = 300; bytes < 10_000_000; bytes = Math.floor(bytes * 1.37)) {
      const before = buffers.usedBytes;
      buffers.alloc(bytes, 'x');
      const taken = buffers.usedBytes - before;
      expect(taken).toBeGreaterThanOrEqual(bytes);
      expect(taken).toBeLessThanOrEqual(Math.max(bytes * 1.125, bytes + 256));
    }
    const count = state.live;
    const x = buffers.alloc(5000, 'x');
    buffers.free(x);
    const y = buffers.alloc(5100, 'y');
    expect(state.live).toBe(count + 1);
    buffers.free(y);
    buffers.trim();
    expect(state.live).toBe(count);
    buffers.close();
    expect([state.live, buffers.usedBytes, buffers.live.length]).toEqual([0, 0, 0]);
  });

  test('the limit counts; idle buffers make room before anything is refused', () => {
    const { state, device } = fakeDevice(2 ** 30);
    const buffers = new Buffers(device, 4096, () => {});
    const x = buffers.alloc(2048, 'x');
    buffers.free(x);
    buffers.alloc(4096, 'y'); // not the size of x, which must go
    expect(state.live).toBe(1);
    expect(() => buffers.alloc(1, 'z')).toThrow(OutOfDeviceMemory);
  });

  test('what is said to be free can be had in blocks of any sizes', () => {
    const buffers = new Buffers(fakeDevice(2 ** 30).device, 2 ** 20, () => {});
    for (const bytes of [262_145, 131_073, 65_537, 1, 1]) buffers.alloc(bytes, 'x'); // as badly rounded as can be
    while (buffers.freeBytes > 0) buffers.alloc(Math.min(buffers.freeBytes, 32_769), 'y');
    expect(buffers.usedBytes).toBeLessThanOrEqual(2 ** 20);

    const whole = new Buffers(fakeDevice(2 ** 30).device, 2 ** 20, () => {});
    const third = Math.floor(whole.freeBytes / 3);
    for (let i = 0; i < 3; i++) whole.alloc(third, 'z');
  });

  test('a block that one binding cannot hold is cut where it may be, and refused where it may not', () => {
    const { state, device } = fakeDevice(1000);
    const buffers = new Buffers(device, 2 ** 20, () => {});
    const block = buffers.alloc(2500, 'weights', (_, most) => Math.floor(most / 64) * 64);
    expect(block.segments.map(({ start, bytes }) => [start, bytes])).toEqual([
      [0, 960],
      [960, 960],
      [1920, 580],
    ]);
    buffers.free(block);
    expect(state.live).toBe(0);
    expect(() => buffers.alloc(2500, 'pool')).toThrow(/pool \(this device binds 1000 bytes at most\)/);
    expect(state.live).toBe(0);
  });

  test('reads, writes and copies go across the pieces of a block', async () => {
    const piece = (bytes: number) =>
      gpu.recorder.device.createBuffer({ size: bytes, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST });
    const cut = new GpuBlock(40, 'cut', [
      { gpu: piece(16), start: 0, bytes: 16 },
      { gpu: piece(8), start: 16, bytes: 8 },
      { gpu: piece(16), start: 24, bytes: 16 },
    ]);
    gpu.write(
      cut,
      Float32Array.from({ length: 10 }, (_, i) => i),
    );
    expect(await f32(cut, 10)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(await f32(at(cut, 12) as DeviceBuffer, 5)).toEqual([3, 4, 5, 6, 7]);
    const whole = gpu.alloc(40, 'whole');
    gpu.copy(whole, at(cut, 4), 36);
    gpu.copy(at(cut, 8), whole, 24);
    expect(await f32(cut, 10)).toEqual([0, 1, 1, 2, 3, 4, 5, 6, 8, 9]);
  });
});
