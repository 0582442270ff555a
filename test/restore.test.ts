/** RestoreKV: trained rows, read by an adapted model over the whole prompt, beside what stays. Against the forward pass in float64, and against kvpress. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type ArtifactTensor, Misfit } from '../presses/artifacts.ts';
import { parsePress } from '../presses/config.ts';
import { InputError } from '../presses/input-error.ts';
import { restore } from '../presses/transforms/restore.ts';
import { OutOfDeviceMemory, readFloats } from '../worker/backend/backend.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { KvSequence } from '../worker/engine/kv-cache.ts';
import { writeSafetensors } from '../worker/engine/weights/safetensors.ts';
import type { LoadOptions } from '../worker/node.ts';
import { artifactsOf, testArtifacts } from './support/artifacts.ts';
import { generation, watchPages } from './support/generation.ts';
import { golden, goldenPath, needleSamples, openGolden } from './support/golden.ts';
import { type Library, unpack } from './support/golden-library.ts';
import { type Change, ReferenceModel, type ReferenceState } from './support/reference-model.ts';

const R = 8;
const ADAPTER = 'restore.safetensors';
const asks = { repeat_prompt: [31, 32, 33], repeat_next_prompt: [41, 42], repeat_answer_start: [51] };
const withRows = { adapter: ADAPTER, ...asks };

/** Of each model: its shape as artefacts know it. */
const SHAPES = {
  needle: { layers: 6, queryHeads: 6, kvHeads: 2, headDim: 32, hiddenSize: 192, intermediateSize: 512 },
  mistral: { layers: 2, queryHeads: 4, kvHeads: 2, headDim: 80, hiddenSize: 64, intermediateSize: 96 },
};

function open(name: keyof typeof SHAPES, options: LoadOptions = {}): Promise<EdgeEngine> {
  return openGolden(name, { artifacts: testArtifacts(SHAPES[name]), ...options });
}

const needleTokens = needleSamples()
  .find((s) => s.task === 'niah_multikey' && s.context_length === 256)!
  .prompt_token_ids.slice(0, 150);
const TOKENS = { needle: needleTokens, mistral: Array.from({ length: 90 }, (_, i) => 4 + ((i * 37 + (i >> 3)) % 140)) };
const SUFFIX = 10; // tokens behind the scope

/** The prompt's context, then the rows, in float64. */
async function readInFloat64(name: keyof typeof SHAPES): Promise<{ model: ReferenceModel; state: ReferenceState }> {
  const request = parsePress({ preset: 'RestoreKV', ...withRows });
  const { tensors } = (await artifactsOf(request, SHAPES[name]))(ADAPTER);
  const { shape, values } = tensors.get('restore_embeddings')!;
  const rows = Array.from({ length: shape[0] }, (_, i) => Float64Array.from(values.subarray(i * shape[1], (i + 1) * shape[1])));
  const [scale] = tensors.get('scaling')!.values;
  const change: Change = (layer, projection, input) => {
    const [a, b] = ['A', 'B'].map((which) => tensors.get(`base_model.model.model.layers.${layer}.${projection}.lora_${which}.weight`)!);
    return times(b, times(a, input)).map((row) => row.map((value) => value * scale));
  };
  const model = new ReferenceModel(goldenPath(name));
  const state = model.start();
  model.read(state, TOKENS[name].slice(0, -SUFFIX));
  model.readRows(state, rows, () => true, change);
  return { model, state };
}

function times({ shape: [rows, cols], values }: ArtifactTensor, x: readonly Float64Array[]): Float64Array[] {
  return x.map((row) =>
    Float64Array.from({ length: rows }, (_, r) => {
      let sum = 0;
      for (let c = 0; c < cols; c++) sum += values[r * cols + c] * row[c];
      return sum;
    }),
  );
}

/** Keys and values [layer] [R * H * d] of the rows that a request added, as they were stored. */
async function addedRows(engine: EdgeEngine, start: number, run: () => Promise<unknown>): Promise<{ k: Float32Array; v: Float32Array }[]> {
  const found: Promise<{ k: Float32Array; v: Float32Array }>[] = [];
  const append = KvSequence.prototype.append;
  const spy = vi.spyOn(KvSequence.prototype, 'append').mockImplementation(function (this: KvSequence, layer, k, v, n, at) {
    if (at === start && n === R) {
      const { kvHeads, headDim } = SHAPES[engine.info.id as keyof typeof SHAPES];
      const read = (view: typeof k) => readFloats(engine.backend, view, R * kvHeads * headDim);
      found[layer] = Promise.all([read(k), read(v)]).then(([k, v]) => ({ k, v }));
    }
    return append.call(this, layer, k, v, n, at);
  });
  try {
    await run();
  } finally {
    spy.mockRestore();
  }
  return Promise.all(found);
}

function expectClose(ours: ArrayLike<number>, want: ArrayLike<number>, tolerance: number, what: string): void {
  expect(ours.length, what).toBe(want.length);
  const largest = Array.from(want).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const worst = Array.from(want).reduce((most, x, i) => Math.max(most, Math.abs(x - ours[i])), 0);
  expect(worst / largest, what).toBeLessThan(tolerance);
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

describe.each(['needle', 'mistral'] as const)('%s, the whole of it in float64', (name) => {
  const tokens = TOKENS[name];
  const n = tokens.length - SUFFIX;
  const { layers: L, kvHeads: H } = SHAPES[name];
  const scope = { protect_last: SUFFIX };
  let engine: EdgeEngine;
  let reference: Awaited<ReturnType<typeof readInFloat64>>;
  beforeAll(async () => {
    engine = await open(name);
    reference = await readInFloat64(name);
  });
  afterAll(() => engine.close());

  test.each<[string, Record<string, unknown>]>([
    ['RestoreKV', { preset: 'RestoreKV', ...withRows }],
    ['RestoreKV_plus', { preset: 'RestoreKV_plus', ...withRows }],
    ['RestoreKV, deferred', { preset: 'RestoreKV', ...withRows, mode: 'deferred' }],
    ['knorm', { scorer: 'knorm', transforms: [{ name: 'restore', adapter: ADAPTER }] }],
    ['zigzag', { scorer: { name: 'snapkv', window_size: 8 }, layer_budget: 'zigzag', transforms: [{ name: 'restore', adapter: ADAPTER }] }],
  ])('%s: rows in every layer, and what follows over them and what stays', async (_, press) => {
    const { model, state } = reference;
    const asked = parsePress({ ...press, scope, compression_ratio: 0.5 });
    const prompt = { kind: 'tokens' as const, tokens };
    let logits: Float32Array | null = null;
    const rows = await addedRows(engine, n, async () => {
      logits = await engine.logits(prompt, asked);
    });
    expect(rows.length).toBe(L);
    for (const [l, { k, v }] of rows.entries()) {
      const want = (of: 'k' | 'v') => state.layers[l][of].slice(n, n + R).flatMap((row) => [...row]);
      expectClose(k, want('k'), 1e-4, `keys of layer ${l}`);
      expectClose(v, want('v'), 1e-4, `values of layer ${l}`);
    }

    const seen = await engine.inspect(prompt, asked);
    expect(seen).toMatchObject({ tokens: n, added_per_layer: R });
    const kept = seen.layers.map(({ heads }) => heads.map(({ kept }) => new Set(kept)));
    const all = kept.flat();
    expect(sum(all.map(({ size }) => size))).toBe(L * H * (n / 2 - R));
    expect(Math.max(...all.flatMap((head) => [...head]))).toBeLessThan(n);
    const visible = (l: number, h: number, t: number): boolean => t >= n || kept[l][h].has(t);
    // The suffix at n + R and on
    const want = model.read(model.fork(state), tokens.slice(n), visible);
    expectClose(logits!, want, 2e-4, 'logits');

    // Then token after token
    const answer = await generation(engine, tokens, { ...press, scope, compression_ratio: 0.5 }, { maxTokens: 6, ignoreEos: true });
    const going = model.fork(state);
    let next = model.read(going, tokens.slice(n), visible);
    let i = 0;
    for await (const after of engine.follow({ prompt, press: asked, tokens: answer.tokens })) {
      expectClose(after, next, 2e-4, `logits after ${i} tokens`);
      if (i === answer.tokens.length) break;
      const id = answer.tokens[i++];
      expect(Math.max(...next) - next[id], `token ${i} is ${id}`).toBeLessThan(1e-3);
      next = model.read(going, [id], visible);
    }
  });

  test('rows are read in pieces as the prompt is: the same cache', async () => {
    const pieces = await open(name, { chunkTokens: 3 });
    try {
      const press = parsePress({ preset: 'RestoreKV', ...withRows, scope, compression_ratio: 0.5 });
      const prompt = { kind: 'tokens' as const, tokens };
      const whole = await addedRows(engine, n, () => engine.logits(prompt, press));
      const inPieces = await addedRows(pieces, n, () => pieces.logits(prompt, press));
      for (const [l, { k, v }] of inPieces.entries()) {
        expectClose(k, whole[l].k, 1e-5, `keys of layer ${l}`);
        expectClose(v, whole[l].v, 1e-5, `values of layer ${l}`);
      }
    } finally {
      pieces.close();
    }
  });
});

describe('what it takes and tells', () => {
  const tokens = TOKENS.needle;
  const n = tokens.length;
  const { layers: L, kvHeads: H, headDim: d } = SHAPES.needle;
  const preset = { preset: 'RestoreKV', ...withRows };
  const prompt = { kind: 'tokens' as const, tokens };
  let engine: EdgeEngine;
  beforeAll(async () => {
    engine = await open('needle');
  });
  afterAll(() => engine.close());
  const held = (): object => {
    engine.backend.trim();
    const { kv_used_bytes, kv_reserved_bytes, used_bytes } = engine.health().memory;
    return { kv_used_bytes, kv_reserved_bytes, used_bytes };
  };
  const refusal = (press: unknown): InputError => {
    try {
      parsePress(press);
    } catch (error) {
      if (error instanceof InputError) return error;
    }
    throw new Error('it was accepted');
  };

  test('the total is that of the ratio; the report tells how many entries were added, and the plan before it', async () => {
    const plan = await engine.plan({ prompt, press: parsePress({ ...preset, compression_ratio: 0.4 }), maxTokens: 4 });
    const watch = watchPages();
    const { usage } = await generation(engine, tokens, { ...preset, compression_ratio: 0.4, explain: true }, { maxTokens: 4, ignoreEos: true });
    watch.stop();
    expect(watch.uses.map(({ exceeded }) => exceeded)).toEqual([null]);
    const { usage: bare } = await generation(engine, tokens, { preset: 'kvzip', ...asks, compression_ratio: 0.4 }, { maxTokens: 4 });
    expect(usage).toMatchObject({ press: 'RestoreKV', tokens: n, added_per_layer: R });
    expect(sum(usage.kept_per_layer) + L * R).toBeCloseTo(sum(bare.kept_per_layer), 9);
    expect(usage.compression_ratio).toBeCloseTo(0.4, 9);
    expect(bare).not.toHaveProperty('added_per_layer');
    for (const [l, heads] of usage.explain!.kept.entries()) {
      expect(sum(heads.map(({ length }) => length))).toBeCloseTo(H * usage.kept_per_layer[l], 9);
      for (const kept of heads) for (const t of kept) expect(t).toBeLessThan(n);
    }
    expect(plan).toMatchObject({ added_per_layer: R, average_budget: n * 0.6 - R, fits: true });
    expect(plan.compression_ratio).toBeCloseTo(0.4, 9);
    expect(usage.bytes_kept).toBeLessThanOrEqual(plan.bytes_kept);
    expect(usage.bytes_peak).toBeLessThanOrEqual(plan.bytes_peak);
    const kvzip = await engine.plan({ prompt, press: parsePress({ preset: 'kvzip', ...asks, compression_ratio: 0.4 }), maxTokens: 4 });
    const matrices = 4 * (4 * (2 * 192 + 2 * 192 + 192 + 64 + 192 + 192) + 3 * (192 + 64)); // less than those of one layer are
    expect(plan.bytes_press - kvzip.bytes_press).toBeGreaterThan(2 * L * R * H * d * 4 + matrices);
  });

  test('a memory budget pays for the rows too', async () => {
    const bytes = 96 * 4096;
    const { usage } = await generation(engine, tokens, { ...preset, memory_budget: bytes }, { maxTokens: 4, ignoreEos: true });
    expect(usage.added_per_layer).toBe(R);
    expect(usage.bytes_kept).toBeLessThanOrEqual(bytes);
    expect(sum(usage.kept_per_layer)).toBeGreaterThan(L * 20);
    const all = await generation(engine, tokens, { ...preset, memory_budget: '64MiB' }, { maxTokens: 4 });
    expect(all.usage).not.toHaveProperty('added_per_layer');
    expect(all.usage.notes.join()).toMatch(/nothing was removed/);
  });

  test('ratio 0 removes nothing and adds nothing', async () => {
    const { usage, tokens: ids } = await generation(engine, tokens, { ...preset, compression_ratio: 0 }, { maxTokens: 8 });
    expect(usage).not.toHaveProperty('added_per_layer');
    expect(ids).toEqual((await generation(engine, tokens, 'no_press', { maxTokens: 8 })).tokens);
  });

  test('rows take places of the context', async () => {
    const short = await open('needle', { contextLength: n + R + 2 });
    try {
      const press = { scorer: 'knorm', transforms: [{ name: 'restore', adapter: ADAPTER }] };
      const { completionTokens, usage } = await generation(short, tokens, press, { maxTokens: 10, ignoreEos: true });
      expect(completionTokens).toBe(2);
      expect(usage.notes.join()).toMatch(/leaves 2 tokens for the answer/);
      await expect(generation(short, [...tokens, 5, 5], press)).rejects.toMatchObject({
        code: 'prompt_too_long',
        message: expect.stringMatching(/152 tokens and the press adds 8 rows; the context length is 160.*send 151 tokens or fewer/),
      });
      await expect(generation(short, tokens.slice(0, 9), press)).rejects.toMatchObject({ code: 'press_budget_empty' }); // 4 at ratio 0.5
    } finally {
      short.close();
    }
  });

  test('whichever block of memory is not to be had, and when a client goes: everything is given back', async () => {
    const before = held();
    const alloc = engine.backend.alloc.bind(engine.backend);
    let failures = 0;
    for (let fail = 0; ; fail++) {
      let count = 0;
      const spy = vi.spyOn(engine.backend, 'alloc').mockImplementation((bytes, label, cut) => {
        if (count++ === fail) throw new OutOfDeviceMemory(label, bytes, 0);
        return alloc(bytes, label, cut);
      });
      const failed = await generation(engine, tokens.slice(0, 70), { ...preset, compression_ratio: 0.5 }, { maxTokens: 2 }).then(
        () => false,
        () => true,
      );
      spy.mockRestore();
      expect(held(), `block ${fail}`).toEqual(before);
      if (!failed) break;
      failures++;
    }
    expect(failures).toBeGreaterThan(20);

    for (const pieces of [3, 20, 40]) {
      const gone = new AbortController();
      let count = 0;
      const pace = vi.spyOn(engine.backend, 'pace').mockImplementation(async () => {
        if (count++ === pieces) gone.abort();
      });
      const run = generation(engine, tokens, { ...preset, compression_ratio: 0.5 }, { maxTokens: 2 }, gone.signal);
      await expect(run).rejects.toThrow();
      pace.mockRestore();
      expect(held()).toEqual(before);
    }
  });

  test('an adapter of numbers that f32 cannot multiply is refused by its field, not taken for a broken model', async () => {
    const { layers: L, hiddenSize: D, kvHeads: H, headDim: d } = SHAPES.needle;
    const all = (shape: number[], value: number) => ({ shape, values: new Float32Array(shape[0] * (shape[1] ?? 1)).fill(value) });
    const adapted = (value: number) =>
      writeSafetensors({
        restore_embeddings: all([2, D], 0.1),
        scaling: all([1], 1),
        [`layers.${L - 1}.self_attn.v_proj.lora_A.weight`]: all([4, D], value),
        [`layers.${L - 1}.self_attn.v_proj.lora_B.weight`]: all([H * d, 4], value),
      });
    const own = await openGolden('needle', { artifacts: { 'huge.safetensors': adapted(3e38), 'large.safetensors': adapted(1e3) } });
    const { kv_used_bytes: used, kv_reserved_bytes: reserved } = own.health().memory;
    const refused = generation(own, tokens, { ...preset, adapter: 'huge.safetensors', compression_ratio: 0.5 }, { maxTokens: 2 });
    await expect(refused).rejects.toMatchObject({
      code: 'press_numbers',
      param: 'press.adapter',
      message: expect.stringMatching(/^huge\.safetensors: .* not numbers/),
    });
    expect(own.health().memory).toMatchObject({ kv_used_bytes: used, kv_reserved_bytes: reserved });
    const taken = await generation(own, tokens, { ...preset, adapter: 'large.safetensors', compression_ratio: 0.5 }, { maxTokens: 2 });
    expect(taken.usage.added_per_layer).toBe(2);
    own.close();
  });

  test('a budget that the rows use up is refused, with one that works', async () => {
    const plan = (press: object) => engine.plan({ prompt, press: parsePress(press), maxTokens: 1 });
    const knorm = { scorer: 'knorm', transforms: [{ name: 'restore', adapter: ADAPTER }] };
    await expect(plan({ ...knorm, compression_ratio: 0.95 })).rejects.toMatchObject({
      code: 'press_budget_empty',
      message: expect.stringMatching(
        /leaves none of 150 tokens beside the rows that transform "restore" adds; a compression_ratio up to 0\.94 would work/,
      ),
    });
    expect((await plan({ ...knorm, compression_ratio: 0.94 })).average_budget).toBe(1);
    await expect(plan({ ...preset, compression_ratio: 0.93 })).rejects.toMatchObject({
      code: 'press_budget_tight',
      message: expect.stringMatching(
        /keeps 2 of 150 tokens per layer beside the rows that transform "restore" adds, fewer than the 4 that kvzip protects/,
      ),
    });
    await expect(plan({ ...knorm, compression_ratio: 0.95, compat: 'kvpress' })).rejects.toMatchObject({ code: 'press_budget_empty' });
  });

  test.each<[string, unknown, RegExp]>([
    [
      'while the answer grows too',
      { scorer: 'knorm', transforms: [{ name: 'restore', adapter: ADAPTER }], schedule: 'prefill_and_decoding' },
      /"restore" changes entries .*moves stored ones as they are; leave one of them out$/, // not: a press before it, which is refused as well
    ],
    ['after a press that removes', [{ preset: 'knorm' }, preset], /"restore" adds rows .*"knorm" removes some of it before; use "RestoreKV" alone/],
    [
      'before another one',
      [{ scorer: 'knorm', transforms: [{ name: 'restore', adapter: ADAPTER }] }, 'keydiff'],
      /"keydiff" would take them for tokens/,
    ],
    ['before one that acts while decoding', [preset, 'decoding_knorm'], /"decoding_knorm" would take them for tokens/],
    ['while decoding', { ...preset, schedule: { name: 'prefill_and_decoding', target_size: 50 } }, /schedule "prefill_and_decoding"/],
    ['with rerotate', { scorer: 'knorm', transforms: [{ name: 'restore', adapter: ADAPTER }, 'rerotate'] }, /"restore" .*"rerotate"/],
    [
      'with ratios by layer',
      { scorer: 'knorm', layer_budget: { name: 'per_layer', compression_ratios: [0.5] }, transforms: [{ name: 'restore', adapter: ADAPTER }] },
      /"restore" keeps as many fewer .*"per_layer"/,
    ],
    [
      'with a threshold',
      { scorer: 'knorm', selection: { name: 'threshold', threshold: 0 }, transforms: [{ name: 'restore', adapter: ADAPTER }] },
      /"restore" keeps as many fewer .*"threshold" settles/,
    ],
    ['without its file', { preset: 'RestoreKV' }, /adapter is missing; it must name a \.safetensors file.*higokri\/RestoreKV.*artifacts\.md/],
  ])('refused %s', (_, press, why) => {
    expect(refusal(press).message).toMatch(why);
  });

  test('beside a press that is off it is alone', async () => {
    const { usage } = await generation(engine, tokens, [{ preset: 'knorm', compression_ratio: 0 }, preset], { maxTokens: 1 });
    expect(usage.added_per_layer).toBe(R);
  });
});

describe('the artefact', () => {
  const model = { layers: 2, queryHeads: 4, kvHeads: 2, headDim: 8, hiddenSize: 24, intermediateSize: 40 };
  const of = (rows: number, cols?: number) => {
    const shape = cols === undefined ? [rows] : [rows, cols];
    return { shape, values: new Float32Array(rows * (cols ?? 1)).fill(0.5) };
  };
  const q = 'base_model.model.model.layers.0.self_attn.q_proj';
  const right = { restore_embeddings: of(8, 24), scaling: of(1), [`${q}.lora_A.weight`]: of(4, 24), [`${q}.lora_B.weight`]: of(32, 4) };
  const check = (tensors: Record<string, ReturnType<typeof of> | undefined>): unknown => {
    const there = Object.entries(tensors).flatMap(([name, tensor]) => (tensor ? [[name, tensor] as const] : []));
    return restore.artifact!.check({ name: 'r.safetensors', tensors: new Map(there), json: undefined }, model);
  };

  test("PEFT's names, with and without the adapter's, any of the projections, or none", () => {
    check(right);
    check({ restore_embeddings: of(3, 24), scaling: of(1) });
    check({
      ...right,
      'model.layers.1.mlp.down_proj.lora_A.default.weight': of(3, 40),
      'model.layers.1.mlp.down_proj.lora_B.default.weight': of(24, 3),
    });
  });

  test.each<[string, Record<string, ReturnType<typeof of> | undefined>, RegExp]>([
    ['no rows', { restore_embeddings: undefined }, /tensor restore_embeddings \[1, 24\] is expected/],
    [
      'rows of another model',
      { restore_embeddings: of(8, 32) },
      /restore_embeddings is expected to have shape \[8, 24\] for this model, got \[8, 32\]/,
    ],
    ['too many rows', { restore_embeddings: of(300, 24) }, /has 300 rows; 1 to 256 would work/],
    ['no scaling', { scaling: undefined }, /tensor scaling \[1\] is expected/],
    ['another projection', { 'base_model.model.lm_head.lora_A.weight': of(4, 24) }, /lm_head.* is no lora_A or lora_B of q_proj/],
    ['a magnitude', { [`${q}.lora_magnitude_vector`]: of(32) }, /lora_magnitude_vector is no lora_A/],
    ['A without B', { [`${q}.lora_B.weight`]: undefined }, /lora_A\.weight stands without .*lora_B\.weight/],
    ['A of another model', { [`${q}.lora_A.weight`]: of(4, 20) }, /lora_A\.weight is expected to have shape \[4, 24\] for this model, got \[4, 20\]/],
    ['B of another rank', { [`${q}.lora_B.weight`]: of(32, 5) }, /lora_B\.weight is expected to have shape \[32, 4\] for this model, got \[32, 5\]/],
    ['a layer too many', { 'x.layers.2.self_attn.q_proj.lora_A.weight': of(4, 24) }, /is of layer 2; this model has layers 0 to 1/],
    [
      'a projection twice',
      { 'layers.0.self_attn.q_proj.lora_A.weight': of(4, 24), 'layers.0.self_attn.q_proj.lora_B.weight': of(32, 4) },
      /adapts a projection that another one adapts already/,
    ],
  ])('%s', (_, change, why) => {
    expect(() => check({ ...right, ...change })).toThrow(Misfit);
    expect(() => check({ ...right, ...change })).toThrow(why);
  });

  test('a missing file, or one for another model, is refused by its name, with where to get one', async () => {
    const other = writeSafetensors({ restore_embeddings: of(8, 24), scaling: of(1) });
    const engine = await openGolden('needle', { artifacts: { 'other.safetensors': other } });
    try {
      const run = (adapter: string) => generation(engine, TOKENS.needle, { preset: 'RestoreKV', ...asks, adapter });
      await expect(run('other.safetensors')).rejects.toMatchObject({
        code: 'press_artifact',
        param: 'press.adapter',
        message: expect.stringMatching(/other\.safetensors: tensor restore_embeddings is expected to have shape \[8, 192\]/),
      });
      await expect(run('none.safetensors')).rejects.toMatchObject({
        code: 'press_artifact',
        message: expect.stringMatching(/there is no none\.safetensors .*higokri\/RestoreKV-<model>.*artifacts\.md/),
      });
    } finally {
      engine.close();
    }
  });
});

/** test/golden/README.md says what is in it. */
interface Golden extends Omit<Library, 'decoding'> {
  rows: number;
}

describe('against kvpress', () => {
  const library = golden<Golden>('library/restore.json');
  const { context_ids, suffix_ids, shape, settings } = library;
  const [L, H, n] = shape;
  const d = 32;
  const bytes = readFileSync(new URL('golden/library/restore.bin', import.meta.url));
  const added = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)); // [L, 2, H, R, d]
  let engine: EdgeEngine;
  beforeAll(async () => {
    engine = await openGolden('needle');
  });
  afterAll(() => engine.close());

  test.each(Object.entries(library.entries).flatMap(([name, runs]) => runs.map((run) => [name, run.ratio!, run] as const)))(
    '%s at %d: rows, kept positions, 32 tokens',
    async (name, ratio, run) => {
      const press = {
        preset: name,
        adapter: ADAPTER,
        ...settings.kvzip,
        protect_first: 4, // 0.5.5 protects the sinks in the header or not; 0.5.4, which compat goes by, in the header alone
        compression_ratio: ratio,
        compat: 'kvpress',
        explain: true,
        scope: { protect_last: suffix_ids.length },
      };
      expect(run.next_position).toBe(n + R);
      let ids: number[] = [];
      let kept: number[][][] = [];
      const rows = await addedRows(engine, n, async () => {
        const answer = await generation(engine, [...context_ids, ...suffix_ids], press, { maxTokens: run.generated.length, ignoreEos: true });
        ids = answer.tokens;
        kept = answer.usage.explain!.kept;
      });
      for (const [l, { k, v }] of rows.entries()) {
        for (const [which, ours] of [k, v].entries()) {
          const want = Array.from({ length: R * H * d }, (_, i) => {
            const [row, h, c] = [Math.floor(i / (H * d)), Math.floor(i / d) % H, i % d];
            return added[(((l * 2 + which) * H + h) * R + row) * d + c];
          });
          expectClose(ours, want, 1e-4, `${which === 0 ? 'keys' : 'values'} of layer ${l}`);
        }
      }
      expect(rows.length).toBe(L);
      expect(kept.map((heads) => heads.map((list) => [...list].sort((a, b) => a - b)))).toEqual(unpack(run.kept, shape, n));
      expect(ids).toEqual(run.generated);
    },
  );
});
