/** POST /v1/chat/completions */
import type { Context } from 'hono';
import type { TokenLogprob } from '../engine/types.ts';
import type { ChatLogprobsWire } from '../wire/answer-schema.ts';
import { chatPrompt } from '../wire/prompt.ts';
import { samplingOf } from '../wire/sampling.ts';
import { timingsWire, usageWire } from '../wire/usage.ts';
import { type Answer, answer, head, usagePlaces } from './answer.ts';
import type { Env } from './env.ts';
import { goBehind } from './go-behind.ts';

export async function chatCompletions(c: Context<Env>): Promise<Response> {
  const { body, engine, press } = await c.var.read('chat');
  const maxTokens = body.max_completion_tokens ?? body.max_tokens ?? null;
  const wantsLogprobs = body.logprobs === true;
  const sampling = samplingOf(body, maxTokens, wantsLogprobs ? (body.top_logprobs ?? 0) : null);
  const usage = usagePlaces(body.stream_options);
  const logprobs = (tokens: readonly TokenLogprob[]) => (wantsLogprobs ? logprobsWire(tokens) : null);

  const { request, context } = await goBehind(c, engine, body, chatPrompt(body.messages), press, sampling);
  const common = head(engine, 'chatcmpl', context);
  const chunk = (delta: object, rest: object = {}) => ({
    ...common,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta, logprobs: null, finish_reason: null, ...rest }],
    ...usage.onEvery,
  });
  const as: Answer = {
    whole: (pieces, finish) => ({
      ...common,
      object: 'chat.completion',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: pieces.map((p) => p.text).join(''), refusal: null },
          logprobs: logprobs(pieces.flatMap((p) => p.logprobs)),
          finish_reason: finish.reason,
        },
      ],
      usage: usageWire(finish),
      timings: timingsWire(finish),
    }),
    first: () => [chunk({ role: 'assistant', content: '', refusal: null })],
    text: ({ text, logprobs: tokens }) =>
      text === '' && (!wantsLogprobs || tokens.length === 0) ? [] : [chunk({ content: text }, { logprobs: logprobs(tokens) })],
    last(finish) {
      const account = { usage: usageWire(finish), timings: timingsWire(finish) };
      const closing = chunk({}, { finish_reason: finish.reason });
      if (usage.ownChunk) return [closing, { ...common, object: 'chat.completion.chunk', choices: [], ...account }];
      return [usage.withFinish ? { ...closing, ...account } : closing];
    },
  };
  return answer(c, engine, request, context, body.stream === true, as);
}

function logprobsWire(tokens: readonly TokenLogprob[]): ChatLogprobsWire {
  return {
    content: tokens.map(({ token, logprob, bytes, top }) => ({
      token,
      logprob,
      bytes,
      top_logprobs: top.map((t) => ({ token: t.token, logprob: t.logprob, bytes: t.bytes })),
    })),
    refusal: null,
  };
}
