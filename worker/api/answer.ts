/**
 * Runs the engine for one request and answers with one object or a stream of server-sent events. The engine is pulled, never pushed: it
 * decodes the next piece when the client has taken the last one. When the client goes away, the run ends and its pages are free.
 */
import type { Context } from 'hono';
import type { Engine, GenerateEvent, GenerateRequest, MountedRequest } from '../engine/types.ts';
import type { FinishEvent } from '../wire/usage.ts';
import type { Env } from './env.ts';
import { clientGone, envelope, toApiError } from './errors.ts';
import { stayUntil } from './stay-until.ts';
import { type MountedContext, wantsRoom } from './stored-contexts.ts';

export type TextEvent = Extract<GenerateEvent, { type: 'text' }>;

/** How a route writes its answer. Each of the stream's methods gives the events of one step, maybe none. */
export interface Answer {
  whole(pieces: readonly TextEvent[], finish: FinishEvent): object;
  first(): object[];
  text(event: TextEvent): object[];
  last(finish: FinishEvent): object[];
}

/** `context`: what the request has mounted, which is let go here. */
export async function answer(
  c: Context<Env>,
  engine: Engine,
  request: GenerateRequest | MountedRequest,
  context: MountedContext | null,
  stream: boolean,
  as: Answer,
): Promise<Response> {
  const run = await readPrompt(c, engine, request).finally(() => context?.release()); // from here on the run has pages of its own
  try {
    if (stream) {
      return c.body(
        eventStream(run, as, (error) => c.var.report(error)),
        200,
        {
          'content-type': 'text/event-stream; charset=utf-8',
          'cache-control': 'no-cache',
          'x-accel-buffering': 'no', // nginx would collect the events
        },
      );
    }
    const pieces: TextEvent[] = [];
    for (;;) {
      const event = await run.next();
      if (event.type === 'text') pieces.push(event);
      else {
        await run.end();
        return c.json(as.whole(pieces, event));
      }
    }
  } catch (error) {
    await run.end();
    throw run.gone() ? clientGone() : error;
  }
}

/** A run whose prompt is read: refusals become an HTTP status, for nothing is sent before. Where memory is short, contexts that nobody uses go for it. */
async function readPrompt(c: Context<Env>, engine: Engine, request: GenerateRequest | MountedRequest): Promise<Run> {
  for (;;) {
    const run = startRun(engine, request, c.req.raw.signal);
    stayUntil(c, run.over);
    try {
      await run.prompt();
      return run;
    } catch (error) {
      await run.end();
      if (run.gone()) throw clientGone();
      if (!wantsRoom(error) || !c.var.mounted.yield()) throw error;
    }
  }
}

interface Run {
  /** Resolves when the engine's iteration is over, on every path. */
  readonly over: Promise<void>;
  prompt(): Promise<void>;
  next(): Promise<TextEvent | FinishEvent>;
  /** Ends the engine's iteration between two events; resolves when it has let go of its pages. Never throws. */
  end(): Promise<void>;
  /** The client has gone: ends the iteration, in the middle of a step too. */
  leave(reason: unknown): Promise<void>;
  gone(): boolean;
  onGone(listener: (reason: unknown) => void): void;
}

function startRun(engine: Engine, request: GenerateRequest | MountedRequest, client: AbortSignal | undefined): Run {
  const abort = new AbortController();
  const events = engine.generate(request, abort.signal);
  let gone = client?.aborted ?? false;
  let tell: (reason: unknown) => void = () => {};

  let isOver!: () => void;
  const over = new Promise<void>((resolve) => (isOver = resolve));

  async function end(): Promise<void> {
    client?.removeEventListener('abort', clientLeaves);
    try {
      await events.return();
    } catch {
      // a step that the client's leaving cut short; whoever waited for it has the error
    }
    isOver();
  }
  function leave(reason: unknown): Promise<void> {
    gone = true;
    abort.abort(reason);
    tell(reason);
    return end();
  }
  const clientLeaves = () => void leave(client?.reason);
  if (gone) abort.abort(client?.reason);
  else client?.addEventListener('abort', clientLeaves);

  async function next(): Promise<GenerateEvent> {
    const { value, done } = await events.next();
    if (done) throw gone ? clientGone() : new Error('the engine ended without a finish event');
    return value;
  }
  return {
    over,
    end,
    leave,
    gone: () => gone,
    onGone: (listener) => (tell = listener),
    async prompt() {
      const { type } = await next();
      if (type !== 'prompt') throw new Error(`the engine began with a ${type} event`);
    },
    async next() {
      const event = await next();
      if (event.type === 'prompt') throw new Error('the engine sent a second prompt event');
      return event;
    },
  };
}

/** One engine event = one chunk of bytes. */
async function* chunks(run: Run, as: Answer, report: (error: unknown) => void): AsyncGenerator<Uint8Array, void, void> {
  const encoder = new TextEncoder();
  const bytes = (events: readonly object[], tail = '') => encoder.encode(events.map((e) => `data: ${JSON.stringify(e)}\n\n`).join('') + tail);
  try {
    const first = as.first();
    if (first.length > 0) yield bytes(first);
    for (;;) {
      const event = await run.next();
      if (event.type === 'finish') {
        await run.end();
        yield bytes(as.last(event), 'data: [DONE]\n\n');
        return;
      }
      const events = as.text(event);
      if (events.length > 0) yield bytes(events);
    }
  } catch (error) {
    await run.end();
    if (run.gone()) return;
    report(error);
    yield bytes([envelope(toApiError(error))]); // the status is sent: an error event is all that is left
  }
}

function eventStream(run: Run, as: Answer, report: (error: unknown) => void): ReadableStream<Uint8Array> {
  const { IdentityTransformStream: Pipe } = globalThis as { IdentityTransformStream?: new () => TransformStream<Uint8Array, Uint8Array> };
  return Pipe ? written(run, chunks(run, as, report), new Pipe()) : pulled(run, chunks(run, as, report));
}

/** The high-water mark 0 keeps the stream from pulling ahead of its reader. */
function pulled(run: Run, source: AsyncGenerator<Uint8Array, void, void>): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        run.onGone((reason) => controller.error(reason));
      },
      async pull(controller) {
        const { value, done } = await source.next();
        if (run.gone()) return;
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: (reason) => run.leave(reason),
    },
    { highWaterMark: 0 },
  );
}

/**
 * In workerd, a pipe of its own kind: a write waits until its bytes are taken, and fails when the client has gone. (A stream with pull is, one time
 * in three, neither pulled nor cancelled again when the client goes while a chunk is on its way; the request's signal is silent then too.)
 */
function written(
  run: Run,
  source: AsyncGenerator<Uint8Array, void, void>,
  { readable, writable }: TransformStream<Uint8Array, Uint8Array>,
): ReadableStream<Uint8Array> {
  const writer = writable.getWriter();
  const write = async () => {
    for await (const chunk of source) await writer.write(chunk);
    await writer.close();
  };
  write().catch((reason) => run.leave(reason));
  return readable;
}

/** The fields that every object of one answer shares. With the same fingerprint, seed and request, the answer is the same. */
export function head(engine: Engine, idPrefix: string, context: MountedContext | null) {
  const { name, variant } = engine.health().backend;
  return {
    id: `${idPrefix}-${crypto.randomUUID().replaceAll('-', '')}`,
    created: Math.floor(Date.now() / 1000),
    model: engine.info.id,
    system_fingerprint: `${engine.info.id}/${engine.info.fingerprint.slice(0, 12)}/${name}/${variant}`,
    ...(context && { context: context.id }),
  };
}

/**
 * Where a stream's usage goes. include_usage true: null on every chunk, then a chunk of its own with empty choices, as OpenAI's. False: nowhere.
 * Left out: on the chunk that has the finish_reason, where Mistral's, DeepSeek's and Groq's servers put it too and SDKs read it.
 */
export function usagePlaces(options: { include_usage?: boolean | null } | null | undefined) {
  const include = options?.include_usage;
  return { onEvery: include ? { usage: null } : {}, withFinish: include == null, ownChunk: include === true };
}
