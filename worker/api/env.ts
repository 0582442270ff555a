/** What the app hands to its routes through Hono's context. */
import type { PressRequest } from '../../presses/contract.ts';
import type { Engine } from '../engine/types.ts';
import type { ChatBody, CompletionBody, ContextBody, PlanBody } from '../wire/request-schema.ts';
import type { ShippedContexts } from './shipped-contexts.ts';
import type { MountedOfEngine, StoredContexts } from './stored-contexts.ts';

export interface Bodies {
  chat: ChatBody;
  completion: CompletionBody;
  plan: PlanBody;
  context: ContextBody;
}

export interface Env {
  Bindings: Record<string, unknown>; // empty in Node and Deno
  Variables: {
    requestId: string;
    /** The bearer key, checked; null: this server asks for none. */
    apiKey: string | null;
    engine(): Promise<Engine>;
    /** Body and press, checked before the engine is waited for; then the model's name. */
    read<K extends keyof Bodies>(kind: K): Promise<{ body: Bodies[K]; engine: Engine; press: PressRequest }>;
    /** Of the request's key; null: this server keeps none. */
    contexts(): Promise<StoredContexts | null>;
    /** Those that came with the server, for every key; null: none did. */
    shipped: ShippedContexts | null;
    /** Of every engine and key. */
    mounted: MountedOfEngine;
    /** Logs what is our fault, with the request's id; the caller's mistakes are not logged. */
    report(error: unknown): void;
  };
}
