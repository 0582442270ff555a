/** A prompt as token ids. Throws InputError for one that has none, or too many. */
import { InputError } from '../../presses/input-error.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';
import type { ChatMessage, ModelInfo, PromptInput, PromptLength } from './types.ts';

export interface PromptParts {
  readonly info: ModelInfo;
  /** Null: the model came without one and reads token ids only. */
  readonly tokenizer: Tokenizer | null;
}

export interface PromptTokens {
  readonly tokens: readonly number[];
  /** Of them, how many lie before the last text part of the last user message; null where that is not known. */
  readonly boundary: number | null;
}

export type WordsInput = Exclude<PromptInput, { kind: 'tokens' }>;

/** Tokens, and how many of them lie before the last text part of the last user message; null where that is not known. */
export function tokenise(parts: PromptParts, prompt: PromptInput): PromptTokens {
  if (prompt.kind === 'tokens') return { tokens: prompt.tokens, boundary: prompt.boundary ?? null };
  const tokenizer = tokenizerFor(parts, prompt);
  if (prompt.kind === 'text') return { tokens: tokenizer.encodeText(prompt.text), boundary: null };
  if (prompt.kind === 'question') {
    const { ids, boundary } = tokenizer.encodeQuestion(prompt);
    return { tokens: ids, boundary };
  }
  const { ids, boundary } = tokenizer.encodeChat(prompt.messages);
  return { tokens: ids, boundary: hasContext(prompt.messages) ? boundary : null };
}

/** The tokenizer, for words that are not surely too many. */
export function tokenizerFor({ info, tokenizer }: PromptParts, prompt: WordsInput): Tokenizer {
  if (!tokenizer) throw new InputError('no_tokenizer', 'prompt', `the model ${info.id} came without a tokenizer: give token ids as the prompt`);
  // Tokenising takes seconds for some megabytes; what surely has too many tokens is not even tried.
  const text = textsOf(prompt);
  const least = Math.ceil(text.reduce((sum, part) => sum + part.length, 0) / tokenizer.longestTokenBytes); // UTF-8 is no shorter than UTF-16 units
  if (least > info.contextLength) throw tooLong(`at least ${least}`, info.contextLength, fieldOf(prompt));
  return tokenizer;
}

function textsOf(prompt: WordsInput): readonly string[] {
  if (prompt.kind === 'text') return [prompt.text];
  if (prompt.kind === 'question') return [prompt.context, prompt.question, prompt.answerPrefix];
  return prompt.messages.flatMap(({ parts }) => parts);
}

/** As many tokens as are planned for, whatever they are; a number beyond the context is refused before an array has it. */
export function anyTokens(length: number, { contextLength }: ModelInfo): { tokens: number[]; boundary: null } {
  if (length >= contextLength) throw tooLong(String(length), contextLength, 'tokens');
  return { tokens: new Array(length).fill(0), boundary: null };
}

export function checkTokens(tokens: readonly number[], info: ModelInfo, field: string): void {
  if (tokens.length === 0) throw new InputError('prompt_empty', field, 'the prompt has no tokens');
  checkVocabulary(tokens, info, field);
  if (tokens.length >= info.contextLength) throw tooLong(String(tokens.length), info.contextLength, field);
}

export function checkVocabulary(tokens: readonly number[], { vocabSize }: ModelInfo, field: string): void {
  const unknown = tokens.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize);
  if (unknown >= 0)
    throw new InputError('token_unknown', field, `token ${tokens[unknown]} at index ${unknown} is not in the vocabulary of ${vocabSize}`);
}

export function fieldOf({ kind }: PromptInput | PromptLength): string {
  if (kind === 'length') return 'tokens';
  return kind === 'chat' ? 'messages' : 'prompt';
}

export function tooLong(tokens: string, contextLength: number, field: string, added = 0): InputError {
  const rows = added > 0 ? ` and the press adds ${added} rows` : '';
  return new InputError(
    'prompt_too_long',
    field,
    `the prompt has ${tokens} tokens${rows}; the context length is ${contextLength}, of which one at least is generated: send ${contextLength - added - 1} tokens or fewer`,
  );
}

/** Whether something of the caller's stands before the last text part of the last user message: the template alone is nothing to press. */
function hasContext(messages: readonly ChatMessage[]): boolean {
  const last = messages.findLastIndex(({ role }) => role === 'user');
  const before = messages.slice(0, last + 1).map(({ parts }, i) => (i === last ? parts.slice(0, -1) : parts));
  return before.flat().some((part) => part.trim() !== '');
}
