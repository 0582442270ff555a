/** The variables of wrangler.toml, in workerd. API_KEYS, KV_POOL and MAX_WAITING at work: refusals.test.ts, concurrency.test.ts. */
import { afterAll, expect, test } from 'vitest';
import { removePacked, startWorker } from '../support/worker.ts';

afterAll(removePacked);

const messages = [{ role: 'user', content: 'The number for busy-cart is 82.\nWhat is the number for busy-cart?' }];

test('ENTRY_TYPE is how entries are stored unless a request says', async () => {
  const worker = await startWorker({ vars: { ENTRY_TYPE: 'int8' } });
  try {
    const typeOf = async (press?: object) => {
      const { usage, choices } = await worker.chat({ messages, press });
      expect(choices[0].message.content).toBe(' 82');
      return [usage.kv_cache.entry_type, usage.kv_cache.bytes_full];
    };
    const [int8, f16, f32] = [12 * 4096, 12 * 4096, 2 * 12 * 4096]; // 27 tokens on each of 12 lists: 56 to a page, 32 or 16
    expect(await typeOf()).toEqual(['int8', int8]);
    expect(await typeOf({ preset: 'knorm', compression_ratio: 0.05 })).toEqual(['int8', int8]);
    expect(await typeOf({ preset: 'knorm', compression_ratio: 0.05, entry_type: 'f32' })).toEqual(['f32', f32]);
    expect(await typeOf({ preset: 'knorm', compression_ratio: 0.05, entry_type: 'f16' })).toEqual(['f16', f16]);
  } finally {
    await worker.dispose();
  }
});

test('the memory limit is 128 MB unless said otherwise; LONGEST_PROMPT, HIDDEN_TYPE and SEQUENCES are part of its plan, and buffers outside', async () => {
  const [usual, planned] = await Promise.all([
    startWorker({ vars: { MEMORY_LIMIT: '' } }),
    startWorker({ vars: { MEMORY_LIMIT: '24MiB', LONGEST_PROMPT: '3000', HIDDEN_TYPE: 'f16', SEQUENCES: '4' } }),
  ]);
  try {
    await Promise.all([usual, planned].map((worker) => worker.chat({ messages })));
    expect((await usual.health()).memory).toMatchObject({ beside_bytes: 3 * 2 ** 20, hidden_type: 'f32' });
    const whole = (await usual.health()).memory.limit_bytes!;
    expect([whole <= 128e6, whole > 128e6 - 65536]).toEqual([true, true]); // whole pages of WASM memory
    const { memory, contexts } = await planned.health();
    expect(memory).toMatchObject({ limit_bytes: 24 * 2 ** 20, hidden_type: 'f16' });
    expect(memory.longest_prompt).toBeGreaterThanOrEqual(3000);
    expect(contexts.most).toBe(2);
  } finally {
    await Promise.all([usual.dispose(), planned.dispose()]);
  }
});

test.concurrent.each([
  ['ENTRY_TYPE', 'fp8', 'ENTRY_TYPE must be "f32", "f16" or "int8", got "fp8"'],
  ['MAX_WAITING', 'many', 'MAX_WAITING must be a whole number such as 64, got "many"'],
  ['MAX_WAITING', '-1', 'got "-1"'],
  ['KV_POOL', '12 parsecs', 'KV_POOL: expected a byte size such as 16MiB'],
  ['CONTEXTS_PER_KEY', 'few', 'CONTEXTS_PER_KEY must be a whole number such as 1000, got "few"'],
  ['CONTEXT_BYTES_PER_KEY', '4 bags', 'CONTEXT_BYTES_PER_KEY: expected a byte size'],
  ['MEMORY_LIMIT', '1e3', 'MEMORY_LIMIT: expected a byte size'],
  ['HIDDEN_TYPE', 'bf16', 'HIDDEN_TYPE must be "f32" or "f16", got "bf16"'],
  ['LONGEST_PROMPT', 'all', 'LONGEST_PROMPT must be a whole number such as 8192, got "all"'],
  ['SEQUENCES', '1', 'sequences must be between 2 and 256, got 1'],
])('%s %s is said so', async (name, value, says) => {
  const worker = await startWorker({ vars: { [name]: value } });
  try {
    expect(await worker.diagnosis()).toContain(says);
    expect((await worker.post('/v1/chat/completions', { messages })).status).toBe(503);
  } finally {
    await worker.dispose();
  }
});
