/** What the app hands to its routes through Hono's context. */
import type { PressRequest } from '../../presses/contract.ts';
import type { Engine } from '../engine/types.ts';
import type { ChatBody, CompletionBody, PlanBody } from '../wire/request-schema.ts';

export interface Bodies {
  chat: ChatBody;
  completion: CompletionBody;
  plan: PlanBody;
}

export interface Env {
  Bindings: Record<string, unknown>; // empty in Node and Deno
  Variables: {
    requestId: string;
    engine(): Promise<Engine>;
    /** Body and press, checked before the engine is waited for; then the model's name. */
    read<K extends keyof Bodies>(kind: K): Promise<{ body: Bodies[K]; engine: Engine; press: PressRequest }>;
    /** Logs what is our fault, with the request's id; the caller's mistakes are not logged. */
    report(error: unknown): void;
  };
}
