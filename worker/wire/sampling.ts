/** Defaults of the sampling fields: OpenAI's, so temperature 1. */
import type { Sampling } from '../engine/types.ts';
import type { CompletionBody } from './request-schema.ts';

/** The fields that every kind of request has. */
type SamplingFields = Pick<
  CompletionBody,
  'temperature' | 'top_k' | 'top_p' | 'min_p' | 'seed' | 'frequency_penalty' | 'presence_penalty' | 'stop' | 'ignore_eos'
>;

export function samplingOf(body: SamplingFields, maxTokens: number | null, topLogprobs: number | null): Sampling {
  return {
    maxTokens,
    topLogprobs,
    temperature: body.temperature ?? 1,
    topK: body.top_k ?? 0,
    topP: body.top_p ?? 1,
    minP: body.min_p ?? 0,
    seed: body.seed ?? null,
    frequencyPenalty: body.frequency_penalty ?? 0,
    presencePenalty: body.presence_penalty ?? 0,
    stop: typeof body.stop === 'string' ? [body.stop] : (body.stop ?? []),
    ignoreEos: body.ignore_eos ?? false,
  };
}
