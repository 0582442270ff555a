/** Settings of a server that come as variables: of wrangler.toml, or of the environment under `deno serve`. */
import { choices } from '../presses/did-you-mean.ts';
import { InputError } from '../presses/input-error.ts';
import { entryTypes } from './backend/backend.ts';
import { parseBytes } from './engine/bytes.ts';
import type { LoadSettings } from './engine/load.ts';

export interface Variables {
  readonly MEMORY_LIMIT?: string;
  readonly KV_POOL?: string;
  readonly ENTRY_TYPE?: string;
  readonly MAX_WAITING?: string;
}

export type ServerSettings = Pick<LoadSettings, 'kvPoolBytes' | 'entryType' | 'maxWaiting'> & { readonly memoryLimitBytes?: number };

/** An empty variable is none. InputError says of a value that makes no sense what would. */
export function settingsOf({ MEMORY_LIMIT, KV_POOL, ENTRY_TYPE, MAX_WAITING }: Variables): ServerSettings {
  const entryType = entryTypes.find((type) => type === (ENTRY_TYPE || 'f32'));
  if (!entryType) throw invalid('ENTRY_TYPE', `must be ${choices(entryTypes)}, got "${ENTRY_TYPE}"`);
  if (MAX_WAITING && !/^\d+$/.test(MAX_WAITING)) throw invalid('MAX_WAITING', `must be a whole number such as 64, got "${MAX_WAITING}"`);
  return {
    memoryLimitBytes: bytes('MEMORY_LIMIT', MEMORY_LIMIT),
    kvPoolBytes: bytes('KV_POOL', KV_POOL),
    entryType,
    maxWaiting: MAX_WAITING ? Number(MAX_WAITING) : undefined,
  };
}

function bytes(name: string, text: string | undefined): number | undefined {
  if (!text) return undefined;
  try {
    return parseBytes(text);
  } catch (error) {
    throw new InputError('invalid_value', name, `${name}: ${(error as Error).message}`);
  }
}

function invalid(name: string, why: string): InputError {
  return new InputError('invalid_value', name, `${name} ${why}`);
}
