/** Where a model runs: as was asked, or on the faster one, for a small model can be faster on the CPU; and on what when a GPU fails. */
import type { PressRequest } from '../../presses/contract.ts';
import { InputError } from '../../presses/input-error.ts';
import type { EdgeEngine } from './engine.ts';
import type { BackendName } from './load.ts';
import { probeRequest } from './probe.ts';
import { EngineSupply } from './supply.ts';

const PROMPT_TOKENS = 32;
const ANSWER_TOKENS = 8;
const NO_PRESS: PressRequest = { presses: [], name: 'no_press', scope: null, explain: false, entryType: null };

export interface Choice {
  readonly engine: EdgeEngine;
  /** What was measured, in words. */
  readonly why: string;
}

/** Times a short prompt and answer on both, each after a warm-up, and closes the slower engine. */
export async function chooseEngine(wasm: EdgeEngine, webgpu: EdgeEngine): Promise<Choice> {
  const [wasmMs, webgpuMs] = [await timeOf(wasm), await timeOf(webgpu)];
  const [engine, other] = webgpuMs < wasmMs ? [webgpu, wasm] : [wasm, webgpu];
  const on = (one: EdgeEngine, ms: number): string => `${ms.toFixed(0)} ms on ${one.health().backend.name} (${one.health().backend.variant})`;
  const why = `${engine.health().backend.name}, for ${PROMPT_TOKENS} + ${ANSWER_TOKENS} tokens took ${on(wasm, wasmMs)} and ${on(webgpu, webgpuMs)}`;
  other.close();
  return { engine, why };
}

async function timeOf(engine: EdgeEngine): Promise<number> {
  await once(engine); // compiles kernels
  const started = performance.now();
  await once(engine);
  return performance.now() - started;
}

async function once(engine: EdgeEngine): Promise<void> {
  const length = Math.max(1, Math.min(PROMPT_TOKENS, engine.info.contextLength - ANSWER_TOKENS - 1));
  for await (const _ of engine.generate(probeRequest(engine.info.vocabSize, length, ANSWER_TOKENS, NO_PRESS)));
}

const BACKENDS = ['wasm', 'webgpu', 'auto', 'gpu-first'] as const;
export type BackendChoice = (typeof BACKENDS)[number];

export interface ChoiceOptions {
  /** "auto" loads on both and keeps the faster one; "gpu-first" takes the GPU where there is one. */
  readonly backend: BackendChoice;
  /** Told what was chosen and why, and when a failed GPU was replaced. */
  readonly onNote?: (note: string) => void;
}

/** Loads the model on a backend; `again`: nobody waits for this load's progress. */
export type OpenOn = (backend: BackendName, again: boolean) => Promise<EdgeEngine>;

/** Opens the backend that was asked for, or the better one. */
export async function openChosen(openOn: OpenOn, { backend, onNote }: ChoiceOptions): Promise<EdgeEngine> {
  if (!BACKENDS.includes(backend))
    throw new InputError('invalid_value', 'backend', `backend must be one of ${BACKENDS.join(', ')}, got ${JSON.stringify(backend)}`);
  if (backend === 'wasm' || backend === 'webgpu') return openOn(backend, false);
  if (backend === 'gpu-first') {
    const onWasm = (why: string): Promise<EdgeEngine> => {
      onNote?.(`the model runs on wasm: ${why}`);
      return openOn('wasm', false);
    };
    try {
      const webgpu = await openOn('webgpu', false);
      if (!webgpu.backend.software) return webgpu;
      webgpu.close();
    } catch (error) {
      if (!isGpuLess(error)) throw error;
      return onWasm(error.message);
    }
    return onWasm('the only adapter computes on the CPU, which wasm does faster; backend "webgpu" takes it all the same');
  }
  const wasm = await openOn('wasm', false);
  let webgpu: EdgeEngine | null = null;
  try {
    webgpu = await openOn('webgpu', false);
    const { engine, why } = await chooseEngine(wasm, webgpu);
    onNote?.(`chose ${why}`);
    return engine;
  } catch (error) {
    webgpu?.close();
    if (!isGpuLess(error)) {
      wasm.close();
      throw error;
    }
    onNote?.(`chose wasm: ${error.message}`);
    return wasm;
  }
}

/** A driver that cannot run the model fails at every request. */
const SOON_MS = 60_000;

/** An engine that is replaced when its GPU fails: by one on a fresh device; on WASM where there is none any more, or where the last one failed as soon. */
export async function supplyOf(openOn: OpenOn, options: ChoiceOptions): Promise<EngineSupply> {
  let replacedAt = Number.NEGATIVE_INFINITY;
  const onWasm = (why: string): Promise<EdgeEngine> => {
    options.onNote?.(`${why}: the model runs on wasm from now on`);
    return openOn('wasm', true);
  };
  return new EngineSupply(await openChosen(openOn, options), async () => {
    const age = performance.now() - replacedAt;
    if (age < SOON_MS) return onWasm(`the GPU failed twice within ${Math.ceil(age / 1000)} s`);
    const next = await openOn('webgpu', true).catch((error: unknown) => {
      if (!isGpuLess(error)) throw error;
      return onWasm(`the GPU failed and no other is there (${error.message})`);
    });
    replacedAt = performance.now(); // it is there: how long it took to load does not count
    return next;
  });
}

/** There is no GPU, it failed, or the model does not fit into its memory: what WASM may still do. */
function isGpuLess(error: unknown): error is InputError {
  return error instanceof InputError && ['no_gpu', 'device_failed', 'memory_exceeded'].includes(error.code);
}
