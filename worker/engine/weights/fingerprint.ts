/** Names a model by what it is: stored contexts carry it, so that they are never decoded by other weights. */
import type { ModelConfig } from '../model/config.ts';
import type { Arena } from './packed.ts';
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

export async function fingerprintArena(config: ModelConfig, layout: ArenaLayout, arena: Required<Pick<Arena, 'view'>>): Promise<string> {
  const pieces: string[] = [];
  for (let at = 0; at < layout.bytes; at += fingerprintPiece)
    pieces.push(await sha256Hex(arena.view(at, Math.min(fingerprintPiece, layout.bytes - at))));
  return fingerprint(config, layout, pieces);
}
