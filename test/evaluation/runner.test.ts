/** The runner on models/needle: one reading for all presses gives what a reading for each gives; a run cut off goes on where it was. */
import { mkdtempSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Sample } from '../../evaluation/contract.ts';
import { ResultsFile, readResults, type Setup } from '../../evaluation/results.ts';
import { klDivergence, logSoftmax, type RunOptions, run } from '../../evaluation/runner.ts';
import { variantsOf } from '../../evaluation/variants.ts';
import type { EdgeEngine } from '../../worker/engine/engine.ts';
import { openGolden } from '../support/golden.ts';
import { samples as heldOut } from '../support/samples.ts';

const setup: Setup = { model: 'needle', fingerprint: '', backend: 'wasm', entry_type: 'f32', query_aware: false, samples: {} };
const short = heldOut().filter(({ context_length }) => context_length === 128);
/** Of `count` samples, as evenly over the tasks as they come. */
const samples = (count: number): Sample[] =>
  Array.from({ length: count }, (_, i) => short[Math.floor((i * short.length) / count)]).map(({ task, context, question, answers }, i) => ({
    id: `${task}/${i}`,
    task,
    context: `${context}\n`,
    question,
    answerPrefix: '',
    answers,
    maxNewTokens: 24,
    metric: 'string_match_all',
  }));
const presses = ['no_press', 'knorm', 'random', 'expected_attention', 'observed_attention', 'kvzip'].map((press) => ({ name: press, press }));
const snapkv = { name: 'snapkv', press: { preset: 'adakv_snapkv', window_size: 8 } };
const zigzag = { name: 'zigzag', press: { preset: 'zigzag_snapkv', window_size: 8 } };
const { variants } = variantsOf([...presses, snapkv, zigzag], [0.5], false);

let engine: EdgeEngine;
let folder: string;
beforeAll(async () => {
  engine = await openGolden('needle');
});
afterAll(() => engine.close());
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'edgepress-eval-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

async function evaluate(path: string, options: Partial<Omit<RunOptions, 'samples'>> & { samples: Sample[] }) {
  const results = new ResultsFile(path, setup);
  try {
    const placed = options.samples.map((sample) => ({ sample, length: 128 }));
    return await run({ engine, variants, results, kl: false, ...options, samples: placed });
  } finally {
    results.close();
  }
}

test('20 samples: the same answers, to the letter and the last bit of every measure, as with one reading per press', async () => {
  const [shared, plain] = ['shared', 'plain'].map((name) => join(folder, name));
  const twenty = samples(20);
  const once = await evaluate(shared, { samples: twenty });
  const each = await evaluate(plain, { samples: twenty, shareReadings: false });
  const { answers } = readResults(shared);
  expect(answers.length).toBe(20 * variants.length);
  expect(answers).toEqual(readResults(plain).answers);
  expect(once).toMatchObject({ answered: answers.length, readings: 20 * 2 }); // kvzip reads more than the prompt, and by itself
  expect(each).toMatchObject({ answered: answers.length, readings: 20 * variants.length });
  const scores = (press: string) => answers.filter((answer) => answer.press === press).map((answer) => answer.score!);
  const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
  expect(sum(scores('no_press'))).toBeGreaterThan(15);
  expect(sum(scores('random'))).toBeLessThan(sum(scores('no_press')));
});

test('a run that is cut off anywhere goes on without losing or repeating an answer', async () => {
  const three = samples(3);
  const few = variants.filter(({ press }) => press === 'knorm' || press === 'random');
  const whole = join(folder, 'whole');
  await evaluate(whole, { samples: three, variants: few });
  const bytes = readFileSync(whole);
  for (const share of [0.2, 0.5, 0.77, 0.98]) {
    const path = join(folder, `cut-${share}`);
    const controller = new AbortController();
    const onSample = (done: number) => done === 2 && controller.abort(new Error('killed'));
    await expect(evaluate(path, { samples: three, variants: few, onSample, signal: controller.signal })).rejects.toThrow('killed');
    truncateSync(path, Math.min(Math.floor(bytes.length * share), readFileSync(path).length));
    await evaluate(path, { samples: three, variants: few });
    expect(readFileSync(path)).toEqual(bytes);
  }
  expect(engine.health().memory).toMatchObject({ kv_used_bytes: 0, kv_reserved_bytes: 0 });
});

test('what a press refuses is counted with the reason, and the other presses answer', async () => {
  const long = variantsOf([{ name: 'wide', press: { preset: 'snapkv', window_size: 200 } }, presses[1]], [0.5], false);
  const { answered, refused } = await evaluate(join(folder, 'r'), { samples: samples(2), variants: long.variants });
  expect(answered).toBe(2);
  expect([...refused]).toEqual([['wide@0.5', { why: expect.stringMatching(/window/), samples: 2 }]]);
});

test('a sample that is too long to be tokenised is refused and counted, and the others are answered', async () => {
  const [first, second] = samples(2);
  const few = variants.filter(({ press }) => press === 'knorm' || press === 'no_press');
  const long = { ...first, id: 'long', context: 'word '.repeat(1_000_000) };
  const { answered, refused } = await evaluate(join(folder, 'l'), { samples: [first, long, second], variants: few });
  expect(answered).toBe(4);
  expect([...refused]).toEqual(
    few.map(({ key }) => [key, { why: expect.stringMatching(/^the prompt has at least \d+ tokens; the context length/), samples: 1 }]),
  );
});

test('presses on a part of the prompt and presses that act while decoding alone stand side by side, with a reading for each', async () => {
  const [shared, plain] = ['shared', 'plain'].map((name) => join(folder, name));
  const decoding = { name: 'decoding', press: { preset: 'decoding_tova', interval: 1, target_size: 64 } };
  const { variants } = variantsOf([decoding, presses[0], presses[1]], [0.5], false);
  const two = samples(2);
  expect(await evaluate(shared, { samples: two, variants })).toMatchObject({ answered: 6, readings: 4, refused: new Map() });
  await evaluate(plain, { samples: two, variants, shareReadings: false });
  const { answers } = readResults(shared);
  expect(answers).toEqual(readResults(plain).answers);
  for (const { press, tokens, covered } of answers) expect(covered === tokens).toBe(press !== 'knorm');
});

test('samples of one context share a reading', async () => {
  const [first] = samples(1);
  const two = [first, { ...first, id: 'again', question: 'What is the special magic number for red lamp mentioned in the provided text?' }];
  const few = variants.filter(({ press }) => press === 'knorm');
  expect(await evaluate(join(folder, 'c'), { samples: two, variants: few })).toMatchObject({ answered: 2, readings: 1 });
});

describe('KL', () => {
  test('is 0 for the full cache, and more the more is removed', async () => {
    const path = join(folder, 'kl');
    // It keeps the first tokens, which answers want and the last tokens of a question do not see.
    const expected = { name: 'expected', press: 'expected_attention' };
    const some = variantsOf([presses[0], expected, presses[2]], [0.25, 0.75], false).variants;
    await evaluate(path, { samples: samples(8), variants: some, kl: true });
    const { answers } = readResults(path);
    const mean = (variant: string) => {
      const of = answers.filter((answer) => answer.variant === variant).map(({ kl }) => kl!);
      return of.reduce((a, b) => a + b, 0) / of.length;
    };
    expect(mean('no_press')).toBe(0);
    expect(mean('expected@0.25')).toBeGreaterThan(0);
    expect(mean('expected@0.75')).toBeGreaterThan(mean('expected@0.25'));
    expect(mean('random@0.75')).toBeGreaterThan(mean('random@0.25'));
    expect(mean('random@0.25')).toBeGreaterThan(mean('expected@0.25'));
  });

  test('of worked examples', () => {
    const log = (values: number[]) => Float64Array.from(values, Math.log);
    expect(klDivergence(log([0.5, 0.5]), log([0.25, 0.75]))).toBeCloseTo(0.5 * Math.log(2) + 0.5 * Math.log(2 / 3), 12);
    expect(klDivergence(log([0.9, 0.1]), log([0.9, 0.1]))).toBe(0);
    expect([...logSoftmax(Float32Array.of(1000, 1000))]).toEqual([-Math.log(2), -Math.log(2)]);
  });
});
