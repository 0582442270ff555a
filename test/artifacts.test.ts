/** Artefacts of presses: where they are found, what is refused, what stays in memory, and what is told over HTTP. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packModel } from '../cli/pack.ts';
import { siteOf } from '../cli/serve-workerd.ts';
import type { ArtifactModel } from '../presses/artifacts.ts';
import { parsePress } from '../presses/config.ts';
import type { PressRequest } from '../presses/contract.ts';
import { InputError } from '../presses/input-error.ts';
import { createApp } from '../worker/api/app.ts';
import { toBf16, toHalf } from '../worker/backend/layout/half.ts';
import { Artifacts, GIVEN } from '../worker/engine/artifacts.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { writeSafetensors } from '../worker/engine/weights/safetensors.ts';
import { filesOfBytes, type ModelFiles } from '../worker/engine/weights/source.ts';
import { webFolder } from '../worker/engine/weights/web-files.ts';
import { loadModel } from '../worker/node.ts';
import { jsonFile, ratioPresets, testArtifacts, withArtifacts } from './support/artifacts.ts';
import { openGolden } from './support/golden.ts';

const work = mkdtempSync(join(tmpdir(), 'edgepress-artifacts-'));
afterAll(() => rmSync(work, { recursive: true }));

const shape: ArtifactModel = { layers: 2, queryHeads: 4, kvHeads: 2, headDim: 8, hiddenSize: 32, intermediateSize: 48 };
const files = testArtifacts(shape);
const qfilter = (artifact = 'qfilter.safetensors'): PressRequest => parsePress({ preset: 'qfilter', artifact });

/** Files that count how often they are opened. */
function counted(given: Readonly<Record<string, Uint8Array>>): { source: { files: ModelFiles; where: string }; opened: string[] } {
  const opened: string[] = [];
  const open = (name: string) => {
    opened.push(name);
    return filesOfBytes(given).open(name);
  };
  return { source: { files: { open }, where: GIVEN }, opened };
}

async function refusal(run: Promise<unknown> | (() => unknown)): Promise<{ code: string; param: string | null; message: string }> {
  try {
    await (typeof run === 'function' ? run() : run);
  } catch (error) {
    if (error instanceof InputError) return { code: error.code, param: error.param, message: error.message };
    throw error;
  }
  throw new Error('was accepted');
}

/** A safetensors file of one tensor, as raw bytes. */
function oneTensor(name: string, dtype: string, shape: readonly number[], data: ArrayBufferView): Uint8Array {
  const header = new TextEncoder().encode(JSON.stringify({ [name]: { dtype, shape, data_offsets: [0, data.byteLength] } }));
  const file = new Uint8Array(8 + header.length + data.byteLength);
  new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true);
  file.set(header, 8);
  file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), 8 + header.length);
  return file;
}

describe('reading', () => {
  const values = Float32Array.from({ length: 2 * 2 * 8 }, (_, i) => (i - 15) / 16); // exact in every type
  test.each([
    ['F32', values],
    ['F64', Float64Array.from(values)],
    ['F16', Uint16Array.from(values, toHalf)],
    ['BF16', Uint16Array.from(values, toBf16)],
  ])('%s becomes f32', async (dtype, data) => {
    const artifacts = new Artifacts(
      { files: filesOfBytes({ 'qfilter.safetensors': oneTensor('filters', dtype, [2, 2, 8], data) }), where: GIVEN },
      shape,
    );
    expect((await artifacts.of(qfilter()))('qfilter.safetensors').tensors.get('filters')).toEqual({ shape: [2, 2, 8], values });
  });

  test('a file is opened when a request first names it, and once', async () => {
    const { source, opened } = counted(files);
    const artifacts = new Artifacts(source, shape);
    await artifacts.of(parsePress('knorm'));
    expect(opened).toEqual([]);
    await Promise.all([artifacts.of(qfilter()), artifacts.of(qfilter())]);
    await artifacts.of(qfilter());
    expect(opened).toEqual(['qfilter.safetensors']);
    expect(artifacts.bytes).toBe(2 * 2 * 8 * 4);
    artifacts.close();
    expect(artifacts.bytes).toBe(0);
  });

  test('a file that was not there is looked for again', async () => {
    const given: Record<string, Uint8Array> = {};
    const artifacts = new Artifacts({ files: { open: (name) => filesOfBytes(given).open(name) }, where: GIVEN }, shape);
    expect((await refusal(artifacts.of(qfilter()))).code).toBe('press_artifact');
    given['qfilter.safetensors'] = files['qfilter.safetensors'];
    expect((await artifacts.of(qfilter()))('qfilter.safetensors').tensors.size).toBe(1);
  });

  test('of more than there is room for the longest unused goes; a file that has no room at all is refused with both sizes', async () => {
    const three = Object.fromEntries(['a', 'b', 'c'].map((name) => [`${name}.safetensors`, files['qfilter.safetensors']]));
    const { source, opened } = counted(three);
    const artifacts = new Artifacts(source, shape, 2 * 128);
    for (const name of ['a', 'b', 'a', 'c', 'a', 'b']) await artifacts.of(qfilter(`${name}.safetensors`));
    expect(opened.map((name) => name[0]).join('')).toBe('abcb'); // c took the place of b
    expect(artifacts.bytes).toBe(256);
    const tiny = new Artifacts(source, shape, 100);
    expect(await refusal(tiny.of(qfilter('a.safetensors')))).toMatchObject({
      code: 'press_artifact',
      param: 'press.artifact',
      message: expect.stringContaining('at most 100 B'),
    });
  });

  test('one request may name several, and the same one twice', async () => {
    const { source, opened } = counted(files);
    const artifact = await new Artifacts(source, shape).of(
      parsePress([withArtifacts('qfilter'), { ...withArtifacts('duo_attention'), head_compression_ratio: 0.5 }]),
    );
    expect(opened).toEqual(['qfilter.safetensors', 'duo.json']);
    expect(artifact('duo.json').json).toMatchObject({ sink: 3, recent: 9 });
  });
});

describe('what is refused', () => {
  const press: Record<string, unknown> = {
    'qfilter.safetensors': { preset: 'qfilter', artifact: 'qfilter.safetensors' },
    'kvzap-mlp.safetensors': { preset: 'kvzap_mlp_head', artifact: 'kvzap-mlp.safetensors' },
    'kvzap-linear.safetensors': { preset: 'kvzap_mlp_head', artifact: 'kvzap-linear.safetensors' },
    'fastkvzip.safetensors': { preset: 'fastkvzip', artifact: 'fastkvzip.safetensors' },
    'curves.safetensors': { preset: 'lukv', curves: 'curves.safetensors' },
    'statistics.safetensors': { scorer: { name: 'expected_attention', artifact: 'statistics.safetensors' } },
    'duo.json': { preset: 'duo_attention', artifact: 'duo.json' },
  };
  const of = (name: string, file: Uint8Array, model = shape) =>
    new Artifacts({ files: filesOfBytes({ [name]: file }), where: GIVEN }, model).of(parsePress(press[name]));

  test.each(Object.keys(press))('%s of this model is taken', async (name) => {
    await expect(of(name, files[name])).resolves.toBeTypeOf('function');
  });

  test.each(Object.keys(press))('%s of another model: the shape that is expected, and the one that is there', async (name) => {
    for (const other of [{ layers: 3 }, { kvHeads: 1 }] as Partial<ArtifactModel>[]) {
      if (name === 'statistics.safetensors' && other.kvHeads) continue; // it has query heads
      const { code, param, message } = await refusal(of(name, files[name], { ...shape, ...other }));
      expect({ code, param }).toEqual({ code: 'press_artifact', param: expect.stringMatching(/^press\.(scorer\.)?(artifact|curves)$/) });
      expect(message).toMatch(/expected|layer 2 of 3 has neither|for each of the/);
      expect(message).toMatch(/it would hold .*: /);
    }
  });

  const normal = (shape: number[]) => ({ shape, values: new Float32Array(shape.reduce((a, b) => a * b, 1)) });
  const duo = (change: object) =>
    jsonFile({
      sink: 1,
      recent: 2,
      scores: [
        [0, 1],
        [1, 0],
      ],
      ...change,
    });
  test.each<[string, Uint8Array, string]>([
    ['qfilter.safetensors', writeSafetensors({ other: normal([2, 2, 8]) }), 'tensor filters [2, 2, 8] is expected, its tensors are other'],
    ['qfilter.safetensors', writeSafetensors({}), 'its tensors are none'],
    ['qfilter.safetensors', writeSafetensors({ filters: normal([2, 8, 2]) }), 'expected to have shape [2, 2, 8] for this model, got [2, 8, 2]'],
    ['qfilter.safetensors', oneTensor('filters', 'I32', [2, 2, 8], new Int32Array(32)), 'has type I32; F32, F16, BF16 or F64 would work'],
    [
      'qfilter.safetensors',
      oneTensor('filters', 'F32', [2, 2, 8], new Float32Array(32).fill(Number.NaN, 5, 6)),
      'holds NaN at 5; finite numbers would work',
    ],
    ['qfilter.safetensors', files['qfilter.safetensors'].subarray(0, 60), 'truncated'],
    ['qfilter.safetensors', new Uint8Array(3), 'truncated'],
    [
      'kvzap-mlp.safetensors',
      writeSafetensors({ 'layers.0.up.weight': normal([4, 32]), 'layers.0.up.bias': normal([3]) }),
      'tensor layers.0.up.bias is expected to have shape [4]',
    ],
    ['kvzap-mlp.safetensors', writeSafetensors({}), 'layer 0 of 2 has neither layers.0.weight nor layers.0.up.weight'],
    ['fastkvzip.safetensors', writeSafetensors({ 'layers.0.q_norm.weight': normal([6]) }), 'has 6 channels, a multiple of 4'],
    [
      'curves.safetensors',
      writeSafetensors({ curves: { shape: [99, 2, 2], values: new Float32Array(396).fill(1.5) } }),
      'holds 1.5 at 0, numbers between 0 and 1 are expected',
    ],
    ['duo.json', new TextEncoder().encode('{"sink": 1,'), 'is not JSON'],
    ['duo.json', jsonFile(null), 'sink must be a whole number'],
    ['duo.json', duo({ sink: -1 }), 'sink must be a whole number between 0 and 65536, got -1'],
    ['duo.json', duo({ recent: 0.5 }), 'recent must be a whole number between 1 and 65536, got 0.5'],
    ['duo.json', duo({ scores: [[0, 1]] }), 'a list for each of the 2 layers of this model, got 1'],
    ['duo.json', duo({ scores: [[0, 1], [1]] }), 'scores[1] must hold a number for each of the 2 KV heads of this model, got 1'],
    [
      'duo.json',
      duo({
        scores: [
          [0, 1],
          [1, 'x'],
        ],
      }),
      'scores[1][1] must be a number, got "x"',
    ],
  ])('%s: %#', async (name, file, message) => {
    expect(await refusal(of(name, file))).toMatchObject({ code: 'press_artifact', message: expect.stringContaining(message) });
  });

  test.each([
    '../qfilter.safetensors',
    'a/b.safetensors',
    '/etc/passwd',
    'C:\\x.safetensors',
    '.hidden.safetensors',
    '..',
    '',
    'qfilter',
    'x.json',
    'x.safetensors/..',
    `${'x'.repeat(200)}.safetensors`,
    'é.safetensors',
    5,
    null,
    ['x.safetensors'],
  ])('the name %j, before any file is looked for', async (artifact) => {
    const seen = await refusal(() => parsePress({ preset: 'qfilter', artifact }));
    expect(seen).toMatchObject({ code: expect.stringMatching(/^press_param_(range|type)$/), param: 'press.artifact' });
    expect(seen.message).toMatch(/^artifact must name a \.safetensors file (of letters, digits|in the model's folder)/);
    // A request that a program put together past the parser
    const request = qfilter();
    const [{ scorer, ...rest }] = request.presses;
    const { source, opened } = counted(files);
    const made = { ...request, presses: [{ ...rest, scorer: { ...scorer, params: { artifact } } }] };
    const refused = new Artifacts(source, shape).of(made as PressRequest);
    if (typeof artifact !== 'string')
      expect(await refused).toBeTypeOf('function'); // none is named
    else if (artifact !== 'x.json') expect((await refusal(refused)).code).toBe('press_artifact');
    else await refusal(refused);
    expect(opened).toEqual(artifact === 'x.json' ? ['x.json'] : []);
  });

  test.each(['qfilter', 'kvzap_mlp_head', 'kvzap_mlp_layer', 'kvzap_linear', 'kvzap_mlp', 'fastkvzip', 'duo_attention', 'lukv'])(
    'preset %s without its file: what it is, how to get one, where its layout is',
    async (preset) => {
      const { code, param, message } = await refusal(() => parsePress({ preset, ...(/kvzap_(linear|mlp)$/.test(preset) && { threshold: 0 }) }));
      expect({ code, param }).toEqual({ code: 'press_param_missing', param: preset === 'lukv' ? 'press.curves' : 'press.artifact' });
      expect(message).toMatch(
        /is missing; it must name a \.(safetensors|json) file in the model's folder artifacts\/: .*; .*(hub|calibrate|github).*; layout: presses\/artifacts\.md/,
      );
    },
  );

  test('duo_attention_on_the_fly says which file it looks for, and what makes one', async () => {
    const artifacts = new Artifacts({ files: filesOfBytes({}), where: GIVEN }, shape);
    const { code, param, message } = await refusal(artifacts.of(parsePress('duo_attention_on_the_fly')));
    expect({ code, param }).toEqual({ code: 'press_artifact', param: 'press.artifact' });
    expect(message).toMatch(/^there is no duo-on-the-fly\.json .*edgepress calibrate --kind duo/);
  });
});

describe('over HTTP, with models/needle', () => {
  let engine: EdgeEngine;
  let app: ReturnType<typeof createApp>;
  const folder = join(work, 'served');
  beforeAll(async () => {
    cpSync('test/golden/library/artifacts/needle', folder, { recursive: true });
    cpSync('test/golden/library/artifacts/llama/qfilter.safetensors', join(folder, 'of-llama.safetensors'));
    writeFileSync(join(folder, 'broken.safetensors'), 'no header');
    writeFileSync(join(work, 'secret.safetensors'), 'outside');
    engine = await openGolden('needle', { artifacts: folder, contextLength: 512 });
    app = createApp({ engine: async () => engine });
  });
  afterAll(() => engine.close());

  const post = async (path: string, body: object) => {
    const response = await app.request(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
    return { status: response.status, body: await response.json() };
  };
  const prompt = Array.from({ length: 120 }, (_, i) => 5 + ((i * 7) % 900));
  const both = async (press: unknown) => [
    await post('/v1/completions', { prompt, press, max_tokens: 4 }),
    await post('/v1/press/plan', { tokens: 120, press }),
  ];
  const held = () => {
    engine.backend.trim();
    const { used_bytes, kv_used_bytes, kv_reserved_bytes } = engine.health().memory;
    return { used_bytes, kv_used_bytes, kv_reserved_bytes };
  };

  test('a sketch of another width than is asked for is refused in the plan too, and the field is that of the preset', async () => {
    const refused = (param: string) => ({
      status: 400,
      body: { error: { param, message: expect.stringMatching(/is 12, and the parameter sketch_dimension is 48/) } },
    });
    for (const one of await both({ preset: 'compactor', artifact: 'sketch-12.safetensors' })) expect(one).toMatchObject(refused('press.artifact'));
    const composed = [{ preset: 'knorm', compression_ratio: 0.1 }, { scorer: { name: 'leverage', artifact: 'sketch-12.safetensors' } }];
    for (const one of await both(composed)) expect(one).toMatchObject(refused('press[1].scorer.artifact'));
    const [fits] = await both({ preset: 'compactor', sketch_dimension: 12, artifact: 'sketch-12.safetensors' });
    expect(fits.status).toBe(200);
  });

  test('every preset that reads a file answers, as its plan said, and leaves nothing on the device', async () => {
    const before = held();
    const presets = [
      'qfilter',
      'kvzap_mlp_head',
      'kvzap_mlp_layer',
      'fastkvzip',
      'lukv',
      'merging_kvzap_mlp',
      'duo_attention',
      'zigzag_qfilter',
      'zigzag_kvzap',
    ];
    for (const preset of presets) {
      const press = { ...withArtifacts(preset), ...(ratioPresets.includes(preset) && { compression_ratio: 0.5 }) };
      const [answer, plan] = await both(press);
      expect(answer, preset).toMatchObject({ status: 200, body: { usage: { kv_cache: { press: preset, tokens: 120 } } } });
      expect(plan.status).toBe(200);
      expect(answer.body.usage.kv_cache.bytes_kept).toBeLessThanOrEqual(plan.body.bytes_kept);
      expect(answer.body.usage.kv_cache.compression_ratio).toBeGreaterThan(0.1);
      expect(held(), preset).toEqual(before);
    }
  });

  /** Q-filters of one number at all places, or of both signs. */
  const filters = (value: (i: number) => number): Uint8Array =>
    oneTensor(
      'filters',
      'F32',
      [6, 2, 32],
      Float32Array.from({ length: 6 * 2 * 32 }, (_, i) => value(i)),
    );

  test('a file of numbers that f32 cannot multiply: infinite scores are said, and what is no number is refused by the field of its press', async () => {
    writeFileSync(
      join(folder, 'large.safetensors'),
      filters((i) => (i % 32 === 0 ? 3e38 : 0)),
    );
    writeFileSync(
      join(folder, 'both-signs.safetensors'),
      filters((i) => (i % 2 === 0 ? 3.4e38 : -3.4e38)),
    );
    const before = held();
    const ask = (press: unknown) => post('/v1/completions', { prompt, press, max_tokens: 4 });
    const large = await ask({ preset: 'qfilter', artifact: 'large.safetensors' });
    expect(large.status).toBe(200);
    expect(large.body.usage.kv_cache.notes.join()).toMatch(
      /qfilter: \d+ of 240 scores of layer 0 are infinite, so that which of them stay says nothing/,
    );
    const preset = { preset: 'qfilter', artifact: 'both-signs.safetensors' };
    const spelled = { scorer: { name: 'qfilter', artifact: 'both-signs.safetensors' } };
    for (const [press, param] of [
      [preset, 'press'],
      [[{ preset: 'knorm', compression_ratio: 0.1 }, preset], 'press[1]'],
      [spelled, 'press.scorer'],
      [
        [
          { preset: 'knorm', compression_ratio: 0.1 },
          { ...preset, compression_ratio: 0.2 },
        ],
        'press[1]',
      ],
    ] as const) {
      const message = expect.stringMatching(/^qfilter: scores of layer \d are not numbers/);
      expect(await ask(press)).toMatchObject({ status: 400, body: { error: { code: 'press_numbers', param, message } } });
    }
    // Whoever hands on ranks or shares in place of scores, and whoever is not the last, is looked at too.
    const segments = [{ name: 'segments', segment_length: 20 }, { name: 'score_segments', segment_length: 20 }, 'chunks'];
    for (const selection of segments) {
      for (const compat of [undefined, 'kvpress'] as const) {
        const message = expect.stringMatching(/^qfilter: scores of layer \d are not numbers/);
        expect(await ask({ ...spelled, selection, compat }), JSON.stringify({ selection, compat })).toMatchObject({
          status: 400,
          body: { error: { code: 'press_numbers', param: 'press.scorer', message } },
        });
      }
    }
    const first = (artifact: string) => [
      { ...preset, artifact, compression_ratio: 0.1 },
      { preset: 'knorm', compression_ratio: 0.2 },
    ];
    expect(await ask(first('both-signs.safetensors'))).toMatchObject({ status: 400, body: { error: { code: 'press_numbers', param: 'press[0]' } } });
    for (const press of [first('large.safetensors'), { scorer: { name: 'qfilter', artifact: 'large.safetensors' }, selection: segments[0] }]) {
      const { status, body } = await ask(press);
      expect(status).toBe(200);
      expect(body.usage.kv_cache.notes.join()).toMatch(/qfilter: \d+ of 240 scores of layer 0 are infinite/);
    }
    expect(held()).toEqual(before);
  });

  test('curves that keep nothing of any head: all layers get the same, and the report says so', async () => {
    writeFileSync(join(folder, 'nothing.safetensors'), oneTensor('curves', 'F32', [99, 6, 2], new Float32Array(99 * 6 * 2).fill(1)));
    const [{ status, body }] = await both({ preset: 'lukv', curves: 'nothing.safetensors', compression_ratio: 0.5 });
    expect(status).toBe(200);
    expect(body.usage.kv_cache.kept_per_layer).toEqual([60, 60, 60, 60, 60, 60]);
    expect(body.usage.kv_cache.notes).toEqual([
      'layer_budget "curves": nothing.safetensors keeps nothing of any head at this ratio: all layers get the same',
    ]);
  });

  test('a file that is no JSON, with control characters in it, is told without them', async () => {
    writeFileSync(join(folder, 'odd.json'), '\u001b[31m\u0000\u0007 no');
    for (const { status, body } of await both({ preset: 'duo_attention', artifact: 'odd.json' })) {
      expect({ status, body }).toMatchObject({ status: 400, body: { error: { code: 'press_artifact', param: 'press.artifact' } } });
      expect(body.error.message).toMatch(/^odd\.json/);
      expect(body.error.message).not.toMatch(/\p{Cc}/u);
    }
  });

  test('a file that is nested deeper than the stack, and one with a name of 100,000 letters', async () => {
    writeFileSync(join(folder, 'deep.json'), `{"sink":${'['.repeat(100_000)}${']'.repeat(100_000)}}`);
    writeFileSync(join(folder, 'long.safetensors'), oneTensor('n'.repeat(100_000), 'F32', [1], Float32Array.of(1)));
    const asked = [
      [{ preset: 'duo_attention', artifact: 'deep.json' }, /^deep\.json has lists or objects in each other more than 64 deep/],
      [{ preset: 'qfilter', artifact: 'long.safetensors' }, /its tensors are n{59}…/],
    ] as const;
    for (const [press, message] of asked) {
      for (const { status, body } of await both(press)) {
        expect(status).toBe(400);
        expect(body.error).toMatchObject({ code: 'press_artifact', param: 'press.artifact', message: expect.stringMatching(message) });
        expect(body.error.message.length).toBeLessThan(500);
      }
    }
  });

  test('finch without the question in scope: the report says so, and a refusal for its window', async () => {
    const ask = (scope: object, words: string) => {
      const content = [
        { type: 'text', text: words },
        { type: 'text', text: 'Who slept?' },
      ];
      return post('/v1/chat/completions', { messages: [{ role: 'user', content }], press: { preset: 'finch', ...scope }, max_tokens: 4 });
    };
    const said =
      /finch takes the last tokens of what is pressed for the question, and scope "context" leaves the question out: "scope": "prompt" has it/;
    const words = 'The horse slept near the valley. '.repeat(30);
    expect((await ask({}, words)).body.usage.kv_cache.notes.join()).toMatch(said);
    expect((await ask({ scope: 'prompt' }, words)).body.usage.kv_cache.notes.join()).not.toMatch(said);
    expect(await ask({}, 'The horse slept.\n')).toMatchObject({
      status: 400,
      body: { error: { code: 'press_prompt_short', message: expect.stringMatching(said) } },
    });
  });

  test('heads that stream over no fewer tokens than there are, and why nothing goes', async () => {
    writeFileSync(join(folder, 'wide.json'), jsonFile({ sink: 40, recent: 80, scores: Array(6).fill([0, 1]) }));
    const notes = async (more = {}): Promise<string[]> =>
      (await post('/v1/completions', { prompt, press: { preset: 'duo_attention', artifact: 'wide.json', ...more }, max_tokens: 4 })).body.usage
        .kv_cache.notes;
    expect(await notes()).toEqual([
      'head_budget "duo" removes nothing: wide.json has heads keep the first 40 and the last 80 tokens, and there are 120',
    ]);
    expect(await notes({ head_compression_ratio: 0 })).toEqual([
      'head_budget "duo" removes nothing: head_compression_ratio 0 makes no head keep less',
    ]);
  });

  test.each([
    [
      { preset: 'qfilter', artifact: 'nowhere.safetensors' },
      'press_artifact',
      'press.artifact',
      /^there is no nowhere\.safetensors among .*; it would hold Q-filters, .*hub is one; layout: presses\/artifacts\.md/,
    ],
    [
      { preset: 'qfilter', artifact: 'of-llama.safetensors' },
      'press_artifact',
      'press.artifact',
      /expected to have shape \[6, 2, 32\] for this model, got \[2, 2, 16\]/,
    ],
    [{ preset: 'qfilter', artifact: 'broken.safetensors' }, 'press_artifact', 'press.artifact', /^broken\.safetensors/],
    [{ preset: 'qfilter', artifact: '../secret.safetensors' }, 'press_param_range', 'press.artifact', /must name a \.safetensors file/],
    [{ preset: 'qfilter', artifact: '/etc/secret.safetensors' }, 'press_param_range', 'press.artifact', /must name/],
    [{ preset: 'qfilter' }, 'press_param_missing', 'press.artifact', /artifact is missing/],
    [{ scorer: { name: 'kvzap', artifact: 'nowhere.safetensors' } }, 'press_artifact', 'press.scorer.artifact', /KVzap/],
    [['knorm', { scorer: { name: 'qfilter', artifact: 'nowhere.safetensors' } }], 'press_artifact', 'press[1].scorer.artifact', /Q-filters/],
    [{ scorer: 'knorm', head_budget: { name: 'duo', artifact: 'nowhere.json' } }, 'press_artifact', 'press.head_budget.artifact', /DuoAttention/],
    [
      { scorer: 'knorm', layer_budget: { name: 'curves', curves: 'nowhere.safetensors' }, head_budget: 'adakv' },
      'press_artifact',
      'press.layer_budget.curves',
      /LU-KV/,
    ],
  ])('%j is a 400 that names the field', async (press, code, param, message) => {
    const before = held();
    for (const { status, body } of await both(press)) {
      expect({ status, body }).toMatchObject({ status: 400, body: { error: { code, param, message: expect.stringMatching(message) } } });
      expect(body.error.message).not.toContain(work); // a client learns nothing of the server's folders
    }
    expect(held()).toEqual(before);
  });
});

describe('where they are found', () => {
  const prompt = { kind: 'tokens' as const, tokens: Array.from({ length: 60 }, (_, i) => 5 + (i % 50)) };
  const press = { preset: 'qfilter', artifact: 'qfilter.safetensors' };

  test('in artifacts/ of the model’s folder, and where pack takes it; what is larger than an asset is left out, and told', async () => {
    const model = join(work, 'qwen3');
    cpSync('test/golden/models/qwen3', model, { recursive: true });
    cpSync('test/golden/library/artifacts/qwen3', join(model, 'artifacts'), { recursive: true });
    writeFileSync(join(model, 'artifacts', 'huge.safetensors'), '');
    truncateSync(join(model, 'artifacts', 'huge.safetensors'), 26 * 2 ** 20);
    writeFileSync(join(model, 'artifacts', 'notes.txt'), 'not one');
    const opened = await loadModel(model);
    const kept = await opened.inspect(prompt, press);
    opened.close();
    const notes: string[] = [];
    await packModel(model, join(work, 'packed'), { onNote: (note) => notes.push(note) });
    expect(notes).toEqual([expect.stringMatching(/huge\.safetensors has 26.* 25 MiB a file: it is left out/)]);
    expect(readFileSync(join(work, 'packed', 'artifacts', 'qfilter.safetensors'))).toEqual(
      readFileSync(join(model, 'artifacts', 'qfilter.safetensors')),
    );
    expect(() => readFileSync(join(work, 'packed', 'artifacts', 'notes.txt'))).toThrow();
    const packed = await loadModel(join(work, 'packed'));
    expect(await packed.inspect(prompt, press)).toEqual(kept);
    packed.close();
  });

  test('in artifacts/ beside a .gguf file', async () => {
    mkdirSync(join(work, 'gguf'));
    cpSync('test/golden/gguf/tiny-llama.gguf', join(work, 'gguf', 'tiny.gguf'));
    const bare = await loadModel(join(work, 'gguf', 'tiny.gguf'));
    await expect(bare.plan({ tokens: 60, press })).rejects.toMatchObject({
      code: 'press_artifact',
      message: expect.stringContaining("in the model's folder artifacts/"),
    });
    mkdirSync(join(work, 'gguf', 'artifacts'));
    // The shape is in what is told of a wrong one.
    writeFileSync(join(work, 'gguf', 'artifacts', 'qfilter.safetensors'), writeSafetensors({ filters: { shape: [1], values: new Float32Array(1) } }));
    const wrong = (await bare.plan({ tokens: 60, press }).catch((error) => error)) as InputError;
    const size = JSON.parse(/shape (\[.*?\]) for/.exec(wrong.message)![1]) as number[];
    const values = new Float32Array(size.reduce((a, b) => a * b, 1)).fill(1);
    writeFileSync(join(work, 'gguf', 'artifacts', 'qfilter.safetensors'), writeSafetensors({ filters: { shape: size, values } }));
    bare.close();
    const model = await loadModel(join(work, 'gguf', 'tiny.gguf'));
    expect(await model.plan({ tokens: 60, press })).toMatchObject({ press: 'qfilter', average_budget: 30 });
    model.close();
  });

  test('among files in memory', async () => {
    const model = await loadModel('test/golden/models/qwen3', {
      artifacts: { 'qfilter.safetensors': new Uint8Array(readFileSync('test/golden/library/artifacts/qwen3/qfilter.safetensors')) },
    });
    expect((await model.inspect(prompt, press)).tokens).toBe(60);
    await expect(model.inspect(prompt, { ...press, artifact: 'other.safetensors' })).rejects.toMatchObject({ code: 'press_artifact' });
    model.close();
  });

  test('at an address: what is not there, and what a server answers with a page, is none', async () => {
    const asked: string[] = [];
    const answers: Record<string, Response> = {
      'there.safetensors': new Response(new Uint8Array([1, 2, 3])),
      'page.safetensors': new Response('<html>', { headers: { 'content-type': 'text/html; charset=utf-8' } }),
    };
    const fetch = async (url: unknown) => {
      asked.push(String(url));
      return answers[String(url).split('/').at(-1)!] ?? new Response('no', { status: 404 });
    };
    const folder = webFolder(new URL('https://example.com/model/artifacts'), { fetch: fetch as typeof globalThis.fetch });
    const file = await folder.open('there.safetensors');
    expect(file?.size).toBe(3);
    expect([...(await file!.read(1, 2))]).toEqual([2, 3]);
    expect([await folder.open('page.safetensors'), await folder.open('nowhere.json')]).toEqual([null, null]);
    expect(asked[0]).toBe('https://example.com/model/artifacts/there.safetensors');
  });

  test('in the site of serve --runtime workerd: the packed model’s, or those of --artifacts', async () => {
    for (const name of ['site-packed', 'site-other']) mkdirSync(join(work, name, 'artifacts'), { recursive: true });
    writeFileSync(join(work, 'site-packed', 'manifest.json'), '{}');
    writeFileSync(join(work, 'site-packed', 'artifacts', 'a.json'), '1');
    writeFileSync(join(work, 'site-other', 'b.json'), '2');
    const own = await siteOf(join(work, 'site-packed'), join(work, 'no page'));
    expect(readFileSync(join(own, 'artifacts', 'a.json'), 'utf8')).toBe('1');
    const other = await siteOf(join(work, 'site-packed'), join(work, 'no page'), { artifacts: join(work, 'site-other') });
    expect(readFileSync(join(other, 'artifacts', 'b.json'), 'utf8')).toBe('2');
    expect(() => readFileSync(join(other, 'artifacts', 'a.json'))).toThrow();
    for (const site of [own, other]) rmSync(site, { recursive: true });
  });
});
