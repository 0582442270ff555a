/** What the AssemblyScript module exports: addresses and numbers. asm/ documents each. */

/** asm/ledger.ts */
export interface LedgerExports {
  ledgerBytes(pages: number, slotStride: number, sequences: number, lists: number, tableStride: number): number;
  ledgerInit(ledger: number, pages: number, slotStride: number, sequences: number, lists: number, tableStride: number): void;
  ledgerOpen(ledger: number, entriesPerPage: number): number;
  ledgerReserve(ledger: number, sequence: number, pages: number): number;
  ledgerAppend(ledger: number, sequence: number, list: number, count: number): number;
  ledgerOwn(ledger: number, sequence: number, list: number, entry: number): number;
  ledgerCopyFrom(ledger: number): number;
  ledgerCopyTo(ledger: number): number;
  ledgerTruncate(ledger: number, sequence: number, list: number, length: number): number;
  ledgerFork(ledger: number, sequence: number): number;
  ledgerClose(ledger: number, sequence: number): number;
  ledgerWriteRanked(ledger: number, sequence: number, list: number, from: number, count: number, order: number, scores: number): number;
  ledgerWriteRun(ledger: number, sequence: number, list: number, from: number, count: number, start: number, score: number): number;
  ledgerMove(ledger: number, sequence: number, list: number, from: number, to: number): number;
  ledgerLength(ledger: number, sequence: number, list: number): number;
  ledgerEntriesPerPage(ledger: number, sequence: number): number;
  ledgerLengths(ledger: number, sequence: number): number;
  ledgerTables(ledger: number, sequence: number): number;
  ledgerPositions(ledger: number): number;
  ledgerScores(ledger: number): number;
  ledgerFreePages(ledger: number): number;
  ledgerUsedPages(ledger: number): number;
  ledgerReservedPages(ledger: number): number;
  ledgerPagesOf(ledger: number, sequence: number): number;
  ledgerSharedPagesOf(ledger: number, sequence: number): number;
  ledgerCheck(ledger: number): number;
}

/** asm/kept-count.ts, allocate.ts, pyramid.ts, ada-counts.ts */
export interface BudgetMathExports {
  keptCount(tokens: number, ratio: number, compat: boolean): number;
  allocateScratchBytes(layers: number): number;
  allocate(budgets: number, weights: number, caps: number, layers: number, total: number, floor: number, ceiling: boolean, scratch: number): number;
  pyramid(budgets: number, layers: number, tokens: number, ratio: number, window: number, beta: number, compat: boolean): void;
  adaCounts(counts: number, sorted: number, lengths: number, heads: number, total: number, safe: number): number;
}

/** The two above, and the kernels. */
// biome-ignore lint/suspicious/noConfusingVoidType: some kernels return nothing
export type KernelExports = Readonly<Record<string, (...args: number[]) => number | void>> & LedgerExports & BudgetMathExports;
