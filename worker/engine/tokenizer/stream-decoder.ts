/** Turns tokens into text as they come. Bytes of an unfinished UTF-8 character wait for the rest; bytes that can never be one become U+FFFD. */
export class StreamDecoder {
  readonly #bytesOf: (id: number) => Uint8Array;
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  constructor(bytesOf: (id: number) => Uint8Array) {
    this.#bytesOf = bytesOf;
  }

  /** The text that this token completes; often its own, sometimes none yet. */
  push(id: number): string {
    return this.#decoder.decode(this.#bytesOf(id), { stream: true });
  }

  /** What is left at the end: U+FFFD if a character was never finished, else nothing. */
  flush(): string {
    return this.#decoder.decode();
  }
}
