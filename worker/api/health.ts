/** GET /health: the engine's account of itself, or a 503 that says why there is none. It never waits for a model to load. */
import type { Context } from 'hono';
import { InputError } from '../../presses/input-error.ts';
import type { Quota } from '../contexts/quota.ts';
import type { Engine } from '../engine/types.ts';
import type { Env } from './env.ts';
import { modelFacts } from './models.ts';

export async function health(c: Context<Env>, load: () => Promise<Engine>, quotaOf: () => Quota | null): Promise<Response> {
  const later = new Promise<null>((resolve) => setTimeout(() => resolve(null), 0));
  try {
    const engine = await Promise.race([load(), later]);
    if (engine !== null) {
      const { status, model, contexts, ...account } = engine.health();
      return c.json({ status, model: modelFacts(model), ...account, contexts: { ...contexts, per_key: quotaOf() } });
    }
  } catch (error) {
    const loading = error instanceof InputError && error.code === 'model_loading';
    if (!loading) return c.json({ status: 'error', error: error instanceof Error ? error.message : String(error) }, 503);
  }
  return c.json({ status: 'loading' }, 503, { 'retry-after': '2' });
}
