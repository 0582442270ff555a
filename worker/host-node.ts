/** The host for Node and Deno: kernels from the build folder, relaxed SIMD where the runtime validates it, the runtime's WebGPU or Dawn's. */
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import process from 'node:process';
import { InputError } from '../presses/input-error.ts';
import { openWebGpu } from './backend/webgpu.ts';
import type { Host } from './host.ts';

export async function nodeHost(memoryLimitBytes?: number): Promise<Host> {
  const bytes = (name: string) => readFile(new URL(`../build/${name}`, import.meta.url));
  const simd = await WebAssembly.compile(await bytes('kernels.wasm'));
  const relaxed = await bytes('kernels-relaxed.wasm');
  const kernels = WebAssembly.validate(relaxed) ? { simd, relaxed: await WebAssembly.compile(relaxed) } : { simd };
  return { kernels, webgpu: async (options) => openWebGpu(await nodeGpu(), options), memoryLimitBytes };
}

/** Held for as long as the process lives: Dawn ends with the object that `create` returned. */
let dawn: GPU | null = null;

/** Deno has a WebGPU of its own (wgpu); in Node the package `webgpu` brings Dawn. */
async function nodeGpu(): Promise<GPU> {
  if (process.platform === 'linux') process.env.XDG_RUNTIME_DIR ??= tmpdir(); // drivers complain of its absence, and need it for windows only
  const { gpu } = (globalThis as { navigator?: { gpu?: GPU } }).navigator ?? {};
  if (gpu) return gpu;
  if (dawn) return dawn;
  const { create, globals } = await import('webgpu').catch((error: Error) => {
    throw new InputError('no_gpu', 'backend', `Node has no WebGPU of its own: npm install webgpu brings Dawn's (${error.message.split('\n')[0]})`);
  });
  Object.assign(globalThis, globals); // GPUBufferUsage and the like
  dawn = create([]);
  return dawn;
}
