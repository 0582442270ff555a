/** What a runtime brings to the engine. The engine imports neither .wasm files nor node modules: it is handed these. */
import type { Backend } from './backend/backend.ts';

export interface Host {
  /** Compiled kernels. `relaxed` is present where the runtime accepts relaxed SIMD; it is used only after a numeric self-test. */
  readonly kernels: { readonly simd: WebAssembly.Module; readonly relaxed?: WebAssembly.Module };
  /**
   * A fresh backend on the runtime's GPU (`openWebGpu`), null where it has none; `ledgerMemory` is the memory of the AssemblyScript module.
   * Absent where there is never one, so that the worker's bundle is without it.
   */
  readonly webgpu?: (options: { readonly limitBytes?: number; readonly ledgerMemory: WebAssembly.Memory }) => Promise<Backend | null>;
  /** Most bytes of weights, cache and activations. Default: on WASM 4 GiB less one page of linear memory, on a GPU what its driver gives. */
  readonly memoryLimitBytes?: number;
}
