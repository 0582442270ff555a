/** The device goes away, refuses a command, has no memory left: whoever asked is told, everything is given back, and the next request is served. */
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { createApp } from '../../worker/api/app.ts';
import type { WebGpuBackend } from '../../worker/backend/webgpu.ts';
import type { EdgeEngine } from '../../worker/engine/engine.ts';
import { EngineSupply } from '../../worker/engine/supply.ts';
import { openSupply } from '../../worker/node.ts';
import { requestOf } from '../support/generation.ts';
import { tokensOf } from '../support/golden.ts';
import { testGpu } from '../support/gpu.ts';
import { openOnGpu } from '../support/gpu-backends.ts';

const prompt = Array.from({ length: 160 }, (_, i) => 5 + i);
const settings = { contextLength: 600 };

let answer: number[]; // to the prompt, of an engine that nothing happens to
beforeAll(async () => {
  const { engine } = await openOnGpu('needle', settings);
  answer = await tokensOf(engine, prompt, 'snapkv', { maxTokens: 40 });
  engine.close();
});

/** An engine whose device can be taken away; what comes after it is noted too. */
async function supplied(): Promise<{ supply: EngineSupply; backends: WebGpuBackend[] }> {
  const backends: WebGpuBackend[] = [];
  const open = async (): Promise<EdgeEngine> => {
    const { engine, backend } = await openOnGpu('needle', settings);
    backends.push(backend);
    return engine;
  };
  return { supply: new EngineSupply(await open(), open), backends };
}

/** Generates until something fails, after `harm` at the second piece of text. */
async function harmed(engine: EdgeEngine, harm: () => void): Promise<unknown> {
  let pieces = 0;
  try {
    for await (const event of engine.generate(requestOf(prompt, 'snapkv', { maxTokens: 400 }))) {
      if (event.type === 'text' && ++pieces === 2) harm();
    }
  } catch (error) {
    return error;
  }
  return null;
}

const harms: [name: string, harm: (backend: WebGpuBackend) => void, message: RegExp][] = [
  ['destroyed', ({ recorder }) => recorder.device.destroy(), /the GPU was lost: /],
  [
    'out of memory',
    ({ recorder: { device } }) => {
      device.popErrorScope = async () => new GPUOutOfMemoryError('not enough memory left'); // no test can fill a machine's memory
    },
    /the GPU has no memory left: not enough memory left/,
  ],
  ['told nonsense', ({ recorder }) => recorder.device.createBuffer({ size: 4, usage: 0 }), /the GPU refused a command: /],
];

describe.each(harms)('a device that is %s in mid-generation', (_, harm, message) => {
  test('fails the request in words, gives everything back, and the next request gets a fresh one', async () => {
    const { supply, backends } = await supplied();
    const error = await harmed(await supply.get(), () => harm(backends[0]));
    expect(error).toMatchObject({ name: 'InputError', code: 'device_failed', message: expect.stringMatching(message) });
    const health = supply.current.health();
    expect([health.memory.kv_used_bytes, health.memory.kv_reserved_bytes, health.requests.running]).toEqual([0, 0, 0]);

    expect(await tokensOf(await supply.get(), prompt, 'snapkv', { maxTokens: 40 })).toEqual(answer);
    expect(backends.length).toBe(2);
    expect([backends[0].buffers.live, backends[0].memory.usedBytes]).toEqual([[], 0]);
    supply.close();
    expect(backends[1].buffers.live).toEqual([]);
  });
});

test('requests that run side by side all hear of it, and those that come after are served by one new engine', async () => {
  const { supply, backends } = await supplied();
  const engine = await supply.get();
  const errors = await Promise.all([harmed(engine, () => backends[0].recorder.device.destroy()), harmed(engine, () => {}), harmed(engine, () => {})]);
  for (const error of errors) expect(error).toMatchObject({ code: 'device_failed' });
  const answers = await Promise.all(Array.from({ length: 3 }, async () => tokensOf(await supply.get(), prompt, 'snapkv', { maxTokens: 40 })));
  expect(answers).toEqual([answer, answer, answer]);
  expect(backends.length).toBe(2);
  supply.close();
});

test('requests that wait for pages hear of the device too, not of a model that was closed', async () => {
  const backends: WebGpuBackend[] = [];
  const open = async (): Promise<EdgeEngine> => {
    const { engine, backend } = await openOnGpu('needle', { ...settings, kvPoolBytes: 3 * 2 ** 20 });
    backends.push(backend);
    return engine;
  };
  const supply = new EngineSupply(await open(), open);
  const engine = await supply.get();
  const errors = Promise.all([
    harmed(engine, () => backends[0].recorder.device.destroy()),
    ...Array.from({ length: 5 }, () => harmed(engine, () => {})),
  ]);
  await vi.waitUntil(() => engine.failure !== null, { timeout: 30_000, interval: 1 });
  expect(engine.health().requests.waiting).toBeGreaterThan(0);
  await supply.get();
  for (const error of await errors) expect(error).toMatchObject({ code: 'device_failed' });
  supply.close();
});

test('a model that is closed in mid-generation says so, and nothing is taken afterwards', async () => {
  const { supply, backends } = await supplied();
  const engine = await supply.get();
  const errors = await Promise.all([harmed(engine, () => supply.close()), harmed(engine, () => {}), harmed(engine, () => {})]);
  for (const error of errors) expect(error).toMatchObject({ code: 'model_closed' });
  expect(backends[0].buffers.live).toEqual([]);
});

test('a device that goes away between mapping and reading', async () => {
  const { engine, backend } = await openOnGpu('needle', settings);
  const { device } = backend.recorder;
  const pop = device.popErrorScope.bind(device);
  let armed = false;
  device.popErrorScope = async () => {
    const error = await pop();
    if (armed) await new Promise((resolve) => setTimeout(resolve, 200)); // the map is done by then
    if (armed) device.destroy();
    return error;
  };
  const block = backend.alloc(4, 'x');
  await backend.read(block, 4);
  armed = true;
  await expect(backend.read(block, 4)).rejects.toMatchObject({ name: 'DeviceFailed', kind: 'lost' });
  engine.close();
});

test('over HTTP: 503 or an error event with its code, then an answer', async () => {
  const { supply, backends } = await supplied();
  const app = createApp({ engine: () => supply.get(), log: () => {} });
  const post = (stream: boolean): Response | Promise<Response> =>
    app.request('/v1/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt, max_tokens: 300, temperature: 0, ignore_eos: true, stream }),
    });
  const streamed = await post(true);
  const reader = streamed.body!.getReader();
  let text = new TextDecoder().decode((await reader.read()).value);
  backends[0].recorder.device.destroy();
  for (let part = await reader.read(); !part.done; part = await reader.read()) text += new TextDecoder().decode(part.value);
  expect(text).toContain('"code":"device_failed"');
  expect((await post(false)).status).toBe(200);

  const pending = post(false);
  await new Promise((resolve) => setTimeout(resolve, 50));
  backends[1].recorder.device.destroy();
  const failed = await pending;
  expect(failed.status).toBe(503);
  expect(failed.headers.get('retry-after')).toBe('1');
  expect(await failed.json()).toMatchObject({ error: { code: 'device_failed', message: expect.stringMatching(/the GPU was lost/) } });
  expect((await post(false)).status).toBe(200);
  supply.close();
});

test('weights and cache that do not fit are refused with what would', async () => {
  const opened = openSupply('models/needle', { backend: 'webgpu', memoryLimitBytes: 3 * 2 ** 20 });
  await expect(opened).rejects.toMatchObject({ name: 'InputError', code: 'memory_exceeded' });
});

describe('a runtime whose adapter is gone', () => {
  afterEach(() => vi.restoreAllMocks());

  test('goes on with WASM, and says so', async () => {
    const gpu = await testGpu();
    if (!('navigator' in globalThis)) vi.stubGlobal('navigator', { gpu });
    const notes: string[] = [];
    const supply = await openSupply('models/needle', { backend: 'webgpu', ...settings, onNote: (note) => notes.push(note) });
    expect(supply.current.health().backend.name).toBe('webgpu');
    vi.spyOn(gpu, 'requestAdapter').mockResolvedValue(null);
    vi.spyOn(supply.current, 'failure', 'get').mockReturnValue(new Error('gone'));
    const engine = await supply.get();
    expect(engine.health().backend.name).toBe('wasm');
    expect(await tokensOf(engine, prompt, 'snapkv', { maxTokens: 40 })).toEqual(answer);
    expect(notes.join()).toMatch(/runs on wasm from now on/);
    supply.close();
  });

  test('goes on with WASM where the adapter gives no device either', async () => {
    const gpu = await testGpu();
    if (!('navigator' in globalThis)) vi.stubGlobal('navigator', { gpu });
    const supply = await openSupply('models/needle', { backend: 'webgpu', ...settings });
    const adapter = (await gpu.requestAdapter())!;
    vi.spyOn(adapter, 'requestDevice').mockRejectedValue(new DOMException('no device for you', 'OperationError'));
    vi.spyOn(gpu, 'requestAdapter').mockResolvedValue(adapter);
    vi.spyOn(supply.current, 'failure', 'get').mockReturnValue(new Error('gone'));
    expect((await supply.get()).health().backend.name).toBe('wasm');
    supply.close();
    await expect(openSupply('models/needle', { backend: 'webgpu' })).rejects.toMatchObject({ name: 'InputError', code: 'device_failed' });
  });

  test('refuses --backend webgpu with what would work', async () => {
    const gpu = await testGpu();
    if (!('navigator' in globalThis)) vi.stubGlobal('navigator', { gpu });
    vi.spyOn(gpu, 'requestAdapter').mockResolvedValue(null);
    await expect(openSupply('models/needle', { backend: 'webgpu' })).rejects.toMatchObject({
      code: 'no_gpu',
      message: expect.stringMatching(/backend wasm/),
    });
  });
});
