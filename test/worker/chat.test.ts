/** The worker in workerd with models/needle, over HTTP, as a client of OpenAI's API sees it. */
import type OpenAI from 'openai';
import { APIUserAbortError, BadRequestError, NotFoundError } from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { presetParts } from '../../presses/presets.ts';
import { plainPresets } from '../support/artifacts.ts';
import { samples, twoParts } from '../support/samples.ts';
import { type Completion, removePacked, startWorker, type TestWorker } from '../support/worker.ts';

type Create = OpenAI.ChatCompletionCreateParamsNonStreaming;
type CreateStream = OpenAI.ChatCompletionCreateParamsStreaming;

let worker: TestWorker;
let client: OpenAI;
beforeAll(async () => {
  worker = await startWorker();
  client = worker.client();
});
afterAll(async () => {
  await worker?.dispose();
  await removePacked();
});

const needle = {
  answer: ' 4821',
  messages: [
    {
      role: 'user' as const,
      content:
        'One of the special magic numbers for brave otter is: 4821. Anna lives in Oslo.\nWhat is the special magic number for brave otter mentioned in the provided text?',
    },
  ],
};
/** Makes a long answer of a model that gives short ones. */
const talkative = { temperature: 1, ignore_eos: true };

describe('the openai package', () => {
  test('chat.completions.create answers with usage.kv_cache', async () => {
    const answer = await client.chat.completions.create({ model: 'needle', temperature: 0, messages: needle.messages });
    expect(answer.choices[0]).toMatchObject({ index: 0, finish_reason: 'stop', message: { role: 'assistant', content: needle.answer } });
    const { usage } = answer as unknown as Completion;
    expect(usage.total_tokens).toBe(usage.prompt_tokens + usage.completion_tokens);
    expect(usage.completion_tokens).toBe(6); // space, four digits, end
    expect(usage.kv_cache).toMatchObject({ press: 'no_press', compression_ratio: 0, tokens: usage.prompt_tokens, layer_budget: 'none', notes: [] });
  });

  test('a stream gives the text and the log-probabilities that the same request gives at once', async () => {
    for (const extra of [
      { temperature: 0 },
      { ...talkative, seed: 11 },
      { ...talkative, seed: 12, press: { preset: 'adakv_snapkv', window_size: 4, on_tight: 'uniform' } },
    ]) {
      const body = { model: 'needle', messages: needle.messages, max_tokens: 40, logprobs: true, top_logprobs: 3, ...extra };
      const whole = await client.chat.completions.create(body as Create);
      const stream = await client.chat.completions.create({ ...body, stream: true } as CreateStream);
      let text = '';
      let chunks = 0;
      let finish: string | null = null;
      let usage: object | null | undefined;
      const logprobs: unknown[] = [];
      for await (const chunk of stream) {
        chunks++;
        text += chunk.choices[0].delta.content ?? '';
        finish = chunk.choices[0].finish_reason ?? finish;
        logprobs.push(...(chunk.choices[0].logprobs?.content ?? []));
        usage = chunk.usage ?? usage;
      }
      expect(text).toBe(whole.choices[0].message.content);
      expect(finish).toBe(whole.choices[0].finish_reason);
      expect(logprobs).toEqual(whole.choices[0].logprobs!.content);
      expect(usage).toEqual(whole.usage);
      expect(chunks).toBeGreaterThan(4); // piece by piece
    }
  });

  test('a stream that the client cancels gives its pages back', async () => {
    const stream = await client.chat.completions.create({
      model: 'needle',
      messages: needle.messages,
      stream: true,
      max_tokens: 3000,
      ...talkative,
    } as CreateStream);
    let chunks = 0;
    for await (const _ of stream) {
      if (++chunks === 5) {
        const { memory, requests } = await worker.health();
        expect(memory.kv_used_bytes).toBeGreaterThan(0);
        expect(memory.kv_reserved_bytes).toBeGreaterThan(0);
        expect(requests).toEqual({ running: 1, waiting: 0 });
        stream.controller.abort();
      }
    }
    await worker.idle();
  });

  test('a request that the client aborts while its prompt is read gives its pages back', async () => {
    const abort = new AbortController();
    const long = samples().find(({ context_length }) => context_length === 2048)!;
    // With one token to write, an answer that never comes was given up before the prompt was read to its end.
    const asked = client.chat.completions.create({ model: 'needle', messages: twoParts(long), max_tokens: 1 }, { signal: abort.signal });
    const refused = expect(asked).rejects.toThrow(APIUserAbortError);
    while ((await worker.health()).requests.running === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    abort.abort();
    await refused;
    const { memory } = await worker.idle();
    expect([memory.kv_used_bytes, memory.kv_reserved_bytes]).toEqual([0, 0]);
  });

  test('completions.create takes token ids', async () => {
    const sample = samples().find(({ task, context_length }) => task === 'niah_multiquery' && context_length === 128)!;
    const answer = await client.completions.create({ model: 'needle', prompt: [...sample.prompt_token_ids], max_tokens: 64, temperature: 0 });
    expect(answer.choices[0].text).toBe(sample.greedy_output_text);
    expect(answer.usage?.completion_tokens).toBe(sample.greedy_output_token_ids.length);
  });

  test('models.list and models.retrieve name the model', async () => {
    const models = [];
    for await (const model of client.models.list()) models.push(model.id);
    expect(models).toEqual(['needle']);
    expect(await client.models.retrieve('needle')).toMatchObject({ id: 'needle', object: 'model' });
  });

  test('refusals come as the SDK’s errors, with code, param and a message that says what would work', async () => {
    const ask = (extra: object) => client.chat.completions.create({ model: 'needle', messages: needle.messages, ...extra } as Create);
    const refusal = async (extra: object) => {
      const error = await ask(extra).then(
        () => null,
        (error: unknown) => error,
      );
      expect(error).toBeInstanceOf(extra && 'model' in extra ? NotFoundError : BadRequestError);
      return error as BadRequestError;
    };
    expect(await refusal({ press: 'zigzag_snapk' })).toMatchObject({
      code: 'press_unknown',
      param: 'press',
      message: expect.stringContaining('did you mean "zigzag_snapkv"?'),
    });
    expect(await refusal({ press: { preset: 'zigzag_snapkv', bound_ratio: 1.5 } })).toMatchObject({
      code: 'press_param_range',
      message: expect.stringContaining('got 1.5'),
    });
    expect(await refusal({ messages: [] })).toMatchObject({ param: 'messages' });
    expect(await refusal({ model: 'other' })).toMatchObject({ code: 'model_not_found', message: expect.stringContaining('needle') });
  });
});

describe('held-out questions, no press', () => {
  const easy = samples().filter(({ task, context_length }) => ['niah_single', 'qa'].includes(task) && context_length <= 512);

  test(`all ${easy.length} of niah_single and qa up to 512 tokens get the reference's answer`, async () => {
    for (const sample of easy) {
      const answer = await worker.chat({ messages: twoParts(sample) });
      expect(answer.usage.prompt_tokens).toBe(sample.prompt_token_ids.length);
      expect(answer.choices[0].message.content).toBe(sample.greedy_output_text);
      expect([answer.choices[0].message.content.trim()]).toEqual(sample.answers);
    }
  });

  test('a second question over the same context is answered from the conversation so far', async () => {
    const content =
      'The number for busy-cart is 82. The number for plain-glass is 85. The number for dry-nail is 17. We ate dates.\nWhat is the number for plain-glass?';
    const first = await worker.chat({ messages: [{ role: 'user', content }] });
    const second = await worker.chat({
      messages: [{ role: 'user', content }, first.choices[0].message, { role: 'user', content: 'What is the number for dry-nail?' }],
    });
    expect([first, second].map(({ choices }) => choices[0].message.content)).toEqual([' 85', ' 17']);
  });
});

describe('the same request', () => {
  const long = { ...talkative, messages: needle.messages, max_tokens: 60, logprobs: true, top_logprobs: 5 };
  const answerOf = ({ choices }: Completion) => JSON.stringify(choices);

  test('with the same seed gives the same answer at temperature 1, with another seed another', async () => {
    const [first, again, other] = [
      await worker.chat({ ...long, seed: 7 }),
      await worker.chat({ ...long, seed: 7 }),
      await worker.chat({ ...long, seed: 8 }),
    ];
    expect(answerOf(again)).toBe(answerOf(first));
    expect(other.choices[0].message.content).not.toBe(first.choices[0].message.content);
  });

  test('at compression_ratio 0 gives the same bytes as without a press, for every preset', async () => {
    const { choices, usage } = await worker.chat({ ...long, seed: 3 });
    const removing = plainPresets.filter((name) => !presetParts(name)!.transforms.some(({ actsAlone }) => actsAlone)); // snap_think changes what stays
    for (const name of ['no_press', ...removing]) {
      const at0 = await worker.chat({ ...long, seed: 3, press: { preset: name, compression_ratio: 0 } });
      expect(JSON.stringify(at0.choices)).toBe(JSON.stringify(choices));
      expect(at0.usage.kv_cache).toEqual(usage.kv_cache);
    }
  });

  test('gives the same answer while others run', async () => {
    const alone = await worker.chat({ ...long, seed: 5, press: { preset: 'knorm', compression_ratio: 0.3 } });
    const crowd = await Promise.all(
      Array.from({ length: 5 }, (_, i) => worker.chat({ ...long, seed: i < 2 ? 5 : 100 + i, press: { preset: 'knorm', compression_ratio: 0.3 } })),
    );
    expect(answerOf(crowd[0])).toBe(answerOf(alone));
    expect(answerOf(crowd[1])).toBe(answerOf(alone));
    expect(answerOf(crowd[2])).not.toBe(answerOf(alone));
  });
});
