// The kernels module: one export line a file. Each file has a twin of the same name in wgsl/ (the ledger and the budget math do not).
// Memory is the host's; static data ends at heapBase, where the host's allocations begin.
export function heapBase(): usize {
  return __heap_base;
}
export * from './ledger';
