/** From the wire's messages or prompt to what the engine reads. */
import { InputError } from '../../presses/input-error.ts';
import type { Engine, PromptInput } from '../engine/types.ts';
import type { ChatBody, CompletionBody } from './request-schema.ts';

export function chatPrompt(messages: ChatBody['messages']): Extract<PromptInput, { kind: 'chat' }> {
  return {
    kind: 'chat',
    messages: messages.map(({ role, content }) => ({
      role: role === 'developer' ? 'system' : role, // the same thing under OpenAI's newer name; no chat template here knows it
      parts: typeof content === 'string' ? [content] : content.map((part) => part.text),
    })),
  };
}

export function completionPrompt(
  prompt: CompletionBody['prompt'],
  { info: { vocabSize } }: Engine,
): Extract<PromptInput, { kind: 'text' | 'tokens' }> {
  if (typeof prompt === 'string') return { kind: 'text', text: prompt };
  if (typeof prompt[0] === 'string') return { kind: 'text', text: prompt[0] };
  const tokens = prompt as number[];
  const at = tokens.findIndex((id) => id >= vocabSize);
  if (at >= 0)
    throw new InputError('invalid_value', `prompt.${at}`, `prompt.${at} must be a token id between 0 and ${vocabSize - 1}, got ${tokens[at]}`);
  return { kind: 'tokens', tokens };
}
