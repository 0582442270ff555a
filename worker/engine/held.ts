/**
 * What a held context knows of itself, and which prompts go on behind it. Its pages, and what its press remembers, are the engine's.
 *
 * A prompt goes on behind it when its tokens begin with the held ones; or its text with the held text, where a tokenizer would join the two across the seam: the
 * rest is then tokenised alone, and the usage says so.
 */
import type { Scope } from '../../presses/contract.ts';
import { InputError } from '../../presses/input-error.ts';
import { fieldOf, type PromptParts, type PromptTokens, tokenise, tokenizerFor, type WordsInput } from './prompt-tokens.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';
import type { ChatMessage, Held, PromptInput } from './types.ts';

/** Stands for what the user will say. */
const NEXT = 'x';

export interface HeldContext extends Held {
  /** The words that were to be held; null for a prompt of token ids. */
  readonly prompt: WordsInput | null;
  /** What the tokens were made of, as the template wrote it; null for a prompt of token ids. */
  readonly text: string | null;
  /** How many of the tokens the press covered, and as what. */
  readonly covered: number;
  readonly scope: Scope;
  /** Rows that the press added behind the covered tokens: what follows stands so many later. */
  readonly rows: number;
  /** Entries of each list, layer by layer. */
  readonly lengths: Uint32Array;
}

/** What is to be held of a prompt: of a chat all up to where the next part of what the user says begins, of a question its context. */
export function heldPrompt(parts: PromptParts, prompt: PromptInput): PromptTokens & { readonly text: string | null } {
  if (prompt.kind === 'tokens') return { tokens: prompt.tokens, boundary: prompt.boundary ?? prompt.tokens.length, text: null };
  const tokenizer = tokenizerFor(parts, prompt);
  const text = heldText(tokenizer, prompt);
  if (text === null) {
    const message = "the model's chat template changes what stands before a user's words by what they are: give a text or token ids to hold";
    throw new InputError('press_scope', fieldOf(prompt), message);
  }
  const tokens = prompt.kind === 'text' ? tokenizer.encodeText(text) : tokenizer.encodeRendered(text);
  return { tokens, boundary: tokens.length, text };
}

function heldText({ chat }: Tokenizer, prompt: WordsInput): string | null {
  if (prompt.kind === 'text') return prompt.text;
  if (prompt.kind === 'question' && !chat.known) return prompt.context;
  const messages = prompt.kind === 'chat' ? asking(prompt.messages) : [{ role: 'user', parts: [prompt.context, NEXT] }];
  const { text, boundary } = chat.split(messages);
  return boundary === null ? null : text.slice(0, boundary);
}

/** The messages with something more that the user says, in the last message where that is the user's. */
function asking(messages: readonly ChatMessage[], more = NEXT): ChatMessage[] {
  const last = messages.at(-1);
  if (last?.role !== 'user') return [...messages, { role: 'user', parts: [more] }];
  return [...messages.slice(0, -1), { role: 'user', parts: [...last.parts, more] }];
}

/** The held words with something more that the user says. Throws InputError for a context of token ids. */
export function wordsBehind(held: Held, more: string): WordsInput {
  const { prompt } = held as HeldContext;
  if (prompt === null) {
    const message = 'the context was made of token ids, and has no words to go on behind: its tokens and more of them would work';
    throw new InputError('context_mismatch', 'prompt', message);
  }
  if (prompt.kind === 'text') return { ...prompt, text: prompt.text + more };
  return prompt.kind === 'question' ? { ...prompt, question: more } : { ...prompt, messages: asking(prompt.messages, more) };
}

/**
 * The whole prompt of whoever sends only what is new: behind a chat messages, of which the first is what the user says next; behind a text more of it; behind any
 * context token ids. Throws InputError where the one does not go on behind the other.
 */
export function promptBehind(held: Held, more: Exclude<PromptInput, { kind: 'question' }>): PromptInput {
  if (more.kind === 'tokens') return { kind: 'tokens', tokens: [...held.tokens, ...more.tokens] };
  const { prompt } = held as HeldContext;
  if (prompt?.kind === 'chat' && more.kind === 'chat') return { kind: 'chat', messages: messagesBehind(prompt.messages, more.messages) };
  if (prompt?.kind === 'text' && more.kind === 'text') return { kind: 'text', text: prompt.text + more.text };
  const made = prompt === null ? 'token ids' : MADE_OF[prompt.kind];
  const message = `the context was made of ${made}, and ${MADE_OF[more.kind]} cannot go on behind it: behind messages come messages, behind a text more text, behind any token ids`;
  throw new InputError('context_mismatch', 'context', message);
}

const MADE_OF = { chat: 'messages', text: 'a text', question: 'a document and a question' };

function messagesBehind(held: readonly ChatMessage[], more: readonly ChatMessage[]): ChatMessage[] {
  const [first, ...rest] = more;
  if (first.role !== 'user') {
    const message = `messages behind a context begin with what the user says next, got role "${first.role}": what comes before stands in the context`;
    throw new InputError('context_mismatch', 'messages.0.role', message);
  }
  const last = held.at(-1);
  return last?.role === 'user' ? [...held.slice(0, -1), { role: 'user', parts: [...last.parts, ...first.parts] }, ...rest] : [...held, ...more];
}

/** The tokens of a prompt that goes on behind a held context. Throws InputError for one that does not. */
export function behindHeld(parts: PromptParts, held: HeldContext, prompt: PromptInput): PromptTokens & { readonly notes: readonly string[] } {
  const { tokens, boundary } = tokenise(parts, prompt);
  const n = held.tokens.length;
  const other = held.tokens.findIndex((token, i) => token !== tokens[i]);
  if (other < 0 && tokens.length > n) return { tokens, boundary, notes: [] };
  const rest = prompt.kind === 'tokens' ? null : restTokens(parts, held, prompt);
  if (rest !== null && rest.length > 0) {
    const note = `the prompt's tokens were made in two pieces, at the end of the held context: as one, token ${other} would be another`;
    return { tokens: [...held.tokens, ...rest], boundary: null, notes: [note] };
  }
  const why =
    other < 0 ? `it ends where the context does, after ${n} tokens` : `token ${other} is ${tokens[other] ?? 'missing'}, not ${held.tokens[other]}`;
  const message = `the prompt must begin with the ${n} tokens that its context holds, and go on: ${why}; the held words and something behind them would work`;
  throw new InputError('context_mismatch', fieldOf(prompt), message);
}

/** The tokens of what a prompt's text has behind the held text; null where it does not begin with that, or a tokenizer would change it. */
function restTokens(parts: PromptParts, { text }: HeldContext, prompt: WordsInput): number[] | null {
  const tokenizer = tokenizerFor(parts, prompt);
  const whole = wholeText(tokenizer, prompt);
  if (text === null || !whole.startsWith(text)) return null;
  const rest = whole.slice(text.length);
  const tokens = tokenizer.encode(rest);
  const decoder = tokenizer.stream({ skipSpecial: false });
  return tokens.map((id) => decoder.push(id)).join('') + decoder.flush() === rest ? tokens : null;
}

function wholeText(tokenizer: Tokenizer, prompt: WordsInput): string {
  if (prompt.kind === 'text') return prompt.text;
  return prompt.kind === 'chat' ? tokenizer.chat.render(prompt.messages) : tokenizer.questionText(prompt).text;
}
