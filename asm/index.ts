// The kernels module: one export line a file. The ledger and the budget math apart, each has a WGSL twin: wgsl/README.md.
// Memory is the host's; static data ends at heapBase, where the host's allocations begin.
export function heapBase(): usize {
  return __heap_base;
}
export * from './relaxed-self-test';
export { ledgerBytes, ledgerPositions, ledgerScores } from './ledger-memory'; // by name: the layout is not for the host
export * from './ledger';
export * from './ledger-check';
export * from './kept-count';
export * from './allocate';
export * from './pyramid';
export * from './ada-counts';
export * from './top-k';
export * from './gather';
export * from './rms-norm';
export * from './rope';
export * from './swiglu';
export * from './gelu';
export * from './halve';
export * from './widen';
export * from './store-entries';
export * from './read-entries';
export * from './move-entries';
export { attendScratchBytes } from './attend-rows'; // the row blocks neither
export * from './attend-causal';
export * from './attend-paged';
export * from './linear-f32';
export * from './linear-f16';
export * from './linear-q8';
export * from './linear-q4';
export * from './embed';
export * from './score-window';
export * from './score-columns';
export * from './window-moments';
export * from './norm-scale';
export * from './row-cosine';
export * from './avg-pool';
export * from './group-mean';
export * from './group-max';
export * from './max-pool';
export * from './weigh';
export * from './blend';
export * from './reciprocal';
export * from './z-score';
export * from './key-norm';
export * from './cosine-to-mean';
export * from './norm-share';
export * from './lag-score';
export * from './segment-rank';
export * from './segment-mean';
export * from './output-norm';
export * from './gate-score';
export * from './token-mean';
export * from './weighted-gram';
export * from './quadratic-form';
export * from './cholesky-inverse';
export * from './sketch';
export * from './row-softmax';
export * from './cosine-to';
export * from './mass-count';
export * from './turn-keys';
export * from './nearest-kept';
export * from './merge-values';
export * from './prune-channels';
