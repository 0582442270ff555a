/** The host for Node and Deno: kernels from the build folder. Relaxed SIMD only where the runtime validates it. */
import { readFile } from 'node:fs/promises';
import type { Host } from './host.ts';

export async function nodeHost(memoryLimitBytes?: number): Promise<Host> {
  const bytes = (name: string) => readFile(new URL(`../build/${name}`, import.meta.url));
  const simd = await WebAssembly.compile(await bytes('kernels.wasm'));
  const relaxed = await bytes('kernels-relaxed.wasm');
  return { kernels: WebAssembly.validate(relaxed) ? { simd, relaxed: await WebAssembly.compile(relaxed) } : { simd }, memoryLimitBytes };
}
