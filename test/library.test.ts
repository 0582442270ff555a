/** The library's door: `loadModel()` and what `generate` takes. Everything else about generating is the engine's, and tested there. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type InputError, loadModel, type Message, type Model, type ModelRequest, parsePress } from '../worker/node.ts';
import { needleSamples } from './support/golden.ts';

const sample = needleSamples().find(({ task, context_length }) => task === 'niah_single' && context_length === 512)!;
const asked: Message[] = [
  {
    role: 'user',
    content: [
      { type: 'text', text: `${sample.context}\n` },
      { type: 'text', text: sample.question },
    ],
  },
];

let model: Model;
beforeAll(async () => {
  model = await loadModel();
});
afterAll(() => model.close());

async function answer(request: ModelRequest): Promise<{ text: string; press: string; scope: unknown }> {
  let text = '';
  for await (const event of model.generate(request)) {
    if (event.type === 'text') text += event.text;
    if (event.type === 'finish') return { text: text.trim(), press: event.usage.kvCache.press, scope: event.usage.kvCache.scope };
  }
  throw new Error('no finish event');
}

const greedy = { temperature: 0 };

describe('loadModel', () => {
  test('without a path it is the embedded model', () => {
    expect(model.info.id).toBe('needle');
    expect(model.info.fingerprint).toMatch(/^[0-9a-f]{64}$/);
  });
  test('of a backend that there is not it says which there are', async () => {
    await expect(loadModel(undefined, { backend: 'cuda' as 'wasm' })).rejects.toMatchObject({ code: 'invalid_value', param: 'backend' });
  });
  test('of a path without a model it says which path', async () => {
    await expect(loadModel('nowhere')).rejects.toMatchObject({ code: 'model_not_found', message: expect.stringContaining('nowhere') });
  });
});

describe('a memory limit that is too low', () => {
  test.each([
    ['models/needle', undefined],
    ['models/needle', 8 * 2 ** 20],
    ['test/golden/models/qwen3', undefined],
    ['test/golden/gguf/tiny-llama.gguf', 2 ** 20],
  ])('for %s, pool %s: names one that works', async (path, kvPoolBytes) => {
    const refused = (await loadModel(path, { memoryLimitBytes: 1024, kvPoolBytes }).catch((error) => error)) as InputError;
    expect(refused).toMatchObject({ code: 'memory_exceeded', param: 'memory_limit' });
    for (const [, mebibytes] of refused.message.matchAll(/(\d+)MiB/g)) {
      const enough = await loadModel(path, { memoryLimitBytes: Number(mebibytes) * 2 ** 20, kvPoolBytes });
      const prompt = { kind: 'tokens' as const, tokens: Array.from({ length: 40 }, (_, i) => 5 + (i % 50)) };
      const events = [];
      for await (const event of enough.generate({ prompt, sampling: { ...greedy, maxTokens: 4, ignoreEos: true } })) events.push(event);
      expect(events.at(-1)).toMatchObject({ type: 'finish', usage: { completionTokens: 4 } });
      enough.close();
    }
  });

  test('a KV pool that is too small, or too large for WebAssembly, is refused', async () => {
    await expect(loadModel(undefined, { kvPoolBytes: 1000 })).rejects.toThrow(/at least 192 KiB, got 1000 B: --kv-pool 192KiB would work/);
    await expect(loadModel(undefined, { kvPoolBytes: 5 * 2 ** 30 })).rejects.toThrow(/WebAssembly has 4 GiB at most: a smaller --kv-pool/);
  });
});

describe('generate', () => {
  test.each([
    ['messages', asked],
    ['a string', `${sample.context}\n${sample.question}`],
    ['a structured prompt', { kind: 'chat' as const, messages: [{ role: 'user', parts: [`${sample.context}\n`, sample.question] }] }],
    ['token ids', { kind: 'tokens' as const, tokens: sample.prompt_token_ids }],
  ])('takes %s', async (_, prompt) => {
    expect(await answer({ prompt, sampling: greedy })).toEqual({ text: sample.answers[0], press: 'no_press', scope: 'prompt' });
  });

  test.each([
    ['a name', 'zigzag_snapkv', 'zigzag_snapkv'],
    ['an object', { preset: 'knorm', compression_ratio: 0.1 }, 'knorm'],
    ['a list', [{ preset: 'knorm', compression_ratio: 0.1 }, 'keydiff'], 'knorm|keydiff'],
    ['a parsed press', parsePress('tova'), 'tova'],
    ['null', null, 'no_press'],
  ])('takes a press as %s', async (_, press, name) => {
    expect(await answer({ prompt: asked, press, sampling: { ...greedy, maxTokens: 1 } })).toMatchObject({ press: name });
  });

  test('a field of the sampling that is left out is as in the API', async () => {
    const once = () => answer({ prompt: asked, sampling: { seed: 7, maxTokens: 8, stop: 'zzz' } });
    expect(await once()).toEqual(await once());
    expect((await answer({ prompt: asked, sampling: { ...greedy, stop: sample.answers[0].slice(0, 2) } })).text).toBe('');
  });

  test.each<[string, unknown, string | null, string]>([
    ['nothing', undefined, null, 'an object with a prompt is expected, got nothing'],
    ['no prompt', {}, 'prompt', 'prompt must be a string'],
    ['a function for a prompt', { prompt: () => 1 }, 'prompt', 'got () => 1'],
    ['an empty prompt', { prompt: ' \n' }, 'prompt', 'must not be empty'],
    ['an unknown kind of prompt', { prompt: { kind: 'txt', text: 'a' } }, 'prompt', '{kind: "text", text}'],
    ['messages of the wrong shape', { prompt: { kind: 'chat', messages: [{ role: 'user', content: 'a' }] } }, 'prompt', '{role, parts}'],
    ['an unknown role', { prompt: [{ role: 'bot', content: 'a' }] }, 'prompt.0.role', 'must be "system"'],
    ['a message without content', { prompt: [{ role: 'user' }] }, 'prompt.0.content', 'must be a string or a list'],
    ['a token that does not exist', { prompt: { kind: 'tokens', tokens: [1.5] } }, 'prompt', 'vocabulary'],
    ['a misspelt press', { prompt: 'a', press: 'zigzag_snapvk' }, 'press', 'did you mean "zigzag_snapkv"?'],
    ['a ratio out of range', { prompt: 'a', press: { preset: 'knorm', compression_ratio: 2 } }, 'press.compression_ratio', 'got 2'],
    ['presses that were not parsed', { prompt: 'a', press: { presses: 5 } }, 'press', 'needs "preset" or "scorer"'],
    ['a list of presses that were not parsed', { prompt: 'a', press: { presses: [5], name: 'x' } }, 'press', 'needs "preset" or "scorer"'],
    ['a temperature out of range', { prompt: 'a', sampling: { temperature: 3 } }, 'sampling.temperature', 'between 0 and 2, got 3'],
    ['no tokens to generate', { prompt: 'a', sampling: { maxTokens: 0 } }, 'sampling.maxTokens', '1 or more, got 0'],
    ['a name of the wire', { prompt: 'a', sampling: { max_tokens: 3 } }, 'sampling.max_tokens', 'did you mean "maxTokens"?'],
    ['a field in the wrong place', { prompt: 'a', temperature: 0 }, 'temperature', 'unknown field "temperature"'],
  ])('refuses %s, naming the field', async (_, request, param, message) => {
    await expect(model.generate(request as ModelRequest).next()).rejects.toMatchObject({
      name: 'InputError',
      param,
      message: expect.stringContaining(message),
    });
  });
});

describe('plan and inspect', () => {
  test('plan takes a prompt or a length', async () => {
    expect(await model.plan({ prompt: { kind: 'length', tokens: 4095 }, press: 'knorm', maxTokens: 1 })).toMatchObject({
      prompt_tokens: 4095,
      fits: true,
    });
    expect((await model.plan({ prompt: asked, press: 'zigzag_snapkv' })).scope).toBe('context');
    expect(await model.plan({ tokens: 1024, press: 'knorm' })).toMatchObject({ prompt_tokens: 1024, tokens: 1024 });
    await expect(model.plan({ tokens: 0 })).rejects.toThrow(/1 or more, got 0/);
    await expect(model.plan({ tokens: 5, prompt: 'a' })).rejects.toThrow(/prompt or tokens, not both/);
    await expect(model.plan({})).rejects.toThrow(/prompt must be a string/);
    await expect(model.plan({ prompt: { kind: 'length', tokens: 4096 } })).rejects.toThrow(/4096 tokens.*4095 tokens or fewer/);
    await expect(model.plan({ prompt: { kind: 'length', tokens: 0 } })).rejects.toThrow(/1 or more, got 0/);
  });
  test('inspect tells what is kept', async () => {
    const { layers, tokens } = await model.inspect(asked, { preset: 'zigzag_snapkv', compression_ratio: 0.8 });
    expect(layers[0].heads[0].kept.length).toBeLessThan(tokens / 2);
  });
});

describe('close', () => {
  const closed = { name: 'InputError', code: 'model_closed', param: null };
  test('can be called twice; nothing computes with weights that are given back', async () => {
    const other = await loadModel();
    const running = other.generate({ prompt: asked, sampling: { ...greedy, ignoreEos: true, maxTokens: 50 } });
    await running.next();
    const reading = other.generate({ prompt: asked }).next();
    other.close();
    other.close();
    await expect(reading).rejects.toMatchObject(closed);
    await expect(running.next()).rejects.toMatchObject(closed);
    await expect(other.generate({ prompt: asked }).next()).rejects.toMatchObject(closed);
    await expect(other.inspect(asked)).rejects.toMatchObject(closed);
    await expect(other.engine.logits({ kind: 'tokens', tokens: [5] }, parsePress(null))).rejects.toMatchObject(closed);
    await expect(other.plan({ tokens: 10 })).rejects.toMatchObject(closed);
    expect(() => other.tokenise('a')).toThrow(expect.objectContaining(closed));
    expect(other.health().memory.kv_used_bytes).toBe(0);
  });
});
