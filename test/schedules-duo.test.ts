/** DuoAttention while decoding: the window of streaming heads slides as the answer grows, retrieval heads keep all. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parsePress } from '../presses/config.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { EvictingReference } from './support/evicting-reference.ts';
import { generation, watchPages } from './support/generation.ts';
import { needleSamples, openGolden } from './support/golden.ts';
import { ReferenceModel } from './support/reference-model.ts';
import { watchRetained } from './support/watch-retained.ts';

/** As in engine.test.ts. */
const TOLERANCE = 1e-4;
const prompt = needleSamples()
  .find((s) => s.task === 'niah_multikey' && s.context_length === 128)!
  .prompt_token_ids.slice(0, 100);
const { sink, recent, scores } = JSON.parse(readFileSync('test/golden/library/artifacts/needle/duo.json', 'utf8')) as {
  sink: number;
  recent: number;
  scores: number[][];
};
const half = scores.flat().sort((a, b) => a - b)[scores.flat().length / 2];
const streams = (layer: number, head: number): boolean => scores[layer][head] < half;
const duo = (interval: number, more: object = {}) => ({
  preset: 'duo_attention',
  artifact: 'duo.json',
  schedule: { name: 'prefill_and_decoding', interval },
  ...more,
});

let engine: EdgeEngine;
let model: ReferenceModel;
beforeAll(async () => {
  engine = await openGolden('needle', { contextLength: 1024 });
  model = new ReferenceModel('models/needle');
});
afterAll(() => engine.close());

/** The first `sink` and the last `recent` tokens of a text. */
const slide = (rows: readonly number[], tokens: number): number[] => rows.filter((t) => t < sink || t >= tokens - recent);

describe('kvpress row 21: the window of streaming heads slides, as in float64 with what left it masked', () => {
  const cases: [name: string, interval: number, more: object][] = [
    ['after every token', 1, {}],
    ['every 7 tokens', 7, {}],
    ['every 7 tokens, a question behind the pressed context', 7, { scope: { protect_last: 9 } }],
    ['every 7 tokens, the prompt left whole before', 7, { schedule: { name: 'decoding', interval: 7 } }],
  ];
  test.each(cases)('%s', async (_, interval, more) => {
    const press = duo(interval, more);
    const steps = 25;
    const told = await generation(engine, prompt, press, { maxTokens: steps, topLogprobs: 5, ignoreEos: true });
    const covered = prompt.length - ('scope' in more ? 9 : 0);
    const state = model.start();
    let expected = model.read(state, prompt.slice(0, covered));
    const reference = new EvictingReference(model, state);
    const act = (): void => {
      for (const [layer, heads] of reference.left.entries())
        for (const [head, rows] of heads.entries()) if (streams(layer, head)) heads[head] = slide(rows, state.tokens);
    };
    if (press.schedule.name === 'prefill_and_decoding') act();
    for (const token of prompt.slice(covered)) expected = reference.read(token);
    for (const [i, token] of told.tokens.entries()) {
      const total = Math.log(expected.reduce((sum, x) => sum + Math.exp(x), 0));
      const best = expected.reduce((most, x, id) => (x > expected[most] ? id : most), 0);
      if (expected[best] - expected[token] > TOLERANCE) expect(token, `token ${i}`).toBe(best);
      for (const one of told.logprobs[i].top) expect(Math.abs(one.logprob - (expected[one.tokenId] - total)), `token ${i}`).toBeLessThan(TOLERANCE);
      if (i === steps - 1) break;
      if (i > 0 && i % interval === 0) act();
      expected = reference.read(token);
    }
    const held = reference.left.map((heads) => heads.reduce((sum, { length }) => sum + length, 0) / heads.length);
    expect(told.usage.decoding!.entries_per_layer).toEqual(held);
  });
});

test('streaming heads hold sink + recent entries, and less than an interval on top, however long the answer is; the others hold all', async () => {
  const interval = 8;
  const watch = watchRetained(model.layers);
  const pages = watchPages();
  const told = await generation(engine, prompt, duo(interval), { maxTokens: 300, ignoreEos: true });
  watch.stop();
  pages.stop();
  expect(watch.seen.length).toBe(37);
  for (const [i, left] of watch.seen.entries()) {
    const read = prompt.length + (i + 1) * interval;
    for (const [layer, heads] of left.entries())
      for (const [head, rows] of heads.entries()) {
        const all = Array.from({ length: read }, (_, t) => t);
        expect(rows).toEqual(streams(layer, head) ? slide(all, read) : all);
      }
  }
  const read = prompt.length + 299;
  const few = sink + recent + (299 % interval);
  const want = scores.map((heads, layer) => heads.reduce((sum, _, head) => sum + (streams(layer, head) ? few : read), 0) / heads.length);
  expect(told.usage.decoding!.entries_per_layer).toEqual(want);
  const pageOf = (entries: number): number => Math.ceil(entries / 16) * 4096; // 16 f32 entries of 32 channels
  const bytes = scores.flatMap((heads, layer) => heads.map((_, head) => pageOf(streams(layer, head) ? few : read)));
  expect(told.usage.decoding!.bytes_end).toBe(bytes.reduce((a, b) => a + b));
  expect(pages.uses[0].exceeded).toBe(null);
});

test('a pool that cannot hold the answer in all heads holds it where half of them slide; under "prefill" nothing slides', async () => {
  const lists = model.layers * model.kvHeads;
  const tight = await openGolden('needle', {
    contextLength: 1024,
    kvPoolBytes: Math.ceil(lists * 0.8) * Math.ceil((prompt.length + 600) / 16) * 4096,
  });
  const before = tight.health().memory;
  const prefill = duo(8, { schedule: 'prefill' });
  await expect(generation(tight, prompt, prefill, { maxTokens: 600 })).rejects.toMatchObject({ code: 'kv_budget_exceeded' });
  const told = await generation(tight, prompt, duo(8), { maxTokens: 600, ignoreEos: true });
  expect(told.tokens.length).toBe(600);
  const after = tight.health().memory;
  expect([after.kv_used_bytes, after.kv_reserved_bytes]).toEqual([before.kv_used_bytes, before.kv_reserved_bytes]);
  const still = await generation(tight, prompt, prefill, { maxTokens: 100, ignoreEos: true });
  expect(still.usage.decoding).toBe(undefined);
  expect(still.tokens.slice(0, 9)).toEqual(told.tokens.slice(0, 9)); // nothing has slid yet
  tight.close();
});

test.each([
  ['snapkv', { scorer: { name: 'snapkv', window_size: 8 } }],
  ['kvzap', { scorer: { name: 'kvzap', artifact: 'kvzap-linear.safetensors' } }],
])('with scorer %s streaming heads keep as many of its best', async (_, more) => {
  const press = { head_budget: { name: 'duo', artifact: 'duo.json' }, schedule: { name: 'prefill_and_decoding', interval: 5 }, ...more };
  const { usage } = await generation(engine, prompt, press, { maxTokens: 41, ignoreEos: true });
  const read = prompt.length + 40;
  const held = scores.map(
    (heads, layer) => heads.reduce((sum, _, head) => sum + (streams(layer, head) ? sink + recent + 5 : read), 0) / heads.length,
  );
  expect(usage.decoding!.entries_per_layer).toEqual(held); // the last 5 tokens came after it acted last
  expect(usage.decoding!.compressions).toBe(7);
});

describe('refused', () => {
  const told = (press: object): unknown => {
    try {
      parsePress(press);
    } catch (error) {
      return error;
    }
  };
  test('a target, a transform that wants one, and compat, under which kvpress is without it', () => {
    const { schedule } = duo(8);
    for (const target of [{ target_size: 90 }, { target_compression_ratio: 0.5 }])
      expect(told(duo(8, { schedule: { ...schedule, ...target } }))).toMatchObject({
        code: 'press_conflict',
        param: `press.schedule.${Object.keys(target)[0]}`,
        message: expect.stringMatching(/beside head_budget "duo", which says itself how much is kept; leave one of them out/),
      });
    const cam = { scorer: 'knorm', head_budget: { name: 'duo', artifact: 'duo.json' }, transforms: ['cam'], schedule };
    expect(told(cam)).toMatchObject({ code: 'press_conflict', param: 'press.transforms' });
    expect(told(duo(8, { compat: 'kvpress' }))).toMatchObject({
      code: 'press_conflict',
      param: 'press.schedule',
      message: expect.stringMatching(/head_budget "duo" go on while decoding.*use schedule "prefill"/),
    });
    expect(told(duo(8, { compat: 'kvpress', schedule: 'prefill' }))).toBe(undefined);
    expect(told(duo(8))).toBe(undefined);
  });
});
