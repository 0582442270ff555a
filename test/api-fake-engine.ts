/** An engine that plays a script and remembers what was done to it. */
import type { Engine, GenerateEvent, GenerateRequest, Health, KvCacheUsage, ModelInfo, PressPlan, TokenLogprob } from '../worker/engine/types.ts';

export const info: ModelInfo = {
  id: 'toy/needle-1M',
  family: 'llama',
  parameters: 1_000_000,
  layers: 2,
  contextLength: 512,
  vocabSize: 300,
  weightBytes: 600_000,
  fingerprint: '0123456789abcdef'.repeat(4),
};

export const kvCache: KvCacheUsage = {
  press: 'zigzag_snapkv',
  scope: 'context',
  compression_ratio: 0.5,
  tokens: 80,
  kept_per_layer: [30, 50],
  lmba_per_layer: [12, 20],
  retained_mass_per_layer: [0.9, 0.95],
  bytes_full: 40_960,
  bytes_kept: 20_480,
  bytes_peak: 30_720,
  layer_budget: 'zigzag',
  entry_type: 'f32',
  notes: [],
};

export const plan: PressPlan = {
  press: 'zigzag_snapkv',
  scope: 'context',
  tokens: 80,
  prompt_tokens: 100,
  compression_ratio: 0.5,
  average_budget: 40,
  per_layer: [
    { min: 20, max: 60 },
    { min: 20, max: 60 },
  ],
  exact: false,
  entry_type: 'f32',
  bytes_full: 40_960,
  bytes_kept: 24_576,
  bytes_press: 512,
  bytes_peak: 32_768,
  pool_bytes: 1 << 20,
  fits: true,
};

export const health: Health = {
  status: 'ok',
  model: info,
  backend: { name: 'wasm', variant: 'simd' },
  memory: {
    used_bytes: 2,
    peak_bytes: 3,
    limit_bytes: 4,
    beside_bytes: 0,
    fixed_bytes: 1,
    weights_bytes: 1,
    kv_pool_bytes: 1,
    kv_used_bytes: 0,
    kv_reserved_bytes: 0,
    ledger_bytes: 1,
    reading_bytes: 1,
    longest_prompt: 100,
    hidden_type: 'f32',
  },
  requests: { running: 0, waiting: 0 },
  contexts: { held: 0, most: 8, bytes: 0 },
};

export const prompt: GenerateEvent = { type: 'prompt', promptTokens: 100, kvCache };
export const text = (...words: string[]): GenerateEvent => ({
  type: 'text',
  text: words.join(''),
  tokenIds: words.map(idOf),
  logprobs: words.map(logprob),
});
export const finish = (completionTokens: number, reason: 'stop' | 'length' = 'stop'): GenerateEvent => ({
  type: 'finish',
  reason,
  usage: { promptTokens: 100, cachedTokens: 0, completionTokens, kvCache },
  timings: { prefillMs: 10, pressMs: 1, decodeMs: 20 },
});

const idOf = (word: string) => word.length;
const bytesOf = (word: string) => [...new TextEncoder().encode(word)];
export const logprob = (token: string): TokenLogprob => ({
  token,
  tokenId: idOf(token),
  bytes: bytesOf(token),
  logprob: -0.5,
  top: [
    { token, tokenId: idOf(token), bytes: bytesOf(token), logprob: -0.5 },
    { token: 'x', tokenId: 1, bytes: [120], logprob: -1.5 },
  ],
});

/** A step of the script: an event, an error to throw, or `hang`, which lasts until the run is aborted. */
export type Step = GenerateEvent | Error | 'hang';

function noContexts(): never {
  throw new Error('this engine holds no contexts');
}

export function fakeEngine(script: readonly Step[] = [prompt, text('Hello'), text(' world'), finish(2)]) {
  const seen = {
    requests: [] as GenerateRequest[],
    plans: [] as Parameters<Engine['plan']>[0][],
    taken: 0, // steps of the script that were asked for
    ended: 0, // runs whose iteration is over, on every path
    completed: 0, // runs whose script was played to the end or ended right after it
    aborted: null as unknown,
  };
  const engine: Engine = {
    info,
    health: () => health,
    tokenise: () => [1, 2, 3],
    async plan(request) {
      seen.plans.push(request);
      return plan;
    },
    async *generate(request, signal) {
      seen.requests.push(request as GenerateRequest);
      signal?.addEventListener('abort', () => (seen.aborted = signal.reason));
      let played = 0;
      try {
        for (const step of script) {
          signal?.throwIfAborted();
          seen.taken++;
          played++;
          await Promise.resolve();
          if (step instanceof Error) throw step;
          if (step === 'hang') await new Promise((_, reject) => signal!.addEventListener('abort', () => reject(signal!.reason), { once: true }));
          else yield step;
        }
      } finally {
        seen.ended++;
        if (played === script.length) seen.completed++;
      }
    },
    hold: noContexts,
    mount: noContexts,
    writePressed: noContexts,
    reusable: () => null,
    close() {},
  };
  return { engine, seen };
}
