/** Held contexts under watch: the sequences behind them, and every bit that they hold. */
import { createHash } from 'node:crypto';
import { vi } from 'vitest';
import { parsePress } from '../../presses/config.ts';
import { at, type Backend } from '../../worker/backend/backend.ts';
import { WasmBackend } from '../../worker/backend/wasm.ts';
import type { WebGpuBackend } from '../../worker/backend/webgpu.ts';
import type { EdgeEngine } from '../../worker/engine/engine.ts';
import { KvSequence } from '../../worker/engine/kv-cache.ts';
import type { Held, PromptInput, Sampling } from '../../worker/engine/types.ts';
import { type Generation, promptOf, told } from './generation.ts';
import { greedy } from './golden.ts';

/** SHA-256 of what a sequence holds: the bytes of its pages as far as they are filled, positions and scores. */
export async function hashOf(backend: Backend, sequence: KvSequence, { layers, kvHeads }: { layers: number; kvHeads: number }): Promise<string> {
  const { buffer } = backend instanceof WasmBackend ? backend.kernels.memory : (backend as WebGpuBackend).ledgerMemory;
  const hash = createHash('sha256');
  for (let layer = 0; layer < layers; layer++) {
    const { pool, pageBytes, pageTable, tableStride, entriesPerPage } = sequence.layer(layer);
    for (let head = 0; head < kvHeads; head++) {
      const { positions, scores } = sequence.entries(layer, head);
      hash.update(positions).update(scores);
      const pages = new Uint32Array(buffer, pageTable + head * tableStride * 4, Math.ceil(positions.length / entriesPerPage));
      for (const page of pages) hash.update(await backend.read(at(pool, page * pageBytes), pageBytes));
    }
  }
  return hash.digest('hex');
}

export interface HeldUnderWatch {
  readonly held: Held;
  readonly sequence: KvSequence;
}

/** Holds a prompt, and tells which sequence that is. */
export async function holdWatched(
  engine: EdgeEngine,
  prompt: readonly number[] | PromptInput,
  press: unknown,
  seed: number | null = 1,
): Promise<HeldUnderWatch> {
  const { settle } = KvSequence.prototype;
  let sequence: KvSequence | null = null;
  const spy = vi.spyOn(KvSequence.prototype, 'settle').mockImplementation(function (this: KvSequence) {
    sequence = this;
    settle.call(this);
  });
  try {
    const held = await engine.hold({ prompt: promptOf(prompt), press: parsePress(press), seed });
    return { held, sequence: sequence! };
  } finally {
    spy.mockRestore();
  }
}

export function mounted(
  engine: EdgeEngine,
  held: Held,
  prompt: readonly number[] | PromptInput,
  sampling: Partial<Sampling> = {},
  signal?: AbortSignal,
): Promise<Generation> {
  return told(engine.generate({ prompt: promptOf(prompt), held, sampling: { ...greedy, ...sampling } }, signal));
}

/** All logits that `follow` yields. */
export async function all(logits: AsyncIterable<Float32Array>): Promise<Float32Array[]> {
  const seen: Float32Array[] = [];
  for await (const one of logits) seen.push(one.slice());
  return seen;
}
