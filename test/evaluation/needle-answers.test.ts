/** Style "needle" is in forms that the embedded model can read: it answers the tasks that it was trained on. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { scoreOf } from '../../evaluation/metrics/registry.ts';
import { generateSamples } from '../../evaluation/tasks/generate.ts';
import { parsePress } from '../../presses/config.ts';
import type { EdgeEngine } from '../../worker/engine/engine.ts';
import type { PromptInput } from '../../worker/engine/types.ts';
import { openGolden } from '../support/golden.ts';
import { needleTokens } from './tokenizers.ts';

const GREEDY = { temperature: 0, topK: 0, topP: 1, minP: 0, frequencyPenalty: 0, presencePenalty: 0, stop: [], topLogprobs: null, ignoreEos: false };

let engine: EdgeEngine;
beforeAll(async () => {
  engine = await openGolden('needle');
});
afterAll(() => engine.close());

const ANSWERED = [
  'niah_single_1',
  'niah_single_2',
  'niah_single_3',
  'niah_multikey_1',
  'niah_multikey_2',
  'niah_multikey_3',
  'niah_multivalue',
  'niah_multiquery',
  'vt',
  'qa_1',
  'needle_in_haystack',
];

test.each(ANSWERED)('%s: models/needle finds nearly all references, and neither prompt nor answer is longer than promised', async (task) => {
  const length = 448;
  const { samples } = generateSamples({ task, length, samples: 4, seed: 3, count: needleTokens, style: 'needle', reserve: 3 }); // BOS and two marks of turns
  let score = 0;
  for (const sample of samples) {
    const prompt = engine.encode({ kind: 'question', ...sample });
    expect(prompt.kind).toBe('tokens');
    if (prompt.kind === 'tokens') expect(prompt.tokens.length + sample.maxNewTokens).toBeLessThanOrEqual(length);
    const { text, reason } = await answerOf(prompt, sample.maxNewTokens);
    expect(reason, sample.id).toBe('stop'); // the budget was enough
    score += scoreOf(text, sample)! / samples.length;
  }
  expect(score).toBeGreaterThan(0.8);
});

test('an answer goes on from what it begins with, whether that has a space before it or not', async () => {
  const { samples } = generateSamples({
    task: 'niah_multikey_1',
    length: 320,
    samples: 8,
    seed: 1,
    count: needleTokens,
    style: 'needle',
    reserve: 3,
  });
  for (const sample of samples) {
    const [answer] = sample.answers;
    for (const answerPrefix of [answer.slice(0, 2), ` ${answer.slice(0, 2)}`]) {
      const { text } = await answerOf(engine.encode({ kind: 'question', ...sample, answerPrefix }), 16);
      expect(text, sample.id).toBe(answer.slice(2)); // without the space half of them are wrong
    }
  }
});

async function answerOf(prompt: PromptInput, maxTokens: number): Promise<{ text: string; reason: string }> {
  let text = '';
  for await (const event of engine.generate({ prompt, press: parsePress('no_press'), sampling: { ...GREEDY, maxTokens, seed: 1 } })) {
    if (event.type === 'text') text += event.text;
    if (event.type === 'finish') return { text, reason: event.reason };
  }
  throw new Error('an answer without an end');
}
