/**
 * Thousands of random press configs through the API, made from what /v1/presses lists: right ones, wrong values, wrong types, wrong places. Each gets a valid
 * answer, or a 4xx that names the field; never a 5xx, never a page that stays behind.
 */
import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { listPresses } from '../presses/list-presses.ts';
import { createApp } from '../worker/api/app.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import type { KvCacheUsage } from '../worker/engine/types.ts';
import { openGolden } from './support/golden.ts';
import { Random } from './support/random.ts';

const CONFIGS = 3000;

interface Schema {
  type?: string;
  enum?: unknown[];
  const?: unknown;
  anyOf?: Schema[];
  items?: Schema;
  minimum?: number;
  exclusiveMinimum?: number;
  maximum?: number;
  exclusiveMaximum?: number;
  properties?: Record<string, Schema>;
}

const list = listPresses();
const kinds = {
  scorer: list.scorers,
  layer_budget: list.layer_budgets,
  head_budget: list.head_budgets,
  selection: list.selections,
  transforms: list.transforms,
  schedule: list.schedules,
};
type Kind = keyof typeof kinds;

/** Trained files that the model has here; each fits one part or two. */
const FILES = readdirSync('test/golden/library/artifacts/llama');

const JUNK: unknown[] = [
  null,
  true,
  -1,
  0,
  1,
  0.5,
  1.5,
  1e300,
  -1e300,
  2 ** 53,
  '',
  'x',
  '0.5',
  'zigzag',
  '__proto__',
  [],
  [[]],
  {},
  { name: 'x' },
  [1, 2, 3],
  'é'.repeat(100),
];

describe('random press configs', () => {
  let engine: EdgeEngine;
  let app: ReturnType<typeof createApp>;
  const logged: unknown[] = [];
  beforeAll(async () => {
    engine = await openGolden('llama', { kvPoolBytes: 2 ** 20 });
    app = createApp({ engine: async () => engine, log: (line, error) => logged.push(line, error) });
  });
  afterAll(() => engine.close());

  /** A value that a parameter may take, small where it counts tokens. */
  function fitting(random: Random, schema: Schema): unknown {
    if (schema.const !== undefined) return schema.const;
    if (schema.enum) return random.pick(schema.enum);
    if (schema.anyOf) return fitting(random, random.pick(schema.anyOf));
    if (schema.type === 'boolean') return random.next() < 0.5;
    if (schema.type === 'array') return Array.from({ length: random.int(0, 5) }, () => fitting(random, schema.items ?? {}));
    if (schema.type === 'string') return random.pick(random.next() < 0.3 ? ['a', 'missing.json', 'stats.safetensors', '../x.json', '16KiB'] : FILES);
    const low = schema.minimum ?? schema.exclusiveMinimum ?? 0;
    const high = Math.min(schema.maximum ?? schema.exclusiveMaximum ?? 1000, random.next() < 0.8 ? Math.max(low, 64) : Infinity);
    if (schema.type === 'integer') return random.int(Math.ceil(low), Math.floor(high));
    if (schema.type === 'number') return low + (high - low) * random.next();
    return random.pick(JUNK);
  }

  function params(random: Random, schema: Schema): Record<string, unknown> {
    const given: Record<string, unknown> = {};
    for (const [name, property] of Object.entries(schema.properties ?? {})) {
      if (random.next() < 0.5) given[name] = random.next() < 0.93 ? fitting(random, property) : random.pick(JUNK);
    }
    if (random.next() < 0.02) given[random.pick(['windw_size', 'constructor', ''])] = random.pick(JUNK);
    return given;
  }

  function part(random: Random, kind: Kind): unknown {
    if (random.next() < 0.03) return random.pick(JUNK);
    const parts = kinds[kind];
    const { name, parameters } = random.pick(parts);
    return random.next() < 0.4 ? name : { name, ...params(random, parameters as Schema) };
  }

  function fields(random: Random): Record<string, unknown> {
    const given: Record<string, unknown> = {};
    const maybe = (field: string, chance: number, values: () => unknown): void => {
      if (random.next() < chance) given[field] = random.next() < 0.95 ? values() : random.pick(JUNK);
    };
    maybe('compression_ratio', 0.5, () => random.pick([0, 0.1, 0.5, 0.9, 0.999, random.next()]));
    maybe('memory_budget', 0.05, () => random.pick(['16KiB', '200KiB', '1MiB', 100_000]));
    maybe('scope', 0.2, () => random.pick<unknown>(['prompt', 'context', { protect_last: random.int(0, 40) }]));
    maybe('mode', 0.2, () => random.pick(['streaming', 'deferred']));
    maybe('compat', 0.2, () => 'kvpress');
    maybe('on_tight', 0.4, () => random.pick(['reject', 'uniform']));
    maybe('explain', 0.2, () => random.next() < 0.7);
    maybe('entry_type', 0.3, () => random.pick(['f32', 'f16', 'int8']));
    return given;
  }

  function press(random: Random): unknown {
    const roll = random.next();
    if (roll < 0.02) return random.pick(JUNK);
    if (roll < 0.2) return random.pick(list.presets).name;
    if (roll < 0.5) {
      const { name, scorer, ...own } = random.pick(list.presets);
      const schemas = Object.entries(kinds).flatMap(([kind, parts]) => {
        const names: unknown[] = [{ scorer, ...own }[kind as Kind]].flat();
        return parts.filter((one) => names.includes(one.name)).map(({ parameters }) => parameters as Schema);
      });
      return { preset: name, ...Object.assign({}, ...schemas.map((schema) => params(random, schema))), ...fields(random) };
    }
    const parts: Record<string, unknown> = { scorer: part(random, 'scorer') };
    for (const kind of ['layer_budget', 'head_budget', 'selection'] as const) if (random.next() < 0.5) parts[kind] = part(random, kind);
    if (random.next() < 0.3 && kinds.transforms.length > 0)
      parts.transforms = Array.from({ length: random.int(0, 3) }, () => part(random, 'transforms'));
    if (random.next() < 0.2) parts.schedule = part(random, 'schedule');
    return { ...parts, ...fields(random) };
  }

  async function ask(random: Random, asked: unknown): Promise<{ status: number; body: Record<string, never> }> {
    const prompt = Array.from({ length: random.pick([1, 2, 5, 40, 90, 150]) }, () => random.int(1, engine.info.vocabSize - 1));
    const body = JSON.stringify({ prompt, max_tokens: random.pick([1, 2, 3, 9]), temperature: 0, press: asked });
    const response = await app.request('/v1/completions', { method: 'POST', headers: { 'content-type': 'application/json' }, body });
    return { status: response.status, body: (await response.json()) as Record<string, never> };
  }

  test(`${CONFIGS} of them: a valid answer, or a 4xx that names the field; no page stays behind`, { timeout: 300_000 }, async () => {
    const seen = { answered: 0, refused: 0 };
    const codes = new Map<string, number>();
    for (let seed = 0; seed < CONFIGS; seed++) {
      const random = new Random(seed);
      const asked = random.next() < 0.12 ? Array.from({ length: random.int(0, 4) }, () => press(random)) : press(random);
      const { status, body } = await ask(random, asked);
      const told = `seed ${seed}: ${JSON.stringify(asked)?.slice(0, 500)} -> ${status} ${JSON.stringify(body).slice(0, 500)} ${logged.map(String).join(' ')}`;
      if (status === 200) {
        seen.answered++;
        valid((body as unknown as { usage: { kv_cache: KvCacheUsage } }).usage.kv_cache, told);
      } else {
        seen.refused++;
        expect(status, told).toBeGreaterThanOrEqual(400);
        expect(status, told).toBeLessThan(500);
        const { message, param, code } = (body as unknown as { error: { message: string; param: string | null; code: string } }).error;
        expect(message, told).toMatch(/\w/);
        expect(param, told).toMatch(/^(press|prompt|messages|max_tokens)/);
        codes.set(code, (codes.get(code) ?? 0) + 1);
      }
      expect(engine.health().memory, told).toMatchObject({ kv_used_bytes: 0, kv_reserved_bytes: 0 });
    }
    expect(seen.answered).toBeGreaterThan(CONFIGS / 10);
    expect(seen.refused).toBeGreaterThan(CONFIGS / 10);
    expect(codes.size).toBeGreaterThan(5); // many kinds of mistakes were made
  });

  test('memory of the device comes back after each', async () => {
    const used = async (): Promise<number> => {
      await ask(new Random(1), 'no_press');
      engine.backend.trim();
      return engine.health().memory.used_bytes;
    };
    const before = await used();
    for (let seed = 5000; seed < 5300; seed++) await ask(new Random(seed), press(new Random(seed)));
    expect(await used()).toBe(before);
  });

  function valid(usage: KvCacheUsage, told: string): void {
    const { kept_per_layer: kept, tokens, bytes_full, bytes_kept, bytes_peak, notes, retained_mass_per_layer } = usage;
    for (const k of kept) expect(k >= 0 && k <= tokens, told).toBe(true);
    for (const mass of retained_mass_per_layer) expect(mass === null || (mass >= 0 && mass <= 1 + 1e-5), told).toBe(true);
    expect(usage.compression_ratio, told).toBeCloseTo(1 - kept.reduce((sum, k) => sum + k, 0) / (kept.length * tokens), 6);
    expect(bytes_kept, told).toBeLessThanOrEqual(bytes_peak);
    expect(bytes_kept, told).toBeLessThanOrEqual(bytes_full);
    expect(
      notes.every((note) => note.length > 0),
      told,
    ).toBe(true);
  }
});
