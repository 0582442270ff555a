/** Settings of a server that come as variables: of wrangler.toml, or of the environment under `deno serve`. */
import { choices } from '../presses/did-you-mean.ts';
import { InputError } from '../presses/input-error.ts';
import { entryTypes } from './backend/backend.ts';
import { checkedQuota, DEFAULT_QUOTA, type Quota } from './contexts/quota.ts';
import { parseBytes } from './engine/bytes.ts';
import { hiddenTypes } from './engine/hidden-rows.ts';
import type { LoadSettings } from './engine/load.ts';

export interface Variables {
  readonly MEMORY_LIMIT?: string;
  readonly KV_POOL?: string;
  readonly ENTRY_TYPE?: string;
  readonly MAX_WAITING?: string;
  /** The most that one key may store. */
  readonly CONTEXTS_PER_KEY?: string;
  readonly CONTEXT_BYTES_PER_KEY?: string;
  readonly LONGEST_PROMPT?: string;
  readonly HIDDEN_TYPE?: string;
  readonly SEQUENCES?: string;
}

export type ServerSettings = Pick<LoadSettings, 'kvPoolBytes' | 'entryType' | 'maxWaiting' | 'longestPrompt' | 'hiddenType' | 'sequences'> & {
  readonly memoryLimitBytes?: number;
};

/** An empty variable is none. InputError says of a value that makes no sense what would. */
export function settingsOf(variables: Variables): ServerSettings {
  const { MEMORY_LIMIT, KV_POOL, ENTRY_TYPE, HIDDEN_TYPE } = variables;
  const entryType = entryTypes.find((type) => type === (ENTRY_TYPE || 'f32'));
  if (!entryType) throw invalid('ENTRY_TYPE', `must be ${choices(entryTypes)}, got "${ENTRY_TYPE}"`);
  const hiddenType = hiddenTypes.find((type) => type === (HIDDEN_TYPE || 'f32'));
  if (!hiddenType) throw invalid('HIDDEN_TYPE', `must be ${choices(hiddenTypes)}, got "${HIDDEN_TYPE}"`);
  return {
    memoryLimitBytes: bytes('MEMORY_LIMIT', MEMORY_LIMIT),
    kvPoolBytes: bytes('KV_POOL', KV_POOL),
    entryType,
    hiddenType,
    maxWaiting: whole('MAX_WAITING', variables.MAX_WAITING, 64),
    longestPrompt: whole('LONGEST_PROMPT', variables.LONGEST_PROMPT, 8192),
    sequences: whole('SEQUENCES', variables.SEQUENCES, 16),
  };
}

/** What one key may store. An empty variable is the default. */
export function quotaOf({ CONTEXTS_PER_KEY: count, CONTEXT_BYTES_PER_KEY: most }: Variables): Quota {
  if (count && !/^\d{1,9}$/.test(count)) throw invalid('CONTEXTS_PER_KEY', `must be a whole number such as ${DEFAULT_QUOTA.count}, got "${count}"`);
  return checkedQuota({ count: count ? Number(count) : DEFAULT_QUOTA.count, bytes: bytes('CONTEXT_BYTES_PER_KEY', most) ?? DEFAULT_QUOTA.bytes });
}

function whole(name: string, text: string | undefined, example: number): number | undefined {
  if (!text) return undefined;
  if (!/^\d+$/.test(text)) throw invalid(name, `must be a whole number such as ${example}, got "${text}"`);
  return Number(text);
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
