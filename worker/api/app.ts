/** The HTTP API, for any runtime with fetch: workerd, Deno, Node. Nothing but this folder and what serves it knows HTTP. */
import { type Context, Hono } from 'hono';
import { cors } from 'hono/cors';
import { requestId } from 'hono/request-id';
import { parsePress, pressJsonSchema } from '../../presses/config.ts';
import { shownName } from '../../presses/did-you-mean.ts';
import { InputError } from '../../presses/input-error.ts';
import { listPresses } from '../../presses/list-presses.ts';
import { ownerOf } from '../contexts/bounds.ts';
import type { ContextStore } from '../contexts/contract.ts';
import type { Engine } from '../engine/types.ts';
import type { ModelFiles } from '../engine/weights/source.ts';
import { defaultLimits, type Limits } from '../wire/limits.ts';
import { requestSchemas } from '../wire/request-schema.ts';
import { validate } from '../wire/validate.ts';
import { requireKey } from './auth.ts';
import { chatCompletions } from './chat-completions.ts';
import { completions } from './completions.ts';
import { createContext, deleteContext, getContext, listContexts } from './contexts.ts';
import type { Bodies, Env } from './env.ts';
import { ApiError, envelope, toApiError } from './errors.ts';
import { health } from './health.ts';
import { home } from './home.ts';
import { checkModel, getModel, listModels } from './models.ts';
import { openApiDocument } from './openapi.ts';
import { pressPlan } from './press-plan.ts';
import { readJson } from './read-json.ts';
import { ShippedContexts } from './shipped-contexts.ts';
import { stayUntil } from './stay-until.ts';
import { MountedOfEngine, StoredContexts } from './stored-contexts.ts';

export interface AppOptions {
  /**
   * Called for each request that needs the engine: give the same promise each time, or a new try after a failed one. The context brings a
   * worker's env and executionCtx, so that one app serves all requests: building it takes milliseconds.
   */
  readonly engine: (c: Context<Env>) => Promise<Engine>;
  /** Where contexts are kept; null, or left out: nowhere. Given the context as `engine` is. */
  readonly contexts?: (c: Context<Env>) => ContextStore | null;
  /** Where contexts lie that came with the server; none: nowhere. */
  readonly shippedContexts?: (c: Context<Env>) => ModelFiles | null;
  /** Bearer keys that open /v1/*; none = open to all. */
  readonly apiKeys?: readonly string[];
  readonly limits?: Partial<Limits>;
  /** Origins that browsers may call from. Default "*": keys travel in a header, never in a cookie. */
  readonly corsOrigins?: '*' | readonly string[];
  /** Where failures go; default console.error. */
  readonly log?: (line: string, error: unknown) => void;
}

export function createApp({
  engine: load,
  contexts: storeOf = () => null,
  shippedContexts: shippedOf = () => null,
  apiKeys = [],
  limits: given,
  corsOrigins = '*',
  log = console.error,
}: AppOptions): Hono<Env> {
  const limits = { ...defaultLimits, ...given };
  const schemas = requestSchemas(limits);
  const mounted = new MountedOfEngine();
  let document: object | null = null;
  const app = new Hono<Env>({ strict: false });

  app.use(requestId());
  app.use(
    cors({
      origin: corsOrigins === '*' ? '*' : [...corsOrigins],
      allowMethods: ['GET', 'POST', 'DELETE'],
      exposeHeaders: ['x-request-id', 'retry-after'],
      maxAge: 86_400,
    }),
  );
  app.use(async (c, next) => {
    await next();
    await drain(c.req.raw);
  });
  app.use(async (c, next) => {
    const engine = async () => {
      try {
        return await load(c);
      } catch (error) {
        if (error instanceof InputError && error.code === 'model_loading') throw error;
        throw new ApiError(503, 'model_unavailable', null, 'the model could not be loaded; GET /health says why', {}, error); // whoever asks is not to blame
      }
    };
    c.set('engine', engine);
    c.set('apiKey', null);
    c.set('mounted', mounted);
    const stay = (work: Promise<unknown>) => stayUntil(c, work);
    const files = shippedOf(c);
    c.set('shipped', files && new ShippedContexts(files, mounted, stay));
    c.set('contexts', async () => {
      const store = storeOf(c);
      return store && new StoredContexts(store, await ownerOf(c.var.apiKey), mounted, stay);
    });
    c.set('report', (error) => {
      const { status, code, cause } = toApiError(error);
      if (status >= 500 && code !== 'model_loading') log(`${c.var.requestId} ${c.req.method} ${c.req.path} ${status}`, cause ?? error);
    });
    c.set('read', async (kind) => {
      const body = validate(schemas[kind], await readJson(c.req.raw, limits.bodyBytes)) as Bodies[typeof kind];
      const press = parsePress(body.press);
      const ready = await engine();
      checkModel(body.model, ready);
      return { body, engine: ready, press };
    });
    await next();
  });
  if (apiKeys.length > 0) app.use('/v1/*', requireKey(apiKeys));

  app.get('/', (c) => home(c, apiKeys.length > 0));
  app.get('/health', (c) =>
    health(
      c,
      () => load(c),
      () => storeOf(c)?.quota ?? null,
    ),
  );
  app.get('/openapi.json', (c) => c.json((document ??= openApiDocument(schemas, pressJsonSchema(), apiKeys.length > 0))));
  app.get('/v1/models', listModels);
  app.get('/v1/models/:id{.+}', getModel); // hub names have a slash
  app.get('/v1/presses', (c) => c.json(listPresses()));
  app.post('/v1/press/plan', pressPlan);
  app.post('/v1/completions', completions);
  app.post('/v1/chat/completions', chatCompletions);
  app.post('/v1/contexts', createContext);
  app.get('/v1/contexts', listContexts);
  app.get('/v1/contexts/:id', getContext);
  app.delete('/v1/contexts/:id', deleteContext);

  app.notFound((c) => respond(c, nothingHere(c, app)));
  app.onError((error, c) => {
    c.var.report(error);
    return respond(c, toApiError(error));
  });
  return app;
}

function respond(c: Context<Env>, error: ApiError): Response {
  return c.json(envelope(error), error.status as 400, { ...error.headers });
}

const MOST_DRAINED = 64 * 1024;
const DRAIN_MS = 1000;

/** What was refused unread is read now: workerd would end the connection, maybe under the client's next request. A large body is not worth it. */
async function drain(request: Request): Promise<void> {
  if (request.body === null || request.bodyUsed || Number(request.headers.get('content-length') ?? Infinity) > MOST_DRAINED) return;
  const read = request.arrayBuffer().catch(() => {}); // the client may have gone
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stalled = new Promise<void>((resolve) => (timer = setTimeout(resolve, DRAIN_MS))); // it may also send no more
  await Promise.race([read, stalled]);
  clearTimeout(timer);
}

/** 405 where the path is served for another method, else 404 with the list of what is served. */
function nothingHere(c: Context<Env>, app: Hono<Env>): ApiError {
  const routes = app.routes.filter(({ method }) => method !== 'ALL').map(({ method, path }) => ({ method, path: path.replace(/\{.*?\}$/, '') }));
  const here = routes.filter(({ path }) => new RegExp(`^${path.replace(/:\w+$/, '.+')}/?$`).test(c.req.path));
  const allowed = [...new Set(here.map(({ method }) => method))].join(', ');
  if (here.length > 0)
    return new ApiError(405, 'method_not_allowed', null, `${shownName(c.req.path)} does not take ${c.req.method}; use ${allowed}`, {
      allow: allowed,
    });
  const list = routes.map(({ method, path }) => `${method} ${path}`).join(', ');
  return new ApiError(404, 'route_not_found', null, `there is no ${c.req.method} ${shownName(c.req.path)}; there are ${list}`);
}
