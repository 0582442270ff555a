/** A stored context in the wire's names, and what is kept beside its bytes so that it can be told without them. */

import { parsePress } from '../../presses/config.ts';
import { configOf } from '../../presses/config-of.ts';
import type { PressRequest } from '../../presses/contract.ts';
import type { ContextRecord, Json } from '../contexts/contract.ts';
import type { Held, KvCacheUsage, ModelInfo } from '../engine/types.ts';
import type { ContextWire } from './answer-schema.ts';

/** In the record's `meta`. */
interface Meta {
  readonly model: string;
  readonly press: { readonly name: string; readonly config: Json };
  readonly usage: Omit<KvCacheUsage, 'explain' | 'decoding'>;
  readonly bytesMounted: number;
  readonly metadata: Record<string, string>;
}

export function contextMeta({ id }: ModelInfo, held: Held, metadata: Record<string, string>): ContextRecord['meta'] {
  const { press, entryType, bytes } = held;
  const { explain: _, ...usage } = held.kvCache;
  const meta: Meta = {
    model: id,
    press: { name: press.name, config: configOf({ ...press, entryType }) as Json },
    usage,
    bytesMounted: bytes,
    metadata,
  };
  return JSON.parse(JSON.stringify(meta));
}

export function contextWire({ id, meta, tokens, bytes, createdAt, expiresAt }: ContextRecord): ContextWire {
  const { model, press, usage, bytesMounted, metadata } = metaOf(meta);
  const { kept_per_layer } = usage;
  return {
    id,
    object: 'context',
    model,
    press: press.name,
    press_config: press.config as ContextWire['press_config'],
    tokens,
    kept: kept_per_layer.reduce((sum, kept) => sum + kept, 0) / kept_per_layer.length,
    bytes,
    bytes_mounted: bytesMounted,
    scope: usage.scope,
    compression_ratio: usage.compression_ratio,
    kept_per_layer,
    ...(usage.added_per_layer !== undefined && { added_per_layer: usage.added_per_layer }),
    lmba_per_layer: usage.lmba_per_layer,
    retained_mass_per_layer: usage.retained_mass_per_layer,
    bytes_full: usage.bytes_full,
    layer_budget: usage.layer_budget,
    entry_type: usage.entry_type,
    notes: usage.notes,
    created_at: Math.floor(createdAt / 1000),
    expires_at: Math.floor(expiresAt / 1000),
    metadata,
  };
}

/** What it takes in memory, whose it is and by which press: known before its bytes are read. */
export function contextFacts({ meta }: ContextRecord): { readonly model: string; readonly press: PressRequest; readonly bytesMounted: number } {
  const { model, press, bytesMounted } = metaOf(meta);
  return { model, press: { ...parsePress(press.config), name: press.name }, bytesMounted };
}

/** Only contextMeta writes it. */
const metaOf = (meta: ContextRecord['meta']): Meta => meta as unknown as Meta;
