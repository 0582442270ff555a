/** The host for browsers: kernels from beside the bundle, relaxed SIMD where the browser validates it, the browser's WebGPU. */
import { InputError } from '../presses/input-error.ts';
import type { Backend } from './backend/backend.ts';
import { openWebGpu, type WebGpuOptions } from './backend/webgpu.ts';
import type { Host } from './host.ts';

type Modules = Host['kernels'];

let kernels: Promise<Modules> | null = null;

export async function browserHost({ memoryLimitBytes }: { memoryLimitBytes?: number }): Promise<Host> {
  kernels ??= compiledKernels().catch((error: unknown) => {
    kernels = null; // the next call tries again
    throw error;
  });
  return { kernels: await kernels, webgpu: openGpu, memoryLimitBytes };
}

/** Written out, so that bundlers see two files which they are to bring along. scripts/build-browser.mjs puts them beside the bundle. */
async function compiledKernels(): Promise<Modules> {
  const [simd, relaxed] = await Promise.all([
    bytesOf(new URL('./kernels.wasm', import.meta.url)),
    bytesOf(new URL('./kernels-relaxed.wasm', import.meta.url)),
  ]);
  if (!WebAssembly.validate(simd)) throw new InputError('no_simd', null, 'this browser has no WASM SIMD; any of the years since 2023 has it');
  const compiled = await WebAssembly.compile(simd);
  return WebAssembly.validate(relaxed) ? { simd: compiled, relaxed: await WebAssembly.compile(relaxed) } : { simd: compiled };
}

async function bytesOf(url: URL): Promise<ArrayBuffer> {
  const missing = (seen: string) =>
    new InputError('kernels_missing', null, `${url} cannot be fetched: ${seen}; kernels.wasm and kernels-relaxed.wasm belong beside edgepress.js`);
  const response = await fetch(url).catch((error: Error) => {
    throw missing(error.message);
  });
  if (!response.ok) throw missing(`status ${response.status}`);
  return response.arrayBuffer();
}

async function openGpu(options: WebGpuOptions): Promise<Backend> {
  const { gpu } = navigator;
  if (!gpu) throw noGpu('this browser has no WebGPU, or not on this page');
  const backend = await openWebGpu(gpu, options).catch((error: Error) => {
    throw noGpu(`the adapter of this browser's WebGPU gives no device (${error.message})`);
  });
  if (!backend) throw noGpu('this browser has WebGPU and no adapter for it: no GPU, or a driver that it does not trust');
  return backend;
}

function noGpu(why: string): InputError {
  return new InputError('no_gpu', 'backend', `${why}; backend "wasm" works everywhere`);
}
