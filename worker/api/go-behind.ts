/**
 * The stored context behind which a request goes on, if any.
 *
 *   "context": "ctx_…"   that one, or by another name one that came with the server: what is sent goes on behind it, under its press; another press or model is refused
 *   left out, or null    the longest that begins the prompt, where the answer is the same without it (engine/reusable.ts); one that cannot be had is no failure
 *   false                none
 */
import type { Context } from 'hono';
import type { PressRequest } from '../../presses/contract.ts';
import { promptBehind } from '../engine/held.ts';
import type { Engine, GenerateRequest, MountedRequest, PromptInput, Sampling } from '../engine/types.ts';
import type { ChatBody } from '../wire/request-schema.ts';
import { contextsOf } from './contexts.ts';
import type { Env } from './env.ts';
import { clientGone } from './errors.ts';
import { isShippedName } from './shipped-contexts.ts';
import type { MountedContext } from './stored-contexts.ts';

export interface Going {
  readonly request: GenerateRequest | MountedRequest;
  /** Whoever has it gives it back. */
  readonly context: MountedContext | null;
}

/** `prompt`: as it was sent; of token ids or words. */
export async function goBehind(
  c: Context<Env>,
  engine: Engine,
  { context, press: said }: Pick<ChatBody, 'context' | 'press'>,
  prompt: Exclude<PromptInput, { kind: 'question' }>,
  press: PressRequest,
  sampling: Sampling,
): Promise<Going> {
  if (context === false) return { request: { prompt, press, sampling }, context: null };
  const { signal } = c.req.raw;
  let mounted: MountedContext | null = null;
  try {
    if (context == null) {
      mounted = await found(c, engine, prompt, press);
      return { request: mounted ? { prompt, held: mounted.held, sampling } : { prompt, press, sampling }, context: mounted };
    }
    const { shipped } = c.var;
    const contexts = shipped && isShippedName(context) ? shipped : await contextsOf(c);
    mounted = await contexts.mount(engine, context, said == null ? null : press, signal);
    return { request: { prompt: promptBehind(mounted.held, prompt), held: mounted.held, sampling }, context: mounted };
  } catch (error) {
    mounted?.release();
    throw signal.aborted ? clientGone() : error;
  }
}

async function found(c: Context<Env>, engine: Engine, prompt: PromptInput, press: PressRequest): Promise<MountedContext | null> {
  const { signal } = c.req.raw;
  try {
    const contexts = await c.var.contexts();
    return contexts && (await contexts.find(engine, { prompt, press }, signal));
  } catch (error) {
    signal.throwIfAborted();
    c.var.report(error); // the prompt can be read as well
    return null;
  }
}
