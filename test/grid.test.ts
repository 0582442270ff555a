/**
 * Every combination of the registry's parts works, or is refused with a reason. All are parsed; of those that are accepted so many are run on a small
 * model that every two parts which go together do so in one of them. A part that is added to the registry is covered at once: where it has parameters
 * without defaults, or defaults for longer prompts, PARAMS gives some.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { z } from 'zod';
import { parsePress } from '../presses/config.ts';
import type { PartInfo } from '../presses/contract.ts';
import { InputError } from '../presses/input-error.ts';
import * as registry from '../presses/registry.ts';
import type { Heap } from '../worker/backend/heap.ts';
import type { WasmBackend } from '../worker/backend/wasm.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { entriesPerPageOf, pageBytesOf } from '../worker/engine/kv-cache.ts';
import type { KvCacheUsage } from '../worker/engine/types.ts';
import { type Generation, generation } from './support/generation.ts';
import { openGolden } from './support/golden.ts';
import { Random } from './support/random.ts';

/** A small random Llama, for which test/golden/library has artefacts. */
const MODEL = 'llama';
const [LAYERS, HEADS, HEAD_DIM] = [2, 2, 16];
const COVERED = 120; // tokens that are pressed
const ADDED = 8; // rows in restore.safetensors
const REST = 9; // tokens of the prompt after them
const ANSWER = 3;
const LONG_ANSWER = 16; // where a press acts while it grows: every INTERVAL tokens, down to TARGET
const [INTERVAL, TARGET] = [5, 45];

/** By kind and part: what it needs here. */
const PARAMS: Record<string, Record<string, object>> = {
  scorer: {
    snapkv: { window_size: 8 },
    finch: { window_size: 8 },
    lagkv: { lag_size: 16 },
    qfilter: { artifact: 'qfilter.safetensors' },
    kvzap: { artifact: 'kvzap-mlp.safetensors' },
    fastkvzip: { artifact: 'fastkvzip.safetensors' },
    sink_recent: { artifact: 'duo.json' },
    kvzip: { repeat_prompt: [5, 6, 7], repeat_next_prompt: [8, 9], repeat_answer_start: [10], chunk_size: 64 },
  },
  layer_budget: { per_layer: { compression_ratios: [0.3, 0.7] }, curves: { curves: 'curves.safetensors' } },
  head_budget: { curves: { curves: 'curves.safetensors' }, duo: { artifact: 'duo.json' } },
  selection: {
    threshold: { threshold: -8, sliding_window_size: 20 },
    segments: { segment_length: 50 },
    score_segments: { segment_length: 50 },
    blocks: { block_size: 25 },
  },
  transforms: { restore: { adapter: 'restore.safetensors' } },
  schedule: { decoding: { interval: INTERVAL, target_size: TARGET }, prefill_and_decoding: { interval: INTERVAL, target_size: TARGET } },
};

/** Where -8 lets all pass: by scorer. */
const THRESHOLDS: Record<string, number> = { kvzap: 0.1, fastkvzip: 0.1 };

const NONE = 'none';
const inTurn = Object.keys(registry.transforms).flatMap((one, i, all) => all.slice(i + 1).map((other) => `${one}+${other}`));
const KINDS = {
  scorer: Object.keys(registry.scorers),
  layer_budget: Object.keys(registry.layerBudgets),
  head_budget: Object.keys(registry.headBudgets),
  selection: Object.keys(registry.selections),
  transforms: [NONE, ...Object.keys(registry.transforms), ...inTurn],
  schedule: Object.keys(registry.schedules),
};
type Kind = keyof typeof KINDS;
type Combination = Readonly<Record<Kind, string>>;
const kinds = Object.keys(KINDS) as Kind[];

const PARTS = {
  scorer: registry.scorers,
  layer_budget: registry.layerBudgets,
  head_budget: registry.headBudgets,
  selection: registry.selections,
  transforms: registry.transforms,
  schedule: registry.schedules,
} as unknown as Record<Kind, Record<string, PartInfo<z.ZodObject> & { ownRatio?: object }>>;

/** What draws draws the same in every run. */
const part = (kind: Kind, name: string): object => ({
  name,
  ...('seed' in PARTS[kind][name].params.shape && { seed: 7 }),
  ...PARAMS[kind]?.[name],
});

/** The names in it; transforms may be none, or two. */
const namesOf = (combination: Combination, kind: Kind): string[] => (combination[kind] === NONE ? [] : combination[kind].split('+'));

function config(combination: Combination): Record<string, unknown> {
  const parts = (kind: Kind): object[] => namesOf(combination, kind).map((name) => part(kind, name));
  const chosen = { ...Object.fromEntries(kinds.map((kind) => [kind, parts(kind)[0]])), transforms: parts('transforms') };
  // What says itself how much is kept takes no target.
  const { target_size: _, ...schedule } = part('schedule', combination.schedule) as Record<string, unknown>;
  if (combination.head_budget === 'duo') return { ...chosen, schedule };
  if (combination.selection !== 'threshold') return chosen;
  const threshold = THRESHOLDS[combination.scorer];
  return { ...chosen, schedule, ...(threshold !== undefined && { selection: { ...part('selection', 'threshold'), threshold } }) };
}

const PLAIN: Combination = {
  scorer: 'knorm',
  layer_budget: 'uniform',
  head_budget: 'uniform',
  selection: 'top_k',
  transforms: NONE,
  schedule: 'prefill',
};

/** All, with one transform and on the prompt; of those with two transforms or another schedule, all in which two more kinds at most are not plain. */
function* combinations(): Generator<Combination> {
  for (const scorer of KINDS.scorer)
    for (const layer_budget of KINDS.layer_budget)
      for (const head_budget of KINDS.head_budget)
        for (const selection of KINDS.selection)
          for (const transforms of KINDS.transforms)
            for (const schedule of KINDS.schedule) {
              const combination = { scorer, layer_budget, head_budget, selection, transforms, schedule };
              const special = transforms.includes('+') || schedule !== PLAIN.schedule;
              if (!special || kinds.filter((kind) => combination[kind] !== PLAIN[kind]).length <= 3) yield combination;
            }
}

/** Null where it is accepted. Anything thrown but an InputError fails the test. */
function refusal(combination: Combination, fields = {}): InputError | null {
  try {
    parsePress({ ...config(combination), ...fields });
    return null;
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
}

const accepted: Combination[] = [];
const refused: { combination: Combination; error: InputError }[] = [];
for (const combination of combinations()) {
  const error = refusal(combination);
  if (error === null) accepted.push(combination);
  else refused.push({ combination, error });
}

/** Every two parts of a combination, as texts. */
function pairsOf(combination: Combination): string[] {
  return kinds.flatMap((a, i) => kinds.slice(i + 1).map((b) => `${a} ${combination[a]}, ${b} ${combination[b]}`));
}

/** Few combinations in which all pairs stand that stand in any: those with the most new ones first. */
function pairwise(all: readonly Combination[]): Combination[] {
  const random = new Random(5);
  const shuffled = [...all].map((combination) => ({ combination, at: random.next(), pairs: pairsOf(combination) })).sort((a, b) => a.at - b.at);
  const covered = new Set<string>();
  const chosen: Combination[] = [];
  for (let gain = (kinds.length * (kinds.length - 1)) / 2; gain >= 1; gain--) {
    for (const { combination, pairs } of shuffled) {
      if (pairs.filter((pair) => !covered.has(pair)).length < gain) continue;
      for (const pair of pairs) covered.add(pair);
      chosen.push(combination);
    }
  }
  return chosen;
}

const chosen = pairwise(accepted);
const nameOf = (combination: Combination): string => kinds.map((kind) => combination[kind]).join(', ');
const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

describe('the grid', () => {
  test('every part works in some combination, with the parameters that it has here', () => {
    for (const kind of kinds)
      for (const name of KINDS[kind])
        expect(
          accepted.some((combination) => combination[kind] === name) || name.includes('+'),
          `${kind} "${name}" goes with nothing: does it want parameters?`,
        ).toBe(true);
    for (const [kind, names] of Object.entries(PARAMS))
      for (const name of Object.keys(names)) expect(KINDS[kind as Kind], `PARAMS of ${kind} "${name}"`).toContain(name);
  });

  test('what is refused is told which parts do not go together, why, and what would work', () => {
    for (const { combination, error } of refused) {
      const [what] = error.message.split(/; (?:use|leave|a segment_length|once is) /); // what follows names others, which would work
      const named = kinds.flatMap((kind) => namesOf(combination, kind)).filter((name) => what.includes(`"${name}"`));
      expect(new Set(named).size, `${JSON.stringify(combination)}: ${error.message}`).toBeGreaterThanOrEqual(2);
      expect(error.code, error.message).toMatch(/^press_/);
      expect(error.param, error.message).toMatch(/^press/);
      expect(error.message, 'what would work').toMatch(/; (use|leave|a segment_length|once is enough)|would work/);
    }
  });

  test(`of ${accepted.length + refused.length} combinations ${accepted.length} are accepted, and every pair in them is among the ${chosen.length} that are run`, () => {
    const run = new Set(chosen.flatMap(pairsOf));
    for (const combination of accepted) for (const pair of pairsOf(combination)) expect(run.has(pair), pair).toBe(true);
    expect(accepted.length).toBeGreaterThan(100);
  });
});

describe(`${chosen.length} combinations on a small model`, () => {
  const tokens = Array.from({ length: COVERED + REST }, (_, i) => 3 + ((i * 7919 + Math.floor(i / 9)) % 150));
  const prompt = { kind: 'tokens' as const, tokens };
  const page = entriesPerPageOf('f32', HEAD_DIM);
  let engine: EdgeEngine;
  let heap: Heap;
  let bare: number; // bytes that reading the prompt is said to take without a press
  beforeAll(async () => {
    engine = await openGolden(MODEL, { artifacts: `test/golden/library/artifacts/${MODEL}` });
    heap = (engine.backend as WasmBackend).kernels.heap;
    const { limitBytes } = heap;
    const leave = (bytes: number): void => {
      (heap as { limitBytes: number }).limitBytes = bytes;
    };
    leave(limitBytes - heap.freeBytes); // nothing
    const refused = await generation(engine, tokens, 'no_press', { maxTokens: ANSWER }).catch((error: InputError) => error.message);
    leave(limitBytes);
    bare = Number(/needs [^(]*\((\d+) bytes\) of activations/.exec(String(refused))?.[1]);
    expect(bare).toBeGreaterThan(0);
  });
  afterAll(() => engine.close());

  /** Pages and memory that are held between requests. */
  const held = (): object => {
    engine.backend.trim(); // what kernels keep from call to call
    const { kv_used_bytes, kv_reserved_bytes, used_bytes } = engine.health().memory;
    return { kv_used_bytes, kv_reserved_bytes, used_bytes };
  };

  /** An answer, which took no more memory than was said before, and kept what was said before. */
  async function run(press: Record<string, unknown>): Promise<Generation> {
    const request = parsePress(press);
    const maxTokens = request.presses.some(({ schedule }) => schedule.part.decoding !== null) ? LONG_ANSWER : ANSWER;
    const plan = await engine.plan({ prompt, press: request, maxTokens });
    engine.backend.trim();
    heap.peakBytes = heap.usedBytes;
    const atRest = heap.usedBytes;
    const answer = await generation(engine, tokens, press, { maxTokens, ignoreEos: true });
    expect(heap.peakBytes - atRest, 'bytes that reading took').toBeLessThanOrEqual(bare + plan.bytes_press);
    for (const [l, { min, max }] of plan.per_layer.entries()) {
      expect(answer.usage.kept_per_layer[l]).toBeGreaterThanOrEqual(min);
      expect(answer.usage.kept_per_layer[l]).toBeLessThanOrEqual(max);
    }
    expect(answer.usage.bytes_kept).toBeLessThanOrEqual(plan.bytes_kept);
    expect(answer.tokens.length).toBe(maxTokens);
    expect([answer.completionTokens, answer.reason]).toEqual([maxTokens, 'length']);
    for (const id of answer.tokens) expect(id >= 0 && id < engine.info.vocabSize).toBe(true);
    return answer;
  }

  /** Entries and bytes are what was promised. */
  function check(combination: Combination, usage: KvCacheUsage, compat: boolean): void {
    const { tokens: covered, kept_per_layer, added_per_layer = 0, bytes_kept, compression_ratio, decoding } = usage;
    expect(added_per_layer).toBe(namesOf(combination, 'transforms').includes('restore') ? ADDED : 0);
    const kept = sum(kept_per_layer) + LAYERS * added_per_layer;
    const parts = kinds.flatMap((kind) => namesOf(combination, kind).map((name) => PARTS[kind][name]));
    const own = parts.some(({ decidesTotal, ownRatio }) => decidesTotal !== undefined || ownRatio !== undefined);
    if (combination.schedule !== 'decoding') expect(covered).toBe(COVERED);
    if (!own && !compat) expect(kept).toBe(LAYERS * (combination.schedule === 'decoding' ? covered : COVERED / 2));
    if (combination.layer_budget === 'per_layer') expect(kept_per_layer).toEqual([84, 36]);
    expect(compression_ratio).toBeCloseTo(1 - kept / (LAYERS * covered), 12);
    for (const count of kept_per_layer) expect(count).toBeLessThanOrEqual(covered);
    checkPages(bytes_kept, kept + LAYERS * (tokens.length - covered));
    expect(decoding !== undefined).toBe(combination.schedule !== 'prefill');
    if (decoding === undefined) return;
    expect(decoding.compressions).toBeGreaterThanOrEqual(own ? 1 : 2); // a threshold may let all pass
    for (const entries of decoding.entries_per_layer) expect(entries).toBeLessThan(own ? tokens.length + LONG_ANSWER : TARGET + INTERVAL + REST);
    checkPages(decoding.bytes_end, sum(decoding.entries_per_layer));
  }

  /** Less than a page of each list is empty; `entries` over all layers, per head. */
  function checkPages(bytes: number, entries: number): void {
    const pages = bytes / pageBytesOf(HEAD_DIM);
    expect(pages).toBe(Math.round(pages));
    expect(pages).toBeGreaterThanOrEqual(Math.ceil((entries * HEADS) / page));
    expect(pages).toBeLessThan((entries * HEADS) / page + LAYERS * HEADS);
  }

  test.each(chosen.map((combination) => [nameOf(combination), combination] as const))('%s', async (_, combination) => {
    const before = held();
    const press = { ...config(combination), scope: { protect_last: REST } };
    const streaming = await run(press);
    const deferred = await run({ ...press, mode: 'deferred', explain: true });
    expect(held()).toEqual(before);
    for (const { usage } of [streaming, deferred]) check(combination, usage, false);
    if (combination.schedule !== 'decoding') expect(streaming.usage.layer_budget).toBe(combination.layer_budget);
    // Another peak, the same cache
    expect(deferred.usage.kept_per_layer).toEqual(streaming.usage.kept_per_layer);
    expect(deferred.tokens).toEqual(streaming.tokens);
    for (const [l, layer] of (deferred.usage.explain?.kept ?? []).entries()) {
      expect(sum(layer.map((list) => list.length)) / HEADS).toBeCloseTo(deferred.usage.kept_per_layer[l], 12);
      for (const list of layer) {
        expect(new Set(list).size).toBe(list.length);
        for (const t of list) expect(t >= 0 && t < COVERED).toBe(true);
      }
    }
    expect(deferred.usage.explain !== undefined).toBe(combination.schedule !== 'decoding');
  });

  const some = chosen.filter((combination, i) => i % 4 === 0 && refusal(combination, { compat: 'kvpress' }) === null);
  test.each(some.map((combination) => [`${nameOf(combination)}, compat`, combination] as const))('%s', async (_, combination) => {
    const before = held();
    const { usage } = await run({ ...config(combination), scope: { protect_last: REST }, compat: 'kvpress' });
    expect(held()).toEqual(before);
    check(combination, usage, true);
  });
});
