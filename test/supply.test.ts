import { describe, expect, test, vi } from 'vitest';
import { InputError } from '../presses/input-error.ts';
import { chooseEngine, openChosen, supplyOf } from '../worker/engine/choose-backend.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { EngineSupply } from '../worker/engine/supply.ts';
import { type ArenaLayout, cutBefore } from '../worker/engine/weights/plan.ts';

/** As much of an engine as a supply looks at. */
function fake(name: string, stepMs = 0): EdgeEngine & { failure: Error | null; closed: number } {
  const engine = {
    name,
    failure: null,
    closed: 0,
    info: { vocabSize: 100, contextLength: 64 },
    health: () => ({ backend: { name, variant: `${name} kernels` } }),
    close: () => {
      engine.closed++;
    },
    async *generate() {
      const until = performance.now() + stepMs;
      while (performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 1));
      yield { type: 'finish' };
    },
  };
  return engine as unknown as EdgeEngine & { failure: Error | null; closed: number };
}

describe('a supply of engines', () => {
  test('hands out the same one until its device fails, then one new one to all who ask', async () => {
    const first = fake('first');
    let opened = 0;
    const supply = new EngineSupply(first, async () => fake(`engine ${++opened}`));
    expect(await supply.get()).toBe(first);
    first.failure = new Error('lost');
    const [a, b] = await Promise.all([supply.get(), supply.get()]);
    expect(a).toBe(b);
    expect([opened, first.closed]).toEqual([1, 1]);
    expect(await supply.get()).toBe(a);
  });

  test('tries again when opening a new one failed', async () => {
    const first = fake('first');
    first.failure = new Error('lost');
    let tries = 0;
    const supply = new EngineSupply(first, async () => {
      if (++tries === 1) throw new Error('no memory');
      return fake('second');
    });
    await expect(supply.get()).rejects.toThrow('no memory');
    expect((await supply.get()).health().backend.name).toBe('second');
  });

  test('closed while a new one is being opened, closes that too', async () => {
    const first = fake('first');
    first.failure = new Error('lost');
    const second = fake('second');
    let open = (_: EdgeEngine): void => {};
    const supply = new EngineSupply(first, () => new Promise((resolve) => (open = resolve)));
    const waiting = supply.get();
    supply.close();
    open(second);
    await waiting;
    expect(second.closed).toBe(1);
  });
});

describe('--backend auto', () => {
  test.each([
    [2, 40, 'wasm'],
    [40, 2, 'webgpu'],
  ])('wasm %i ms, webgpu %i ms: %s, and says both times; the other is closed', async (wasmMs, webgpuMs, chosen) => {
    const [wasm, webgpu] = [fake('wasm', wasmMs), fake('webgpu', webgpuMs)];
    const { engine, why } = await chooseEngine(wasm, webgpu);
    expect(engine.health().backend.name).toBe(chosen);
    expect([wasm.closed, webgpu.closed]).toEqual(chosen === 'wasm' ? [0, 1] : [1, 0]);
    expect(why).toMatch(new RegExp(`^${chosen}, for 32 \\+ 8 tokens took \\d+ ms on wasm \\(wasm kernels\\) and \\d+ ms on webgpu`));
  });
});

describe('--backend auto, with a GPU that fails while it is timed', () => {
  test('the model runs on wasm, and the engine on the GPU is closed', async () => {
    const [wasm, webgpu] = [fake('wasm'), fake('webgpu')];
    webgpu.generate = async function* () {
      yield await Promise.reject(new InputError('device_failed', null, 'the GPU was lost'));
    };
    const chosen = await openChosen(async (name) => (name === 'wasm' ? wasm : webgpu), { backend: 'auto' });
    expect(chosen).toBe(wasm);
    expect([wasm.closed, webgpu.closed]).toEqual([0, 1]);
  });
});

describe('an arena that no single buffer can hold', () => {
  const layout: ArenaLayout = {
    tensors: [
      { name: 'embed', type: 'q4', rows: 1000, cols: 64, offset: 0, bytes: 40_000 }, // 250 groups of 160 bytes
      { name: 'layers.0.attn_norm', type: 'f32', rows: 1, cols: 64, offset: 40_000, bytes: 256 },
      { name: 'layers.0.q', type: 'f16', rows: 64, cols: 64, offset: 40_256, bytes: 8192 },
    ],
    bytes: 48_448,
  };

  test('is cut between tensors, or after 32 rows of a large one', () => {
    expect(cutBefore(layout, 0, 45_000)).toBe(40_256);
    expect(cutBefore(layout, 0, 10_000)).toBe(8960); // 224 rows, 56 groups of four
    expect(cutBefore(layout, 8960, 41_000)).toBe(40_256);
    expect(cutBefore(layout, 40_256, 45_000)).toBe(40_256 + 4096); // 32 rows of 128 bytes
    expect(cutBefore(layout, 40_256, 41_000)).toBe(null);
  });
});

test.each([0, 90_000])('a GPU that fails again soon after it was replaced is replaced by WASM, though loading took %i ms', async (loadMs) => {
  vi.useFakeTimers({ toFake: ['performance'] });
  try {
    const engines: ReturnType<typeof fake>[] = [];
    const open = async (name: string, again: boolean): Promise<EdgeEngine> => {
      if (again) vi.advanceTimersByTime(loadMs);
      engines.push(fake(name));
      return engines.at(-1)!;
    };
    const supply = await supplyOf(open, { backend: 'webgpu' });
    for (let i = 0; i < 2; i++) {
      engines.at(-1)!.failure = new Error('lost');
      await supply.get();
    }
    expect(supply.current.health().backend.name).toBe('wasm');
  } finally {
    vi.useRealTimers();
  }
});
