/** When and how far presses act while decoding: the parameters of both schedules that do. */
import * as z from 'zod';
import type { Schedule } from '../contract.ts';
import { wholeNumber } from '../params.ts';

const MOST_TOKENS = 2 ** 20;
export const DEFAULT_TARGET = 2048;
const sizeError = `must be a whole number between 1 and ${MOST_TOKENS}`;
const ratioError = 'must be 0 or more and below 1';

export const decodingParams = z
  .strictObject({
    interval: wholeNumber(1, MOST_TOKENS, 512, 'I: how many tokens are read between two compressions'),
    target_size: z
      .int({ error: sizeError })
      .min(1, { error: sizeError })
      .max(MOST_TOKENS, { error: sizeError })
      .describe('T: how many entries a compression leaves in every layer, on average over its KV heads')
      .meta({ default: DEFAULT_TARGET })
      .optional(),
    target_compression_ratio: z
      .number({ error: ratioError })
      .min(0, { error: ratioError })
      .lt(1, { error: ratioError })
      .describe('instead of target_size: the fraction of all tokens so far, prompt and answer, that a compression removes')
      .optional(),
    hidden_states_buffer_size: wholeNumber(
      0,
      65536,
      256,
      'how many of the last tokens are remembered for scorers that look at all queries, at most for those of hidden states, which score that many at a time; windows keep what they need',
    ),
  })
  .refine(({ target_size, target_compression_ratio }) => target_size === undefined || target_compression_ratio === undefined, {
    path: ['target_compression_ratio'],
    error: 'beside target_size is one too many: leave either out',
  });

export const decoding: Schedule<typeof decodingParams>['decoding'] = {
  interval: ({ interval }) => interval,
  target({ target_size = DEFAULT_TARGET, target_compression_ratio: ratio }, tokens, math, compat) {
    return ratio === undefined ? target_size : Math.max(1, math.keptCount(tokens, ratio, compat));
  },
  buffer: ({ hidden_states_buffer_size }) => hidden_states_buffer_size,
};
