import { describe, expect, test } from 'vitest';
import { createApp } from '../worker/api/app.ts';
import { fakeEngine } from './api-fake-engine.ts';

const app = createApp({ engine: async () => fakeEngine().engine, apiKeys: ['k'] });
const load = async () => (await app.request('http://edge.example/openapi.json')).json();

/** Every value under `key`, anywhere. */
function* all(json: unknown, key: string): Generator<unknown> {
  if (typeof json !== 'object' || json === null) return;
  for (const [k, value] of Object.entries(json)) {
    if (k === key) yield value;
    yield* all(value, key);
  }
}

describe('GET /openapi.json', () => {
  test('is OpenAPI 3.1 with a title, a version, this server and its keys', async () => {
    const document = await load();
    expect(document.openapi).toMatch(/^3\.1\./);
    expect(document).toMatchObject({ info: { title: 'edgepress', version: '0.1.0' }, servers: [{ url: '/' }], security: [{ bearer: [] }] });
    expect(document.components.securitySchemes.bearer).toEqual({ type: 'http', scheme: 'bearer' });
    const open = await (await createApp({ engine: async () => fakeEngine().engine }).request('/openapi.json')).json();
    expect(open).not.toHaveProperty('security');
  });

  test('has the routes that the app has, no more and no fewer', async () => {
    const documented = Object.entries((await load()).paths).flatMap(([path, item]) =>
      Object.keys(item as object).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const served = app.routes.filter((r) => r.method !== 'ALL').map((r) => `${r.method} ${r.path.replace(/:(\w+)(\{.*\})?/, '{$1}')}`);
    expect(documented.sort()).toEqual(served.sort());
  });

  test("every operation has an id of its own, a summary, described responses, and its path's parameters", async () => {
    const ids: string[] = [];
    for (const [path, item] of Object.entries((await load()).paths as Record<string, Record<string, any>>)) {
      for (const operation of Object.values(item)) {
        ids.push(operation.operationId);
        expect(operation.summary).toBeTruthy();
        for (const [status, response] of Object.entries(operation.responses as Record<string, any>)) {
          expect(status).toMatch(/^(\d{3}|default)$/);
          expect(response.description).toBeTruthy();
          for (const media of Object.values(response.content as Record<string, any>)) expect(media.schema).toBeTypeOf('object');
        }
        const inPath = [...path.matchAll(/\{(\w+)\}/g)].map((m) => m[1]);
        const parameters = (operation.parameters ?? []) as { name: string; in: string }[];
        expect(parameters.filter((p) => p.in === 'path').map(({ name }) => name)).toEqual(inPath);
      }
    }
    expect(ids.length).toBeGreaterThan(0);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test('every reference leads somewhere, and none is left as zod wrote it', async () => {
    const document = await load();
    const refs = [...all(document, '$ref')] as string[];
    expect(refs.length).toBeGreaterThan(20);
    for (const ref of refs) {
      expect(ref).toMatch(/^#\/components\/schemas\//);
      const target = ref
        .slice(2)
        .split('/')
        .reduce<any>((at, key) => at?.[key.replaceAll('~1', '/').replaceAll('~0', '~')], document);
      expect(target, ref).toBeTypeOf('object');
      expect(target.$ref, ref).not.toBe(ref);
    }
  });

  test('every schema is referred to', async () => {
    const document = await load();
    const refs = ([...all(document, '$ref')] as string[]).map((ref) => ref.split('/')[3]);
    expect(Object.keys(document.components.schemas).sort()).toEqual([...new Set(refs)].sort());
  });

  test('requests refuse unknown fields, and hold the press schema with every preset and the zigzag budget', async () => {
    const { schemas } = (await load()).components;
    for (const name of ['ChatCompletionRequest', 'CompletionRequest', 'ContextRequest', 'PlanRequest']) {
      expect(schemas[name].additionalProperties).toBe(false);
      expect(schemas[name].properties.press).toEqual({ $ref: '#/components/schemas/Press' });
    }
    expect(schemas.ChatCompletionRequest.required).toEqual(['messages']);
    expect(schemas.ChatCompletionRequest.properties.n).toMatchObject({ const: 1 });
    expect(JSON.stringify(schemas.Press)).toContain('"zigzag_snapkv"');
    expect(JSON.stringify(schemas.Press)).toContain('"bound_ratio"');
  });

  test('answers are described: usage.kv_cache, chunks, errors', async () => {
    const { schemas } = (await load()).components;
    const answers = [
      'ChatCompletion',
      'ChatCompletionChunk',
      'Completion',
      'Context',
      'ContextList',
      'Error',
      'Health',
      'KvCacheUsage',
      'ModelList',
      'PressPlan',
      'Timings',
    ];
    expect(Object.keys(schemas)).toEqual(expect.arrayContaining(answers));
    expect(schemas.Usage.properties.kv_cache).toEqual({ $ref: '#/components/schemas/KvCacheUsage' });
    expect(schemas.Error.properties.error.required).toEqual(['message', 'type', 'param', 'code']);
  });
});
