/** GET /v1/models, GET /v1/models/:id */
import type { Context } from 'hono';
import { InputError } from '../../presses/input-error.ts';
import type { Engine, ModelInfo } from '../engine/types.ts';
import { show } from '../wire/validate.ts';
import type { Env } from './env.ts';

export async function listModels(c: Context<Env>): Promise<Response> {
  const { info } = await c.var.engine();
  return c.json({ object: 'list', data: [modelWire(info)] });
}

export async function getModel(c: Context<Env>): Promise<Response> {
  const engine = await c.var.engine();
  checkModel(c.req.param('id'), engine);
  return c.json(modelWire(engine.info));
}

/** No name means the one model that is served. */
export function checkModel(name: string | null | undefined, { info }: Engine): void {
  if (name == null || name === info.id) return;
  throw new InputError('model_not_found', 'model', `model ${show(name)} is not served here; this server has "${info.id}"`);
}

function modelWire(info: ModelInfo) {
  const { id, ...facts } = modelFacts(info);
  return { id, object: 'model', created: 0, owned_by: 'edgepress', ...facts }; // created: a file's age is no fact about a model
}

/** What a model is, in the wire's names. */
export function modelFacts({ id, family, parameters, layers, contextLength, vocabSize, weightBytes, requantised }: ModelInfo) {
  return {
    id,
    family,
    parameters,
    layers,
    context_length: contextLength,
    vocab_size: vocabSize,
    weight_bytes: weightBytes,
    ...(requantised && { requantised }),
  };
}
