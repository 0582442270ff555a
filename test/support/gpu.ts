/** WebGPU for tests: Deno's own, which is wgpu, or in Node the package `webgpu`, which is Dawn. `npm test` runs files of test/gpu on both. */

export const stack: 'wgpu' | 'dawn' = 'Deno' in globalThis ? 'wgpu' : 'dawn';

/** Held for as long as the process lives: Dawn ends with the object that `create` returned. */
let gpu: GPU | undefined;

/** The stack's GPU object, with an adapter behind it. */
export async function testGpu(): Promise<GPU> {
  if (gpu) return gpu;
  const opened = stack === 'wgpu' ? navigator.gpu : await openDawn();
  if (!(await opened.requestAdapter())) {
    throw new Error(
      `${stack} finds no adapter: \`npm run test:gpu\` looks for a Vulkan driver and installs one; \`node scripts/vulkan.mjs\` says which`,
    );
  }
  gpu = opened;
  return gpu;
}

async function openDawn(): Promise<GPU> {
  const { create, globals } = await import('webgpu');
  Object.assign(globalThis, globals); // GPUBufferUsage and the like
  return create([]);
}
