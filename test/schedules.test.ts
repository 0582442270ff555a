/** Presses while decoding, on whole models: what stays, what it says, and what it takes. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parsePress } from '../presses/config.ts';
import { entryTypes } from '../worker/backend/backend.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { dot, EvictingReference, type ScoreRows } from './support/evicting-reference.ts';
import { generation, requestOf, watchPages } from './support/generation.ts';
import { needleSamples, openGolden } from './support/golden.ts';
import { Random } from './support/random.ts';
import { ReferenceModel } from './support/reference-model.ts';
import { watchRetained } from './support/watch-retained.ts';

/** As in engine.test.ts. */
const TOLERANCE = 1e-4;

const THETA = (JSON.parse(readFileSync('models/needle/config.json', 'utf8')) as { rope_theta: number }).rope_theta;

const samples = needleSamples();
const sampleOf = (length: number): number[] => samples.find((s) => s.task === 'niah_multikey' && s.context_length === length)!.prompt_token_ids;
const short = sampleOf(128);

/** Expected attention in float64, of the last W queries, for the F positions that come next. */
const expectedAttention =
  (W: number, F: number) =>
  ({ model, state }: EvictingReference): ScoreRows =>
  (rows, layer, head) => {
    const { queryHeads, kvHeads, headDim: d } = model;
    const { q, k, v } = state.layers[layer];
    const half = d / 2;
    const frequency = Array.from({ length: half }, (_, c) => Math.fround(1 / THETA ** ((2 * c) / d)));
    const angles = (position: number): number[] => frequency.map((f) => Math.fround(f * position));
    const turned = (x: readonly number[], cos: readonly number[], sin: readonly number[]): number[] =>
      x.map((value, c) => (c < half ? value * cos[c] - x[c + half] * sin[c] : value * cos[c - half] + x[c - half] * sin[c - half]));
    const average = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
    const next = Array.from({ length: F }, (_, i) => angles(state.tokens + i));
    const ahead = (f: (x: number) => number): number[] => frequency.map((_, c) => average(next.map((row) => f(row[c]))));
    const [cos, sin] = [ahead(Math.cos), ahead(Math.sin)];
    const back = sin.map((x) => -x); // the transpose
    const group = queryHeads / kvHeads;
    const shares = Array.from({ length: group }, (_, g) => {
      const queries = Array.from({ length: W }, (_, i) => {
        const position = state.tokens - W + i;
        const from = (head * group + g) * d;
        const off = angles(position);
        return turned(
          [...q[position].slice(from, from + d)],
          off.map(Math.cos),
          off.map((angle) => -Math.sin(angle)),
        );
      });
      const mean = Array.from({ length: d }, (_, c) => average(queries.map((row) => row[c])));
      const logits = rows.map((position) => {
        const key = turned([...k[position].slice(head * d, (head + 1) * d)], cos, back); // <R mu, k> = <mu, R' k>
        const spread = average(
          queries.map(
            (row) =>
              dot(
                row.map((x, c) => x - mean[c]),
                0,
                key,
                0,
                d,
              ) ** 2,
          ),
        ); // k' R C R' k
        return dot(mean, 0, key, 0, d) / Math.sqrt(d) + spread / (2 * d);
      });
      const most = Math.max(...logits);
      const weights = logits.map((x) => Math.exp(x - most));
      return weights.map((x) => x / weights.reduce((a, b) => a + b, 0));
    });
    return rows.map((position, i) => average(shares.map((row) => row[i])) * Math.hypot(...v[position].slice(head * d, (head + 1) * d)));
  };

describe('needle', () => {
  let engine: EdgeEngine;
  let model: ReferenceModel;
  beforeAll(async () => {
    engine = await openGolden('needle', { contextLength: 1024 });
    model = new ReferenceModel('models/needle');
  });
  afterAll(() => engine.close());

  describe('generation under schedule "decoding" is that of a model which masks what the formula evicts', () => {
    const [interval, T] = [12, 60];
    const schedule = { name: 'decoding', interval, target_size: T };
    const cases: [name: string, press: Record<string, unknown>, score: (reference: EvictingReference) => ScoreRows][] = [
      [
        'kvpress row 6: streaming_llm, sinks stay after many compressions',
        { preset: 'streaming_llm', schedule },
        () => (rows) => rows.map((_, i) => (i < 4 || i >= rows.length - (T - 4) ? 1 : 0)),
      ],
      [
        'knorm',
        { preset: 'knorm', schedule },
        (reference) =>
          (rows, layer, head, { layers }) => {
            const d = reference.model.headDim;
            return rows.map((p) => -Math.sqrt(dot(layers[layer].k[p], head * d, layers[layer].k[p], head * d, d)));
          },
      ],
      [
        'kvpress row 7: snapkv, the last queries as attention saw them',
        { preset: 'snapkv', window_size: 8, kernel_size: 3, schedule },
        (reference) => (rows, layer, head) => {
          const byHead = reference.attention(rows, layer, head, 8);
          const mean = rows.map((_, i) => byHead.reduce((sum, row) => sum + row[i], 0) / byHead.length);
          const W = rows.length - 8;
          return rows.map((_, i) => (i >= W ? Infinity : [i - 1, i, i + 1].reduce((sum, j) => sum + (j < 0 || j >= W ? 0 : mean[j]), 0) / 3));
        },
      ],
      [
        'kvpress row 7: tova',
        { preset: 'tova', schedule },
        (reference) => (rows, layer) => {
          const heads = Array.from({ length: reference.model.kvHeads }, (_, h) => reference.attention(rows, layer, h, 1)).flat();
          return rows.map((_, i) => (i === rows.length - 1 ? Infinity : heads.reduce((sum, row) => sum + row[i], 0) / heads.length));
        },
      ],
    ];
    cases.push([
      'kvpress row 7: expected_attention, the last queries before RoPE, and the positions that really come next',
      { scorer: { name: 'expected_attention', n_sink: 0, n_future_positions: 48 }, schedule: { ...schedule, hidden_states_buffer_size: 30 } },
      expectedAttention(30, 48),
    ]);
    test.each(cases)('%s', async (_, press, scoreOf) => {
      const steps = 4 * interval + 5;
      const watch = watchRetained(model.layers);
      const told = await generation(engine, short, press, { maxTokens: steps, topLogprobs: 5, ignoreEos: true });
      watch.stop();
      const state = model.start();
      let expected = model.read(state, short);
      const reference = new EvictingReference(model, state);
      const score = scoreOf(reference);
      let compressions = 0;
      for (const [i, token] of told.tokens.entries()) {
        const total = Math.log(expected.reduce((sum, x) => sum + Math.exp(x), 0));
        const best = expected.reduce((most, x, id) => (x > expected[most] ? id : most), 0);
        if (expected[best] - expected[token] > TOLERANCE) expect(token, `token ${i}`).toBe(best);
        for (const one of told.logprobs[i].top) expect(Math.abs(one.logprob - (expected[one.tokenId] - total)), `token ${i}`).toBeLessThan(TOLERANCE);
        if (i > 0 && i % interval === 0) {
          reference.compress(T, score, watch.seen[compressions++]);
        }
        expected = reference.read(token);
      }
      expect([compressions, watch.seen.length]).toEqual([4, 4]);
      const held = T + ((steps - 1) % interval);
      expect(told.usage.decoding).toMatchObject({ compressions: 4, entries_per_layer: Array(model.layers).fill(held), notes: [] });
    });
  });

  const long = (press: Record<string, unknown>, maxTokens = 300) => generation(engine, short, press, { maxTokens, ignoreEos: true });
  const memory = () => {
    engine.backend.trim(); // what kernels keep from call to call
    const { kv_used_bytes, kv_reserved_bytes, used_bytes } = engine.health().memory;
    return { pages: kv_used_bytes, reserved: kv_reserved_bytes, device: used_bytes };
  };

  describe('memory: over 300 tokens no more pages are held than were promised, and that is less than prompt and answer take', () => {
    const small = { name: 'decoding', interval: 32, target_size: 96 };
    const presses: Record<string, unknown>[] = [
      ...entryTypes.map((entry_type) => ({ preset: 'knorm', schedule: small, entry_type })),
      { preset: 'decoding_streaming_llm', interval: 7, target_size: 50 },
      { preset: 'decoding_adakv_snapkv', window_size: 8, interval: 32, target_size: 96 },
      { preset: 'decoding_tova', interval: 32, target_compression_ratio: 0.5 },
      { preset: 'decoding_adakv_expected_attention_e2', interval: 32, target_size: 96, hidden_states_buffer_size: 40 },
      { scorer: { name: 'leverage', seed: 1 }, head_budget: 'adakv', schedule: small },
      { scorer: { name: 'lagkv', lag_size: 16 }, schedule: small, entry_type: 'f16' },
      { scorer: { name: 'cur' }, schedule: small },
      { preset: 'cam_tova', merge_budget: 4, interval: 32, target_size: 96, entry_type: 'int8' },
      { preset: 'cam_adakv_snapkv', window_size: 8, interval: 32, target_size: 96 },
      { preset: 'adakv_keydiff', compression_ratio: 0.5, scope: { protect_last: 20 }, schedule: { ...small, name: 'prefill_and_decoding' } },
      { preset: 'keydiff', compression_ratio: 0.75, schedule: { ...small, name: 'prefill_and_decoding' } },
    ];
    const lists: unknown[] = [
      [
        { preset: 'zigzag_knorm', compression_ratio: 0.5 },
        { preset: 'decoding_keydiff', interval: 32, target_size: 96 },
      ],
      [
        { preset: 'adakv_snapkv', window_size: 8 },
        { preset: 'decoding_adakv_snapkv', window_size: 8, interval: 32, target_size: 64 },
      ],
    ];
    test.each([...presses, ...lists].map((press) => [JSON.stringify(press), press]))('%s', async (_, press) => {
      const before = memory();
      const watch = watchPages();
      const request = requestOf(short, press, { maxTokens: 300, ignoreEos: true });
      const plan = await engine.plan({ prompt: request.prompt, press: request.press, maxTokens: 300 });
      const told = await long(press as Record<string, unknown>);
      watch.stop();
      expect(told.tokens.length).toBe(300);
      const [use] = watch.uses;
      expect(use.exceeded).toBe(null);
      const perPage = { f32: 16, f16: 32, int8: Math.floor((64 * 32) / 36) }[told.usage.entry_type];
      const all = model.layers * model.kvHeads * Math.ceil((short.length + 300) / perPage);
      expect(use.most).toBeLessThan(0.75 * all);
      expect(plan.fits).toBe(true);
      const { decoding } = told.usage;
      const { target_size: T = 0.5 * (short.length + 299) } = { ...(Array.isArray(press) ? press[1] : (press as Record<string, any>)) } as Record<
        string,
        number
      >;
      expect(decoding!.compressions).toBeGreaterThanOrEqual(7);
      for (const entries of decoding!.entries_per_layer) expect(entries).toBeLessThanOrEqual(Math.max(T, 96) + 32);
      expect(decoding!.bytes_end).toBeLessThanOrEqual(use.most * 4096 * 2);
      expect(memory()).toEqual(before);
    });
  });

  test('heads of unequal length: every layer keeps H T entries in all, whichever heads they are in', async () => {
    const watch = watchRetained(model.layers);
    await long({ preset: 'decoding_adakv_snapkv', window_size: 8, interval: 24, target_size: 80 }, 130);
    watch.stop();
    expect(watch.seen.length).toBe(5);
    for (const left of watch.seen) for (const heads of left) expect(heads.flat().length).toBe(80 * model.kvHeads);
    const lengths = watch.seen.flatMap((left) => left.flatMap((heads) => heads.map(({ length }) => length)));
    expect(Math.min(...lengths)).toBeLessThan(70); // some heads are far from 80
  });

  test('kvpress row 8: cam with adakv works: every head merges what goes into its own rows; the same seed draws the same', async () => {
    const press = { preset: 'cam_adakv_snapkv', window_size: 8, interval: 16, target_size: 60 };
    const run = (seed: number, more: object = press) => generation(engine, short, more, { maxTokens: 60, ignoreEos: true, seed, topLogprobs: 1 });
    const [one, same, other] = [await run(1), await run(1), await run(2)];
    expect(same).toEqual(one);
    expect(other.logprobs).not.toEqual(one.logprobs); // greedy: only what was merged differs
    const without = await run(1, { ...press, preset: 'decoding_adakv_snapkv' });
    expect(without.logprobs.slice(0, 17)).toEqual(one.logprobs.slice(0, 17));
    expect(without.logprobs).not.toEqual(one.logprobs);
    expect(one.usage.decoding!.compressions).toBe(3);
    const lengths = watchRetained(model.layers);
    await run(1);
    lengths.stop();
    for (const left of lengths.seen) for (const heads of left) expect(heads.flat().length).toBe(60 * model.kvHeads);
  });

  describe('DMS while decoding: selection "threshold"', () => {
    const dms = (interval: number) => ({
      scorer: 'knorm',
      selection: { name: 'threshold', threshold: -10.7, sliding_window_size: 16 },
      schedule: { name: 'prefill_and_decoding', interval },
    });
    const ends = async (press: unknown, maxTokens: number) => {
      const watch = watchRetained(engine.info.layers);
      try {
        const { usage } = await generation(engine, short, press, { maxTokens, ignoreEos: true });
        return { usage, left: watch.seen };
      } finally {
        watch.stop();
      }
    };

    test.each([1, 16])(
      'of what has left the window some goes and some stays, of prompt and answer; the window is whole: interval %i',
      async (interval) => {
        const { left } = await ends(dms(interval), 65);
        const lists = Array.from({ length: engine.info.layers }, (_, l) => left.findLast((layers) => layers[l].length > 0)![l]).flat();
        let [stayed, went] = [0, 0];
        for (const list of lists) {
          const newest = list.at(-1)!;
          expect(list.slice(-16)).toEqual(Array.from({ length: 16 }, (_, i) => newest - 15 + i));
          const ofAnswer = list.filter((t) => t >= short.length && t < newest - 15).length;
          stayed += ofAnswer;
          went += newest - 15 - short.length - ofAnswer;
        }
        expect(stayed).toBeGreaterThan(0);
        expect(went).toBeGreaterThan(0);
      },
    );

    test('frees pages while the answer grows', async () => {
      const { usage } = await ends(dms(8), 200);
      const { entries_per_layer, bytes_end, compressions } = usage.decoding!;
      expect(compressions).toBeGreaterThan(10);
      expect(Math.max(...entries_per_layer)).toBeLessThan(short.length + 199);
      const none = await generation(engine, short, 'no_press', { maxTokens: 200, ignoreEos: true });
      const pages = (tokens: number): number => 12 * Math.ceil(tokens / 16) * 4096; // 6 layers of 2 heads, 16 f32 entries of 32 channels a page
      expect(none.usage.bytes_full).toBe(pages(short.length));
      expect(bytes_end).toBeLessThan(pages(short.length + 199));
    });

    test('takes no target, and no transform that wants one', () => {
      const refusal = (press: Record<string, unknown>) => {
        try {
          parsePress(press);
        } catch (error) {
          return error;
        }
      };
      const targeted = { ...dms(8), schedule: { name: 'decoding', interval: 8, target_size: 100 } };
      expect(refusal(targeted)).toMatchObject({ code: 'press_conflict', param: 'press.schedule.target_size' });
      expect(refusal({ ...dms(8), transforms: ['cam'] })).toMatchObject({ code: 'press_conflict', param: 'press.transforms' });
      expect(refusal({ ...dms(8), selection: 'chunks' })).toMatchObject({ code: 'press_conflict', param: 'press.selection' });
    });
  });

  test('nothing changes before the first compression, and a target that is never reached changes nothing at all', async () => {
    const plain = await long({ preset: 'no_press' }, 40);
    for (const press of [
      { preset: 'decoding_knorm', interval: 40, target_size: 16 },
      { preset: 'decoding_tova', interval: 4, target_size: 1000 },
      { preset: 'decoding_knorm', compression_ratio: 0 },
    ]) {
      const told = await long(press, 40);
      expect(told.tokens).toEqual(plain.tokens);
      if (!told.usage.decoding) continue;
      expect(told.usage.decoding.compressions).toBe(0);
      const why =
        press.interval === 40 ? 'it acts every 40 tokens, and fewer were read since the prompt' : 'the cache never held more than is to stay';
      expect(told.usage.decoding.notes).toEqual([`nothing was removed while decoding: ${why}`]);
    }
    const first = await long({ preset: 'decoding_streaming_llm', interval: 40, target_size: 16 }, 60);
    expect(first.tokens.slice(0, 41)).toEqual((await long({ preset: 'no_press' }, 60)).tokens.slice(0, 41));
    expect(first.usage.decoding!.compressions).toBe(1);
  });

  test('the prompt is as it was: usage.kv_cache tells of it what it tells without a press', async () => {
    const plain = await long({ preset: 'no_press' }, 2);
    const { decoding, ...told } = (await long({ preset: 'decoding_knorm', target_size: 16, interval: 8 }, 2)).usage;
    expect(told).toEqual({ ...plain.usage, press: 'decoding_knorm' });
    expect(decoding).toEqual({
      compressions: 0,
      entries_per_layer: Array(model.layers).fill(short.length + 1),
      bytes_end: expect.any(Number),
      notes: [expect.stringMatching(/it acts every 8 tokens/)],
    });
  });

  test('several at once, and one alone: the same tokens; all pages and what was remembered are given back', async () => {
    const before = memory();
    const presses = [
      { preset: 'decoding_tova', interval: 8, target_size: 40 },
      { preset: 'decoding_adakv_snapkv', window_size: 8, interval: 16, target_size: 40, entry_type: 'int8' },
      { preset: 'snapkv', window_size: 16, schedule: { name: 'prefill_and_decoding', interval: 5, target_size: 30 }, entry_type: 'f16' },
      { preset: 'zigzag_knorm' },
    ];
    const alone = [];
    for (const press of presses) alone.push((await long(press, 60)).tokens);
    const together = await Promise.all([...presses, ...presses].map((press) => long(press, 60)));
    expect(together.map(({ tokens }) => tokens)).toEqual([...alone, ...alone]);
    expect(memory()).toEqual(before);
  });

  test('given up in mid-generation, whenever that is: nothing stays behind', async () => {
    const before = memory();
    for (const after of [0, 1, 7, 8, 9, 17]) {
      const abort = new AbortController();
      const request = requestOf(short, { preset: 'decoding_tova', interval: 8, target_size: 40 }, { maxTokens: 50, ignoreEos: true });
      let seen = 0;
      const run = (async () => {
        for await (const event of engine.generate(request, abort.signal))
          if (event.type !== 'text' || (seen += event.tokenIds.length) > after) abort.abort();
      })();
      await expect(run).rejects.toThrow();
      expect(memory()).toEqual(before);
    }
    for await (const event of engine.generate(requestOf(short, { preset: 'decoding_tova', interval: 2, target_size: 40 }, { maxTokens: 50 }))) {
      if (event.type === 'text') break; // the client reads no more
    }
    expect(memory()).toEqual(before);
  });

  test('a pool that cannot hold prompt and answer holds them under a schedule that keeps little', async () => {
    const lists = model.layers * model.kvHeads;
    const tight = await openGolden('needle', { contextLength: 1024, kvPoolBytes: lists * Math.ceil((short.length + 64) / 16) * 4096 });
    await expect(tight.generate(requestOf(short, 'no_press', { maxTokens: 600 })).next()).rejects.toMatchObject({ code: 'kv_budget_exceeded' });
    const press = { preset: 'decoding_streaming_llm', interval: 32, target_size: 100 };
    const told = await generation(tight, short, press, { maxTokens: 600, ignoreEos: true });
    expect(told.tokens.length).toBe(600);
    const both = await Promise.all([0, 1].map(() => generation(tight, short, press, { maxTokens: 100, ignoreEos: true }))); // one waits for the other
    expect(both.map(({ tokens }) => tokens)).toEqual([0, 1].map(() => told.tokens.slice(0, 100)));
    tight.close();
  });

  test('what is remembered for a press counts as memory: too much is refused before any compute', async () => {
    const tight = await openGolden('needle', { contextLength: 1024, memoryLimitBytes: 30 * 2 ** 20 });
    const { peak_bytes } = tight.health().memory;
    const press = { preset: 'snapkv', window_size: 4096, schedule: { name: 'decoding', target_size: 8000 } };
    await expect(tight.generate(requestOf(short, press, { maxTokens: 600 })).next()).rejects.toMatchObject({ code: 'kv_budget_exceeded' });
    expect(tight.health().memory.peak_bytes).toBe(peak_bytes);
    expect(
      (await generation(tight, short, { preset: 'decoding_tova', target_size: 64, interval: 8 }, { maxTokens: 20 })).usage.decoding,
    ).toBeDefined();
    tight.close();
  });

  test('kvpress: the question is a step of its own, under compat only', async () => {
    const press = { preset: 'decoding_streaming_llm', interval: 10, target_size: 50, scope: { protect_last: 20 } };
    const readAtFirst = async (more: object): Promise<number> => {
      const watch = watchRetained(model.layers);
      await long({ ...press, ...more }, 12);
      watch.stop();
      return watch.seen[0][0][0].at(-1)! + 1;
    };
    expect(await readAtFirst({})).toBe(short.length + 10);
    expect(await readAtFirst({ compat: 'kvpress' })).toBe(short.length + 9);
    expect(await readAtFirst({ compat: 'kvpress', target_size: 20 })).toBe(short.length); // as long as the target: at once
  });
});

describe('a sliding window: what no later token sees goes first, and what is seen is kept as without a press', () => {
  test.each(['knorm', 'streaming_llm', 'tova'])('%s', async (preset) => {
    const engine = await openGolden('mistral', { contextLength: 512 }); // 24 positions are seen
    const random = new Random(3);
    const tokens = Array.from({ length: 60 }, () => random.int(3, 159));
    const plain = await generation(engine, tokens, 'no_press', { maxTokens: 40, ignoreEos: true });
    const told = await generation(
      engine,
      tokens,
      { preset, schedule: { name: 'decoding', interval: 5, target_size: 24 } },
      { maxTokens: 40, ignoreEos: true },
    );
    expect(told.tokens).toEqual(plain.tokens);
    expect(Math.max(...told.usage.decoding!.entries_per_layer)).toBeLessThanOrEqual(24 + 5);
    engine.close();
  });
});
