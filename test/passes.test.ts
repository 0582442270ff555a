/** Presses that read the prompt again, on models/needle: scores, budgets and kept entries against the formulas in float64 of the reference model. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { parsePress } from '../presses/config.ts';
import { InputError } from '../presses/input-error.ts';
import { WasmBackend } from '../worker/backend/wasm.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import type { Inspection } from '../worker/engine/inspection.ts';
import type { PromptInput } from '../worker/engine/types.ts';
import { generation, requestOf } from './support/generation.ts';
import { needleSamples, openGolden } from './support/golden.ts';
import { ReferenceModel, type ReferenceState } from './support/reference-model.ts';

/** f32 attention of the model and of the pass, relative to the largest score of the layer. */
const TOLERANCE = 2e-4;

const samples = needleSamples();
const prompt = samples.find((s) => s.task === 'niah_multikey' && s.context_length === 256)!.prompt_token_ids.slice(0, 140);
const n = prompt.length;
const QUESTION = [301, 302, 303];
const AGAIN = [311, 312];
const ANSWER = [321];

let engine: EdgeEngine;
const model = new ReferenceModel('models/needle');
const { layers: L, queryHeads: Hq, kvHeads: H, headDim: d } = model;
const G = Hq / H;
let read: ReferenceState;
beforeAll(async () => {
  engine = await openGolden('needle', { contextLength: 2048 });
  read = model.start();
  model.read(read, prompt);
});
afterAll(() => engine.close());

const inspect = (press: unknown): Promise<Inspection> => engine.inspect({ kind: 'tokens', tokens: prompt }, parsePress(press));
const indices = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const sum = (values: Iterable<number>): number => [...values].reduce((a, b) => a + b, 0);
const norm = (values: ArrayLike<number>): number => Math.sqrt(sum(Array.from(values, (x) => x * x)));
const dot = (x: Float64Array, at: number, y: Float64Array, from: number): number => {
  let total = 0;
  for (let c = 0; c < d; c++) total += x[at + c] * y[from + c];
  return total;
};

/** softmax over these positions of q.k / sqrt d. */
function attention(layer: ReferenceState['layers'][number], a: number, i: number, seen: readonly number[]): number[] {
  const h = Math.floor(a / G);
  const logits = seen.map((j) => dot(layer.q[i], a * d, layer.k[j], h * d) / Math.sqrt(d));
  const most = Math.max(...logits);
  const exps = logits.map((x) => Math.exp(x - most));
  const total = sum(exps);
  return exps.map((x) => x / total);
}

/** [layer][head][n]: KVzip's formula, pass after pass over the whole prompt. */
function kvzip({ sinks = 4, chunkSize = 2048, prefix = 0, plus = false }): number[][][] {
  const scores = indices(L).map(() => indices(H).map(() => Array<number>(n).fill(0)));
  for (let from = prefix; from < n; from += chunkSize) {
    const to = Math.min(n, from + chunkSize);
    const asked = from === prefix ? QUESTION : [...AGAIN, ...prompt.slice(from - 8, from)];
    const pass = [...asked, ...ANSWER, ...prompt.slice(from, to)];
    const state = model.fork(read);
    model.read(state, pass);
    const before = [...indices(Math.min(sinks, from)), ...indices(to - from).map((j) => from + j)];
    for (const [l, layer] of state.layers.entries()) {
      for (const a of indices(Hq)) {
        const h = Math.floor(a / G);
        const changes = plus ? indices(n).map((j) => outputNorm(l, a, layer.v[j])) : null;
        for (let i = n; i < n + pass.length; i++) {
          const input = plus ? norm(layer.x[i]) : 1;
          const seen = [...before, ...indices(i - n + 1).map((j) => n + j)];
          const weights = attention(layer, a, i, seen);
          for (let at = Math.min(sinks, from); at < before.length; at++) {
            const j = before[at];
            const weight = changes ? (weights[at] * changes[j]) / input : weights[at];
            scores[l][h][j] = Math.max(scores[l][h][j], weight);
          }
        }
      }
    }
  }
  return scores;
}

/** |V_j W_o,a|_2. */
function outputNorm(layer: number, a: number, v: Float64Array): number {
  const { rows, data } = model.output(layer);
  const from = Math.floor(a / G) * d;
  return norm(indices(rows).map((r) => dot(data, r * Hq * d + a * d, v, from)));
}

function expectScores({ layers }: Inspection, want: readonly number[][][], protectedTokens: number): void {
  for (const [l, { heads }] of layers.entries()) {
    const largest = Math.max(...want[l].flatMap((scores) => scores.slice(protectedTokens)));
    for (const [h, { kept, scores }] of heads.entries()) {
      for (const [rank, position] of kept.entries()) {
        const score = scores[rank];
        if (position < protectedTokens) expect(score, `layer ${l} head ${h} position ${position} is protected`).toBe(null);
        else expect(Math.abs(score! - want[l][h][position]) / largest, `layer ${l} head ${h} position ${position}`).toBeLessThan(TOLERANCE);
      }
    }
  }
}

/** The best `total` evictable entries of all layers and heads are kept, but for those as near to the cut as f32 is to the formula. */
function expectBestOfAll({ layers }: Inspection, want: readonly number[][][], protectedTokens: number, total: number): void {
  const all = want.flatMap((heads, l) => heads.flatMap((scores, h) => scores.map((score, j) => ({ score, j, key: `${l}.${h}.${j}` }))));
  const evictable = all.filter(({ j }) => j >= protectedTokens).sort((x, y) => y.score - x.score);
  const cut = evictable[total - 1].score;
  const near = TOLERANCE * evictable[0].score;
  const kept = new Set(layers.flatMap(({ heads }, l) => heads.flatMap(({ kept }, h) => kept.map((j) => `${l}.${h}.${j}`))));
  expect(kept.size).toBe(total + L * H * protectedTokens);
  for (const { score, key } of evictable) {
    if (score > cut + near) expect(kept.has(key), `${key}, score ${score}, cut ${cut}`).toBe(true);
    if (score < cut - near) expect(kept.has(key), `${key}, score ${score}, cut ${cut}`).toBe(false);
  }
}

const asked = { repeat_prompt: QUESTION, repeat_next_prompt: AGAIN, repeat_answer_start: ANSWER };

describe('kvzip', () => {
  test('scores are the largest attention of the tokens that repeat a chunk; the best entries of the whole model stay', async () => {
    const seen = await inspect({ preset: 'kvzip', ...asked, compression_ratio: 0.5 });
    const want = kvzip({});
    expectScores(seen, want, 4);
    expectBestOfAll(seen, want, 4, L * H * (n / 2 - 4));
  });

  test('in chunks, with sinks before them and tokens that are not repeated', async () => {
    const seen = await inspect({ preset: 'kvzip', ...asked, chunk_size: 64, prefix_tokens: 6, compression_ratio: 0.25 });
    const want = kvzip({ chunkSize: 64, prefix: 6 });
    expectScores(seen, want, 4);
    expectBestOfAll(seen, want, 4, L * H * (n * 0.75 - 4));
  });

  test('a header shorter than the sinks: the chunk begins among them', async () => {
    const seen = await inspect({ preset: 'kvzip', ...asked, prefix_tokens: 2, compression_ratio: 0.5 });
    const want = kvzip({ prefix: 2 });
    expectScores(seen, want, 4);
    expectBestOfAll(seen, want, 4, L * H * (n / 2 - 4));
  });

  test('kvzip_plus: by what the value changes, beside the input of the token that asks', async () => {
    const seen = await inspect({ preset: 'kvzip_plus', ...asked, chunk_size: 100, n_sink: 2, compression_ratio: 0.75 });
    const want = kvzip({ chunkSize: 100, sinks: 2, plus: true });
    expectScores(seen, want, 2);
    expectBestOfAll(seen, want, 2, L * H * (n / 4 - 2));
  });
});

describe('kvcompose', () => {
  /** [layer][head][n] */
  const kvcompose = (task: readonly number[], of: { task: 'max' | 'mean'; group: 'max' | 'mean'; norms: boolean; mean: boolean }): number[][][] => {
    const state = model.fork(read);
    model.read(state, task);
    const over = (kind: 'max' | 'mean', values: number[]): number => (kind === 'max' ? Math.max(...values) : sum(values) / values.length);
    return state.layers.map((layer) => {
      const tasks = indices(Hq).map((a) => {
        const rows = task.map((_, i) => attention(layer, a, n + i, indices(n + i + 1)));
        return indices(n).map((j) =>
          over(
            of.task,
            rows.map((row) => row[j]),
          ),
        );
      });
      const heads = indices(H).map((h) =>
        indices(n).map((j) => {
          const score = over(
            of.group,
            indices(G).map((g) => tasks[h * G + g][j]),
          );
          return of.norms ? score * norm(layer.v[j].subarray(h * d, (h + 1) * d)) : score;
        }),
      );
      return of.mean ? heads.map((scores) => scores.map((score, j) => score + sum(heads.map((other) => other[j])) / H)) : heads;
    });
  };

  test('scores are the aggregates of what a second reading looks at', async () => {
    const seen = await inspect({ preset: 'kvcompose_unstructured', compression_ratio: 0.5 });
    const want = kvcompose(prompt, { task: 'max', group: 'mean', norms: false, mean: true });
    expectScores(seen, want, 0);
    expectBestOfAll(seen, want, 0, (L * H * n) / 2);
  });

  test('of another task, by the norms of values, as means and maxima; a layer may keep nothing of a head', async () => {
    const task = prompt.slice(3, 40);
    const params = { task_prompt: task, agg_task: 'mean', agg_group: 'max', add_v_norm: true, add_mean_across_heads: false };
    const seen = await inspect({ preset: 'kvcompose_unstructured', ...params, compression_ratio: 0.9 });
    const want = kvcompose(task, { task: 'mean', group: 'max', norms: true, mean: false });
    expectScores(seen, want, 0);
    expectBestOfAll(seen, want, 0, L * H * (n / 10));
  });

  test('kvpress row 15: nothing of the second reading stays: the answer sees the kept entries alone', async () => {
    const rest = samples.find((s) => s.task === 'qa')!.prompt_token_ids.slice(0, 6);
    for (const preset of ['kvcompose_unstructured', 'kvcompose', 'kvzip']) {
      const press = { preset, compression_ratio: 0.6 };
      const { layers } = await inspect(press);
      const kept = layers.map(({ heads }) => heads.map((head) => new Set(head.kept)));
      const tokens = [...prompt, ...rest];
      const logits = await engine.logits({ kind: 'tokens', tokens }, parsePress({ ...press, scope: { protect_last: rest.length } }));
      const want = model.read(model.fork(read), rest, (l, h, t) => t >= n || kept[l][h].has(t));
      for (const [i, logit] of logits.entries()) expect(Math.abs(logit - want[i]), `${preset}, logit ${i}`).toBeLessThan(1e-3);
    }
  });
});

describe('passes in the engine', () => {
  const long = [...samples.find((s) => s.task === 'niah_multikey' && s.context_length === 1024)!.prompt_token_ids].slice(0, 960);
  const words = 'Anna has a red cup. Bert has a blue hat. '.repeat(6);
  const usage = async (press: unknown, tokens: readonly number[] | PromptInput = long) =>
    (await generation(engine, tokens, press, { maxTokens: 1 })).usage;

  test('kvpress row 3: what is evicted is freed, up to a page for each head; the peak is the budget and one layer with its pass, not the cache of all layers', async () => {
    const full = await usage('no_press');
    const page = 16 * 2 * d * 4; // f32
    for (const [press, most] of [
      [{ preset: 'kvzip', compression_ratio: 0.8 }, 0.6],
      [{ preset: 'kvzip', compression_ratio: 0.8, chunk_size: 128 }, 0.45],
      [{ preset: 'kvzip_plus', compression_ratio: 0.8, chunk_size: 128 }, 0.45],
      [{ preset: 'kvcompose', compression_ratio: 0.8 }, 0.6],
    ] as const) {
      const { bytes_kept, bytes_peak, compression_ratio, kept_per_layer } = await usage(press);
      expect(compression_ratio).toBeCloseTo(0.8, 9);
      expect(bytes_kept).toBeLessThanOrEqual((sum(kept_per_layer) * H * page) / 16 + L * H * page);
      expect(bytes_peak / full.bytes_full, JSON.stringify(press)).toBeLessThan(most);
      const request = requestOf(long, press);
      const plan = await engine.plan({ ...request, maxTokens: 1 });
      expect(bytes_peak).toBeLessThanOrEqual(plan.bytes_peak);
    }
  });

  test('asked in words: text, chat, and a template that says where the answer starts', async () => {
    const asks: string[] = [];
    const tokens = engine.tokenise({ kind: 'text', text: words });
    for (const chunk_size of [2048, 64]) {
      const { notes, kept_per_layer } = await usage({ preset: 'kvzip', chunk_size }, { kind: 'text', text: words });
      expect(notes).toEqual([]);
      expect(sum(kept_per_layer) / L).toBe(Math.floor(tokens.length / 2));
    }
    const chat = { kind: 'chat' as const, messages: [{ role: 'user', parts: [words, 'Who has a hat?'] }] };
    expect((await usage({ preset: 'kvzip', repeat_prompt: 'Again!' }, chat)).scope).toBe('context');
    const pass = parsePress('kvzip').presses[0].scorer;
    const lists = pass.part.passes!.tokens(
      {
        tokens: [1, 2, 3],
        encode: (text) => {
          asks.push(text);
          return [asks.length * 100];
        },
        answerStart: '<answer>',
        param: (field) => field,
      },
      pass.params,
    );
    expect(asks[0]).toBe('<answer>');
    expect(lists).toEqual([[200, 100, 1, 2, 3]]);
  });

  test('other requests go on between its pieces', async () => {
    const done: string[] = [];
    const first = engine.generate(requestOf(prompt.slice(0, 8), 'no_press', { maxTokens: 30, ignoreEos: true }));
    await first.next(); // its prompt is read
    let decoded = 0;
    const reading = generation(engine, long, { preset: 'kvcompose', compression_ratio: 0.8 }, { maxTokens: 1 }).then(() => done.push('reader'));
    for await (const event of first) if (event.type === 'text') decoded++;
    done.push('decoder');
    await reading;
    expect(decoded).toBeGreaterThan(10);
    expect(done).toEqual(['decoder', 'reader']);
  });

  test('given up in the midst of a pass, it leaves nothing behind', async () => {
    const press = { preset: 'kvzip_plus', chunk_size: 128 };
    const held = () => {
      engine.backend.trim();
      const { kv_used_bytes, kv_reserved_bytes, used_bytes } = engine.health().memory;
      return { kv_used_bytes, kv_reserved_bytes, used_bytes };
    };
    await usage(press);
    const before = held();
    for (const stopAt of [1, 9, 40, 70]) {
      const abort = new AbortController();
      const { scoreColumns } = WasmBackend.prototype;
      let calls = 0;
      const spy = vi.spyOn(WasmBackend.prototype, 'scoreColumns').mockImplementation(function (this: WasmBackend, ...args) {
        if (++calls === stopAt) abort.abort(new Error('gone'));
        scoreColumns.apply(this, args);
      });
      await expect(generation(engine, long, press, { maxTokens: 1 }, abort.signal)).rejects.toThrow('gone');
      expect(calls).toBeGreaterThanOrEqual(stopAt);
      expect(calls).toBeLessThanOrEqual(stopAt + 1);
      spy.mockRestore();
      expect(held()).toEqual(before);
    }
  });

  test('what cannot be read is refused before any compute, with what would work', async () => {
    const bare = await openGolden('llama', { contextLength: 400 });
    const refused = async (on: EdgeEngine, tokens: readonly number[], press: unknown): Promise<Pick<InputError, 'code' | 'param' | 'message'>> => {
      const error = await generation(on, tokens, press, { maxTokens: 1 }).catch((error: unknown) => error);
      expect(error).toBeInstanceOf(InputError);
      return error as InputError;
    };
    const some = indices(100);
    expect(await refused(bare, some, 'kvzip')).toMatchObject({ code: 'no_tokenizer', param: 'press', message: expect.stringMatching(/token ids/) });
    expect(await refused(bare, some, { scorer: 'kvzip', layer_budget: 'global', head_budget: 'adakv' })).toMatchObject({ param: 'press.scorer' });
    expect(
      (await generation(bare, some, { preset: 'kvzip', ...asked, repeat_prompt: [1], repeat_next_prompt: [1], repeat_answer_start: [2] })).usage
        .press,
    ).toBe('kvzip');
    expect((await generation(bare, some, 'kvcompose')).usage.press).toBe('kvcompose');
    expect(await refused(bare, some, { preset: 'kvzip', ...asked, repeat_prompt: [99_999] })).toMatchObject({
      code: 'token_unknown',
      param: 'press.repeat_prompt',
    });
    expect(await refused(bare, some, { preset: 'kvcompose', task_prompt: [] })).toMatchObject({
      code: 'press_param_range',
      param: 'press.task_prompt',
    });
    expect(await refused(bare, some, { preset: 'kvzip', prefix_tokens: 100, ...asked })).toMatchObject({
      code: 'press_param_range',
      param: 'press.prefix_tokens',
      message: expect.stringMatching(/up to 99 would work/),
    });
    expect(
      await refused(
        bare,
        indices(250).map((i) => i % 100),
        'kvcompose',
      ),
    ).toMatchObject({
      code: 'press_passes_long',
      message: expect.stringMatching(
        /250 further tokens over the prompt of 250, 500 in all; the context length is 400; a shorter task_prompt would work/,
      ),
    });
    const many = {
      preset: 'kvzip',
      chunk_size: 64,
      repeat_prompt: Array(500).fill(1),
      repeat_next_prompt: Array(500).fill(1),
      repeat_answer_start: [2],
    };
    expect(await refused(engine, long, many)).toMatchObject({
      code: 'press_passes_long',
      message: expect.stringMatching(
        /at most are read; a larger chunk_size or a shorter repeat_prompt, repeat_next_prompt, repeat_answer_start would work$/,
      ),
    });
    for (const selection of ['segments', 'blocks']) {
      expect(() => parsePress({ scorer: 'kvzip', selection })).toThrow(new RegExp(`selection "${selection}"`));
    }
    expect(() => parsePress(['knorm', { scorer: 'kvzip' }])).toThrow(/put "kvzip\+uniform\+uniform" first/);
    expect(() => parsePress([{ scorer: 'kvzip' }, 'knorm'])).not.toThrow();
    bare.close();
  });

  test('composed with a later press: it chooses among what kvzip left', async () => {
    const { kept_per_layer } = await usage([
      { scorer: { name: 'kvzip', chunk_size: 256 }, compression_ratio: 0.5 },
      { preset: 'knorm', compression_ratio: 0.5 },
    ]);
    expect(kept_per_layer).toEqual(Array(L).fill(240));
  });

  test('explain beside a press that deals single entries', async () => {
    const { explain } = await usage({ preset: 'kvzip', explain: true }, prompt);
    expect(explain?.other_layer_budgets.map(({ layer_budget }) => layer_budget)).toContain('composite');
  });
});
