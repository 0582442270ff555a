/** What `edgepress bench` says of a GPU beside tokens/s: the time of each kernel, dispatches and bytes a token, and how much of the memory's speed decoding uses. */

import { copyBandwidth, profile } from '../worker/backend/webgpu/measure.ts';
import { type Counts, countsSince } from '../worker/backend/webgpu/recorder.ts';
import { WebGpuBackend } from '../worker/backend/webgpu.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';

export interface GpuFigures {
  readonly copy_bytes_per_s: number;
  /** Weights and KV entries that a decoded token reads, times tokens/s, over the copy bandwidth. */
  readonly decode_share_of_copy_bandwidth: number;
  readonly decode_bytes_per_token: number;
  readonly dispatches_per_token: number;
  readonly submissions_per_token: number;
  readonly uploaded_bytes_per_token: number;
  readonly read_back_bytes_per_token: number;
  /** Null where the adapter has no timestamp queries. */
  readonly press_share_of_prefill: number | null;
  /** Dispatches that the times of the kernels leave out; null where nothing was timed. */
  readonly untimed_dispatches: number | null;
  readonly kernels:
    | readonly { readonly phase: 'prefill' | 'decode'; readonly kernel: string; readonly dispatches: number; readonly ms: number }[]
    | null;
}

export interface GpuRun {
  readonly decodeTokensPerS: number;
  readonly kvBytesKept: number;
  /** A prompt and so many tokens of answer. */
  run(answerTokens: number): Promise<unknown>;
  readonly answerTokens: number;
}

/** Kernels that only a press uses. */
const PRESS_KERNELS = [
  'score-window',
  'avg-pool',
  'group-mean',
  'group-max',
  'max-pool',
  'weigh',
  'blend',
  'reciprocal',
  'z-score',
  'key-norm',
  'cosine-to-mean',
  'norm-share',
  'lag-score',
  'segment-rank',
  'segment-mean',
  'output-norm',
  'gelu',
  'gate-score',
  'token-mean',
  'weighted-gram',
  'quadratic-form',
  'cholesky-inverse',
  'sketch',
  'row-softmax',
  'cosine-to',
  'turn-keys',
  'nearest-kept',
  'merge-values',
  'prune-channels',
  'gather',
  'top-k',
  'mass-count',
  'score-columns',
  'window-moments',
  'norm-scale',
  'row-cosine',
];

/** Null on WASM. */
export async function gpuFigures(engine: EdgeEngine, { decodeTokensPerS, kvBytesKept, run, answerTokens }: GpuRun): Promise<GpuFigures | null> {
  const { backend } = engine;
  if (!(backend instanceof WebGpuBackend)) return null;
  const counts = async (tokens: number): Promise<Counts> => {
    const before = { ...backend.recorder.counts };
    await run(tokens);
    return countsSince(before, backend.recorder.counts);
  };
  const [few, many] = [await counts(1), await counts(answerTokens + 1)];
  const perToken = (what: keyof Counts): number => (many[what] - few[what]) / answerTokens;

  const prefill = await profile(backend, () => run(1));
  const both = await profile(backend, () => run(answerTokens + 1));
  const kernels = prefill && both ? [...named('prefill', prefill.kernels), ...named('decode', difference(both.kernels, prefill.kernels))] : null;
  const times = prefill && parted(prefill.kernels);

  const copied = await copyBandwidth(backend);
  const bytes = engine.info.weightBytes + kvBytesKept;
  return {
    copy_bytes_per_s: copied,
    decode_share_of_copy_bandwidth: (bytes * decodeTokensPerS) / copied,
    decode_bytes_per_token: bytes,
    dispatches_per_token: perToken('dispatches'),
    submissions_per_token: perToken('submissions'),
    uploaded_bytes_per_token: perToken('uploadedBytes'),
    read_back_bytes_per_token: perToken('readBytes'),
    press_share_of_prefill: times && times.pressMs / (times.prefillMs + times.pressMs),
    untimed_dispatches: prefill && both ? prefill.untimed + both.untimed : null,
    kernels,
  };
}

/** Device time of reading a prompt, and of what presses it; null where the adapter has no timestamp queries. */
export async function timesOfPress(backend: WebGpuBackend, read: () => Promise<unknown>): Promise<{ prefillMs: number; pressMs: number } | null> {
  const times = await profile(backend, read);
  return times && parted(times.kernels);
}

function parted(kernels: Times): { prefillMs: number; pressMs: number } {
  const times = { prefillMs: 0, pressMs: 0 };
  for (const { kernel, ms } of kernels) times[PRESS_KERNELS.some((name) => kernel.startsWith(name)) ? 'pressMs' : 'prefillMs'] += ms;
  return times;
}

type Times = readonly { readonly kernel: string; readonly dispatches: number; readonly ms: number }[];

function named(phase: 'prefill' | 'decode', times: Times): NonNullable<GpuFigures['kernels']>[number][] {
  return times.map(({ kernel, dispatches, ms }) => ({ phase, kernel, dispatches, ms }));
}

/** What the longer run had more than the shorter one. */
function difference(longer: Times, shorter: Times): Times {
  const less = new Map(shorter.map((time) => [time.kernel, time]));
  return longer
    .map(({ kernel, dispatches, ms }) => ({
      kernel,
      dispatches: dispatches - (less.get(kernel)?.dispatches ?? 0),
      ms: Math.max(0, ms - (less.get(kernel)?.ms ?? 0)),
    }))
    .filter(({ dispatches }) => dispatches > 0)
    .sort((a, b) => b.ms - a.ms);
}

export function printGpuFigures({ kernels, ...figures }: GpuFigures): void {
  for (const [name, value] of Object.entries(figures)) {
    const shown = value === null ? 'no timestamp queries here' : name.includes('share') ? `${(value * 100).toFixed(1)} %` : value.toFixed(1);
    console.log(`${name.padEnd(31)} ${shown}`);
  }
  for (const { phase, kernel, dispatches, ms } of kernels ?? [])
    console.log(`${phase.padEnd(8)} ${kernel.padEnd(28)} ${String(dispatches).padStart(6)} dispatches ${ms.toFixed(2).padStart(10)} ms`);
}
