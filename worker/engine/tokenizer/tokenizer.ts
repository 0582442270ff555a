/** Text to tokens and back, by @huggingface/tokenizers; bytes of single tokens and streaming are ours. */
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { invalidModel } from '../model/config.ts';
import type { ChatMessage } from '../types.ts';
import { ChatTemplate, type SplitPrompt } from './chat-template.ts';
import type { TokenizerData } from './settings.ts';
import { StreamDecoder } from './stream-decoder.ts';
import { vocabularyKind, withKnownSplitting } from './tokenizer-json.ts';

export interface EncodedPrompt {
  readonly ids: number[];
  /** Tokens before the last text part of the last user message (scope "context" covers these); null where that is not known. */
  readonly boundary: number | null;
}

/** Of a context, in one user turn. */
interface Question {
  readonly context: string;
  readonly question: string;
  /** What the answer begins with. */
  readonly answerPrefix: string;
}

export interface DecodeOptions {
  /** Leaves control tokens out; on by default. */
  readonly skipSpecial?: boolean;
}

/** What we use of the library; its own declarations do not resolve under node16 module rules. */
interface Library {
  encode(text: string, options?: { add_special_tokens?: boolean }): { ids: number[] };
  id_to_token(id: number): string | undefined;
  token_to_id(token: string): number | undefined;
  readonly normalizer: ((text: string) => string) | null;
  readonly pre_tokenizer: ((text: string, options: { section_index: number }) => string[]) | null;
  readonly model: ((pieces: string[]) => string[]) & { config: object; merges: unknown };
}

const replacementBytes = new TextEncoder().encode('\uFFFD');
const noBytes = new Uint8Array(0);

export class Tokenizer {
  readonly chat: ChatTemplate;
  /** One more than the highest id; a model's embedding may have more rows. */
  readonly vocabSize: number;
  /** Bytes of the longest token: no text has fewer tokens than its bytes divided by this. */
  readonly longestTokenBytes: number;
  readonly bosId: number | null;
  readonly eosId: number | null;
  readonly #library: Library;
  readonly #special = new Set<number>();
  readonly #added = new Map<number, string>();
  readonly #kind: 'bytes' | 'sentencepiece';
  readonly #stripsFirstSpace: boolean;
  /** What the post-processor puts before a text: BOS, or nothing. */
  readonly #prefix: readonly number[];
  readonly #bosBeforeChat: boolean;

  constructor(data: TokenizerData) {
    const json = withKnownSplitting(data.json);
    const kind = vocabularyKind(json);
    this.#kind = kind.kind;
    this.#stripsFirstSpace = kind.stripsFirstSpace;
    try {
      this.#library = new HuggingFaceTokenizer(json, { ...data.settings.specialTokens, clean_up_tokenization_spaces: false }) as unknown as Library;
    } catch (error) {
      throw invalidModel(`tokenizer.json: ${(error as Error).message}`);
    }
    for (const token of json.added_tokens) {
      this.#added.set(token.id, token.content);
      if (token.special) this.#special.add(token.id);
    }
    const ids = [...Object.values(json.model.vocab), ...this.#added.keys()];
    this.vocabSize = ids.reduce((most, id) => Math.max(most, id), -1) + 1;
    this.longestTokenBytes = ids.reduce((most, id) => Math.max(most, this.tokenBytes(id).length), 1);
    // The library holds on to what it was made from, which it needs no longer: 8 of 19 MB for a vocabulary of 49,152.
    const { vocab: _, merges: __, ...rest } = json.model;
    Object.assign(this.#library, { tokenizer: null });
    Object.assign(this.#library.model, { config: rest, merges: null });
    const { bos_token: bos, eos_token: eos } = data.settings.specialTokens;
    this.bosId = bos === undefined ? null : (this.id(bos) ?? null);
    this.eosId = eos === undefined ? null : (this.id(eos) ?? null);
    // The post-processor around a text shows what it adds in front.
    let bare: number[];
    let framed: number[];
    try {
      bare = this.encode('a');
      framed = this.#library.encode('a').ids;
    } catch (error) {
      throw invalidModel(`tokenizer.json: the letter a cannot be encoded with it: ${(error as Error).message}`);
    }
    const at = framed.findIndex((_, i) => bare.every((id, j) => framed[i + j] === id));
    this.#prefix = at > 0 ? framed.slice(0, at) : [];
    this.#bosBeforeChat = data.settings.bosBeforeChat;
    this.chat = new ChatTemplate(data.settings);
  }

  /** Tokens of the text as it stands. With `parseSpecial` off, control tokens written in the text are spelled out like any other text. */
  encode(text: string, options: { readonly parseSpecial?: boolean } = {}): number[] {
    if (options.parseSpecial ?? true) return this.#library.encode(text, { add_special_tokens: false }).ids;
    const { normalizer, pre_tokenizer: split, model } = this.#library;
    if (text === '') return [];
    const normal = normalizer ? normalizer(text) : text;
    const pieces = split ? split(normal, { section_index: 0 }) : [normal];
    return model(pieces).map((token) => this.id(token) ?? 0);
  }

  /** A text prompt: with BOS before it if the tokenizer wants one and the text does not bring its own. */
  encodeText(text: string): number[] {
    return withPrefix(this.#prefix, this.encode(text));
  }

  /** What the chat template wrote, or its beginning. */
  encodeRendered(text: string): number[] {
    return this.#withBos(this.encode(text));
  }

  /** Chat messages by the model's template. Its text is taken as it is: templates write BOS themselves. */
  encodeChat(messages: readonly ChatMessage[], addGenerationPrompt = true): EncodedPrompt {
    return this.#encodeSplit(this.chat.split(messages, addGenerationPrompt));
  }

  /**
   * A question about a context, in one user turn; `answerPrefix` is what the answer begins with, where the template would write it: some write a space between the mark of
   * the model's turn and its words, and the model knows no answer without it. kvpress leaves that space out. The boundary is where the context ends.
   */
  encodeQuestion(asked: Question): EncodedPrompt {
    return this.#encodeSplit(this.questionText(asked));
  }

  /** The text of it. */
  questionText({ context, question, answerPrefix }: Question): SplitPrompt {
    const turn = this.chat.known
      ? this.chat.split([{ role: 'user', parts: [context, question] }])
      : { text: `${context}${question}\n`, boundary: context.length };
    const space = this.chat.known && /^\S/.test(answerPrefix) ? this.chat.spaceBeforeAnswer() : '';
    return { ...turn, text: turn.text + space + answerPrefix };
  }

  #encodeSplit({ text, boundary }: SplitPrompt): EncodedPrompt {
    const bare = this.encode(text);
    const ids = this.#withBos(bare);
    return { ids, boundary: boundary === null ? null : ids.length - bare.length + this.#tokensBefore(text, bare, boundary) };
  }

  /** Of what a template wrote, and of a question without one. */
  #withBos(ids: number[]): number[] {
    return this.#bosBeforeChat || !this.chat.known ? withPrefix(this.#prefix, ids) : ids;
  }

  /** Tokens that lie wholly before the character: as many as the text's beginning, tokenised alone, has in common with it. */
  #tokensBefore(text: string, ids: readonly number[], boundary: number): number {
    const alone = this.encode(text.slice(0, boundary));
    const different = alone.findIndex((id, i) => id !== ids[i]);
    return different < 0 ? alone.length : different;
  }

  /** As Hugging Face decodes a whole sequence (without its "clean up" of spaces). */
  decode(ids: readonly number[], options: DecodeOptions = {}): string {
    const decoder = this.stream(options);
    const text = ids.map((id) => decoder.push(id)).join('') + decoder.flush();
    return this.#stripsFirstSpace && text.startsWith(' ') ? text.slice(1) : text;
  }

  /** Decodes a continuation token by token; the pieces never hold half a character. A first space stays: it belongs to the text. */
  stream(options: DecodeOptions = {}): StreamDecoder {
    const skip = options.skipSpecial ?? true;
    return new StreamDecoder((id) => (skip && this.#special.has(id) ? noBytes : this.tokenBytes(id)));
  }

  /** The bytes that the token stands for; none for an id outside the vocabulary. They may be a part of a character. */
  tokenBytes(id: number): Uint8Array {
    const added = this.#added.get(id);
    if (added !== undefined) return encodeUtf8(added);
    const token = this.#library.id_to_token(id);
    if (token === undefined) return noBytes;
    if (this.#kind === 'bytes') return bytesOfByteLevel(token);
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
    return byte ? Uint8Array.of(Number.parseInt(byte[1], 16)) : encodeUtf8(token.replaceAll('▁', ' '));
  }

  /** The token as text; U+FFFD stands for parts of characters. */
  tokenText(id: number): string {
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(this.tokenBytes(id));
  }

  /** The id of a token in the vocabulary's own spelling. */
  id(token: string): number | undefined {
    return this.#library.token_to_id(token);
  }

  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }
}

function withPrefix(prefix: readonly number[], ids: number[]): number[] {
  return prefix.every((id, i) => ids[i] === id) ? ids : [...prefix, ...ids];
}

const encodeUtf8 = (text: string) => new TextEncoder().encode(text);

/** GPT-2's alphabet: printable Latin-1 stands for itself, the other bytes for U+0100 on, in order. */
const byteOfCharacter = new Map<string, number>();
for (let byte = 0, next = 256; byte < 256; byte++) {
  const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  byteOfCharacter.set(String.fromCharCode(printable ? byte : next++), byte);
}

function bytesOfByteLevel(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = byteOfCharacter.get(character);
    if (byte !== undefined) bytes.push(byte);
    else bytes.push(...replacementBytes); // no byte-level token: a vocabulary that is not what it says
  }
  return Uint8Array.from(bytes);
}
