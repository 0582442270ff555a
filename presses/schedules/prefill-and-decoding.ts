/** Both: the prompt is pressed as by "prefill", and what is held then as by "decoding". Another press for each of the two: a list, the one while decoding last.
 *  Parts that say themselves how much is kept go on to say it every I tokens, without a target: selection "threshold" (DMS), head_budget "duo". */
import type { Schedule } from '../contract.ts';
import { decoding, decodingParams } from './decoding-params.ts';

export const prefillAndDecoding: Schedule<typeof decodingParams> = {
  name: 'prefill_and_decoding',
  summary: 'the press acts on the prompt by compression_ratio, and while the answer grows as schedule "decoding" does',
  paper: null,
  formula: 'n tokens -> n (1 - compression_ratio); then every I tokens: n entries -> T',
  needs: 'the last queries or hidden states of every layer, where the scorer looks at any',
  params: decodingParams,
  prefill: true,
  decoding,
};
