/** CaM: while decoding, tokens that go leave their values to the tokens that follow them, by chance (ICML 2024).
 *      M = of the tokens that go the c best: one for each that was read since the last time;   window(e) = the first merge_budget kept tokens behind e
 *      A[h,t] = sum over the steps since t was stored of groupMean softmax(<q, K>)[t];   pi = clamp(A[e] / mean of A over window(e), 0, 1), 0 where there is no window
 *      beta ~ Bernoulli(pi);   V_r += beta V_e / |window(e)|  for r in window(e)
 *  Heads keep the same tokens, by the mean of their scores; under a head budget that shares by score each head has its own (kvpress stops there: row 8).
 *  Sums and draws are made on the host, and so is the adding: a compression comes once in many tokens. Keys stay as they are. */

import * as z from 'zod';
import { readFloats } from '../../worker/backend/backend.ts';
import type { RunningHead, Transform } from '../contract.ts';
import { wholeNumber } from '../params.ts';

const params = z.strictObject({
  merge_budget: wholeNumber(1, 4096, 32, 'm: how many of the kept tokens that follow take a share of a value'),
});

export const cam: Transform<typeof params> = {
  name: 'cam',
  summary: 'while decoding, what goes leaves its value to the kept tokens behind it, as likely as it was attended to',
  paper: null,
  formula: "V'_r = V_r + sum beta V_e / m, beta ~ Bernoulli(A[e] / mean A of the m kept tokens behind e), A = attention since stored",
  needs: 'values, every query since the last compression',
  params,
  anyBudget: true,
  whileDecoding: true,
  sameTokens: true,
  refuses({ schedule: { part } }) {
    if (part.decoding !== null && !part.prefill) return null;
    return `transform "cam" merges what goes while decoding, and schedule "${part.name}" acts on the prompt; use schedule "decoding"`;
  },
  async apply({ backend, v, n, shape: { headDim: d }, running }, { merge_budget }) {
    if (running === undefined) throw new Error('cam works on a running sequence');
    const { heads, steps, random } = running;
    const H = heads.length;
    const merged = heads.map((head) => merges(head, steps, merge_budget, random));
    if (merged.every(({ length }) => length === 0)) return;
    const values = await readFloats(backend, v, n * H * d); // [n, H, d]
    for (const [h, list] of merged.entries()) {
      for (const { from, to } of list) {
        for (const row of to) for (let c = 0; c < d; c++) values[(row * H + h) * d + c] += values[(from * H + h) * d + c] / to.length;
      }
    }
    backend.write(v, values);
  },
};

/** Which rows go into which, of one head. */
function merges(
  { positions, ranks, kept, scores, attention }: RunningHead,
  steps: number,
  mergeBudget: number,
  random: () => number,
): { from: number; to: number[] }[] {
  const inText = (a: number, b: number): number => positions[a] - positions[b];
  const stay = Array.from(ranks.subarray(0, kept)).sort(inText);
  const going = Array.from(ranks.subarray(kept)).sort((a, b) => scores[b] - scores[a] || inText(b, a));
  const list: { from: number; to: number[] }[] = [];
  for (const from of going.slice(0, steps).sort(inText)) {
    const first = stay.findIndex((row) => positions[row] > positions[from]);
    const to = first < 0 ? [] : stay.slice(first, first + mergeBudget);
    const mean = to.reduce((sum, row) => sum + attention[row], 0) / to.length;
    const chance = to.length === 0 || attention[from] === 0 ? 0 : Math.min(1, attention[from] / mean); // x / 0 is 1
    if (random() < chance) list.push({ from, to });
  }
  return list;
}
