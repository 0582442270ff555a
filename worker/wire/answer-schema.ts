/** What answers look like: OpenAI's objects, plus usage.kv_cache and timings. For /openapi.json; tests hold the real answers against them. */
import * as z from 'zod'; // not { z }: that would bundle all of zod's languages

const count = z.int().min(0);

const kvCache = z
  .strictObject({
    press: z.string(),
    scope: z.union([z.literal('prompt'), z.literal('context'), z.strictObject({ protect_last: count })]),
    compression_ratio: z.number().meta({ description: 'The fraction of entries really removed.' }),
    tokens: count.meta({ description: 'Tokens that the scope covered.' }),
    kept_per_layer: z.array(z.number()),
    added_per_layer: count.optional().meta({
      description:
        'Entries that the press added to every layer and KV head beside the kept ones: trained rows. compression_ratio counts them as kept.',
    }),
    lmba_per_layer: z.array(z.number().nullable()),
    retained_mass_per_layer: z.array(z.number().nullable()),
    bytes_full: count.meta({ description: 'Pages that the whole prompt would take uncompressed.' }),
    bytes_kept: count.meta({ description: 'Pages really held after the prompt was read.' }),
    bytes_shared: count.optional().meta({ description: 'Of these, pages of a held context that the request has mounted: there once for all.' }),
    bytes_peak: count,
    layer_budget: z.string(),
    entry_type: z.string(),
    notes: z.array(z.string()).meta({ description: 'Every deviation from what was asked, in words.' }),
    explain: z
      .strictObject({
        kept: z
          .array(z.array(z.array(count)))
          .meta({ description: 'Original positions by layer and KV head: the protected ones, then best score first.' }),
        other_layer_budgets: z
          .array(z.strictObject({ layer_budget: z.string(), budgets: z.array(z.number()).nullable(), why: z.string().nullable() }))
          .meta({
            description:
              'What each other layer budget would have dealt, by its default parameters, in tokens per layer; null where it cannot say, and why.',
          }),
      })
      .optional()
      .meta({ description: 'Where the press says "explain": true and removes something.' }),
    decoding: z
      .strictObject({
        compressions: count.meta({ description: 'How often something was removed.' }),
        entries_per_layer: z.array(z.number()).meta({ description: 'Held after the last token, mean over the KV heads: prompt and answer.' }),
        bytes_end: count.meta({ description: 'Pages held then.' }),
        notes: z.array(z.string()).meta({ description: 'Every deviation from what was asked, in words.' }),
      })
      .optional()
      .meta({ description: 'At the end of an answer, where the press acts while decoding.' }),
  })
  .meta({ id: 'KvCacheUsage' });

const usage = z
  .strictObject({
    prompt_tokens: count,
    completion_tokens: count,
    total_tokens: count,
    prompt_tokens_details: z.strictObject({
      cached_tokens: count.meta({ description: 'Tokens of the prompt that a stored context had read before.' }),
    }),
    kv_cache: kvCache,
  })
  .meta({ id: 'Usage' });

const timings = z.strictObject({ prefill_ms: z.number(), press_ms: z.number(), decode_ms: z.number() }).meta({ id: 'Timings' });

const alternative = z.strictObject({ token: z.string(), logprob: z.number(), bytes: z.array(count) });
const chatLogprobs = z
  .strictObject({ content: z.array(alternative.extend({ top_logprobs: z.array(alternative) })), refusal: z.null() })
  .meta({ id: 'ChatLogprobs', description: 'Of the raw logits: temperature 1, no penalties, no top_k, top_p or min_p.' });
const textLogprobs = z
  .strictObject({
    tokens: z.array(z.string()),
    token_logprobs: z.array(z.number()),
    top_logprobs: z.array(z.record(z.string(), z.number())),
    text_offset: z.array(count).meta({ description: 'In Unicode characters, from the start of the completion.' }),
  })
  .meta({ id: 'TextLogprobs' });

const finishReason = z.enum(['stop', 'length']);
const head = {
  id: z.string(),
  created: count,
  model: z.string(),
  system_fingerprint: z.string(),
  context: z.string().optional().meta({ description: 'The stored context behind which this was answered, asked for or found.' }),
};

export const chatCompletion = z
  .strictObject({
    ...head,
    object: z.literal('chat.completion'),
    choices: z.array(
      z.strictObject({
        index: count,
        message: z.strictObject({ role: z.literal('assistant'), content: z.string(), refusal: z.null() }),
        logprobs: chatLogprobs.nullable(),
        finish_reason: finishReason,
      }),
    ),
    usage,
    timings,
  })
  .meta({ id: 'ChatCompletion' });

export const chatCompletionChunk = z
  .strictObject({
    ...head,
    object: z.literal('chat.completion.chunk'),
    choices: z.array(
      z.strictObject({
        index: count,
        delta: z.strictObject({ role: z.literal('assistant').optional(), content: z.string().optional(), refusal: z.null().optional() }),
        logprobs: chatLogprobs.nullable(),
        finish_reason: finishReason.nullable(),
      }),
    ),
    usage: usage.nullish(),
    timings: timings.optional(),
  })
  .meta({ id: 'ChatCompletionChunk' });

/** Streamed or not: a chunk of a stream is the same object, with finish_reason null until the end. */
export const textCompletion = z
  .strictObject({
    ...head,
    object: z.literal('text_completion'),
    choices: z.array(z.strictObject({ index: count, text: z.string(), logprobs: textLogprobs.nullable(), finish_reason: finishReason.nullable() })),
    usage: usage.nullish(),
    timings: timings.optional(),
  })
  .meta({ id: 'Completion' });

const modelFacts = {
  id: z.string(),
  family: z.string(),
  parameters: count,
  layers: count,
  context_length: count,
  vocab_size: count,
  weight_bytes: count,
  requantised: z
    .array(z.string())
    .optional()
    .meta({ description: 'Matrices in fewer bits than the file of the model has, such as "embed: Q8_0 to q4".' }),
};

export const model = z.strictObject({ ...modelFacts, object: z.literal('model'), created: count, owned_by: z.string() }).meta({ id: 'Model' });

export const modelList = z.strictObject({ object: z.literal('list'), data: z.array(model) }).meta({ id: 'ModelList' });

export const pressPlan = z
  .strictObject({
    press: z.string(),
    scope: kvCache.shape.scope,
    tokens: count,
    prompt_tokens: count,
    compression_ratio: z.number(),
    average_budget: z.number(),
    added_per_layer: count.optional().meta({ description: 'Entries on top, which compression_ratio counts as kept.' }),
    per_layer: z.array(z.strictObject({ min: z.number(), max: z.number() })),
    exact: z.boolean(),
    entry_type: z.string(),
    bytes_full: count,
    bytes_kept: count,
    bytes_peak: count,
    bytes_press: count.meta({ description: 'Most that the press works with while the prompt is read, outside the cache.' }),
    pool_bytes: count,
    fits: z.boolean(),
  })
  .meta({ id: 'PressPlan' });

export const health = z
  .strictObject({
    status: z.enum(['ok', 'loading', 'error']),
    error: z.string().optional(),
    model: z.strictObject(modelFacts).optional(),
    backend: z.strictObject({ name: z.string(), variant: z.string() }).optional(),
    memory: z
      .strictObject({
        used_bytes: count,
        peak_bytes: count,
        limit_bytes: count.nullable(),
        beside_bytes: count.meta({ description: 'Of limit_bytes, for buffers outside the memory that used_bytes and peak_bytes count.' }),
        weights_bytes: count,
        fixed_bytes: count,
        kv_pool_bytes: count,
        kv_used_bytes: count,
        kv_reserved_bytes: count,
        ledger_bytes: count,
        reading_bytes: count.nullable(),
        longest_prompt: count.meta({ description: 'Tokens of the longest prompt that reading_bytes are enough for, under a usual press.' }),
        hidden_type: z.enum(['f32', 'f16']),
      })
      .optional(),
    requests: z.strictObject({ running: count, waiting: count }).optional(),
    contexts: z
      .strictObject({
        held: count,
        most: count,
        bytes: count,
        per_key: z.strictObject({ count, bytes: count }).nullable().meta({ description: 'The most that one key may store; null: none are stored.' }),
      })
      .optional()
      .meta({ description: 'Contexts in memory, how many can be, and the bytes that they take on the device.' }),
  })
  .meta({ id: 'Health', description: '"ok" brings model, backend, memory, requests and contexts; anything else is a 503.' });

export const context = z
  .strictObject({
    id: z.string(),
    object: z.literal('context'),
    model: z.string(),
    press: z.string(),
    press_config: z.json().meta({ description: 'The press in full, as a request could have it.' }),
    tokens: count.meta({ description: 'All that it stands for.' }),
    kept: z.number().meta({ description: 'Of the tokens that the press covered, how many are kept: mean over layers and KV heads.' }),
    bytes: count.meta({ description: 'As it is stored: what counts for the quota.' }),
    bytes_mounted: count.meta({ description: 'On the device, while it is in memory.' }),
    ...kvCache.pick({
      scope: true,
      compression_ratio: true,
      kept_per_layer: true,
      added_per_layer: true,
      lmba_per_layer: true,
      retained_mass_per_layer: true,
      bytes_full: true,
      layer_budget: true,
      entry_type: true,
      notes: true,
    }).shape,
    created_at: count.meta({ description: 'In seconds since 1970, as expires_at.' }),
    expires_at: count,
    metadata: z.record(z.string(), z.string()),
    explain: kvCache.shape.explain.meta({ description: 'Where it was made just now, of a press that says "explain": true.' }),
    timings: timings.optional().meta({ description: 'Of making it, where it was made just now.' }),
  })
  .meta({ id: 'Context' });

export const contextList = z
  .strictObject({
    object: z.literal('list'),
    data: z.array(context).meta({ description: 'Newest first.' }),
    has_more: z.boolean(),
    next: z.string().nullable().meta({ description: '"after" of the next page; the last id of this one does too.' }),
  })
  .meta({ id: 'ContextList' });

export const contextDeleted = z
  .strictObject({ id: z.string(), object: z.literal('context.deleted'), deleted: z.literal(true) })
  .meta({ id: 'ContextDeleted' });

export const errorEnvelope = z
  .strictObject({ error: z.strictObject({ message: z.string(), type: z.string(), param: z.string().nullable(), code: z.string() }) })
  .meta({ id: 'Error' });

export type ContextWire = z.infer<typeof context>;
export type UsageWire = z.infer<typeof usage>;
export type ChatLogprobsWire = z.infer<typeof chatLogprobs>;
export type TextLogprobsWire = z.infer<typeof textLogprobs>;
