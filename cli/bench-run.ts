/** One run of `edgepress bench`: random tokens, greedy; and what several of them come to. */
import type { PressRequest } from '../presses/contract.ts';
import type { EdgeEngine } from '../worker/engine/engine.ts';
import { probeRequest } from '../worker/engine/probe.ts';
import type { Timings } from '../worker/engine/types.ts';

export interface Measured {
  readonly timings: Timings;
  readonly decoded: number;
  readonly bytesFull: number;
  readonly bytesKept: number;
  readonly bytesPeak: number;
}

export async function once(
  engine: EdgeEngine,
  press: PressRequest,
  { promptTokens, decodeTokens }: { readonly promptTokens: number; readonly decodeTokens: number },
): Promise<Measured> {
  const request = probeRequest(engine.info.vocabSize, promptTokens, decodeTokens + 1, press); // the first token comes out of the prefill
  for await (const event of engine.generate(request)) {
    if (event.type !== 'finish') continue;
    const { bytes_full, bytes_kept, bytes_peak } = event.usage.kvCache;
    return { timings: event.timings, decoded: event.usage.completionTokens - 1, bytesFull: bytes_full, bytesKept: bytes_kept, bytesPeak: bytes_peak };
  }
  throw new Error('the run ended without a result');
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)];
}
