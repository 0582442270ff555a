import type { Protected } from '../worker/backend/backend.ts';

/** P: how many of n tokens are kept whatever their score. */
export function protectedCount({ first, last }: Protected, n: number): number {
  return Math.min(n, first + last);
}
