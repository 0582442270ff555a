/** The AssemblyScript module on its memory: the plain-SIMD build, or the relaxed one where the host computes it right. */
import type { Host } from '../host.ts';
import { Heap } from './heap.ts';
import type { KernelExports } from './kernel-exports.ts';

const WASM_PAGE = 65536;
/** 4 GiB less one page: more than a 32-bit address can tell apart from null. */
const MOST_BYTES = 65535 * WASM_PAGE;

export class Kernels {
  readonly exports: KernelExports;
  readonly memory: WebAssembly.Memory;
  readonly heap: Heap;
  readonly variant: 'plain simd' | 'relaxed simd';

  private constructor(instance: WebAssembly.Instance, memory: WebAssembly.Memory, heap: Heap, variant: Kernels['variant']) {
    this.exports = instance.exports as unknown as KernelExports;
    this.memory = memory;
    this.heap = heap;
    this.variant = variant;
  }

  static async create(host: Host): Promise<Kernels> {
    const limit = Math.min(MOST_BYTES, Math.floor((host.memoryLimitBytes ?? MOST_BYTES) / WASM_PAGE) * WASM_PAGE);
    const memory = new WebAssembly.Memory({ initial: 2, maximum: limit / WASM_PAGE });
    const make = async (module: WebAssembly.Module, variant: Kernels['variant']): Promise<Kernels> => {
      const instance = await WebAssembly.instantiate(module, { env: { memory } });
      const base = (instance.exports.heapBase as () => number)();
      return new Kernels(instance, memory, new Heap(memory, base, limit), variant);
    };
    if (host.kernels.relaxed) {
      const relaxed = await make(host.kernels.relaxed, 'relaxed simd');
      if (relaxed.exports.relaxedSelfTest() === 1) return relaxed;
    }
    return make(host.kernels.simd, 'plain simd');
  }

  f32(address: number, length: number): Float32Array {
    return new Float32Array(this.memory.buffer, address, length);
  }
  u32(address: number, length: number): Uint32Array {
    return new Uint32Array(this.memory.buffer, address, length);
  }
  u8(address: number, length: number): Uint8Array {
    return new Uint8Array(this.memory.buffer, address, length);
  }
}
