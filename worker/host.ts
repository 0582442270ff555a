/** What a runtime brings to the engine. The engine imports neither .wasm files nor node modules: it is handed these. */
export interface Host {
  /** Compiled kernels. `relaxed` is present where the runtime accepts relaxed SIMD; it is used only after a numeric self-test. */
  readonly kernels: { readonly simd: WebAssembly.Module; readonly relaxed?: WebAssembly.Module };
  /** Upper bound of linear memory in bytes; the engine never grows past it. Default 4 GiB less one page. */
  readonly memoryLimitBytes?: number;
}
