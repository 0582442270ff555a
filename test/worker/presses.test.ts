/** Presses through HTTP in workerd: what usage.kv_cache reports adds up, and /v1/press/plan says beforehand what a request then takes. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { presets as all, presetParts } from '../../presses/presets.ts';
import { drawsLots, plainPresets } from '../support/artifacts.ts';
import { Random } from '../support/random.ts';
import { samples, twoParts } from '../support/samples.ts';
import { type Completion, type Plan, removePacked, startWorker, type TestWorker } from '../support/worker.ts';

type KvCache = Completion['usage']['kv_cache'];

let worker: TestWorker;
let presets: string[];
beforeAll(async () => {
  worker = await startWorker();
  presets = ['no_press', ...plainPresets];
});
afterAll(async () => {
  await worker?.dispose();
  await removePacked();
});

const [LAYERS, KV_HEADS, HEAD_DIM] = [6, 2, 32]; // models/needle/config.json
const PAGE_BYTES = 16 * 2 * HEAD_DIM * 4; // 16 f32 entries, K and V
const ENTRIES = { f32: 16, f16: 32, int8: Math.floor((64 * HEAD_DIM) / (HEAD_DIM + 4)) };

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const pages = (entries: number, type: string) => Math.ceil(entries / ENTRIES[type as keyof typeof ENTRIES]);

/** 239 tokens: short enough to be quick, long enough for an observation window of 64. */
const sample = samples().find(({ task, context_length }) => task === 'niah_single' && context_length === 256)!;
const messages = twoParts(sample);

/** Asks for the plan, then for the answer, and holds one against the other. */
async function planned(body: {
  press?: unknown;
  max_tokens?: number;
  messages?: object[];
  prompt?: number[];
}): Promise<{ plan: Plan; cache: KvCache; text: string }> {
  const plan = await worker.plan(body);
  let cache: KvCache;
  let text: string;
  if (body.prompt) {
    const { status, body: answer } = await worker.post<{ choices: { text: string }[]; usage: { kv_cache: KvCache } }>('/v1/completions', {
      temperature: 0,
      ...body,
    });
    expect({ status, answer }).toMatchObject({ status: 200 });
    cache = answer.usage.kv_cache;
    text = answer.choices[0].text;
  } else {
    const { usage, choices } = await worker.chat(body);
    cache = usage.kv_cache;
    text = choices[0].message.content;
  }
  consistent(cache, plan);
  return { plan, cache, text };
}

/** Everything that must hold between a plan and the account of the request that was planned. */
function consistent(cache: KvCache, plan: Plan): void {
  const { kept_per_layer: kept, tokens, entry_type: type } = cache;
  expect(cache).toMatchObject({
    press: plan.press,
    scope: plan.scope,
    tokens: plan.tokens,
    entry_type: plan.entry_type,
    bytes_full: plan.bytes_full,
  });
  expect(cache.compression_ratio).toBeCloseTo(plan.compression_ratio, 12);
  for (const list of [kept, cache.lmba_per_layer, cache.retained_mass_per_layer]) expect(list).toHaveLength(LAYERS);
  // exact to the token; the report's ratio is what was really removed
  expect(sum(kept)).toBe(Math.round(plan.average_budget * LAYERS));
  expect(cache.compression_ratio).toBeCloseTo(1 - sum(kept) / (LAYERS * tokens), 12);
  kept.forEach((budget, layer) => {
    expect(budget).toBeGreaterThanOrEqual(plan.per_layer[layer].min);
    expect(budget).toBeLessThanOrEqual(plan.per_layer[layer].max);
  });
  for (const mass of cache.retained_mass_per_layer) {
    if (mass === null) continue;
    expect(mass).toBeGreaterThan(0);
    expect(mass).toBeLessThanOrEqual(1 + 1e-6);
  }
  // pages: what follows the scope is added to every list
  const extra = plan.prompt_tokens - tokens;
  expect(plan.bytes_full).toBe(LAYERS * KV_HEADS * pages(plan.prompt_tokens, type) * PAGE_BYTES);
  expect(cache.bytes_kept).toBeLessThanOrEqual(plan.bytes_kept);
  expect(cache.bytes_peak).toBeLessThanOrEqual(plan.bytes_peak);
  expect(cache.bytes_peak).toBeGreaterThanOrEqual(cache.bytes_kept);
  const even = sum(kept.map((budget) => KV_HEADS * pages(budget + extra, type))) * PAGE_BYTES;
  const ragged = Object.hasOwn(all, cache.press) ? presetParts(cache.press)?.headBudget.ragged : cache.press.includes('ada');
  if (ragged) expect(Math.abs(cache.bytes_kept - even)).toBeLessThanOrEqual(LAYERS * KV_HEADS * PAGE_BYTES);
  else expect(cache.bytes_kept).toBe(even);
  if (plan.exact && !ragged) {
    expect(cache.bytes_kept).toBe(plan.bytes_kept);
    expect(kept).toEqual(plan.per_layer.map(({ min }) => min));
  }
}

describe('usage.kv_cache and /v1/press/plan', () => {
  test('every preset answers, frees memory, and takes what its plan said', async () => {
    expect(presets.length).toBeGreaterThanOrEqual(15);
    for (const preset of presets.filter((name) => name !== 'no_press')) {
      for (const scope of ['context', 'prompt'] as const) {
        const { plan, cache, text } = await planned({ messages, press: { preset, compression_ratio: 0.5, scope } });
        expect(cache).toMatchObject({ press: preset, scope });
        const { layerBudget, headBudget, scorer, transforms } = presetParts(preset)!;
        const notes = [
          ...(headBudget.ragged && !scorer.comparable ? ['no common unit'] : []),
          ...(layerBudget.cascades === false ? ['decides after the last layer'] : []),
          ...(layerBudget.name === 'pyramid' && new Set(cache.kept_per_layer).size === 1 ? ['a ramp would leave'] : []),
          ...(drawsLots(preset) ? ['seed'] : []),
          ...(transforms.some(({ name }) => name === 'rerotate') ? ['were turned'] : []),
          ...(transforms.some(({ name }) => name === 'think') ? ['frees no memory'] : []),
          ...(scorer.name === 'finch' && scope === 'context' ? ['leaves the question out'] : []),
        ];
        expect(cache.notes, preset).toEqual(notes.map((note) => expect.stringContaining(note)));
        expect(cache.tokens).toBe(scope === 'prompt' ? plan.prompt_tokens : plan.tokens);
        expect(cache.bytes_kept).toBeLessThan(cache.bytes_full);
        expect(text.length).toBeGreaterThan(0);
        const measured = cache.lmba_per_layer.filter((lmba) => lmba !== null);
        expect(measured).toHaveLength(cache.layer_budget === 'zigzag' ? LAYERS : 0);
      }
    }
  });

  test('no press: the plan is what is held', async () => {
    const { plan, cache } = await planned({ messages });
    expect(plan).toMatchObject({ press: 'no_press', compression_ratio: 0, exact: true, fits: true });
    expect(cache.bytes_kept).toBe(cache.bytes_full);
    expect(cache.bytes_peak).toBe(plan.bytes_peak);
  });

  test('zigzag_snapkv: LMBA differs between layers, and budgets follow it', async () => {
    const long = samples().find(({ task, context_length }) => task === 'niah_multikey' && context_length === 1024)!;
    const { cache } = await planned({ messages: twoParts(long), press: { preset: 'zigzag_snapkv', compression_ratio: 0.8 } });
    const lmba = cache.lmba_per_layer as number[];
    expect(new Set(lmba).size).toBeGreaterThan(3);
    expect(Math.max(...lmba)).toBeGreaterThan(1.2 * Math.min(...lmba));
    const byLmba = [...lmba.keys()].sort((a, b) => lmba[a] - lmba[b]);
    for (let i = 1; i < LAYERS; i++) expect(cache.kept_per_layer[byLmba[i]]).toBeGreaterThanOrEqual(cache.kept_per_layer[byLmba[i - 1]]);
  });

  test('plans hold for random presses, prompts, scopes, entry types and modes', async () => {
    const random = new Random(20_26);
    for (let i = 0; i < 60; i++) {
      const length = random.int(40, 400);
      const prompt = Array.from({ length }, () => random.int(5, 1535));
      const preset = random.pick(presets.filter((name) => name !== 'no_press'));
      const press = {
        preset,
        compression_ratio: random.int(1, 95) / 100,
        scope: random.pick(['prompt', { protect_last: random.int(0, 30) }]),
        entry_type: random.pick(['f32', 'f16', 'int8']),
        mode: random.pick(['streaming', 'deferred']),
        on_tight: 'uniform',
        ...(preset.includes('snapkv') && { window_size: random.int(1, 64) }),
      };
      await planned({ prompt, press, max_tokens: 2 }).catch((error: Error) => {
        throw new Error(`${JSON.stringify({ length, press })}: ${error.message}`);
      });
    }
  });

  test('a plan for a number of tokens is the plan of a prompt of that length', async () => {
    const press = { preset: 'zigzag_snapkv', compression_ratio: 0.6, scope: 'prompt' };
    const prompt = Array.from({ length: 300 }, (_, i) => 5 + i);
    expect(await worker.plan({ tokens: 300, press, max_tokens: 20 })).toEqual(await worker.plan({ prompt, press, max_tokens: 20 }));
  });
});

describe('what a press may say', () => {
  test('scope: "context" presses all but the question, "prompt" everything, protect_last all but the last n', async () => {
    const preset = 'streaming_llm';
    const { cache: context, plan } = await planned({ messages, press: { preset } });
    expect(context.scope).toBe('context'); // the default where something precedes the last part
    const questionTokens = plan.prompt_tokens - context.tokens;
    expect(questionTokens).toBeGreaterThan(3);
    expect(questionTokens).toBeLessThan(30);
    expect((await planned({ messages, press: { preset, scope: 'prompt' } })).cache.tokens).toBe(plan.prompt_tokens);
    const { cache } = await planned({ messages, press: { preset, scope: { protect_last: 50 } } });
    expect(cache).toMatchObject({ scope: { protect_last: 50 }, tokens: plan.prompt_tokens - 50 });
    const { cache: single } = await planned({ messages: [{ role: 'user', content: `${sample.context}\n${sample.question}` }], press: { preset } });
    expect(single).toMatchObject({ scope: 'prompt', tokens: plan.prompt_tokens });
  });

  test('the question after a pressed context is read exactly as it was asked', async () => {
    // Nothing can be lost from a context whose needle survives: the first tokens and the latest.
    const needle = 'The number for busy-cart is 82.';
    const filler = ' The horse slept near the valley.'.repeat(20);
    const content = [needle + filler, '\nWhat is the number for busy-cart?'].map((text) => ({ type: 'text', text }));
    const { text, cache } = await planned({
      messages: [{ role: 'user', content }],
      press: { preset: 'streaming_llm', compression_ratio: 0.5, n_sink: 32 },
    });
    expect(text).toBe(' 82');
    expect(cache.bytes_kept).toBeLessThan(0.7 * cache.bytes_full);
  });

  test.each([
    ['int8', 'a third', 0.4],
    ['f16', 'half', 0.6],
  ])('entry_type %s: %s of the bytes, and the same answers', async (entry_type, _, most) => {
    for (const [i, one] of samples()
      .filter(({ task, context_length }) => task === 'niah_single' && context_length <= 256)
      .entries()) {
      // With nothing removed: what a press costs in answers is a matter of the weights.
      const { text } = await planned({ messages: twoParts(one), press: { preset: 'no_press', entry_type } });
      expect(text).toBe(one.greedy_output_text);
      if (i > 0) continue;
      const press = { preset: 'snapkv', compression_ratio: 0.1, scope: 'prompt', window_size: 16 };
      const [f32, smaller] = [
        await planned({ messages: twoParts(one), press }),
        await planned({ messages: twoParts(one), press: { ...press, entry_type } }),
      ];
      expect(smaller.cache.bytes_kept).toBeLessThan(most * f32.cache.bytes_kept); // page rounding included
    }
  });

  test('memory_budget: the pages stay within it while the answer is written too, and use nearly all of it', async () => {
    for (const preset of ['knorm', 'zigzag_snapkv', 'adakv_snapkv']) {
      const press = { preset, memory_budget: '768KiB', ...(preset !== 'knorm' && { window_size: 16 }) };
      const { cache, plan } = await planned({ messages, press, max_tokens: 32 });
      expect(cache.bytes_full).toBeGreaterThan(700 * 1024);
      const end = cache.bytes_kept + LAYERS * KV_HEADS * Math.ceil(32 / 16) * PAGE_BYTES;
      expect(cache.bytes_kept).toBeLessThanOrEqual(768 * 1024);
      expect(end).toBeGreaterThan(600 * 1024);
      expect(plan.fits).toBe(true);
    }
    const { cache } = await planned({ messages, press: { preset: 'knorm', memory_budget: '64MiB' }, max_tokens: 8 });
    expect(cache).toMatchObject({
      press: 'knorm',
      compression_ratio: 0,
      kept_per_layer: Array(LAYERS).fill(cache.tokens),
      notes: [expect.stringContaining('fits the memory_budget')],
    });
    expect(cache.bytes_kept).toBe(cache.bytes_full);
    const { status, body } = await worker.post('/v1/chat/completions', {
      messages,
      press: { preset: 'knorm', memory_budget: '64KiB' },
      max_tokens: 8,
    });
    expect({ status, body }).toMatchObject({ status: 400, body: { error: { code: 'memory_budget_too_small', param: 'press.memory_budget' } } });
  });

  test('composed presses act in order, and their ratios multiply', async () => {
    const press = [
      { preset: 'knorm', compression_ratio: 0.5 },
      { preset: 'streaming_llm', compression_ratio: 0.5 },
    ];
    const { cache } = await planned({ messages, press });
    const once = Math.floor(cache.tokens * 0.5);
    expect(cache).toMatchObject({ press: 'knorm|streaming_llm', kept_per_layer: Array(LAYERS).fill(Math.floor(once * 0.5)) });
  });

  test('parts spelled out: a preset is the composition of its parts; per_layer gives every layer its share', async () => {
    const spelled = await planned({
      messages,
      press: {
        scorer: { name: 'snapkv', window_size: 32 },
        layer_budget: { name: 'zigzag', threshold: 0.8, bound_ratio: 0.3 },
        head_budget: 'uniform',
        compression_ratio: 0.6,
      },
    });
    const preset = await planned({
      messages,
      press: { preset: 'zigzag_snapkv', window_size: 32, threshold: 0.8, bound_ratio: 0.3, compression_ratio: 0.6 },
    });
    expect({ ...spelled.cache, press: '' }).toEqual({ ...preset.cache, press: '' });
    expect(spelled.text).toBe(preset.text);

    const compression_ratios = [0, 0.2, 0.4, 0.6, 0.8, 0.5];
    const { cache } = await planned({ messages, press: { scorer: 'knorm', layer_budget: { name: 'per_layer', compression_ratios } } });
    expect(cache.kept_per_layer).toEqual(compression_ratios.map((ratio) => Math.floor(cache.tokens * (1 - ratio) + 1e-9)));
  });

  test('streaming and deferred modes leave the same cache and answer; at ratio 0.8 streaming peaks under 40% of the full cache', async () => {
    const long = twoParts(samples().find(({ task, context_length }) => task === 'niah_multiquery' && context_length === 1024)!);
    const press = (mode: string) => ({ preset: 'zigzag_snapkv', compression_ratio: 0.8, mode });
    const [streaming, deferred] = [
      await planned({ messages: long, press: press('streaming') }),
      await planned({ messages: long, press: press('deferred') }),
    ];
    expect({ ...deferred.cache, bytes_peak: 0 }).toEqual({ ...streaming.cache, bytes_peak: 0 });
    expect(deferred.text).toBe(streaming.text);
    expect(streaming.cache.bytes_peak).toBeLessThan(0.4 * streaming.cache.bytes_full);
    expect(deferred.cache.bytes_peak).toBeGreaterThan(0.95 * deferred.cache.bytes_full);
  });
});
