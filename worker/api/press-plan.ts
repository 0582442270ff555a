/** POST /v1/press/plan: exact bytes and per-layer bounds for a prompt and a press, without running it. */
import type { Context } from 'hono';
import type { Engine, PromptInput, PromptLength } from '../engine/types.ts';
import { chatPrompt, completionPrompt } from '../wire/prompt.ts';
import type { PlanBody } from '../wire/request-schema.ts';
import type { Env } from './env.ts';

export async function pressPlan(c: Context<Env>): Promise<Response> {
  const { body, engine, press } = await c.var.read('plan');
  return c.json(await engine.plan({ prompt: promptOf(body, engine), press, maxTokens: body.max_tokens ?? null }));
}

function promptOf(body: PlanBody, engine: Engine): PromptInput | PromptLength {
  if (body.messages !== undefined) return chatPrompt(body.messages);
  if (body.prompt !== undefined) return completionPrompt(body.prompt, engine);
  return { kind: 'length', tokens: (body as { tokens: number }).tokens };
}
