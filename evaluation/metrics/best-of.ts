import type { Sample } from '../contract.ts';

/** The best score of one prediction over all references; 0 without any, as the official loops begin with it. */
export function bestOf({ answers }: Sample, score: (answer: string) => number): number {
  return answers.reduce((best, answer) => Math.max(best, score(answer)), 0);
}
