/** KVzip: what the model looks at when it is asked to repeat the prompt stays.          arXiv 2505.23416
 *      chunks of chunk_size tokens; each is asked for: question ++ start of the answer ++ the chunk itself, read over the whole prompt
 *      P = softmax(q.k / sqrt d) of these tokens' queries over [the sinks before the chunk, the chunk, themselves causally], and nothing else
 *      s[h,j] = max over the group a and all rows i of P[a,i,j], j in the chunk;   the first n_sink tokens are protected
 *  KVzip+ (plus_normalization), the change of what leaves the attention:   P[a,i,j] |V_j W_o,a|_2 / |X_i|_2.   The first factor is the same for all rows,
 *  so it comes after their maximum here
 *  costs     two to four more prefills, since each chunk is read over the whole prompt. In memory one layer's keys and values more of a chunk, and the
 *            hidden states of what is read; kvpress keeps the whole cache of all layers until the end
 *  kvpress leaves the chat header out of what is repeated (prefix_tokens here): it is never scored and goes first, but for the sinks in it. Here everything
 *  that is pressed is repeated unless told otherwise. Of the first n_sink tokens kvpress protects those alone that lie in the header: so under compat. */
import * as z from 'zod';
import { at } from '../../worker/backend/backend.ts';
import type { PassContext, PassPrompt, PressParts, Scorer, ScratchSize } from '../contract.ts';
import { InputError } from '../input-error.ts';
import { outputNorms, outputNormsBytes } from '../output-norm.ts';
import { textOrTokens, trueOrFalse, wholeNumber } from '../params.ts';

const F32 = 4;
/** Of the chunk before, to say where the next one begins. */
const REMINDER_TOKENS = 8;

const params = z.strictObject({
  n_sink: wholeNumber(0, 4096, 4, 'how many of the first tokens are always kept, and seen by every chunk'),
  chunk_size: wholeNumber(64, 32768, 2048, 'tokens that the model is asked for at once'),
  plus_normalization: trueOrFalse(false, "KVzip+: attention counts by the size of what it adds, beside that of the layer's input"),
  prefix_tokens: wholeNumber(0, 4096, 0, 'how many of the first tokens are not repeated, and so score 0: a chat header'),
  repeat_prompt: textOrTokens('the question for the first chunk').default('\n\nNow write the text above once more, word for word.'),
  repeat_next_prompt: textOrTokens(`the question for any other chunk; the last ${REMINDER_TOKENS} tokens of the one before follow it`).default(
    '\n\nNow write the text above once more, word for word, from the place where it says:',
  ),
  repeat_answer_start: textOrTokens(
    "what stands between question and answer; default: what the model's chat template puts there, or a line break",
  ).optional(),
});
type Params = z.infer<typeof params>;

export const kvzip: Scorer<typeof params> = {
  name: 'kvzip',
  summary: 'keeps what the model looks at when it repeats the prompt',
  paper: 'arXiv 2505.23416',
  formula: 's[h,j] = max over the group and over all tokens i that repeat the chunk of attention(i, j)',
  needs: 'a second reading of the prompt, in chunks; a tokenizer, or the questions as token ids',
  cost: 'reads the prompt again, each chunk over all of it, and scores what is looked at: two to four more prefills, the more the longer the prompt',
  params,
  comparable: true, // shares of attention
  massMap: 'identity',
  protectedBy: 'n_sink',
  queries: () => 0,
  protect: ({ n_sink, prefix_tokens }, _n, compat) => ({ first: compat ? Math.min(n_sink, prefix_tokens) : n_sink, last: 0 }),
  refuses: (press) => wholeLayersOnly('kvzip', press),
  passes: { tokens: repeats, observe, scratchBytes: observeBytes },
  score(context, { plus_normalization }) {
    const { backend, scratch, n, shape, sums } = context;
    const { queryHeads: Hq, kvHeads: H } = shape;
    if (sums === null) throw new Error('kvzip scores what its passes saw');
    let seen = sums; // [Hq, n]
    if (plus_normalization) {
      seen = scratch(Hq * n * F32, 'kvzip changes');
      backend.weigh(seen, sums, outputNorms(context, 2), Hq, Hq, n, 0);
    }
    const scores = scratch(H * n * F32, 'kvzip scores'); // [H, n]
    backend.groupMax(scores, seen, H, Hq / H, n);
    return scores;
  },
  scratchBytes: (size: ScratchSize, { plus_normalization }) =>
    size.n * size.kvHeads * F32 + (plus_normalization ? size.n * size.queryHeads * F32 + outputNormsBytes(size) : 0) + 2 * 64,
};

/** A scorer that sees the prompt through passes cannot be asked about a part of it. */
export function wholeLayersOnly(name: string, { selection: { part } }: Pick<PressParts, 'selection'>): string | null {
  if (part.name !== 'blocks' && part.name !== 'segments') return null;
  return `selection "${part.name}" scores parts of the prompt by themselves, and scorer "${name}" has seen all of it at once; use "top_k" or "chunks"`;
}

/** Tokens from..to-1. */
function chunkOf({ prefix_tokens, chunk_size }: Params, n: number, chunk: number): { from: number; to: number } {
  const from = prefix_tokens + chunk * chunk_size;
  return { from, to: Math.min(n, from + chunk_size) };
}

function repeats({ tokens, encode, answerStart, param }: PassPrompt, params: Params): number[][] {
  const n = tokens.length;
  const { prefix_tokens, repeat_answer_start = answerStart } = params;
  if (prefix_tokens >= n) {
    throw new InputError(
      'press_param_range',
      param('prefix_tokens'),
      `prefix_tokens ${prefix_tokens} leaves nothing to repeat of ${n} tokens; up to ${n - 1} would work`,
    );
  }
  const ids = (words: string | readonly number[]): readonly number[] => (typeof words === 'string' ? encode(words) : words);
  const start = ids(repeat_answer_start);
  const lists: number[][] = [];
  for (let from = prefix_tokens; from < n; from += params.chunk_size) {
    const chunk = tokens.slice(from, from + params.chunk_size);
    const first = from === prefix_tokens;
    const question = first ? ids(params.repeat_prompt) : [...ids(params.repeat_next_prompt), ...tokens.slice(from - REMINDER_TOKENS, from)];
    lists.push([...question, ...start, ...chunk]);
  }
  return lists;
}

/** sums[a, j] becomes the largest of what it was and P[a, i, j] (/ |X_i|) of these rows i, for the chunk's j. */
function observe(context: PassContext, params: Params): void {
  const { backend, scratch, sums, pass, n, start, rows, q, k, hidden, hiddenSize, shape } = context;
  const { queryHeads: Hq, kvHeads: H, headDim: d } = shape;
  const { from, to } = chunkOf(params, n, pass);
  if (pass === 0 && start === 0 && from > 0) {
    for (let a = 0; a < Hq; a++) backend.write(at(sums, a * n * F32), new Float32Array(from)); // never repeated, so never looked at
  }
  const sinks = Math.min(params.n_sink, from);
  const chunk = to - from;
  const before = chunk + sinks;
  const keys = before + start + rows;
  let near = k; // [keys, H, d]: the chunk, the sinks, the pass's own
  if (chunk < n) {
    const row = H * d * F32;
    near = scratch(keys * row, 'keys that a chunk sees');
    backend.copy(near, at(k, from * row), chunk * row);
    if (sinks > 0) backend.copy(at(near, chunk * row), k, sinks * row);
    backend.copy(at(near, before * row), at(k, n * row), (start + rows) * row);
  }
  let rowScale = null;
  if (params.plus_normalization) {
    const norms = scratch(rows * F32, 'norms of inputs');
    rowScale = scratch(rows * F32, 'inverse norms of inputs');
    backend.keyNorm(norms, hidden, rows, 1, hiddenSize, 1);
    backend.reciprocal(rowScale, norms, rows);
  }
  const columns = {
    queries: rows,
    n: keys,
    start: before + start,
    reduce: 'max',
    columns: chunk,
    stride: n,
    rowScale,
    accumulate: start > 0,
  } as const;
  backend.scoreColumns(at(sums, from * F32), q, near, columns, { ...shape, slidingWindow: 0 });
}

function observeBytes({
  n,
  longest,
  rows,
  kvHeads,
  headDim,
}: {
  n: number;
  longest: number;
  rows: number;
  kvHeads: number;
  headDim: number;
}): number {
  return F32 * ((n + longest) * kvHeads * headDim + 2 * rows) + 3 * 64;
}
