// The kernels module: one export line a file. Each file has a twin of the same name in wgsl/ (the ledger and the budget math do not).
export function abiVersion(): u32 {
  return 1;
}
