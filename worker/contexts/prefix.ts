/**
 * Which stored context begins a prompt? Only a whole one can: its press has seen all of its tokens.
 *
 *   h_0 = SHA-256(model, press)    h_i = SHA-256(h_{i-1}, tokens of block i)    blocks of B = 256 tokens, 4 bytes each, little-endian
 *   a context of n tokens is kept with    head = h_k, k = floor(n / B),    whole = SHA-256(h_k, its last n mod B tokens)
 *
 * A prompt has one h_i for each of its blocks. One look-up gives all contexts whose head is among them, longest first; `matches` tells of each, by one digest of fewer
 * than B tokens, whether the prompt goes on as it does. The first that matches is the longest there is.
 */
import { hex } from './bounds.ts';
import type { NewContext } from './contract.ts';

export const BLOCK = 256;

export interface Digests {
  readonly head: string;
  readonly whole: string;
}

type Tokens = NewContext['tokens'];

/** h_0 … h_k of a prompt, in hex. */
export async function headsOf({ model, press, tokens }: Pick<NewContext, 'model' | 'press' | 'tokens'>): Promise<string[]> {
  let head = await digest(new TextEncoder().encode(JSON.stringify([model, press])));
  const heads = [hex(head)];
  for (let end = BLOCK; end <= tokens.length; end += BLOCK) {
    head = await digest(joined(head, tokens, end - BLOCK, end));
    heads.push(hex(head));
  }
  return heads;
}

export async function digestsOf(context: Pick<NewContext, 'model' | 'press' | 'tokens'>): Promise<Digests> {
  const head = (await headsOf(context)).at(-1)!;
  return { head, whole: await wholeOf(head, context.tokens, context.tokens.length) };
}

/** Whether the first `length` tokens are the context's; its head is the prompt's of that many blocks. */
export async function matches(tokens: Tokens, heads: readonly string[], length: number, { head, whole }: Digests): Promise<boolean> {
  if (length > tokens.length || heads[Math.floor(length / BLOCK)] !== head) return false;
  return (await wholeOf(head, tokens, length)) === whole;
}

async function wholeOf(head: string, tokens: Tokens, length: number): Promise<string> {
  const bytes = Uint8Array.from({ length: head.length / 2 }, (_, i) => Number.parseInt(head.slice(2 * i, 2 * i + 2), 16));
  return hex(await digest(joined(bytes, tokens, length - (length % BLOCK), length)));
}

function joined(head: Uint8Array, tokens: Tokens, from: number, to: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(head.length + 4 * (to - from));
  bytes.set(head);
  const view = new DataView(bytes.buffer, head.length);
  for (let i = from; i < to; i++) view.setUint32(4 * (i - from), tokens[i], true);
  return bytes;
}

async function digest(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
}
