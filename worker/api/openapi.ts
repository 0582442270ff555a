/** GET /openapi.json: OpenAPI 3.1, whose schemas are JSON Schema 2020-12, from the zod schemas that check requests and from the press schema. */
import * as z from 'zod'; // not { z }: that would bundle all of zod's languages
import { DEFAULT_LISTED, MOST_LISTED } from '../contexts/bounds.ts';
import * as wire from '../wire/answer-schema.ts';
import type { RequestSchemas } from '../wire/request-schema.ts';

type Json = Record<string, unknown>;

export function openApiDocument(requests: RequestSchemas, press: object, keys: boolean): Json {
  const schemas: Json = { Press: underComponents(press, 'Press') };
  const take = (schema: z.ZodType, name: string) => {
    const { $schema: _, $defs, id: __, ...json } = z.toJSONSchema(schema, { io: 'input' }) as Json;
    for (const [inner, definition] of Object.entries(($defs as Record<string, Json>) ?? {})) schemas[inner] = lifted(definition);
    if (!('$ref' in json)) schemas[name] = lifted(json); // else the schema has an id, and came with $defs
    return { $ref: `#/components/schemas/${name}` };
  };
  const json = (schema: z.ZodType, name: string) => ({ 'application/json': { schema: take(schema, name) } });
  const error = { description: "OpenAI's error envelope; param names the field", content: json(wire.errorEnvelope, 'Error') };
  const ok = (description: string, content: Json) => ({ '200': { description, content }, default: error });
  const post = (operationId: string, summary: string, schema: z.ZodType, name: string, responses: Json) => ({
    post: { operationId, summary, requestBody: { required: true, content: json(schema, name) }, responses },
  });
  const get = (operationId: string, summary: string, responses: Json, parameters?: Json[]) => ({
    get: { operationId, summary, ...(parameters && { parameters }), responses },
  });
  const inPath = (name: string) => ({ name, in: 'path', required: true, schema: { type: 'string' } });
  const inQuery = (name: string, description: string, schema: Json) => ({ name, in: 'query', description, schema });

  const paths = {
    '/': get('home', 'What this is', ok('Plain text', { 'text/plain': { schema: { type: 'string' } } })),
    '/health': get('health', 'The engine, its memory and its queue', {
      ...ok('Ready', json(wire.health, 'Health')),
      '503': { description: 'Loading, or failed to load', content: json(wire.health, 'Health') },
    }),
    '/openapi.json': get('openapi', 'This document', ok('OpenAPI 3.1', { 'application/json': { schema: { type: 'object' } } })),
    '/v1/models': get('listModels', 'The model served', ok('A list of one', json(wire.modelList, 'ModelList'))),
    '/v1/models/{id}': get('getModel', 'One model', ok('The model', json(wire.model, 'Model')), [inPath('id')]),
    '/v1/presses': get(
      'listPresses',
      "Presses, their parts, and each part's parameters as JSON Schema",
      ok('By kind', { 'application/json': { schema: { type: 'object' } } }),
    ),
    '/v1/press/plan': post(
      'planPress',
      'What a press would do to a prompt: bytes and per-layer bounds, without running it',
      requests.plan,
      'PlanRequest',
      ok('The plan', json(wire.pressPlan, 'PressPlan')),
    ),
    '/v1/completions': post(
      'createCompletion',
      'Continue a text',
      requests.completion,
      'CompletionRequest',
      ok('One object, or with "stream": true the same object piece by piece, then [DONE]', {
        ...json(wire.textCompletion, 'Completion'),
        'text/event-stream': { schema: take(wire.textCompletion, 'Completion') },
      }),
    ),
    '/v1/chat/completions': post(
      'createChatCompletion',
      'Answer a conversation',
      requests.chat,
      'ChatCompletionRequest',
      ok('One object, or with "stream": true chunks, then [DONE]', {
        ...json(wire.chatCompletion, 'ChatCompletion'),
        'text/event-stream': { schema: take(wire.chatCompletionChunk, 'ChatCompletionChunk') },
      }),
    ),
    '/v1/contexts': {
      ...post(
        'createContext',
        'Read and press a document once, for many questions',
        requests.context,
        'ContextRequest',
        ok('The context, which belongs to the key that made it', json(wire.context, 'Context')),
      ),
      ...get('listContexts', "This key's contexts, newest first", ok('A page of them', json(wire.contextList, 'ContextList')), [
        inQuery('limit', 'Most of a page', { type: 'integer', minimum: 1, maximum: MOST_LISTED, default: DEFAULT_LISTED }),
        inQuery('after', '"next" of an earlier page, or the id of its last context', { type: 'string' }),
      ]),
    },
    '/v1/contexts/{id}': {
      ...get('getContext', 'One context', ok('The context', json(wire.context, 'Context')), [inPath('id')]),
      delete: {
        operationId: 'deleteContext',
        summary: 'Delete a context',
        parameters: [inPath('id')],
        responses: ok('It is gone', json(wire.contextDeleted, 'ContextDeleted')),
      },
    },
  };
  return {
    openapi: '3.1.1',
    info: {
      title: 'edgepress',
      version: '0.1.0',
      description:
        'LLM inference at the edge with a compressed KV cache. OpenAI\'s wire format; "press" in a request says how the cache is compressed, usage.kv_cache in the answer tells what came of it.',
    },
    servers: [{ url: '/' }],
    ...(keys && { security: [{ bearer: [] }] }),
    paths,
    components: { schemas, ...(keys && { securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } } }) },
  };
}

/** zod puts named schemas into $defs; here they are components. */
function lifted(json: Json): Json {
  return mapRefs(json, (ref) => ref.replace(/^#\/\$defs\//, '#/components/schemas/'));
}

/** A whole JSON Schema document put at #/components/schemas/<name>: its own references move with it. */
function underComponents(json: object, name: string): Json {
  const { $schema: _, ...rest } = json as Json;
  return mapRefs(rest, (ref) => ref.replace(/^#/, `#/components/schemas/${name}`));
}

function mapRefs(json: Json, change: (ref: string) => string): Json {
  return JSON.parse(JSON.stringify(json), (key, value) => (key === '$ref' && typeof value === 'string' ? change(value) : value));
}
