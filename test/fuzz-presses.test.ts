/**
 * Thousands of random press configs through the API, made from what /v1/presses lists: right ones, wrong values, wrong types, wrong places. Each gets a valid
 * answer, or a 4xx that names the field; never a 5xx, never a page that stays behind.
 */
import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { z } from 'zod';
import { chosenParts } from '../presses/check-parts.ts';
import { parsePress } from '../presses/config.ts';
import type { PartInfo } from '../presses/contract.ts';
import { listPresses } from '../presses/list-presses.ts';
import { headBudgets, layerBudgets, schedules, scorers, selections, transforms } from '../presses/registry.ts';
import { createApp } from '../worker/api/app.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import type { KvCacheUsage } from '../worker/engine/types.ts';
import { artifactParams } from './support/artifacts.ts';
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

/** By kind and part: what it needs on a small model without a tokenizer, beside files. */
const NEEDED: Readonly<Record<string, Record<string, unknown>>> = {
  'scorer kvzip': { repeat_prompt: [5, 6, 7], repeat_next_prompt: [8, 9], repeat_answer_start: [10] },
  'layer_budget per_layer': { compression_ratios: [0.2, 0.6] },
  'schedule decoding': { interval: 3, target_size: 40 },
  'schedule prefill_and_decoding': { interval: 3, target_size: 40 },
};
const PARTS = { scorer: scorers, layer_budget: layerBudgets, head_budget: headBudgets, selection: selections, transforms, schedule: schedules };

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

  /** Of half of the configs: nothing in them is wrong by itself, and few parts are named. */
  let careful = false;
  const mistake = (random: Random, chance: number): boolean => random.next() < chance && !careful;

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

  /** What a part cannot do without here; null where that is nothing. */
  function needed(kind: Kind, name: string): Record<string, unknown> | null {
    const registered: Record<string, PartInfo<z.ZodObject>> = PARTS[kind];
    const given = { ...artifactParams(registered[name]), ...NEEDED[`${kind} ${name}`] };
    return Object.keys(given).length === 0 ? null : given;
  }

  function params(random: Random, kind: Kind, name: string, schema: Schema): Record<string, unknown> {
    const given: Record<string, unknown> = careful || random.next() < 0.6 ? { ...needed(kind, name) } : {};
    for (const [name, property] of Object.entries(schema.properties ?? {})) {
      if (random.next() < (name in given ? 0.1 : careful ? 0.2 : 0.5))
        given[name] = mistake(random, 0.07) ? random.pick(JUNK) : fitting(random, property);
    }
    if (mistake(random, 0.02)) given[random.pick(['windw_size', 'constructor', ''])] = random.pick(JUNK);
    return given;
  }

  function part(random: Random, kind: Kind): unknown {
    if (mistake(random, 0.03)) return random.pick(JUNK);
    const parts = kinds[kind];
    const { name, parameters } = random.pick(parts);
    return random.next() < 0.4 && !(careful && needed(kind, name)) ? name : { name, ...params(random, kind, name, parameters as Schema) };
  }

  function fields(random: Random): Record<string, unknown> {
    const given: Record<string, unknown> = {};
    const maybe = (field: string, chance: number, values: () => unknown): void => {
      if (random.next() < chance) given[field] = mistake(random, 0.05) ? random.pick(JUNK) : values();
    };
    maybe('compression_ratio', careful ? 0.3 : 0.5, () => random.pick([0, 0.1, 0.5, 0.9, 0.999, random.next()]));
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
    careful = random.next() < 0.5;
    const roll = careful ? 0.02 + 0.98 * random.next() : random.next();
    if (roll < 0.02) return random.pick(JUNK);
    if (roll < 0.2) return random.pick(list.presets).name;
    if (roll < 0.5) {
      const { name, scorer, ...own } = random.pick(list.presets);
      const beside = Object.entries(kinds).flatMap(([kind, parts]) => {
        const names: unknown[] = [{ scorer, ...own }[kind as Kind]].flat();
        return parts
          .filter((one) => names.includes(one.name))
          .map(({ name, parameters }) => params(random, kind as Kind, name, parameters as Schema));
      });
      const kind = random.pick(['schedule', 'selection', 'transforms', 'head_budget', 'layer_budget'] as const);
      const other = random.next() < 0.1 ? { [kind]: kind === 'transforms' ? [part(random, kind)] : part(random, kind) } : {};
      return { preset: name, ...Object.assign({}, ...beside), ...other, ...fields(random) };
    }
    const parts: Record<string, unknown> = { scorer: part(random, 'scorer') };
    for (const kind of ['layer_budget', 'head_budget', 'selection'] as const)
      if (random.next() < (careful ? 0.25 : 0.5)) parts[kind] = part(random, kind);
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
    const answered = new Set<string>();
    for (let seed = 0; seed < CONFIGS; seed++) {
      const random = new Random(seed);
      const asked = random.next() < 0.12 ? Array.from({ length: random.int(0, 4) }, () => press(random)) : press(random);
      const { status, body } = await ask(random, asked);
      const told = `seed ${seed}: ${JSON.stringify(asked)?.slice(0, 500)} -> ${status} ${JSON.stringify(body).slice(0, 500)} ${logged.map(String).join(' ')}`;
      if (status === 200) {
        seen.answered++;
        for (const { kind, part } of parsePress(asked).presses.flatMap(chosenParts)) answered.add(`${kind} ${part.name}`);
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
    const parts = Object.entries(kinds).flatMap(([kind, all]) => all.map(({ name }) => `${kind} ${name}`));
    expect(parts.filter((part) => !answered.has(part))).toEqual([]);
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
    const { kept_per_layer: kept, added_per_layer: added = 0, tokens, bytes_full, bytes_kept, bytes_peak, notes, retained_mass_per_layer } = usage;
    for (const k of kept) expect(k >= 0 && k <= tokens, told).toBe(true);
    for (const mass of retained_mass_per_layer) expect(mass === null || (mass >= 0 && mass <= 1 + 1e-5), told).toBe(true);
    expect(usage.compression_ratio, told).toBeCloseTo(1 - kept.reduce((sum, k) => sum + k + added, 0) / (kept.length * tokens), 6);
    expect(bytes_kept, told).toBeLessThanOrEqual(bytes_peak);
    expect(bytes_kept, told).toBeLessThanOrEqual(bytes_full);
    expect(
      notes.every((note) => note.length > 0),
      told,
    ).toBe(true);
  }
});
