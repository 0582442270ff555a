/** The press leaves the prompt as it is and acts while the answer grows: once every I tokens that are read, on all that the cache then holds.
 *      entries of every layer and head, n > T  ->  T,   between two compressions n <= T + I
 *  So a long answer takes the room of a short one; max_tokens costs nothing beyond T + I.
 *  Rows are scored in the order of the text, each with its original position, and the queries are the real ones of the last tokens. (kvpress scores a
 *  cache that is ordered by score after the first time, so that sinks and windows are other tokens, and turns all its queries to one position: both
 *  come back under compat, as does the question's being one step.) Scores that a window of queries needs are of the last W tokens, prompt included. */
import type { Schedule } from '../contract.ts';
import { decodingParams, decoding as whileDecoding } from './decoding-params.ts';

export const decoding: Schedule<typeof decodingParams> = {
  name: 'decoding',
  summary: 'the press acts while the answer grows, every interval tokens, and leaves target_size entries',
  paper: null,
  formula: 'every I tokens: n entries -> T = target_size, or all tokens so far (1 - target_compression_ratio)',
  needs: 'the last queries or hidden states of every layer, where the scorer looks at any',
  params: decodingParams,
  prefill: false,
  decoding: whileDecoding,
};
