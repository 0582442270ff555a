/** What one answer took, in the wire's names: the API's `usage` and `timings`, and what `edgepress generate --json` prints. */
import type { GenerateEvent } from '../engine/types.ts';
import type { UsageWire } from './answer-schema.ts';

export type FinishEvent = Extract<GenerateEvent, { type: 'finish' }>;

export function usageWire({ usage: { promptTokens, cachedTokens, completionTokens, kvCache } }: FinishEvent): UsageWire {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
    kv_cache: kvCache,
  };
}

export function timingsWire({ timings: { prefillMs, pressMs, decodeMs } }: Pick<FinishEvent, 'timings'>) {
  return { prefill_ms: prefillMs, press_ms: pressMs, decode_ms: decodeMs };
}
