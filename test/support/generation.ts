/** One generation with all that it tells, and a watch over the pages that requests hold. */
import { vi } from 'vitest';
import { parsePress } from '../../presses/config.ts';
import type { EdgeEngine } from '../../worker/engine/engine.ts';
import { KvCache, KvSequence } from '../../worker/engine/kv-cache.ts';
import type { GenerateEvent, GenerateRequest, KvCacheUsage, PromptInput, Sampling, TokenLogprob } from '../../worker/engine/types.ts';
import { greedy } from './golden.ts';

export interface Generation {
  readonly tokens: number[];
  readonly text: string;
  readonly logprobs: TokenLogprob[];
  readonly usage: KvCacheUsage;
  readonly completionTokens: number;
  readonly reason: 'stop' | 'length';
}

/** Token ids, or any prompt as it is. */
export function promptOf(prompt: readonly number[] | PromptInput): PromptInput {
  return 'kind' in prompt ? prompt : { kind: 'tokens', tokens: prompt };
}

export function requestOf(prompt: readonly number[] | PromptInput, press: unknown = 'no_press', sampling: Partial<Sampling> = {}): GenerateRequest {
  return { prompt: promptOf(prompt), press: parsePress(press), sampling: { ...greedy, ...sampling } };
}

export async function generation(
  engine: EdgeEngine,
  prompt: readonly number[] | PromptInput,
  press?: unknown,
  sampling?: Partial<Sampling>,
  signal?: AbortSignal,
): Promise<Generation> {
  return told(engine.generate(requestOf(prompt, press, sampling), signal));
}

/** All that a generation tells. */
export async function told(events: AsyncIterable<GenerateEvent>): Promise<Generation> {
  const tokens: number[] = [];
  const logprobs: TokenLogprob[] = [];
  let text = '';
  for await (const event of events) {
    if (event.type === 'text') {
      tokens.push(...event.tokenIds);
      logprobs.push(...event.logprobs);
      text += event.text;
    }
    if (event.type === 'finish')
      return { tokens, text, logprobs, usage: event.usage.kvCache, completionTokens: event.usage.completionTokens, reason: event.reason };
  }
  throw new Error('a generation without an end');
}

/** The most pages that a request held, and those that were reserved for it, when that was and ever since its reservation shrank. */
export interface PageUse {
  reserved: number;
  most: number;
  /** Shared pages are not its own: only copies and what it appends count. */
  forked: boolean;
  /** Set when more pages were held than reserved. */
  exceeded: string | null;
}

export interface PageWatch {
  readonly uses: PageUse[];
  /** The caches that opened a sequence since the watch began. */
  readonly caches: Set<KvCache>;
  stop(): void;
}

/** From now on, of every sequence in every cache: what it reserved and what it held. */
export function watchPages(): PageWatch {
  const uses: PageUse[] = [];
  const caches = new Set<KvCache>();
  const of = new WeakMap<KvSequence, PageUse>();
  const { open } = KvCache.prototype;
  const { append, keep, shrinkReservation, fork } = KvSequence.prototype;
  const begun = (sequence: KvSequence | null, reserved: number, forked: boolean): KvSequence | null => {
    const use: PageUse = { reserved, most: 0, forked, exceeded: null };
    if (sequence) uses.push(use);
    if (sequence) of.set(sequence, use);
    return sequence;
  };
  const note = (sequence: KvSequence, what: string): void => {
    const use = of.get(sequence);
    if (!use) return; // it was there before
    const held = (sequence.heldBytes - (use.forked ? sequence.sharedBytes : 0)) / sequence.layer(0).pageBytes;
    use.most = Math.max(use.most, held);
    if (held > use.reserved) use.exceeded ??= `${held} pages held, ${use.reserved} reserved, after ${what}`;
  };
  const spies = [
    vi.spyOn(KvCache.prototype, 'open').mockImplementation(function (this: KvCache, entryType, pages) {
      const sequence = open.call(this, entryType, pages);
      caches.add(this);
      return begun(sequence, pages, false);
    }),
    vi.spyOn(KvSequence.prototype, 'fork').mockImplementation(function (this: KvSequence, pages) {
      const sequence = fork.call(this, pages);
      return begun(sequence, pages, true);
    }),
    vi.spyOn(KvSequence.prototype, 'append').mockImplementation(function (this: KvSequence, layer, k, v, n, start) {
      append.call(this, layer, k, v, n, start);
      note(this, `appending ${n} entries to layer ${layer}`);
    }),
    vi.spyOn(KvSequence.prototype, 'keep').mockImplementation(function (this: KvSequence, tensors, rows) {
      const kept = keep.call(this, tensors, rows);
      note(this, `keeping ${rows.counts} entries of layer ${tensors.layer}`);
      return kept;
    }),
    vi.spyOn(KvSequence.prototype, 'shrinkReservation').mockImplementation(function (this: KvSequence, pages) {
      shrinkReservation.call(this, pages);
      const use = of.get(this);
      if (use) use.reserved = pages;
      note(this, 'shrinking the reservation');
    }),
  ];
  return {
    uses,
    caches,
    stop: () => {
      for (const spy of spies) spy.mockRestore();
    },
  };
}
