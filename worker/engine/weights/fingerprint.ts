/** Names a model by what it is: stored contexts carry it, so that they are never decoded by other weights. */
import type { ModelConfig } from '../model/config.ts';
import type { ArenaLayout } from './plan.ts';
import { sha256Hex } from './sha256.ts';

/** The weights are hashed in pieces of this many bytes: WebCrypto hashes nothing that comes in parts. */
export const fingerprintPiece = 4 << 20;

/** SHA-256 of config, layout and the digests of the arena's pieces. The same for a packed model and for its source loaded directly. */
export async function fingerprint(config: ModelConfig, layout: ArenaLayout, pieces: readonly string[]): Promise<string> {
  const tensors = layout.tensors.map(({ name, type, rows, cols, offset, bytes }) => [name, type, rows, cols, offset, bytes]);
  const { bosId: _, eosIds: __, ...weights } = config; // settings of the tokenizer do not change what a cache holds
  const entries = Object.entries(weights).sort(([a], [b]) => (a < b ? -1 : 1));
  return sha256Hex(new TextEncoder().encode(JSON.stringify([entries, tensors, pieces])));
}

/** Hashes what is written on, at ascending, gapless offsets, in pieces. */
export class PieceHasher {
  readonly #digests: string[] = [];
  readonly #piece = new Uint8Array(fingerprintPiece);
  #filled = 0;

  async take(bytes: Uint8Array): Promise<void> {
    for (let from = 0; from < bytes.length; ) {
      const count = Math.min(bytes.length - from, fingerprintPiece - this.#filled);
      this.#piece.set(bytes.subarray(from, from + count), this.#filled);
      this.#filled += count;
      from += count;
      if (this.#filled === fingerprintPiece) await this.#end();
    }
  }

  async digests(): Promise<readonly string[]> {
    if (this.#filled > 0) await this.#end();
    return this.#digests;
  }

  async #end(): Promise<void> {
    this.#digests.push(await sha256Hex(this.#piece.subarray(0, this.#filled)));
    this.#filled = 0;
  }
}
