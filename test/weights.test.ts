import { readFileSync } from 'node:fs';
import { GGMLQuantizationType, gguf } from '@huggingface/gguf';
import { describe, expect, test, vi } from 'vitest';
import { dequantizeGguf, type GgufType } from '../worker/backend/layout/gguf-blocks.ts';
import { unpack } from '../worker/backend/layout/records.ts';
import type { ModelConfig } from '../worker/engine/model/config.ts';
import { configFromHuggingFace } from '../worker/engine/model/from-huggingface.ts';
import { openGguf } from '../worker/engine/weights/gguf.ts';
import { openFile, openFolder } from '../worker/engine/weights/node-files.ts';
import { loadOpened, openGgufModel, openHuggingFaceModel } from '../worker/engine/weights/open-model.ts';
import { arenaTensor, planWeights } from '../worker/engine/weights/plan.ts';
import { openSafetensors, readSafetensorsHeader } from '../worker/engine/weights/safetensors.ts';
import { readerOfBlob, readerOfBytes, readTensor, type SourceTensor } from '../worker/engine/weights/source.ts';
import { memoryArena, memoryFiles, safetensors } from './fixtures/memory-files.ts';
import { Random } from './support/random.ts';

const path = (name: string) => new URL(name, import.meta.url).pathname;
const header = (json: unknown, dataBytes: number, length?: bigint) =>
  readSafetensorsHeader(readerOfBytes('x.safetensors', safetensors(json, dataBytes, length)));
const entry = (begin: number, end: number, shape: number[] = [(end - begin) / 4], dtype = 'F32') => ({ dtype, shape, data_offsets: [begin, end] });

describe('safetensors', () => {
  test('a sound header gives tensors whose bytes are where it says', async () => {
    const tensors = await header({ __metadata__: { format: 'pt' }, b: entry(8, 16), a: entry(0, 8, [1, 2]), none: entry(8, 8, [0]) }, 16);
    expect(tensors.map(({ name, shape, bytes }) => [name, shape, bytes])).toEqual([
      ['b', [2], 8],
      ['a', [1, 2], 8],
      ['none', [0], 0],
    ]);
    expect([...(await readTensor(tensors[0], 2, 3))]).toEqual([10, 11, 12]);
    expect(() => readTensor(tensors[0], 4, 5)).toThrow(RangeError);
  });

  test.each<[string, unknown, number, bigint | undefined, RegExp]>([
    ['data cut short', { a: entry(0, 16) }, 12, undefined, /truncated: tensor a ends at byte \d+, the file has \d+/],
    ['header cut short', { a: entry(0, 8) }, 8, 5000n, /truncated: header ends at byte 5008/],
    ['header length out of this world', { a: entry(0, 8) }, 8, 2n ** 63n, /header of 9223372036854775808 bytes, at most 100000000/],
    ['overlap', { a: entry(0, 8), b: entry(4, 12) }, 12, undefined, /tensors a and b overlap/],
    ['the same bytes twice', { a: entry(0, 8), b: entry(0, 8) }, 8, undefined, /overlap/],
    ['hole', { a: entry(0, 4), b: entry(8, 12) }, 12, undefined, /4 bytes between a and tensor b belong to nothing/],
    ['bytes after the end', { a: entry(0, 4) }, 8, undefined, /4 bytes after a belong to nothing/],
    ['negative offset', { a: entry(-4, 4, [2]) }, 8, undefined, /tensor a: data_offsets/],
    ['negative size', { a: entry(0, 8, [-1, -2]) }, 8, undefined, /tensor a: shape/],
    ['end before begin', { a: entry(8, 0, [2]) }, 8, undefined, /tensor a: data_offsets \[8, 0\]/],
    ['shape larger than the data', { a: entry(0, 8, [3]) }, 8, undefined, /shape \[3\] of F32 needs 12/],
    ['shape whose product overflows', { a: entry(0, 8, [2 ** 40, 2 ** 40]) }, 8, undefined, /needs/],
    ['fractions', { a: entry(0.5, 4.5, [1]) }, 8, undefined, /tensor a/],
    ['unknown type', { a: entry(0, 8, [2], 'F12') }, 8, undefined, /tensor a has unknown type F12/],
    ['inherited property as a type', { a: entry(0, 8, [2], 'constructor') }, 8, undefined, /tensor a/],
    ['not JSON', '{"a": ', 0, undefined, /is not JSON/],
    ['not an object', [1], 0, undefined, /not a JSON object/],
  ])('%s is refused', async (_, json, bytes, length, message) => {
    await expect(header(json, bytes, length)).rejects.toThrow(
      expect.objectContaining({ code: 'model_invalid', message: expect.stringMatching(message) }),
    );
  });

  test('an empty file and a file of 7 bytes are refused', async () => {
    for (const bytes of [0, 7]) await expect(readSafetensorsHeader(readerOfBytes('x', new Uint8Array(bytes)))).rejects.toThrow(/truncated/);
  });

  test('hundreds of damaged headers: an error or a sound result, never anything else', async () => {
    const random = new Random(1);
    const good = safetensors({ a: entry(0, 64, [4, 4]), b: entry(64, 96, [8]), c: entry(96, 104, [4], 'F16') }, 104);
    let errors = 0;
    for (let i = 0; i < 600; i++) {
      const bytes = good.slice();
      for (let n = random.int(1, 4); n > 0; n--)
        bytes[random.int(0, bytes.length - 105)] = random.next() < 0.5 ? random.int(0, 255) : random.pick([...'0123456789-[]{},:"']).charCodeAt(0);
      const file = random.next() < 0.2 ? bytes.slice(0, random.int(0, bytes.length)) : bytes;
      try {
        for (const tensor of await readSafetensorsHeader(readerOfBytes('x', file))) {
          expect(tensor.offset + tensor.bytes).toBeLessThanOrEqual(file.length);
          expect((await readTensor(tensor, 0, tensor.bytes)).length).toBe(tensor.bytes);
        }
      } catch (error) {
        expect(error).toMatchObject({ name: 'InputError', code: 'model_invalid' });
        errors++;
      }
    }
    expect(errors).toBeGreaterThan(300);
  });

  test('an index that names files outside the folder, absent files or absent tensors is refused', async () => {
    const open = (map: object, more = {}) =>
      openSafetensors(
        memoryFiles({ 'model.safetensors.index.json': { weight_map: map }, 'a.safetensors': safetensors({ a: entry(0, 4) }, 4), ...more }),
      );
    await expect(open({ a: '../a.safetensors' })).rejects.toThrow(/outside the folder/);
    await expect(open({ a: 'b.safetensors' })).rejects.toThrow(/b\.safetensors is missing/);
    await expect(open({ a: 'a.safetensors', b: 'a.safetensors' })).rejects.toThrow(/a\.safetensors has no tensor b/);
    await expect(openSafetensors(memoryFiles({}))).rejects.toThrow(/neither model\.safetensors nor/);
    expect([...(await open({ a: 'a.safetensors' })).tensors.keys()]).toEqual(['a']);
  });
});

/** A model of one layer whose every number is known: tensor t holds 0, 1, 2, … in f32. */
function tinyFiles(): { config: ModelConfig; files: ReturnType<typeof memoryFiles> } {
  const config = configFromHuggingFace({
    model_type: 'llama',
    vocab_size: 6,
    hidden_size: 32,
    intermediate_size: 32,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 4,
    tie_word_embeddings: true,
  });
  const shapes: Record<string, number[]> = {
    'model.embed_tokens.weight': [6, 32],
    'model.layers.0.input_layernorm.weight': [32],
    'model.layers.0.self_attn.q_proj.weight': [8, 32],
    'model.layers.0.self_attn.k_proj.weight': [4, 32],
    'model.layers.0.self_attn.v_proj.weight': [4, 32],
    'model.layers.0.self_attn.o_proj.weight': [32, 8],
    'model.layers.0.post_attention_layernorm.weight': [32],
    'model.layers.0.mlp.gate_proj.weight': [32, 32],
    'model.layers.0.mlp.up_proj.weight': [32, 32],
    'model.layers.0.mlp.down_proj.weight': [32, 32],
    'model.norm.weight': [32],
  };
  const entries: Record<string, ReturnType<typeof entry>> = {};
  let at = 0;
  for (const [name, shape] of Object.entries(shapes)) {
    const bytes = shape.reduce((a, b) => a * b, 4);
    entries[name] = entry(at, at + bytes, shape);
    at += bytes;
  }
  const end = Math.max(...Object.values(entries).map((e) => e.data_offsets[1]));
  const file = safetensors(entries, end);
  const data = new DataView(file.buffer, file.length - end);
  for (const {
    data_offsets: [begin, stop],
  } of Object.values(entries))
    for (let i = 0; begin + i * 4 < stop; i++) data.setFloat32(begin + i * 4, i, true);
  return { config, files: memoryFiles({ 'model.safetensors': file }) };
}

describe('planWeights', () => {
  test('tensors follow each other in arena order, aligned to 64 bytes, without overlap', async () => {
    const { config, files } = tinyFiles();
    const plan = planWeights(config, await openSafetensors(files), {});
    expect(plan.tensors.map(({ name }) => name)).toEqual([
      'embed',
      ...['attn_norm', 'q', 'k', 'v', 'o', 'ffn_norm', 'gate', 'up', 'down'].map((part) => `layers.0.${part}`),
      'final_norm',
    ]);
    let end = 0;
    for (const tensor of plan.tensors) {
      expect(tensor.offset % 64).toBe(0);
      expect(tensor.offset).toBeGreaterThanOrEqual(end);
      end = tensor.offset + tensor.bytes;
    }
    expect(plan.bytes).toBe(Math.ceil(end / 64) * 64);
  });

  test('quantize takes every matrix with whole blocks, and leaves the others and the vectors', async () => {
    const { config, files } = tinyFiles();
    const plan = planWeights(config, await openSafetensors(files), { quantize: 'q8' });
    const type = (name: string) => arenaTensor(plan, name).type;
    expect(['embed', 'layers.0.q', 'layers.0.o', 'layers.0.attn_norm', 'final_norm'].map(type)).toEqual(['q8', 'q8', 'f32', 'f32', 'f32']); // o has rows of 8
    expect(arenaTensor(plan, 'embed').bytes).toBe(2 * 136); // 6 rows in 2 groups of 4, 1 block
  });

  const q = 'model.layers.0.self_attn.q_proj.weight';
  const norm = 'model.norm.weight';
  test.each<[string, (tensors: Map<string, SourceTensor>) => void, string, RegExp]>([
    ['a missing tensor', (t) => t.delete(norm), 'model_invalid', /tensor model\.norm\.weight is missing, \[32\] is expected/],
    [
      'a wrong shape',
      (t) => t.set(q, { ...t.get(q)!, shape: [32, 8] }),
      'model_invalid',
      /q_proj\.weight has shape \[32, 8\], \[8, 32\] is expected/,
    ],
    [
      'a wrong rank',
      (t) => t.set(norm, { ...t.get(norm)!, shape: [1, 32] }),
      'model_invalid',
      /model\.norm\.weight has shape \[1, 32\], \[32\] is expected/,
    ],
    [
      'an unknown element type',
      (t) => t.set(norm, { ...t.get(norm)!, type: 'I32' }),
      'model_unsupported',
      /model\.norm\.weight has type I32; supported are F32, F16, BF16/,
    ],
    [
      'a tensor with no place',
      (t) => t.set(q.replace('weight', 'bias'), t.get(norm)!),
      'model_unsupported',
      /q_proj\.bias has no place in a llama model/,
    ],
    ['a quantised norm', (t) => t.set(norm, { ...t.get(norm)!, type: 'Q8_0' }), 'model_unsupported', /norms and biases must be F32, F16 or BF16/],
  ])('%s is refused by its name', async (_, change, code, message) => {
    const { config, files } = tinyFiles();
    const source = await openSafetensors(files);
    const tensors = new Map(source.tensors);
    change(tensors);
    expect(() => planWeights(config, { ...source, tensors }, {})).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }));
  });

  test('copies of inv_freq and a head beside tied embeddings are passed over', async () => {
    const { config, files } = tinyFiles();
    const source = await openSafetensors(files);
    const tensors = new Map(source.tensors);
    tensors.set('model.layers.0.self_attn.rotary_emb.inv_freq', tensors.get('model.norm.weight')!);
    tensors.set('lm_head.weight', tensors.get('model.embed_tokens.weight')!);
    expect(planWeights(config, { ...source, tensors }, {}).tensors).toHaveLength(11);
  });

  test('a quantised matrix needs rows of whole blocks of 32', async () => {
    const { config, files } = tinyFiles();
    const source = await openSafetensors(files);
    const tensors = new Map(source.tensors);
    tensors.set('model.layers.0.self_attn.o_proj.weight', { ...tensors.get('model.layers.0.self_attn.o_proj.weight')!, type: 'Q8_0' });
    expect(() => planWeights(config, { ...source, tensors }, {})).toThrow(/o_proj\.weight has rows of 8; quantised rows must be a multiple of 32/);
  });
});

describe('weights in the arena', () => {
  const values = (arena: Uint8Array, layout: Parameters<typeof arenaTensor>[0], name: string) => {
    const t = arenaTensor(layout, name);
    return unpack(t.type, arena.slice(t.offset, t.offset + t.bytes), t.rows, t.cols);
  };

  test('every value of a plain model arrives, whatever the chunks', async () => {
    const { config, files } = tinyFiles();
    const arena = memoryArena();
    const model = await loadOpened('tiny', { config, source: await openSafetensors(files), tokenizer: null }, {}, arena.make);
    for (const { name, rows, cols } of model.layout.tensors)
      expect(values(arena.bytes, model.layout, name)).toEqual(Float32Array.from({ length: rows * cols }, (_, i) => i));
  });

  test('one file and two shards give the same arena and the same fingerprint', async () => {
    const load = async (name: string) => {
      const arena = memoryArena();
      const opened = await openHuggingFaceModel(openFolder(path(`golden/models/${name}`)));
      const model = await loadOpened(name, opened, {}, arena.make);
      await opened.source.close();
      return { model, arena };
    };
    const [one, two] = [await load('llama'), await load('llama-sharded')];
    expect(Buffer.compare(one.arena.bytes, two.arena.bytes)).toBe(0);
    expect(one.model.fingerprint).toBe(two.model.fingerprint);
    expect((await load('llama-linear')).model.fingerprint).not.toBe(one.model.fingerprint);
  });

  test.each(['llama', 'llama3', 'mistral', 'qwen2', 'qwen3'])('%s: the arena holds exactly the bytes of the file', async (name) => {
    const arena = memoryArena();
    const opened = await openHuggingFaceModel(openFolder(path(`golden/models/${name}`)));
    const model = await loadOpened(name, opened, {}, arena.make);
    const plan = planWeights(opened.config, opened.source, {});
    for (const { name: tensor, source, rows, cols, type } of plan.tensors) {
      const file = await readTensor(source, 0, source.bytes);
      if (type === 'f32' && source.type !== 'F32')
        expect(values(arena.bytes, model.layout, tensor)).toEqual(dequantizeGguf(source.type as GgufType, file, rows * cols));
      else {
        const t = arenaTensor(model.layout, tensor);
        expect(Buffer.compare(arena.bytes.subarray(t.offset, t.offset + t.bytes), file)).toBe(0);
      }
    }
    await opened.source.close();
  });

  test('quantised by option: close to the plain values, block by block', async () => {
    const load = async (quantize: 'q8' | 'q4' | null) => {
      const arena = memoryArena();
      const opened = await openHuggingFaceModel(openFolder(path('golden/models/llama')));
      const model = await loadOpened('llama', opened, { quantize }, arena.make);
      await opened.source.close();
      return (name: string) => values(arena.bytes, model.layout, name);
    };
    const [plain, q8, q4] = [await load(null), await load('q8'), await load('q4')];
    for (const name of ['embed', 'layers.0.q', 'layers.1.down', 'head']) {
      const exact = plain(name);
      const top = Math.max(...exact.map(Math.abs));
      const worst = (other: Float32Array) => Math.max(...other.map((x, i) => Math.abs(x - exact[i])));
      expect(worst(q8(name))).toBeLessThan(top / 250);
      expect(worst(q4(name))).toBeLessThan(top / 5);
    }
    expect(q8('final_norm')).toEqual(plain('final_norm'));
  });
});

describe('GGUF', () => {
  const open = async (name: string) => openGgufModel(await openFile(path(`golden/gguf/${name}.gguf`)));

  test.each(['tiny-llama', 'tiny-qwen2'])(
    '%s: every tensor stands for the values of its blocks, rows of q and k in half-split order',
    async (name) => {
      const opened = await open(name);
      const arena = memoryArena();
      const model = await loadOpened(name, opened, {}, arena.make);
      const { headDim } = opened.config;
      for (const t of planWeights(opened.config, opened.source, {}).tensors) {
        const exact = dequantizeGguf(t.source.type as GgufType, await readTensor(t.source, 0, t.source.bytes), t.rows * t.cols);
        const got = unpack(t.type, arena.bytes.slice(t.offset, t.offset + t.bytes), t.rows, t.cols);
        const permuted = name === 'tiny-llama' && /\.[qk]$/.test(t.name);
        expect(t.interleavedHead).toBe(permuted ? headDim : 0);
        const top = exact.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
        const tolerance = ['Q5_K', 'Q6_K'].includes(t.source.type) ? top / 250 : t.source.type === 'Q4_K' ? top / 1000 : 0;
        for (let row = 0; row < t.rows; row++) {
          // half-split row p * d/2 + i of a head is interleaved row 2i + p
          const within = row % headDim;
          const from = permuted ? row - within + 2 * (within % (headDim / 2)) + Math.floor(within / (headDim / 2)) : row;
          for (let c = 0; c < t.cols; c++)
            if (Math.abs(got[row * t.cols + c] - exact[from * t.cols + c]) > tolerance)
              expect.fail(`${t.name} [${row}, ${c}]: ${got[row * t.cols + c]} is not ${exact[from * t.cols + c]}`);
        }
      }
      expect(model.layout.bytes).toBe(arena.bytes.length);
      await opened.source.close();
    },
  );

  test.each(['tiny-llama', 'tiny-qwen2'])('%s: metadata and tensors are those that @huggingface/gguf reads', async (name) => {
    const reference = await gguf(path(`golden/gguf/${name}.gguf`), { allowLocalFile: true });
    const file = await openFile(path(`golden/gguf/${name}.gguf`));
    const { metadata, source } = await openGguf(file);
    const { version: _, tensor_count: __, kv_count: ___, ...expected } = reference.metadata as Record<string, unknown>;
    expect(Object.fromEntries(metadata)).toEqual(expected);
    expect([...source.tensors.values()].map((t) => [t.name, t.type, t.shape, t.offset])).toEqual(
      reference.tensorInfos.map((t) => [
        t.name,
        GGMLQuantizationType[t.dtype],
        t.shape.map(Number).reverse(),
        Number(reference.tensorDataOffset + t.offset),
      ]),
    );
    await file.close?.();
  });

  test('the header is read in pieces: strings and numbers across their borders arrive whole', async () => {
    // one list of 200,000 strings, 3.4 MB: several pieces
    const strings = Array.from({ length: 200_000 }, (_, i) => `token-${i}-é`);
    const encoder = new TextEncoder();
    const text = (value: string) => {
      const bytes = encoder.encode(value);
      return [u64(bytes.length), bytes];
    };
    const u32 = (value: number) => new Uint8Array(Uint32Array.of(value).buffer);
    const u64 = (value: number) => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
    const parts = [
      encoder.encode('GGUF'),
      u32(3),
      u64(0),
      u64(2),
      ...text('list'),
      u32(9),
      u32(8),
      u64(strings.length),
      ...strings.flatMap(text),
      ...text('after'),
      u32(4),
      u32(77),
    ];
    const { metadata } = await openGguf(readerOfBlob('x', new Blob(parts)));
    expect(metadata.get('list')).toEqual(strings);
    expect(metadata.get('after')).toBe(77);
  });

  test('a list of millions of numbers is not read one by one, and arrives whole', async () => {
    const numbers = Uint8Array.from({ length: 4_000_000 }, (_, i) => i % 251);
    const key = new TextEncoder().encode('list');
    const u64 = (value: number) => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
    const u32 = (...values: number[]) => new Uint8Array(Uint32Array.from(values).buffer);
    const parts = [new TextEncoder().encode('GGUF'), u32(3), u64(0), u64(1), u64(key.length), key, u32(9, 0), u64(numbers.length), numbers];
    const reads = vi.spyOn(Blob.prototype, 'slice');
    const { metadata } = await openGguf(readerOfBlob('x', new Blob(parts)));
    expect(reads.mock.calls.length).toBeLessThan(100);
    reads.mockRestore();
    const list = metadata.get('list') as number[];
    expect(list).toHaveLength(numbers.length);
    expect(list.every((x, i) => x === numbers[i])).toBe(true);
  });

  test('a file in a Blob reads like a file on disk', async () => {
    const bytes = readFileSync(path('golden/gguf/tiny-qwen2.gguf'));
    const opened = await openGgufModel(readerOfBlob('x.gguf', new Blob([bytes])));
    const onDisk = await open('tiny-qwen2');
    expect(opened.config).toEqual(onDisk.config);
    await onDisk.source.close();
  });

  test.each<[string, (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>, RegExp]>([
    ['cut in the data', (b) => b.slice(0, b.length - 1000), /truncated: tensor \S+ ends at byte/],
    ['cut in the header', (b) => b.slice(0, 20000), /truncated/],
    ['cut to nothing', (b) => b.slice(0, 10), /truncated: 10 bytes/],
    [
      'a count of tensors that is one too small',
      (b) => b.fill(b[8] - 1, 8, 9),
      /bytes after \S+ belong to nothing, at most 32 are expected; the header lists \d+ tensors/,
    ],
    [
      'a tensor without dimensions',
      (b) => {
        const name = Buffer.from(b).lastIndexOf('output_norm.weight');
        return b.fill(0, name + 'output_norm.weight'.length, name + 'output_norm.weight'.length + 4);
      },
      /tensor output_norm\.weight has 0 dimensions, 1 to 4 are expected/,
    ],
    ['bytes behind the tensors', (b) => new Uint8Array([...b, ...new Uint8Array(100)]), /belong to nothing/],
    ['another format', (b) => b.fill(0x20, 0, 4), /not a GGUF file/],
    ['a version of the future', (b) => b.fill(9, 4, 5), /GGUF version 9 is not supported/],
  ])('%s is refused', async (_, change, message) => {
    const bytes = change(new Uint8Array(readFileSync(path('golden/gguf/tiny-qwen2.gguf'))));
    await expect(openGgufModel(readerOfBytes('x.gguf', bytes))).rejects.toThrow(
      expect.objectContaining({ code: 'model_invalid', message: expect.stringMatching(message) }),
    );
  });

  test('hundreds of damaged headers: an error or tensors inside the file', async () => {
    const random = new Random(2);
    const good = new Uint8Array(readFileSync(path('golden/gguf/tiny-qwen2.gguf')));
    const { source } = await openGguf(readerOfBytes('x', good));
    const dataStart = Math.min(...[...source.tensors.values()].map((t) => t.offset));
    let errors = 0;
    for (let i = 0; i < 300; i++) {
      const bytes = good.slice();
      // half of the damage where the numbers are: the first bytes, and the list of tensors at the end of the header
      for (let n = random.int(1, 6); n > 0; n--)
        bytes[random.pick([random.int(0, 400), random.int(dataStart - 1700, dataStart - 1), random.int(0, dataStart)])] = random.int(0, 255);
      try {
        const opened = await openGgufModel(readerOfBytes('x', bytes));
        for (const t of opened.source.tensors.values()) expect(t.offset + t.bytes).toBeLessThanOrEqual(bytes.length);
        planWeights(opened.config, opened.source, {});
      } catch (error) {
        if ((error as Error).name !== 'InputError') throw error;
        errors++;
      }
    }
    expect(errors).toBeGreaterThan(150);
  });
});
