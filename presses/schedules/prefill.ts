/** The press acts once, on the prompt, right after each layer's attention was computed with all of it. What is read later stays. */
import type { Schedule } from '../contract.ts';
import { noParams } from '../params.ts';

export const prefill: Schedule<typeof noParams> = {
  name: 'prefill',
  summary: 'the press acts once, on the prompt',
  paper: null,
  formula: 'n tokens -> n (1 - compression_ratio)',
  needs: 'nothing',
  params: noParams,
  prefill: true,
  decoding: null,
};
