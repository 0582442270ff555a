/** POST /v1/press/plan: exact bytes and per-layer bounds for a prompt and a press, without running it. */
import type { Context } from 'hono';
import type { Engine, PromptInput } from '../engine/types.ts';
import type { Env } from './app.ts';
import { chatPrompt, completionPrompt } from './prompt.ts';
import type { PlanBody } from './request-schema.ts';

export async function pressPlan(c: Context<Env>): Promise<Response> {
  const { body, engine, press } = await c.var.read('plan');
  const prompt = promptOf(body, engine);
  const tokens = prompt.kind === 'length' ? prompt.tokens : engine.countTokens(prompt);
  const maxTokens = body.max_tokens ?? Math.max(1, engine.info.contextLength - tokens);
  return c.json(engine.plan({ prompt, press, maxTokens }));
}

function promptOf(body: PlanBody, engine: Engine): PromptInput | { kind: 'length'; tokens: number } {
  if (body.messages !== undefined) return chatPrompt(body.messages);
  if (body.prompt !== undefined) return completionPrompt(body.prompt, engine);
  return { kind: 'length', tokens: body.tokens! };
}
