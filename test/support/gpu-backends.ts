/** The WebGPU backend beside the WASM one and the float64 reference, for parity tests: the same numbers into each, an operation, what came out. */
import { readFileSync } from 'node:fs';
import type { Backend, DeviceBuffer, View } from '../../worker/backend/backend.ts';
import { Kernels } from '../../worker/backend/kernels.ts';
import { WasmBackend } from '../../worker/backend/wasm.ts';
import { type DeviceOptions, openDevice } from '../../worker/backend/webgpu/device.ts';
import { openWebGpu, WebGpuBackend } from '../../worker/backend/webgpu.ts';
import { GIVEN } from '../../worker/engine/artifacts.ts';
import type { EdgeEngine } from '../../worker/engine/engine.ts';
import { type LoadSettings, loadEngine } from '../../worker/engine/load.ts';
import { openFolder, openModelPath } from '../../worker/engine/weights/node-files.ts';
import { loadOpened } from '../../worker/engine/weights/open-model.ts';
import type { Host } from '../../worker/host.ts';
import { nodeHost } from '../../worker/host-node.ts';
import { goldenPath } from './golden.ts';
import { testGpu } from './gpu.ts';
import { ReferenceBackend } from './reference-backend.ts';

export interface Backends {
  readonly gpu: WebGpuBackend;
  readonly wasm: WasmBackend;
  readonly reference: ReferenceBackend;
  /** The module's memory, in which tests write page tables and lengths for all three. */
  readonly kernels: Kernels;
}

export async function openBackends(options: DeviceOptions = {}): Promise<Backends> {
  const kernels = await Kernels.create({ kernels: { simd: await WebAssembly.compile(readFileSync('build/kernels.wasm')) } });
  const opened = await openDevice(await testGpu(), options);
  if (!opened) throw new Error('the adapter is gone');
  return {
    gpu: new WebGpuBackend(opened, { ledgerMemory: kernels.memory }),
    wasm: new WasmBackend(kernels),
    reference: new ReferenceBackend({ ledger: kernels.memory }),
    kernels,
  };
}

/** A run of one operation on one backend: buffers are given back when it is done. */
export class Bench {
  readonly backend: Backend;
  readonly #buffers: DeviceBuffer[] = [];

  constructor(backend: Backend) {
    this.backend = backend;
  }

  put(data: ArrayBufferView, label = 'input'): DeviceBuffer {
    const buffer = this.room(data.byteLength, label);
    this.backend.write(buffer, data);
    return buffer;
  }
  room(bytes: number, label = 'output'): DeviceBuffer {
    const buffer = this.backend.alloc(Math.max(4, bytes), label);
    this.#buffers.push(buffer);
    return buffer;
  }
  async f32(view: View, length: number): Promise<Float32Array> {
    return new Float32Array((await this.backend.read(view, length * 4)).slice().buffer);
  }
  async u32(view: View, length: number): Promise<Uint32Array> {
    return new Uint32Array((await this.backend.read(view, length * 4)).slice().buffer);
  }
  close(): void {
    for (const buffer of this.#buffers) this.backend.free(buffer);
  }
}

/** Runs `work` on each of the backends and hands back what each returned. */
export async function onEach<T>({ gpu, wasm, reference }: Backends, work: (bench: Bench) => Promise<T>): Promise<{ gpu: T; wasm: T; reference: T }> {
  const on = async (backend: Backend): Promise<T> => {
    const bench = new Bench(backend);
    try {
      return await work(bench);
    } finally {
      bench.close();
    }
  };
  return { gpu: await on(gpu), wasm: await on(wasm), reference: await on(reference) };
}

/** Throws where `got` is further from `want` than `room(want[i], i)`; says where. */
export function expectClose(what: string, got: Float32Array, want: ArrayLike<number>, room: (value: number, i: number) => number): void {
  if (got.length !== want.length) throw new Error(`${what}: ${got.length} numbers, ${want.length} expected`);
  for (let i = 0; i < got.length; i++) {
    const off = Math.abs(got[i] - want[i]);
    if (!(off <= room(want[i], i))) throw new Error(`${what}: [${i}] is ${got[i]}, ${want[i]} expected, ${off} apart, ${room(want[i], i)} allowed`);
  }
}

/** A golden model on the GPU, and the backend below it, so that a test can count what it records or take its device away. */
export async function openOnGpu(
  name: string,
  { largestBytes, ...settings }: LoadSettings & { largestBytes?: number } = {},
): Promise<{ engine: EdgeEngine; backend: WebGpuBackend }> {
  const gpu = await testGpu();
  let backend: WebGpuBackend | null = null;
  const host: Host = {
    ...(await nodeHost()),
    webgpu: async (options) => {
      backend = await openWebGpu(gpu, { ...options, largestBytes });
      return backend;
    },
  };
  const model = await openModelPath(goldenPath(name));
  const artifacts = { files: openFolder(`test/golden/library/artifacts/${name}`), where: GIVEN };
  try {
    const engine = await loadEngine(host, (arena) => loadOpened(name, model, {}, arena), { ...settings, backend: 'webgpu' }, artifacts);
    return { engine, backend: backend! };
  } finally {
    await model.source.close();
  }
}
