/** The kernels module on a fresh memory with a bump allocator, without the engine. */

// The export list is the module's own; tests call what they test.
type Exports = Record<string, any>;

export interface TestKernels {
  /** The build with relaxed SIMD, which rounds q4's activations coarser. */
  readonly relaxed: boolean;
  readonly exports: Exports;
  readonly memory: WebAssembly.Memory;
  /** Room for `bytes`, 64-byte aligned; returns its address. */
  alloc(bytes: number): number;
  /** Copies data into memory; returns its address. */
  put(data: ArrayBufferView): number;
  f32(address: number, length: number): Float32Array;
  u32(address: number, length: number): Uint32Array;
  i32(address: number, length: number): Int32Array;
  u8(address: number, length: number): Uint8Array;
  /** Forgets every allocation. */
  reset(): void;
}

export function placeKernels(module: WebAssembly.Module, relaxed: boolean): TestKernels {
  const memory = new WebAssembly.Memory({ initial: 64, maximum: 16384 });
  const instance = new WebAssembly.Instance(module, { env: { memory } });
  const exports = instance.exports as Exports;
  const base = ((exports.heapBase?.() ?? 65536) + 63) & ~63; // a one-file build has no heapBase; its static data is small
  let top = base;
  const alloc = (bytes: number): number => {
    const address = top;
    top = (top + bytes + 63) & ~63;
    const missing = top - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / 65536));
    return address;
  };
  return {
    relaxed,
    exports,
    memory,
    alloc,
    put(data) {
      const address = alloc(data.byteLength);
      new Uint8Array(memory.buffer, address, data.byteLength).set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      return address;
    },
    f32: (address, length) => new Float32Array(memory.buffer, address, length),
    u32: (address, length) => new Uint32Array(memory.buffer, address, length),
    i32: (address, length) => new Int32Array(memory.buffer, address, length),
    u8: (address, length) => new Uint8Array(memory.buffer, address, length),
    reset() {
      top = base;
    },
  };
}
