/** POST /v1/completions */
import type { Context } from 'hono';
import type { TokenLogprob } from '../engine/types.ts';
import type { TextLogprobsWire } from '../wire/answer-schema.ts';
import { completionPrompt } from '../wire/prompt.ts';
import { samplingOf } from '../wire/sampling.ts';
import { timingsWire, usageWire } from '../wire/usage.ts';
import { type Answer, answer, head, usagePlaces } from './answer.ts';
import type { Env } from './env.ts';
import { goBehind } from './go-behind.ts';

const DEFAULT_MAX_TOKENS = 16; // OpenAI's, for this route only

export async function completions(c: Context<Env>): Promise<Response> {
  const { body, engine, press } = await c.var.read('completion');
  const sampling = samplingOf(body, body.max_tokens ?? DEFAULT_MAX_TOKENS, body.logprobs ?? null);
  const usage = usagePlaces(body.stream_options);
  const logprobs = body.logprobs == null ? () => null : logprobsWriter();

  const { request, context } = await goBehind(c, engine, body, completionPrompt(body.prompt, engine), press, sampling);
  const common = { ...head(engine, 'cmpl', context), object: 'text_completion' };
  const chunk = (text: string, rest: object = {}) => ({
    ...common,
    choices: [{ index: 0, text, logprobs: null, finish_reason: null, ...rest }],
    ...usage.onEvery,
  });
  const as: Answer = {
    whole: (pieces, finish) => ({
      ...common,
      choices: [
        { index: 0, text: pieces.map((p) => p.text).join(''), logprobs: logprobs(pieces.flatMap((p) => p.logprobs)), finish_reason: finish.reason },
      ],
      usage: usageWire(finish),
      timings: timingsWire(finish),
    }),
    first: () => [], // no role to announce
    text: ({ text, logprobs: tokens }) =>
      text === '' && (body.logprobs == null || tokens.length === 0) ? [] : [chunk(text, { logprobs: logprobs(tokens) })],
    last(finish) {
      const account = { usage: usageWire(finish), timings: timingsWire(finish) };
      const closing = chunk('', { finish_reason: finish.reason });
      if (usage.ownChunk) return [closing, { ...common, choices: [], ...account }];
      return [usage.withFinish ? { ...closing, ...account } : closing];
    },
  };
  return answer(c, engine, request, context, body.stream === true, as);
}

/** Remembers how many characters of the completion came before: a token that ends inside a character counts once that is whole. */
function logprobsWriter(): (tokens: readonly TokenLogprob[]) => TextLogprobsWire {
  const decoder = new TextDecoder();
  let offset = 0;
  return (tokens) => ({
    tokens: tokens.map((t) => t.token),
    token_logprobs: tokens.map((t) => t.logprob),
    // the chosen token is always there, so up to n + 1 entries, as OpenAI's
    top_logprobs: tokens.map((t) => Object.fromEntries([...t.top, t].map((a) => [a.token, a.logprob]))),
    text_offset: tokens.map(({ bytes }) => {
      const start = offset;
      offset += [...decoder.decode(Uint8Array.from(bytes), { stream: true })].length;
      return start;
    }),
  });
}
