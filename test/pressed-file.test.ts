/** Contexts as files: what is written is what is held, what is read answers as what was written, and nothing that is wrong with a file is believed. */
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { parsePress } from '../presses/config.ts';
import { type EntryType, entryTypes } from '../worker/backend/backend.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { type HeldContext, wordsBehind } from '../worker/engine/held.ts';
import { KvSequence } from '../worker/engine/kv-cache.ts';
import { openPressed } from '../worker/engine/pressed/open.ts';
import { bytesOf } from '../worker/engine/pressed/write.ts';
import type { Held, PromptInput } from '../worker/engine/types.ts';
import { readerOfBytes } from '../worker/engine/weights/source.ts';
import { ratioPresets, withArtifacts } from './support/artifacts.ts';
import { failingBackend } from './support/failing-backend.ts';
import { promptOf } from './support/generation.ts';
import { needleSamples, openGolden } from './support/golden.ts';
import { all, mounted } from './support/held.ts';
import { numbers, type PlainFile, plainRead, plainWrite } from './support/pressed.ts';
import { Random } from './support/random.ts';
import { watchRetained } from './support/watch-retained.ts';

const L = 6;
const H = 2;
const Hq = 6;
const d = 32;
const sampleOf = (length: number): number[] =>
  needleSamples().find((s) => s.task === 'niah_multikey' && s.context_length === length)!.prompt_token_ids;
const tokens = sampleOf(128);
const context = tokens.slice(0, -20);
const forced = [7, 300, 41, 5, 1200, 88];
const sampling = { maxTokens: 10, seed: 1, topLogprobs: 3 };

let engine: EdgeEngine;
beforeAll(async () => {
  engine = await openGolden('needle', { contextLength: 1024 });
});
afterAll(() => engine.close());

const memory = (of = engine) => {
  of.backend.trim();
  const { kv_used_bytes: used, kv_reserved_bytes: reserved, used_bytes } = of.health().memory;
  return { used, reserved, used_bytes, running: of.health().requests.running, contexts: of.health().contexts.held };
};
let nothing: ReturnType<typeof memory>;
beforeAll(() => {
  nothing = memory();
});
const opened: Held[] = [];
afterEach(() => {
  vi.restoreAllMocks();
  for (const held of opened.splice(0)) held.close();
  expect(memory()).toEqual(nothing);
});

const hold = async (prompt: readonly number[] | PromptInput, press: unknown): Promise<Held> => {
  const held = await engine.hold({ prompt: promptOf(prompt), press: parsePress(press), seed: 1 });
  opened.push(held);
  return held;
};
const write = async (held: Held, entryType?: EntryType): Promise<Uint8Array> => bytesOf(engine.writePressed(held, { entryType }));
const mount = async (file: Uint8Array, press?: unknown): Promise<Held> => {
  const held = await engine.mount(file, { press: press === undefined ? null : parsePress(press) });
  opened.push(held);
  return held;
};
const failure = (run: Promise<unknown>): Promise<{ code: string; message: string }> =>
  run.then(
    () => {
      throw new Error('it was expected to fail');
    },
    (error) => error,
  );

/** A config of this preset that works on short prompts. */
const small = (name: string): Record<string, unknown> => {
  const config = withArtifacts(name) as Record<string, unknown>;
  const { shape } = parsePress(config).presses[0].scorer.part.params;
  return { ...config, ...('window_size' in shape && { window_size: 4 }), ...(name === 'lagkv' && { lag_size: 16 }) };
};

const facts = (held: Held) => {
  const { tokens, text, prompt, covered, scope, rows, entryType, kvCache, lengths } = held as HeldContext;
  return { tokens, text, prompt, covered, scope, rows, entryType, kvCache, lengths };
};

describe('what is read answers, bit for bit, as what was written', () => {
  test.each(entryTypes.map((type, t) => [type, ratioPresets.filter((_, i) => i % 3 === t)] as const))(
    '%s entries, every third preset',
    async (entry_type, names) => {
      for (const name of names) {
        const press = { ...small(name), compression_ratio: 0.5, entry_type };
        const one = await hold(context, press);
        const file = await write(one, entry_type);
        const other = await mount(file, press);
        expect(facts(other), name).toEqual(facts(one));
        const follow = (held: Held) => all(engine.follow({ prompt: promptOf(tokens), held, tokens: forced, seed: 1 }));
        expect(await follow(other), name).toEqual(await follow(one));
        const [seen, want] = [await mounted(engine, other, tokens, sampling), await mounted(engine, one, tokens, sampling)];
        expect(seen, name).toEqual(want);
        expect(Buffer.compare(await write(other, entry_type), file), name).toBe(0); // and written again it is the same file
        one.close();
        other.close();
      }
    },
  );

  test.each([
    ['without a press', 'no_press'],
    ['tokens behind the scope', { preset: 'knorm', compression_ratio: 0.5, scope: { protect_last: 7 } }],
    ['moved together, and tokens behind them', { preset: 'finch', window_size: 8, compression_ratio: 0.4, scope: { protect_last: 7 } }],
    ['by a memory budget', { preset: 'knorm', memory_budget: '1GiB' }],
    ['explained', { preset: 'zigzag_snapkv', window_size: 8, compression_ratio: 0.5, explain: true }],
  ])('%s', async (_, press) => {
    const one = await hold(context, press);
    const other = await mount(await write(one, 'f32'));
    const { explain, ...usage } = one.kvCache;
    expect(other.kvCache).toEqual({ ...usage, notes: explain ? [...usage.notes, expect.stringMatching(/^explain: /)] : usage.notes });
    const follow = (held: Held) => all(engine.follow({ prompt: promptOf(tokens), held, tokens: forced, seed: 1 }));
    expect(await follow(other)).toEqual(await follow(one));
  });

  const schedule = { name: 'decoding', interval: 11, target_size: 60 };
  test.each(
    [
      { preset: 'tova', schedule, entry_type: 'f16' },
      { preset: 'snapkv', window_size: 40, schedule: { name: 'prefill_and_decoding', interval: 8, target_size: 60 }, compression_ratio: 0.25 },
      { preset: 'keydiff', schedule: { ...schedule, name: 'prefill_and_decoding' }, compression_ratio: 0.2, entry_type: 'int8' },
      { preset: 'decoding_adakv_snapkv', window_size: 8, interval: 16, target_size: 60 },
      { preset: 'cam_tova', merge_budget: 4, interval: 11, target_size: 60 },
      {
        preset: 'kvzap_mlp',
        artifact: 'kvzap-mlp.safetensors',
        threshold: 0.1,
        sliding_window_size: 16,
        schedule: { name: 'prefill_and_decoding', interval: 3 },
      },
      { preset: 'duo_attention', artifact: 'duo.json', schedule: { name: 'prefill_and_decoding', interval: 7 } },
      { scorer: { name: 'fastkvzip', artifact: 'fastkvzip.safetensors' }, schedule: { ...schedule, hidden_states_buffer_size: 4 } },
      [
        { preset: 'finch', window_size: 8, compression_ratio: 0.2 },
        { preset: 'snapkv', window_size: 8, schedule },
      ],
    ].map((press) => [JSON.stringify(press), press]),
  )('a press that acts while decoding removes the same: %s', async (_, press) => {
    const one = await hold(context, press);
    const file = await write(one, one.entryType);
    const { tensors } = plainRead(file);
    const part = (name: string) => Object.keys(tensors).filter((tensor) => tensor.endsWith(`.${name}`)).length;
    const [{ scorer }] = parsePress(press).presses.slice(-1);
    expect(part('scores')).toBe(scorer.part.hidden ? L : 0);
    expect([0, L]).toContain(part('queries'));
    const run = async (held: Held) => {
      const left = watchRetained(L);
      const { tokens: answer, logprobs, usage } = await mounted(engine, held, tokens, { ...sampling, maxTokens: 50 });
      left.stop();
      return { answer, logprobs, usage, left: left.seen };
    };
    const [want, seen] = [await run(one), await run(await mount(file))];
    expect(want.usage.decoding!.compressions).toBeGreaterThanOrEqual(2);
    expect(seen).toEqual(want);
  });

  test.each([
    ['a chat', { kind: 'chat', messages: [{ role: 'user', parts: ['Anna lives in Oslo. Boris lives in Rome.\n'] }] }],
    ['a text', { kind: 'text', text: 'Anna lives in Oslo. Boris lives in Rome.\n' }],
    ['a text in other letters', { kind: 'text', text: 'Änne lebt in Åbo, 李 in Рим ☃.\n' }],
    ['a question', { kind: 'question', context: 'Anna lives in Oslo. Boris lives in Rome.\n', question: '', answerPrefix: '' }],
  ] as const)('%s goes on in words', async (_, prompt) => {
    const press = { preset: 'knorm', compression_ratio: 0.3 };
    const one = await hold(prompt as PromptInput, press);
    const other = await mount(await write(one, 'f32'));
    const asked = wordsBehind(other, 'Where does Anna live?');
    const seen = await mounted(engine, other, asked, sampling);
    expect(seen).toEqual(await mounted(engine, one, asked, sampling));
    expect(seen.usage.notes).toEqual(one.kvCache.notes); // no seam
    expect(() => wordsBehind({ ...other, prompt: null } as Held, 'x')).toThrow(/made of token ids/);
  });
});

describe('the file', () => {
  const press = { preset: 'zigzag_adakv_snapkv', window_size: 8, compression_ratio: 0.5 };

  test('holds every entry of the cache by the rule of its offsets, and tells what it is', async () => {
    let sequence: KvSequence | null = null;
    const { settle } = KvSequence.prototype;
    vi.spyOn(KvSequence.prototype, 'settle').mockImplementation(function (this: KvSequence) {
      sequence = this;
      settle.call(this);
    });
    const held = await hold(context, press);
    const { metadata, tensors } = plainRead(await write(held, 'f32'));
    expect(numbers(tensors.tokens)).toEqual(context);
    for (let layer = 0; layer < L; layer++) {
      const of = (part: string) => tensors[`layers.${layer}.${part}`];
      const offsets = numbers(of('offsets'));
      expect([of('k').dtype, of('k').shape, of('v').shape]).toEqual(['F32', [offsets[H], d], [offsets[H], d]]);
      const borrowed = engine.backend.alloc(2 * context.length * d * 4, 'rows');
      for (let head = 0; head < H; head++) {
        const count = offsets[head + 1] - offsets[head];
        const { positions } = sequence!.entries(layer, head);
        expect(numbers(of('positions')).slice(offsets[head], offsets[head + 1])).toEqual([...positions]);
        const v = { buffer: borrowed, offset: context.length * d * 4 };
        sequence!.read(layer, head, [Uint32Array.from(positions, (_, entry) => entry)], borrowed, v);
        for (const [part, view] of [
          ['k', borrowed],
          ['v', v],
        ] as const) {
          const bytes = await engine.backend.read(view, count * d * 4);
          expect(Buffer.compare(bytes, of(part).data.subarray(offsets[head] * d * 4, offsets[head + 1] * d * 4))).toBe(0);
        }
      }
      engine.backend.free(borrowed);
    }
    const json = Object.fromEntries(Object.entries(metadata).flatMap(([key, value]) => (value.startsWith('{') ? [[key, JSON.parse(value)]] : [])));
    expect(metadata).toMatchObject({ format: 'edgepress.pressed', version: '1' });
    expect(json).toMatchObject({
      model: { id: 'needle', fingerprint: engine.info.fingerprint, layers: L, query_heads: Hq, kv_heads: H, head_dim: d },
      press: { name: 'zigzag_adakv_snapkv', config: [{ layer_budget: { name: 'zigzag', threshold: 0.9 }, compression_ratio: 0.5 }] },
      context: {
        tokens: context.length,
        covered: context.length,
        scope: 'context',
        added_rows: 0,
        shift: 0,
        next_position: context.length,
        entry_type: 'f32',
      },
      report: held.kvCache,
    });
    for (const { data_offsets } of Object.values(header(await write(held, 'int8')))) expect(data_offsets[0] % 4).toBe(0);
  });

  test('int8 rows are off by at most half a scale a component, and are those of an int8 cache to the bit; f16 rows those of an f16 cache', async () => {
    const held = await hold(context, press);
    const [exact, int8] = [plainRead(await write(held, 'f32')), plainRead(await write(held))];
    let largest = 0;
    for (let layer = 0; layer < L; layer++) {
      for (const part of ['k', 'v']) {
        const name = `layers.${layer}.${part}`;
        const [x, q, scale] = [exact.tensors[name], int8.tensors[name], int8.tensors[`${name}_scale`]].map(numbers);
        for (const [i, value] of x.entries()) {
          const s = scale[Math.floor(i / d)];
          largest = Math.max(largest, Math.abs(value - q[i] * s) / s);
        }
      }
    }
    expect(largest).toBeLessThan(0.5 + 1e-5); // 127 steps of 2^-24 beside the half
    expect(largest).toBeGreaterThan(0.45);
    for (const entry_type of ['int8', 'f16'] as const) {
      const own = await hold(context, { ...press, entry_type });
      const [one, other] = [plainRead(await write(held, entry_type)), plainRead(await write(own, entry_type))];
      for (const [name, { data }] of Object.entries(one.tensors))
        if (name !== 'digest') expect(Buffer.compare(data, other.tensors[name].data), name).toBe(0);
      expect(JSON.parse(one.metadata.report).notes).toEqual([`entries were rounded from f32 to ${entry_type} when the context was written`]);
      expect(JSON.parse(other.metadata.report).notes).toEqual([]);
      const [seen, want] = [await mount(await write(held, entry_type)), own];
      const follow = (held: Held) => all(engine.follow({ prompt: promptOf(tokens), held, tokens: forced }));
      expect(await follow(seen)).toEqual(await follow(want));
      expect(seen.bytes).toBe(want.bytes);
      own.close();
      seen.close();
    }
  });

  test('f16 and int8 rows become f32 rows of the same numbers', async () => {
    const int8 = await hold(context, { ...press, entry_type: 'int8' });
    const [own, wide] = [plainRead(await write(int8)), plainRead(await write(int8, 'f32'))];
    const scale = numbers(own.tensors['layers.3.v_scale']);
    const want = numbers(own.tensors['layers.3.v']).map((q, i) => Math.fround(q * scale[Math.floor(i / d)]));
    expect(numbers(wide.tensors['layers.3.v'])).toEqual(want);
    const f16 = await hold(context, { ...press, entry_type: 'f16' });
    const back = await mount(await write(f16, 'f32'));
    const again = plainRead(await write(back, 'f16'));
    expect(again.tensors['layers.2.k']).toEqual(plainRead(await write(f16, 'f16')).tensors['layers.2.k']);
  });

  test('is written by plainWrite as the engine writes it, with as many bytes as were announced', async () => {
    const source = engine.writePressed(await hold(context, press));
    const chunks: Uint8Array[] = [];
    for await (const chunk of source.chunks) chunks.push(chunk);
    const file = Buffer.concat(chunks);
    expect(file.length).toBe(source.bytes);
    expect(Buffer.compare(plainWrite(plainRead(file)), file)).toBe(0);
  });
});

function header(file: Uint8Array): Record<string, { data_offsets: [number, number] }> {
  const bytes = Number(new DataView(file.buffer).getBigUint64(0, true));
  const { __metadata__: _, ...tensors } = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + bytes)));
  return tensors;
}

describe('refusals, after which nothing is held', () => {
  const press = { preset: 'snapkv', window_size: 8, compression_ratio: 0.5 };
  const words: PromptInput = { kind: 'text', text: 'Anna lives in Oslo. Boris lives in Rome. The crow sat near the castle.\n' };
  let file: Uint8Array;
  beforeAll(async () => {
    const held = await engine.hold({ prompt: words, press: parsePress({ ...press, scope: { protect_last: 3 } }) });
    file = await write(held, 'int8');
    held.close();
  });
  const refused = async (bytes: Uint8Array) => {
    const error = await failure(mount(bytes));
    expect(memory()).toEqual(nothing);
    return error;
  };

  test('a file that ends at any byte of its header, or anywhere behind it', async () => {
    const end = 8 + Number(new DataView(file.buffer).getBigUint64(0, true));
    const random = new Random(11);
    const cuts = [
      ...Array.from({ length: end + 1 }, (_, i) => i),
      ...Array.from({ length: 50 }, () => random.int(end, file.length - 1)),
      file.length - 1,
    ];
    for (const cut of cuts) {
      const error = await failure(openPressed(readerOfBytes('cut', file.slice(0, cut))));
      expect(error, String(cut)).toMatchObject({ name: 'InputError', code: 'context_file_invalid', message: expect.stringMatching(/^cut/) });
    }
    for (const cut of [0, 7, 300, end, file.length - 1]) expect(await refused(file.slice(0, cut))).toMatchObject({ code: 'context_file_invalid' });
  });

  test('any bits of it turned over', async () => {
    const random = new Random(12);
    for (let i = 0; i < 400; i++) {
      const bad = file.slice();
      for (let n = random.int(1, 4); n > 0; n--) bad[random.int(0, i % 2 ? bad.length - 1 : 2000)] ^= 1 << random.int(0, 7);
      if (Buffer.compare(bad, file) === 0) continue;
      expect(await refused(bad)).toMatchObject({ name: 'InputError', code: 'context_file_invalid' });
    }
  });

  test('bits turned over under a digest that agrees: an error, or a context whole enough to answer', async () => {
    const random = new Random(13);
    let taken = 0;
    for (let i = 0; i < 300; i++) {
      const { metadata, tensors } = plainRead(file);
      const names = Object.keys(tensors).filter((name) => name !== 'digest');
      const [name, key] = [names[random.int(0, names.length - 1)], Object.keys(metadata)[random.int(0, Object.keys(metadata).length - 1)]];
      if (i % 3 > 0) tensors[name].data[random.int(0, tensors[name].data.length - 1)] ^= 1 << random.int(0, 7);
      else {
        const at = random.int(0, metadata[key].length - 1);
        metadata[key] = metadata[key].slice(0, at) + String.fromCharCode(random.int(32, 126)) + metadata[key].slice(at + (i % 2));
      }
      let held: Held;
      try {
        held = await mount(plainWrite({ metadata, tensors }));
      } catch (error) {
        expect(error).toMatchObject({ name: 'InputError', code: expect.stringMatching(/^(context_|token_unknown|press_)/) });
        expect(memory()).toEqual(nothing);
        continue;
      }
      taken++;
      await mounted(engine, held, [...held.tokens, 5], { maxTokens: 2 }).catch((error) =>
        expect(error).toMatchObject({ code: 'model_output_invalid' }),
      );
      held.close();
      expect(memory()).toEqual(nothing);
    }
    expect(taken).toBeGreaterThan(30); // rows of other numbers
  });

  const json = (key: string, change: (value: Record<string, any>) => void) => (plain: PlainFile) => {
    const value = JSON.parse(plain.metadata[key]);
    change(value);
    plain.metadata[key] = JSON.stringify(value);
  };
  const view = ({ data }: { data: Uint8Array }) => new DataView(data.buffer, data.byteOffset, data.byteLength);
  const positions =
    (change: (view: DataView) => void) =>
    ({ tensors }: PlainFile) =>
      change(view(tensors['layers.2.positions']));
  test.each<[string, (plain: PlainFile) => void, RegExp]>([
    ['no format', ({ metadata }) => delete metadata.format, /is no pressed context: its format is not told, "edgepress.pressed" would be one/],
    ['a version to come', ({ metadata }) => (metadata.version = '2'), /version "2" of the format, and version "1" is read/],
    ['no model', ({ metadata }) => delete metadata.model, /__metadata__ has no model/],
    ['what is no JSON', ({ metadata }) => (metadata.press = '{'), /press\) is not JSON/],
    ['JSON nested too deep', ({ metadata }) => (metadata.report = '['.repeat(3000) + ']'.repeat(3000)), /deep/],
    ['a field too many', json('context', (c) => (c.more = 1)), /context: .*more/],
    ['no tokens', json('context', (c) => (c.tokens = 0)), /context: tokens/],
    ['more covered than there is', json('context', (c) => (c.covered = 100)), /covered 100 tokens of \d+/],
    [
      'a shift of another press',
      json('context', (c) => Object.assign(c, { shift: 1, next_position: c.next_position - 1 })),
      /added_rows 0 and shift 1, which its press makes none of/,
    ],
    [
      'rows of another press',
      json('context', (c) => Object.assign(c, { added_rows: 1, next_position: c.next_position + 1 })),
      /added_rows 1 and shift 0/,
    ],
    ['a next position that is not', json('context', (c) => c.next_position++), /next_position \d+ is not/],
    ['an entry type that its rows do not have', json('context', (c) => (c.entry_type = 'f32')), /tensor layers\.0\.k is I8 .*: F32/],
    ['an unknown press', json('press', (p) => (p.config[0].scorer.name = 'nobody')), /its press is not taken here: .*nobody/],
    ['a list of presses that is longer than their names', json('press', (p) => p.names.push('x')), /names 2 presses and has 1/],
    ['a report of fewer layers', json('report', (r) => r.kept_per_layer.pop()), /report\.kept_per_layer has 5 layers, and the model 6/],
    ['a report of other tokens', json('report', (r) => r.tokens--), /its report is of/],
    ['a fingerprint that is none', json('model', (m) => (m.fingerprint = 'x')), /model: fingerprint/],
    ['other heads', json('model', (m) => (m.kv_heads = 4)), /tensor layers\.0\.offsets is I32 \[3\]: I32 \[5\] is expected/],
    ['another number of query heads', json('model', (m) => (m.query_heads = 8)), /queryHeads 8, and the model has 6/],
    [
      'more layers than tensors',
      (plain) => {
        json('model', (m) => (m.layers = 1000))(plain);
        json('report', (r) => ['kept_per_layer', 'lmba_per_layer', 'retained_mass_per_layer'].map((field) => (r[field] = Array(1000).fill(1))))(
          plain,
        );
      },
      /too few for 1000 layers/,
    ],
    [
      'fewer layers than tensors',
      (plain) => {
        json('model', (m) => (m.layers = 5))(plain);
        json('report', (r) => ['kept_per_layer', 'lmba_per_layer', 'retained_mass_per_layer'].map((field) => r[field].pop()))(plain);
      },
      /tensor layers\.5\.\w+ is not of this format/,
    ],
    ['a missing tensor', ({ tensors }) => delete tensors['layers.3.v'], /tensor layers\.3\.v is missing: I8 \[\d+, 32\] is expected/],
    [
      'a tensor too many',
      ({ tensors }) => (tensors.more = { dtype: 'U8', shape: [1], data: new Uint8Array(1) }),
      /tensor more is not of this format/,
    ],
    ['a tensor of another type', ({ tensors }) => (tensors['layers.1.k'].dtype = 'U8'), /tensor layers\.1\.k is U8/],
    ['a tensor of another shape', ({ tensors }) => tensors['layers.1.k'].shape.reverse(), /tensor layers\.1\.k is I8 \[32, \d+\]/],
    [
      'scores that nobody asks for',
      ({ tensors }) => {
        for (let l = 0; l < L; l++) tensors[`layers.${l}.scores`] = { ...structuredClone(tensors[`layers.${l}.positions`]), dtype: 'F32' };
      },
      /it has scores, and its press asks for none/,
    ],
    [
      'queries that nobody asks for',
      ({ tensors }) => {
        for (let l = 0; l < L; l++) tensors[`layers.${l}.queries`] = { dtype: 'F32', shape: [1, Hq, d], data: new Uint8Array(Hq * d * 4) };
      },
      /it has 1 queries a layer, and its press asks for 0/,
    ],
    ['offsets that do not begin at 0', ({ tensors }) => view(tensors['layers.2.offsets']).setInt32(0, 1, true), /layer 2: offsets from 1 to/],
    ['offsets that end elsewhere', ({ tensors }) => view(tensors['layers.2.offsets']).setInt32(8, 3, true), /layer 2: offsets from 0 to 3 for/],
    ['offsets that fall', ({ tensors }) => view(tensors['layers.2.offsets']).setInt32(4, -1, true), /layer 2: -1 rows of KV head 0/],
    ['more rows than tokens', ({ tensors }) => view(tensors['layers.2.offsets']).setInt32(4, 10_000, true), /10000 rows of KV head 0/],
    ['a position that is no token', positions((of) => of.setInt32(0, 5000, true)), /layer 2: KV head 0: position 5000 is not one of/],
    ['a negative position', positions((of) => of.setInt32(0, -1, true)), /KV head 0: position 4294967295 is not one of/],
    ['a position twice', positions((of) => of.setInt32(0, of.getInt32(4, true), true)), /position \d+ is there twice/],
    [
      'a token behind the scope missing',
      positions((of) => of.setInt32(of.byteLength - 4, unused(of), true)),
      /of 3 tokens and rows behind the covered ones there are 2/,
    ],
    [
      'a scale that is none',
      ({ tensors }) => view(tensors['layers.4.k_scale']).setFloat32(8, NaN, true),
      /layer 4: it holds what is no finite number/,
    ],
    ['a negative scale', ({ tensors }) => view(tensors['layers.4.v_scale']).setFloat32(8, -1, true), /layer 4: it holds what is no finite number/],
    ['a scale too large', ({ tensors }) => view(tensors['layers.4.v_scale']).setFloat32(8, 3e38, true), /layer 4: it holds what is no finite number/],
    ['a token that is none', ({ tensors }) => view(tensors.tokens).setInt32(0, -1, true), /token -1 at index 0 is not in the vocabulary/],
    ['words of other tokens', json('prompt', (p) => (p.text = p.text.replace('Oslo', 'Rome'))), /its words have other tokens here/],
    ['words that are too many', json('prompt', (p) => (p.text = p.text.repeat(1000))), /its words have other tokens here/],
    ['words of an unknown kind', json('prompt', (p) => (p.kind = 'song')), /prompt: /],
  ])('%s', async (_, change, message) => {
    const plain = plainRead(file);
    change(plain);
    expect(await refused(plainWrite(plain))).toMatchObject({ name: 'InputError', message: expect.stringMatching(message) });
  });

  /** A position that no row of the layer has. */
  function unused(of: DataView): number {
    const seen = new Set(Array.from({ length: of.byteLength / 4 }, (_, i) => of.getInt32(i * 4, true)));
    return Array.from({ length: 1000 }, (_, i) => i).find((i) => !seen.has(i))!;
  }

  test.each<[string, (header: Record<string, any>) => void, RegExp]>([
    ['tensors that overlap', (of) => (of['layers.1.k'].data_offsets = of['layers.0.k'].data_offsets.slice()), /overlap|needs/],
    ['offsets beyond the end', (of) => (of.digest.data_offsets = of.digest.data_offsets.map((at: number) => at + 64)), /belong to nothing|truncated/],
    ['numbers for texts', (of) => (of.__metadata__.version = 1), /no text for version/],
    ['a list for what it says of itself', (of) => (of.__metadata__ = []), /is no object of texts/],
    ['a digest of another type', (of) => (of.digest.dtype = 'I8'), /last tensor must be digest/],
  ])('%s', async (_, tell, message) => {
    expect(await refused(plainWrite(plainRead(file), tell))).toMatchObject({ code: 'context_file_invalid', message: expect.stringMatching(message) });
  });

  test('what is no safetensors file, and a header of gigabytes', async () => {
    expect((await refused(new TextEncoder().encode('{"a": 1} and so on'))).message).toMatch(/header of \d+ bytes, at most 16777216 are allowed/);
    const huge = file.slice();
    new DataView(huge.buffer).setBigUint64(0, 2n ** 63n, true);
    expect((await refused(huge)).message).toMatch(/header of 9223372036854775808 bytes/);
  });

  test('the context of another model, by name: what it is, and what this is', async () => {
    const other = await openGolden('llama');
    const before = memory(other);
    const error = await failure(other.mount(file));
    expect(error).toMatchObject({
      code: 'context_model_mismatch',
      message: expect.stringMatching(/is of model "needle" \(fingerprint [0-9a-f]{12}\), and this is "llama" \(fingerprint [0-9a-f]{12}\)/),
    });
    expect(memory(other)).toEqual(before);
    other.close();
  });

  test('another press than asked for, by name: what it is, and what was asked', async () => {
    const asked = (press: unknown) => failure(mount(file, press));
    for (const same of [press, { ...press, scope: { protect_last: 3 }, mode: 'deferred' }, { ...press, entry_type: 'int8' }])
      (await mount(file, same)).close();
    expect(await asked({ ...press, compression_ratio: 0.8 })).toMatchObject({
      code: 'context_press_mismatch',
      message: expect.stringMatching(/"snapkv" with compression_ratio 0\.5, and "snapkv" with compression_ratio 0\.8 was asked for/),
    });
    expect(await asked('knorm')).toMatchObject({ message: expect.stringMatching(/its press is "snapkv".*and "knorm".*was asked for/) });
    expect(await asked({ ...press, entry_type: 'f32' })).toMatchObject({
      message: expect.stringMatching(/entries are int8, and entry_type "f32" was/),
    });
    expect(await asked({ ...press, scope: 'prompt' })).toMatchObject({
      message: expect.stringMatching(/scope is \{"protect_last":3\}, and "prompt" was/),
    });
  });

  test('what has no room: in the pool, among the contexts, in the context length', async () => {
    const little = await openGolden('needle', { contextLength: 1024, kvPoolBytes: 2 ** 19 });
    const held = await hold(sampleOf(256).slice(0, 230), 'no_press');
    const [large, small] = [await write(held, 'f32'), await write(held, 'int8')];
    const before = memory(little);
    expect(await failure(little.mount(large))).toMatchObject({
      code: 'kv_budget_exceeded',
      message: expect.stringMatching(/needs \d+ KiB of KV pages; the pool has 512 KiB: a larger pool, or/),
    });
    const first = await little.mount(small);
    expect(memory(little).used).toBe(first.bytes);
    expect(first.bytes).toBeLessThan(2 ** 18);
    const second = await little.mount(small);
    expect(await failure(little.mount(small))).toMatchObject({
      code: 'kv_budget_exceeded',
      message: expect.stringMatching(/of them taken by held contexts: a larger pool, closing contexts/),
    });
    first.close();
    second.close();
    expect(memory(little)).toEqual(before);
    little.close();
    const short = await openGolden('needle', { contextLength: 128 });
    expect(await failure(short.mount(small))).toMatchObject({ code: 'prompt_too_long' });
    short.close();
    for (let i = 1; i < engine.health().contexts.most; i++) await mount(file);
    expect(await failure(mount(file))).toMatchObject({ code: 'contexts_full' });
  });
});

describe('in mid-way', () => {
  const press = { preset: 'tova', compression_ratio: 0.2, schedule: { name: 'prefill_and_decoding', interval: 11, target_size: 60 } };

  test('an abort, or the end of the model, ends both; nothing is left behind', async () => {
    const other = await openGolden('needle', { contextLength: 1024 });
    const held = await other.hold({ prompt: promptOf(context), press: parsePress(press) });
    const file = await bytesOf(other.writePressed(held));
    held.close();
    const before = memory(other);
    const fill = vi.spyOn(KvSequence.prototype, 'fill');
    for (const at of [1, 5, 11]) {
      const abort = new AbortController();
      fill.mockReset().mockImplementation(() => {
        if (fill.mock.calls.length === at) abort.abort(new Error('the client is gone'));
      });
      await expect(other.mount(file, {}, abort.signal)).rejects.toThrow('the client is gone');
      expect(memory(other)).toEqual(before);
    }
    fill.mockReset().mockImplementation(() => {
      throw new Error('a bug');
    });
    await expect(other.mount(file)).rejects.toThrow('a bug');
    expect(memory(other)).toEqual(before);
    fill.mockRestore();

    const again = await other.mount(file);
    const abort = new AbortController();
    const source = other.writePressed(again, {}, abort.signal);
    await source.chunks.next();
    abort.abort(new Error('the client is gone'));
    await expect(bytesOf(source)).rejects.toThrow('the client is gone');
    for await (const _ of other.writePressed(again).chunks) break;
    expect(memory(other)).toMatchObject({ used: again.kvCache.bytes_kept, reserved: 0, running: 0, contexts: 1 });
    expect(again.bytes).toBe(again.kvCache.bytes_kept + L * Hq * d * 4); // TOVA remembers the last query
    const last = other.writePressed(again);
    await last.chunks.next();
    const mounting = other.mount(file);
    other.close();
    await expect(bytesOf(last)).rejects.toMatchObject({ code: 'model_closed' });
    await expect(mounting).rejects.toMatchObject({ code: 'model_closed' });
  });

  test('whatever call of the backend fails, all is given back', async () => {
    const held = await hold(context, press);
    const file = await write(held);
    const before = memory();
    const faults = failingBackend();
    const left = () => expect(memory()).toEqual(before);
    await faults.tryAll(() => engine.mount(file).then((other) => other.close()), { all: 20, some: 10 }, left);
    await faults.tryAll(() => write(held), { all: 5, some: 10 }, left);
    vi.restoreAllMocks();
    expect(Buffer.compare(await write(held), file)).toBe(0);
  });

  test('a context that is closed while it is written ends that with a word', async () => {
    const held = await hold(context, press);
    const source = engine.writePressed(held);
    for (let i = 0; i < 4; i++) await source.chunks.next();
    held.close();
    expect(await failure(bytesOf(source))).toMatchObject({ code: 'context_closed' });
    expect(await failure(write(held))).toMatchObject({ code: 'context_closed' });
  });

  test('contexts are mounted and written while others answer, and all answer as alone', async () => {
    const held = await hold(context, press);
    const file = await write(held, 'f32');
    const alone = await mounted(engine, held, tokens, sampling);
    const together = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const answer = mounted(engine, held, tokens, sampling);
        const [other, again] = [await mount(file), await write(held, 'f32')];
        expect(Buffer.compare(again, file)).toBe(0);
        return [await answer, await mounted(engine, other, tokens, sampling)];
      }),
    );
    for (const answers of together) for (const { tokens, logprobs } of answers) expect([tokens, logprobs]).toEqual([alone.tokens, alone.logprobs]);
  });

  test('a model that makes what is no number writes no file', async () => {
    const held = await hold(context, 'no_press');
    const { readPages } = KvSequence.prototype;
    vi.spyOn(KvSequence.prototype, 'readPages').mockImplementation(async function (this: KvSequence, layer, head) {
      const pages = await readPages.call(this, layer, head);
      if (layer === 3) new Float32Array(pages[0].buffer, pages[0].byteOffset)[5] = NaN;
      return pages;
    });
    for (const type of entryTypes)
      expect(await failure(write(held, type))).toMatchObject({ code: 'model_output_invalid', message: expect.stringMatching(/^layer 3/) });
  });
});
