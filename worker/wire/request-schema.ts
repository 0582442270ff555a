/**
 * What a request may say. Fields of OpenAI's that are not supported are accepted with the value that changes nothing, and refused by name
 * otherwise; unknown fields are refused. /openapi.json is generated from these.
 */
import * as z from 'zod'; // not { z }: that would bundle all of zod's languages
import { MOST_TTL_MS } from '../contexts/bounds.ts';
import type { Limits } from './limits.ts';
import { strictObject } from './validate.ts';

/** Parsed by presses/config.ts; in the OpenAPI document, its JSON Schema stands here. */
const press = z.unknown().optional().meta({ $ref: '#/components/schemas/Press' });

function number(min: number, max: number) {
  const error = `must be a number between ${min} and ${max}`;
  return z.number({ error }).min(min, { error }).max(max, { error });
}

function integer(min: number, max: number) {
  const error = max >= Number.MAX_SAFE_INTEGER ? `must be a whole number, ${min} or more` : `must be a whole number between ${min} and ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
}

/** A field that is only accepted when it asks for nothing. */
function unsupported(harmless: z.ZodType, instead: string) {
  const { $schema: _, ...meta } = z.toJSONSchema(harmless);
  const accepts = (value: unknown) => value === null || harmless.safeParse(value).success;
  return z
    .unknown()
    .refine(accepts, { error: `is not supported: ${instead}`, params: { code: 'unsupported_value' } })
    .optional()
    .meta(meta);
}

export const DEFAULT_TTL_SECONDS = 7 * 86_400;
const MOST_TTL_SECONDS = MOST_TTL_MS / 1000;

const emptyList = z.array(z.never()).max(0);

/** Accepted and without effect: bookkeeping of OpenAI's platform. */
const bookkeeping = {
  user: z.string().nullish(),
  safety_identifier: z.string().nullish(),
  prompt_cache_key: z.string().nullish(),
  prompt_cache_retention: z.string().nullish(),
  store: z.boolean().nullish().meta({ description: 'Accepted; nothing is stored.' }),
  metadata: z.record(z.string(), z.string()).nullish(),
  service_tier: z.string().nullish(),
};

/** Half of a surrogate pair is no character: no text that is generated has it. */
const stopString = ({ stopLength }: Limits) =>
  z
    .string()
    .min(1)
    .max(stopLength)
    .refine((text) => !/\p{Surrogate}/u.test(text), { error: 'must be well-formed Unicode' });

const model = z.string().nullish().meta({ description: 'The model served; may be left out.' });

const seed = z
  .int({ error: 'must be a whole number between -(2^53 - 1) and 2^53 - 1' })
  .nullish()
  .meta({ description: 'The same seed, request and system_fingerprint give the same answer.' });

const common = (limits: Limits) => ({
  model,
  press,
  context: z
    .union([z.string(), z.literal(false)], { error: 'must be the id of a context, such as "ctx_…", or false' })
    .nullish()
    .meta({
      description:
        'Extension. The id of a stored context, or the name of one that came with the server: what is sent goes on behind it, under its press, and alone is read. False: no stored context is used. Left out: one that begins the prompt, under the same press, is.',
    }),
  max_tokens: integer(1, Number.MAX_SAFE_INTEGER).nullish(),
  temperature: number(0, 2).nullish().meta({ description: 'Default 1. 0 takes the likeliest token.' }),
  top_p: number(0, 1).nullish().meta({ description: 'Default 1.' }),
  top_k: integer(0, Number.MAX_SAFE_INTEGER)
    .nullish()
    .meta({ description: 'Extension. Only the k likeliest tokens may be drawn; 0 (default) = all.' }),
  min_p: number(0, 1)
    .nullish()
    .meta({ description: "Extension. Only tokens with at least this share of the likeliest one's probability; 0 (default) = all." }),
  seed,
  frequency_penalty: number(-2, 2).nullish(),
  presence_penalty: number(-2, 2).nullish(),
  stop: z
    .union([stopString(limits), z.array(stopString(limits)).max(4)], {
      error: `must be a string or up to 4 strings, each of 1 to ${limits.stopLength} characters`,
    })
    .nullish(),
  stream: z.boolean().nullish(),
  stream_options: strictObject({ include_usage: z.boolean().nullish(), include_obfuscation: z.boolean().nullish() }).nullish().meta({
    description:
      'include_usage true: usage comes in a chunk of its own, with empty choices, as OpenAI sends it. False: no usage. Left out: usage comes with the chunk that has the finish_reason.',
  }),
  ignore_eos: z.boolean().nullish().meta({ description: 'Extension. Do not stop at the end-of-text token.' }),
  n: unsupported(z.literal(1), 'one answer a request; leave it out or send 1'),
  logit_bias: unsupported(z.object({}).strict(), 'leave it out or send {}'),
  ...bookkeeping,
});

const textPart = strictObject({
  type: z.literal('text', { error: 'must be "text" (images, audio and files are not supported)' }),
  text: z.string(),
});

const message = (limits: Limits) =>
  strictObject({
    role: z.enum(['system', 'developer', 'user', 'assistant'], {
      error: 'must be "system", "developer", "user" or "assistant" (there are no tools to answer for)',
    }),
    content: z.union([z.string(), z.array(textPart).min(1).max(limits.partsPerMessage)], {
      error: 'must be a string or a list of {"type": "text", "text": …}, not empty',
    }),
    name: z.string().nullish().meta({ description: 'Accepted; chat templates do not show it to the model.' }),
    refusal: unsupported(z.null(), 'leave it out or send null'),
    annotations: unsupported(emptyList, 'leave it out or send []'),
    audio: unsupported(z.null(), 'leave it out or send null'),
    tool_calls: unsupported(emptyList, 'leave it out or send []'),
    function_call: unsupported(z.null(), 'leave it out or send null'),
  }).superRefine(({ role, content }, context) => {
    const empty = typeof content === 'string' ? content === '' : content.every((part) => part.text === '');
    if (empty && role === 'user') context.addIssue({ code: 'custom', path: ['content'], message: 'of a user message must not be empty' });
  });

const messages = (limits: Limits) => z.array(message(limits)).min(1).max(limits.messages);

const promptError = 'must be a string, a list of one string, or a list of token ids, not empty (one prompt a request)';

/** Token ids. The first wrong one is told; zod would collect every one. */
const ids = z
  .array(z.unknown())
  .min(1)
  .superRefine((list, context) => {
    const at = list.findIndex((id) => !Number.isSafeInteger(id) || (id as number) < 0);
    if (at < 0) return;
    const noList = typeof list[0] === 'string' || Array.isArray(list[at]); // texts, or several prompts: wrong as a whole
    context.addIssue({ code: 'custom', path: noList ? [] : [at], message: noList ? promptError : 'must be a whole number, 0 or more' });
  })
  .meta({ items: { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER } }) as unknown as z.ZodType<number[], number[]>;

// Ids before strings: of two branches with one thing wrong in each, the first is told (validate.ts), and a list of one string has less to tell.
const prompt = z.union([z.string().min(1), ids, z.array(z.string().min(1)).length(1)], {
  error: promptError,
});

export function requestSchemas(limits: Limits) {
  return {
    chat: strictObject({
      messages: messages(limits),
      ...common(limits),
      max_completion_tokens: integer(1, Number.MAX_SAFE_INTEGER)
        .nullish()
        .meta({ description: "Default: the server's, within what the context length and the memory leave." }),
      logprobs: z.boolean().nullish(),
      top_logprobs: integer(0, 20).nullish(),
      response_format: unsupported(z.strictObject({ type: z.literal('text') }), 'leave it out or send {"type": "text"}'),
      tools: unsupported(emptyList, 'leave it out or send []'),
      tool_choice: unsupported(z.enum(['none', 'auto']), 'leave it out or send "none"'),
      parallel_tool_calls: z.boolean().nullish().meta({ description: 'Accepted; there are no tools.' }),
      functions: unsupported(emptyList, 'leave it out or send []'),
      function_call: unsupported(z.enum(['none', 'auto']), 'leave it out or send "none"'),
      modalities: unsupported(z.array(z.literal('text')).length(1), 'leave it out or send ["text"]'),
      audio: unsupported(z.null(), 'leave it out'),
      prediction: unsupported(z.null(), 'leave it out'),
      web_search_options: unsupported(z.null(), 'leave it out'),
      reasoning_effort: unsupported(z.literal('none'), 'leave it out or send "none"'),
      verbosity: unsupported(z.literal('medium'), 'leave it out or send "medium"'),
    }).superRefine((body, context) => {
      const { max_tokens, max_completion_tokens, logprobs, top_logprobs } = body;
      if (max_tokens != null && max_completion_tokens != null && max_tokens !== max_completion_tokens) {
        context.addIssue({
          code: 'custom',
          path: ['max_tokens'],
          message: `must equal max_completion_tokens (${max_completion_tokens}) or be left out`,
        });
      }
      if (top_logprobs != null && !logprobs) context.addIssue({ code: 'custom', path: ['top_logprobs'], message: 'needs "logprobs": true' });
    }),

    completion: strictObject({
      prompt,
      ...common(limits),
      max_tokens: integer(1, Number.MAX_SAFE_INTEGER).nullish().meta({ description: "Default 16, as OpenAI's." }),
      logprobs: integer(0, 20).nullish(),
      echo: unsupported(z.literal(false), 'leave it out or send false'),
      best_of: unsupported(z.literal(1), 'leave it out or send 1'),
      suffix: unsupported(z.literal(''), 'leave it out'),
    }),

    context: strictObject({
      messages: messages(limits)
        .optional()
        .meta({ description: 'All up to where the user goes on: in the last message, where that is the user’s, else in a new one.' }),
      text: z.string().min(1).optional().meta({ description: 'For /v1/completions to go on behind, as it stands.' }),
      press,
      model,
      seed,
      ttl: integer(1, MOST_TTL_SECONDS)
        .nullish()
        .meta({ description: `Seconds until it is over. Default ${DEFAULT_TTL_SECONDS}: a week.` }),
      metadata: z
        .record(z.string().max(64), z.string().max(512))
        .refine((all) => Object.keys(all).length <= 16, { error: 'must have at most 16 keys' })
        .nullish()
        .meta({ description: 'Up to 16 texts of up to 512 characters, by names of up to 64: given back as they are.' }),
    }).superRefine((body, context) => {
      const given = (['messages', 'text'] as const).filter((field) => body[field] !== undefined);
      if (given.length === 1) return;
      const message = `send exactly one of messages and text, got ${given.length === 0 ? 'none' : 'both'}`;
      context.addIssue({
        code: 'custom',
        path: given.length === 0 ? [] : ['text'],
        message,
        params: { whole: true, code: given.length === 0 ? 'missing_field' : 'invalid_value' },
      });
    }),

    plan: strictObject({
      model: z.string().nullish(),
      messages: messages(limits).optional(),
      prompt: prompt.optional(),
      tokens: integer(1, Number.MAX_SAFE_INTEGER).optional().meta({ description: 'Plan for a prompt of this many tokens, whatever they are.' }),
      press,
      max_tokens: integer(1, Number.MAX_SAFE_INTEGER).nullish().meta({ description: 'Default: as for a chat completion.' }),
    }).superRefine((body, context) => {
      const given = (['messages', 'prompt', 'tokens'] as const).filter((field) => body[field] !== undefined);
      if (given.length === 1) return;
      const message = `send exactly one of messages, prompt or tokens, got ${given.length === 0 ? 'none' : given.join(' and ')}`;
      context.addIssue({
        code: 'custom',
        path: given.length === 0 ? [] : [given[1]],
        message,
        params: { whole: true, code: given.length === 0 ? 'missing_field' : 'invalid_value' },
      });
    }),
  };
}

export type RequestSchemas = ReturnType<typeof requestSchemas>;
export type ChatBody = z.output<RequestSchemas['chat']>;
export type CompletionBody = z.output<RequestSchemas['completion']>;
export type ContextBody = z.output<RequestSchemas['context']>;
export type PlanBody = z.output<RequestSchemas['plan']>;
