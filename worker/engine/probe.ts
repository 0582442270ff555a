/** A request whose answer nobody reads: for measuring how fast an engine is. */
import type { PressRequest } from '../../presses/contract.ts';
import type { GenerateRequest, Sampling } from './types.ts';

/** So many of the likeliest tokens, whatever they are. */
export function greedy(maxTokens: number): Sampling {
  return {
    maxTokens,
    temperature: 0,
    topK: 0,
    topP: 1,
    minP: 0,
    seed: 0,
    frequencyPenalty: 0,
    presencePenalty: 0,
    stop: [],
    topLogprobs: null,
    ignoreEos: true,
  };
}

/** `promptTokens` token ids that are spread over the vocabulary, and so many greedy tokens of answer, whatever they are. */
export function probeRequest(vocabSize: number, promptTokens: number, answerTokens: number, press: PressRequest): GenerateRequest {
  return {
    prompt: { kind: 'tokens', tokens: Array.from({ length: promptTokens }, (_, i) => (i * 7919 + 13) % vocabSize) },
    press,
    sampling: greedy(answerTokens),
  };
}
