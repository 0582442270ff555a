import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packModel } from '../cli/pack.ts';
import { type Manifest, manifestDigest, parseManifest } from '../worker/engine/weights/manifest.ts';
import { openModelPath, packedFolder } from '../worker/engine/weights/node-files.ts';
import { loadOpened } from '../worker/engine/weights/open-model.ts';
import { type FetchAsset, loadPacked } from '../worker/engine/weights/packed.ts';
import { planWeights } from '../worker/engine/weights/plan.ts';
import { memoryArena } from './fixtures/memory-files.ts';
import { Random } from './support/random.ts';

const path = (name: string) => new URL(name, import.meta.url).pathname;
const work = mkdtempSync(join(tmpdir(), 'edgepress-pack-'));
afterAll(() => rmSync(work, { recursive: true }));

/** Serves a folder, with some files replaced. */
function serve(folder: string, replaced: Record<string, Uint8Array<ArrayBuffer> | null> = {}): FetchAsset {
  return async (name) => {
    if (Object.hasOwn(replaced, name)) return replaced[name] ? new Response(replaced[name]) : new Response('no such asset', { status: 404 });
    return new Response(readFileSync(join(folder, name)));
  };
}

async function loadDirectly(model: string, quantize: 'q8' | 'q4' | null = null) {
  const arena = memoryArena();
  const opened = await openModelPath(path(model));
  const loaded = await loadOpened('direct', opened, { quantize }, arena.make);
  await opened.source.close();
  return { arena: arena.bytes, loaded };
}

describe('a packed model', () => {
  test.each<[string, 'q8' | 'q4' | null, number]>([
    ['../models/needle', null, 16 << 20],
    ['../models/needle', 'q4', 1 << 20],
    ['golden/models/llama-sharded', null, 100_000],
    ['golden/models/qwen2', 'q8', 4096],
    ['golden/gguf/tiny-llama.gguf', null, 65_536],
    ['golden/gguf/tiny-qwen2.gguf', null, 65_537],
  ])('%s, quantize %s: loads byte for byte as its source does, with the same fingerprint', async (model, quantize, shardBytes) => {
    const out = mkdtempSync(join(work, 'round-'));
    const manifest = await packModel(path(model), out, { quantize, shardBytes, name: 'direct' });
    for (const shard of manifest.shards) expect(statSync(join(out, shard.file)).size).toBe(shard.bytes);
    const { arena, loaded } = await loadDirectly(model, quantize);
    const packed = memoryArena();
    const seen: number[] = [];
    const model2 = await loadPacked(serve(out), packed.make, ({ doneBytes, totalBytes }) => seen.push(doneBytes / totalBytes));
    expect(Buffer.compare(packed.bytes, arena)).toBe(0);
    expect(model2).toEqual(loaded);
    expect(seen).toHaveLength(manifest.shards.length);
    expect(seen.at(-1)).toBe(1);
  });

  test('an arena that cannot be seen (a GPU) gets the same bytes, shard by shard', async () => {
    const out = mkdtempSync(join(work, 'blind-'));
    await packModel(path('golden/models/llama'), out, { shardBytes: 100_000 });
    const { arena } = await loadDirectly('golden/models/llama');
    let bytes = new Uint8Array(0);
    const sizes: number[] = [];
    await loadPacked(serve(out), ({ layout }) => {
      bytes = new Uint8Array(layout.bytes);
      return {
        write: (offset, part) => {
          bytes.set(part, offset);
          sizes.push(part.length);
        },
      };
    });
    expect(Buffer.compare(bytes, arena)).toBe(0);
    expect(sizes.every((size) => size <= 100_000)).toBe(true);
  });

  test('a second run replaces the first, and leaves nothing of it', async () => {
    const out = mkdtempSync(join(work, 'again-'));
    await packModel(path('golden/models/llama'), out, { shardBytes: 50_000 });
    const before = readdirSync(out).length;
    await packModel(path('golden/models/qwen3'), out, { shardBytes: 200_000 });
    expect(before).toBeGreaterThan(8);
    expect(readdirSync(out).sort()).toEqual(['manifest.json', 'weights-000.bin', 'weights-001.bin']);
    expect((await loadPacked(serve(out), memoryArena().make)).config.family).toBe('qwen3');
  });

  test('a run that fails leaves the packed model that was there', async () => {
    const out = mkdtempSync(join(work, 'fails-'));
    await packModel(path('golden/models/llama'), out);
    const files = readdirSync(out);
    const bad = mkdtempSync(join(work, 'bad-'));
    for (const file of ['config.json', 'model.safetensors']) writeFileSync(join(bad, file), readFileSync(path(`golden/models/llama/${file}`)));
    writeFileSync(join(bad, 'tokenizer.json'), '{');
    await expect(packModel(bad, out)).rejects.toThrow(/tokenizer\.json is not JSON/);
    await expect(
      packModel(path('golden/models/llama'), out, {}, () => {
        throw new Error('stopped');
      }),
    ).rejects.toThrow('stopped');
    expect(readdirSync(out)).toEqual(files);
    expect((await loadPacked(serve(out), memoryArena().make)).config.family).toBe('llama');
  });

  test('embedding q4: the embedding alone in 4 bits, whatever the file has; the manifest and the loaded model tell; nothing to save is refused', async () => {
    const out = mkdtempSync(join(work, 'embedding-'));
    const plain = await packModel(path('../models/needle'), mkdtempSync(join(work, 'plain-')));
    const manifest = await packModel(path('../models/needle'), out, { embedding: 'q4' });
    expect(plain.requantised).toBeUndefined();
    expect(manifest.requantised).toEqual(['embed: F16 to q4']);
    expect(manifest.tensors.map(({ type }) => type)).toEqual(plain.tensors.map(({ name, type }) => (name === 'embed' ? 'q4' : type)));
    expect(manifest.fingerprint).not.toBe(plain.fingerprint);
    expect(await loadPacked(serve(out), memoryArena().make)).toMatchObject({ requantised: ['embed: F16 to q4'] });

    const { config, source } = await openModelPath(path('golden/gguf/tiny-llama.gguf'));
    const asType = (type: string) => ({
      ...source,
      tensors: new Map([...source.tensors].map(([name, tensor]) => [name, { ...tensor, type }] as const)),
    });
    const vectors = (plan: ReturnType<typeof asType>) => {
      for (const [name, tensor] of plan.tensors) if (tensor.shape.length === 1) plan.tensors.set(name, { ...tensor, type: 'F32' });
      return plan;
    };
    expect(planWeights(config, vectors(asType('Q8_0')), { embedding: 'q4' }).tensors[0].type).toBe('q4');
    expect(() => planWeights(config, vectors(asType('Q4_1')), { embedding: 'q8' })).toThrow(
      /embedding "q8" would save nothing: the file holds it as Q4_1/,
    );
    await source.close();
  });

  test('quantising what is quantised already is refused', async () => {
    const { config, source } = await openModelPath(path('golden/gguf/tiny-llama.gguf'));
    const quantised = [...source.tensors].map(([name, tensor]) => [name, tensor.type === 'F16' ? { ...tensor, type: 'Q8_0' } : tensor] as const);
    expect(() => planWeights(config, { ...source, tensors: new Map(quantised) }, { quantize: 'q4' })).toThrow(/quantize "q4" would change nothing/);
    await source.close();
  });

  test('a folder that cannot be made is refused, and folders above it are made', async () => {
    const refused = (message: RegExp) => expect.objectContaining({ code: 'pack_out', message: expect.stringMatching(message) });
    const model = path('golden/models/llama');
    writeFileSync(join(work, 'a-file'), '');
    for (const out of ['a-file', 'a-file/x', 'a-file/x/y'])
      await expect(packModel(model, join(work, out))).rejects.toThrow(refused(/is, or lies in, a file; give a folder/));
    if (existsSync('/proc/self')) {
      await expect(packModel(model, '/proc/x')).rejects.toThrow(refused(/^\/proc\/x cannot be made: ENOENT/));
      await expect(packModel(model, '/proc/x/y')).rejects.toThrow(refused(/cannot be made/));
    }
    await packModel(model, join(work, 'new/in/new'));
    expect(readdirSync(join(work, 'new/in/new'))).toContain('manifest.json');
  });

  test('shards above the asset limit, and paths without a model, are refused', async () => {
    await expect(packModel(path('golden/models/llama'), work, { shardBytes: 30 << 20 })).rejects.toThrow(
      /between 64 bytes and 25 MiB, the asset limit; got 31457280 bytes/,
    );
    await expect(packModel(join(work, 'nowhere'), work)).rejects.toThrow(expect.objectContaining({ code: 'model_not_found' }));
  });
});

describe('a damaged packed model', () => {
  const out = join(work, 'damaged');
  let manifest: Manifest;
  const shard = (i: number) => new Uint8Array(readFileSync(join(out, `weights-00${i}.bin`)));
  const load = (replaced: Record<string, Uint8Array<ArrayBuffer> | null>) => loadPacked(serve(out, replaced), memoryArena().make);
  beforeAll(async () => {
    manifest = await packModel(path('../models/needle'), out, { shardBytes: 1 << 20, quantize: 'q4' });
  });

  test('one wrong bit: refused with the shard and both hashes', async () => {
    const bytes = shard(1);
    bytes[1000] ^= 4;
    const error = await load({ 'weights-001.bin': bytes }).catch((e: Error) => e);
    expect(error).toMatchObject({ name: 'InputError', code: 'model_invalid' });
    expect((error as Error).message).toMatch(/shard weights-001\.bin is damaged: SHA-256 [0-9a-f]{64}, [0-9a-f]{64} is expected/);
    expect((error as Error).message).toContain(manifest.shards[1].sha256);
  });

  test.each([
    ['weights-001.bin', 'shard weights-001.bin'],
    ['tokenizer.json', 'tokenizer.json'],
    ['manifest.json', 'manifest.json'],
  ])('on a disk without %s, or with a folder in its place', async (file, what) => {
    const folder = mkdtempSync(join(work, 'disk-'));
    cpSync(out, folder, { recursive: true });
    expect((await loadPacked(packedFolder(folder), memoryArena().make)).fingerprint).toBe(manifest.fingerprint);
    const refusal = (message: string) => expect.objectContaining({ code: 'model_invalid', message: expect.stringContaining(message) });
    rmSync(join(folder, file));
    await expect(loadPacked(packedFolder(folder), memoryArena().make)).rejects.toThrow(refusal(`${what} is missing in ${folder}`));
    mkdirSync(join(folder, file));
    await expect(loadPacked(packedFolder(folder), memoryArena().make)).rejects.toThrow(
      refusal(`${what} in ${folder} is a folder, a file is expected`),
    );
  });

  test('a truncated shard, an absent shard, an empty one', async () => {
    await expect(load({ 'weights-000.bin': shard(0).slice(0, 1000) })).rejects.toThrow(/shard weights-000\.bin is truncated: 1000 of 1048576 bytes/);
    await expect(load({ 'weights-000.bin': null })).rejects.toThrow(/weights-000\.bin cannot be read: status 404/);
    await expect(load({ 'weights-000.bin': new Uint8Array(0) })).rejects.toThrow(/weights-000\.bin is truncated: 0 of/);
  });

  test('a shard that goes on and on is cut off at its length', async () => {
    let pulled = 0;
    let cancelled = false;
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        pulled++;
        controller.enqueue(new Uint8Array(65536));
      },
      cancel: () => {
        cancelled = true;
      },
    });
    const fetchAsset: FetchAsset = async (name) => (name === 'weights-000.bin' ? endless : serve(out)(name));
    await expect(loadPacked(fetchAsset, memoryArena().make)).rejects.toThrow(/weights-000\.bin is too long: more than 1048576 bytes/);
    expect(cancelled).toBe(true);
    expect(pulled).toBeLessThan(20);
  });

  test('a damaged tokenizer is refused, and so is a manifest that is not one', async () => {
    const tokenizer = new Uint8Array(readFileSync(join(out, 'tokenizer.json')));
    tokenizer[100] ^= 1;
    await expect(load({ 'tokenizer.json': tokenizer })).rejects.toThrow(/tokenizer\.json is damaged: SHA-256/);
    await expect(load({ 'tokenizer.json': tokenizer.slice(0, 50) })).rejects.toThrow(/tokenizer\.json is truncated: 50 of/);
    await expect(load({ 'manifest.json': new TextEncoder().encode('<html>') })).rejects.toThrow(/manifest\.json is not JSON/);
    await expect(load({ 'manifest.json': null })).rejects.toThrow(/manifest\.json cannot be read: status 404/);
  });

  test.each<[string, (m: Manifest) => void]>([
    ['the fingerprint', (m) => Object.assign(m, { fingerprint: '0'.repeat(64) })],
    ['the tokens that end an answer', (m) => Object.assign(m.config, { eosIds: [99] })],
    ['a setting that no weight shows', (m) => Object.assign(m.config, { normEps: 0.5 })],
    ['name', (m) => Object.assign(m, { name: 'other' })],
  ])('a manifest whose %s was changed is refused by its name', async (_, change) => {
    const changed = structuredClone(manifest);
    change(changed);
    await expect(load({ 'manifest.json': new TextEncoder().encode(JSON.stringify(changed)) })).rejects.toThrow(
      expect.objectContaining({ code: 'model_invalid', message: expect.stringMatching(/^manifest\.json is damaged or was edited: its SHA-256 is/) }),
    );
  });

  test.each<[string, (m: Manifest) => void, RegExp]>([
    [
      'no seal of its own',
      (m) => Reflect.deleteProperty(m, 'sha256'),
      /^manifest\.json: sha256: is missing: an earlier version packed this model; pack it again/,
    ],
    ['a later version', (m) => Object.assign(m, { version: 2 }), /version/],
    [
      'a shard beyond the arena',
      (m) => {
        m.shards[1].offset = 2 ** 31;
      },
      /shard weights-001\.bin begins at 2147483648/,
    ],
    [
      'shards that overlap',
      (m) => {
        m.shards[1].offset -= 64;
      },
      /begins at/,
    ],
    [
      'a negative offset',
      (m) => {
        m.shards[0].offset = -1;
      },
      /shards\.0\.offset/,
    ],
    [
      'a shard longer than an asset',
      (m) => {
        m.shards[0].bytes = 26 << 20;
      },
      /shards\.0\.bytes/,
    ],
    [
      'a shard with a path',
      (m) => {
        m.shards[0].file = '../weights-000.bin';
      },
      /must be weights-NNN\.bin/,
    ],
    [
      'one file twice',
      (m) => {
        m.shards[1].file = m.shards[0].file;
      },
      /appears twice/,
    ],
    ['a missing shard', (m) => void m.shards.pop(), /the shards hold/],
    [
      'a tensor elsewhere',
      (m) => {
        m.tensors[3].offset += 64;
      },
      /tensor layers\.0\.k lies at/,
    ],
    [
      'a tensor larger than its type and shape',
      (m) => {
        m.tensors[3].bytes += 80;
      },
      /tensor layers\.0\.k has/,
    ],
    [
      'a tensor of another shape',
      (m) => {
        m.tensors[3].rows += 1;
      },
      /tensor layers\.0\.k has shape/,
    ],
    [
      'a tensor of another name',
      (m) => {
        m.tensors[3].name = 'layers.0.q';
      },
      /tensor 3 is layers\.0\.q, layers\.0\.k is expected/,
    ],
    [
      'a norm of another type',
      (m) => {
        m.tensors[1].type = 'f16';
      },
      /tensor layers\.0\.attn_norm has type f16, f32 is expected/,
    ],
    ['tensors missing', (m) => void m.tensors.pop(), /55 tensors, a llama model of this config has 56/],
    [
      'an arena of another size',
      (m) => {
        m.arenaBytes += 64;
      },
      /arenaBytes/,
    ],
    [
      'a config that makes no sense',
      (m) => {
        m.config.kvHeads = 5;
      },
      /config\.queryHeads: must be a multiple of kvHeads \(5\)/,
    ],
    [
      'a token beyond the vocabulary to end on',
      (m) => {
        m.config.eosIds = [99999];
      },
      /config\.eosIds: 99999 is not in the vocabulary of 1536/,
    ],
    [
      'a first token beyond the vocabulary',
      (m) => {
        m.config.bosId = 1536;
      },
      /config\.bosId: 1536 is not in the vocabulary of 1536/,
    ],
    [
      'a RoPE base below one',
      (m) => {
        m.config.rope.theta = 1e-300;
      },
      /config\.rope\.theta/,
    ],
    [
      'a config of another model',
      (m) => {
        m.config.layers = 7;
      },
      /config\.slidingWindow/,
    ],
  ])('a manifest with %s is refused', (_, change, message) => {
    const changed = structuredClone(manifest);
    change(changed);
    expect(() => parseManifest(changed)).toThrow(expect.objectContaining({ code: 'model_invalid', message: expect.stringMatching(message) }));
  });

  test('hundreds of changed manifests: refused, or loaded without a byte outside the arena', async () => {
    const random = new Random(3);
    const values = [0, 1, -1, 64, 2 ** 31, 2 ** 53, 1e300, Number.NaN, null, '', 'x', [], {}, true];
    // every place in the manifest's tree, long lists by a few of their members
    const places = (value: unknown, at: (string | number)[] = []): (string | number)[][] =>
      value !== null && typeof value === 'object'
        ? Object.entries(value)
            .slice(0, 12)
            .flatMap(([key, inner]) => [[...at, key], ...places(inner, [...at, key])])
        : [];
    const all = places(manifest);
    let refused = 0;
    for (let i = 0; i < 500; i++) {
      const changed = JSON.parse(JSON.stringify(manifest));
      for (let n = random.int(1, 3); n > 0; n--) {
        const at = random.pick(all);
        const owner = at.slice(0, -1).reduce((o, key) => (o as Record<string, unknown> | undefined)?.[key] as object | undefined, changed);
        if (owner !== null && typeof owner === 'object')
          (owner as Record<string, unknown>)[at.at(-1)!] =
            typeof (owner as Record<string, unknown>)[at.at(-1)!] === 'number' && random.next() < 0.5
              ? random.int(-100, 100_000)
              : structuredClone(random.pick(values));
      }
      // Sealed again, as whoever means harm would.
      if (changed !== null && typeof changed === 'object') changed.sha256 = await manifestDigest(changed);
      let size = 0;
      const arena = ({ layout: { bytes } }: { layout: { bytes: number } }) => {
        size = bytes;
        expect(bytes).toBeLessThan(8 << 20); // the tensors of this config need 2 MiB; no manifest talks us into more
        const memory = new Uint8Array(bytes);
        return {
          write: (offset: number, part: Uint8Array) => {
            expect(offset + part.length).toBeLessThanOrEqual(size);
            memory.set(part, offset);
          },
          view: (offset: number, length: number) => memory.subarray(offset, offset + length),
        };
      };
      try {
        await loadPacked(serve(out, { 'manifest.json': new TextEncoder().encode(JSON.stringify(changed)) }), arena);
      } catch (error) {
        expect(error).toMatchObject({ name: 'InputError' });
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(350);
  });
});
