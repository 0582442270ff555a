/** From token ids to text that may be shown: whole characters, nothing that could yet become a stop string. Log-probabilities travel with it. */
import { createStopMatcher, type StopMatcher } from './stop-strings.ts';
import type { StreamDecoder } from './tokenizer/stream-decoder.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';
import type { GenerateEvent, TokenLogprob } from './types.ts';

type TextEvent = Extract<GenerateEvent, { type: 'text' }>;

export class TextStream {
  /** True once a stop string was met; what follows it is never shown. */
  stopped = false;
  readonly #decoder: StreamDecoder | null;
  readonly #matcher: StopMatcher;
  #tokenIds: number[] = [];
  #logprobs: TokenLogprob[] = [];

  /** Without a tokenizer the events carry ids and no text. */
  constructor(tokenizer: Tokenizer | null, stops: readonly string[]) {
    this.#decoder = tokenizer?.stream() ?? null;
    this.#matcher = createStopMatcher(stops);
  }

  /** The event that this token makes possible, or null while its text is held back. */
  push(tokenId: number, logprob: TokenLogprob | null): TextEvent | null {
    this.#tokenIds.push(tokenId);
    if (logprob) this.#logprobs.push(logprob);
    if (!this.#decoder) return this.#event('');
    return this.#matched(this.#matcher.push(this.#decoder.push(tokenId)));
  }

  /** What was held back, at the end of generation. */
  flush(): TextEvent | null {
    if (this.stopped || !this.#decoder) return null;
    const event = this.#matched(this.#matcher.push(this.#decoder.flush()));
    if (this.stopped) return event;
    const tail = this.#matcher.flush();
    if (!event) return tail || this.#tokenIds.length > 0 ? this.#event(tail) : null;
    return { ...event, text: event.text + tail };
  }

  #matched({ text, stop }: { text: string; stop: string | null }): TextEvent | null {
    this.stopped = stop !== null;
    return text || this.stopped ? this.#event(text) : null;
  }

  #event(text: string): TextEvent {
    const event: TextEvent = { type: 'text', text, tokenIds: this.#tokenIds, logprobs: this.#logprobs };
    this.#tokenIds = [];
    this.#logprobs = [];
    return event;
  }
}
