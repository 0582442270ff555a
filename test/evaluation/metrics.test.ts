/** Metrics against the official code (test/golden/evaluation/metrics.json), and the rules that make a task's score of them. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { MetricName, Sample } from '../../evaluation/contract.ts';
import { pythonDict } from '../../evaluation/metrics/python-literal.ts';
import { METRICS, scoreOf } from '../../evaluation/metrics/registry.ts';
import { scoresByGroup, scoresByLength, taskScore } from '../../evaluation/metrics/task-score.ts';

interface Case {
  readonly metric: MetricName;
  readonly prediction: string;
  readonly answers: string[];
  readonly classes?: string[];
  readonly score: number;
  readonly kvpress?: number;
}

const cases: Case[] = JSON.parse(readFileSync('test/golden/evaluation/metrics.json', 'utf8'));

function sample(fields: Partial<Sample>): Sample {
  return { id: 'sample', task: 'task', context: '', question: '', answerPrefix: '', answers: [], maxNewTokens: 1, metric: 'token_f1', ...fields };
}

describe.each(Object.values(METRICS))('$name', ({ name, formula, source }) => {
  const own = cases.filter(({ metric }) => metric === name);

  test('agrees with the official code, which gives more than one score', () => {
    expect(METRICS[name].name).toBe(name);
    expect(formula.length * source.length).toBeGreaterThan(0);
    expect(new Set(own.map(({ score }) => score)).size).toBeGreaterThan(1);
    for (const { prediction, answers, classes, score } of own) {
      expect(scoreOf(prediction, sample({ metric: name, answers, classes })), JSON.stringify({ prediction, answers })).toBeCloseTo(score, 12);
    }
  });

  test("agrees with kvpress's evaluation where that is asked for", () => {
    const theirs = own.filter(({ kvpress }) => kvpress !== undefined);
    for (const { prediction, answers, classes, kvpress } of theirs) {
      const ours = scoreOf(prediction, sample({ metric: name, answers, classes }), name, 'kvpress');
      expect(ours, JSON.stringify({ prediction, answers })).toBeCloseTo(kvpress!, 12);
    }
    // a rule of its own is there because a case shows that it matters
    expect(theirs.some(({ score, kvpress }) => score !== kvpress)).toBe(METRICS[name].kvpress !== undefined);
  });

  test('scores between 0 and 1, an empty prediction among them', () => {
    for (const { answers, classes } of own.slice(0, 3)) {
      for (const prediction of ['', ' ', '\n', '.', 'a', '𝒜 𝒷', answers[0]]) {
        const score = scoreOf(prediction, sample({ metric: name, answers, classes }))!;
        expect(score >= 0 && score <= 1, `${score} for ${JSON.stringify(prediction)}`).toBe(true);
      }
    }
  });
});

test('a sample without public answers has no score', () => {
  expect(scoreOf('anything', sample({ metric: null }))).toBeNull();
});

test('the answer to a cloze is read, never run', () => {
  const keys = Object.keys(globalThis).length;
  for (const text of [
    "__import__('os').system('true')",
    "{'a': __import__('os')}",
    "{'a': f'{1}'}",
    "{'a': 1 + 1}",
    '{}.constructor',
    "{'a': process.exit(1)}",
  ]) {
    expect(pythonDict(text), text).toBeNull();
  }
  expect(Object.keys(globalThis).length).toBe(keys);
  expect(pythonDict("{'__proto__': 'x'}")?.get('__proto__')).toBe('x');
  expect(pythonDict(`{'a': ${'['.repeat(100_000)}`)).toBeNull();
  expect(pythonDict(`{'a': '${'x'.repeat(1_000_000)}`)).toBeNull();
});

test('texts that would take minutes to compare are refused', () => {
  const words = 'word '.repeat(20_000);
  const long = (metric: MetricName, text: string) => () => scoreOf(text, sample({ metric, answers: [text] }));
  expect(long('rouge_l', words)).toThrow(/20001 and 20001 words are too many/);
  expect(long('rouge_l_sum', words)).toThrow(/too many/);
  expect(() => scoreOf('x'.repeat(30_000), sample({ metric: 'code_similarity', answers: ['y'] }))).toThrow(
    /at most 20000 characters, got 30000 and 1/,
  );
});

test('a reference that its metric cannot read is told with the sample', () => {
  expect(() => scoreOf('1', sample({ id: 'retrieval/3', metric: 'retrieval', answers: ['Paragraph one'] }))).toThrow(
    /retrieval\/3: the reference must name a paragraph.*"Paragraph one"/,
  );
  expect(() => scoreOf('{}', sample({ id: 'cloze/3', metric: 'exact_match', answers: ['Bob'] }))).toThrow(
    /cloze\/3: the reference must be a dict of texts.*"Bob"/,
  );
});

test("a task's score is the mean in percent; clozes weigh as many as they have masks", () => {
  const scored = (metric: MetricName, answers: string[], score: number) => ({ sample: sample({ metric, answers }), score });
  expect(taskScore([scored('token_f1', ['x'], 1), scored('token_f1', ['x'], 0), scored('token_f1', ['x'], 0)])).toBe(33.33);
  // 1 of 1 and 1 of 3 masks: 2 of 4
  expect(taskScore([scored('exact_match', ["{'a': 'x'}"], 1), scored('exact_match', ["{'a': 'x', 'b': 'y', 'c': 'z'}"], 1 / 3)])).toBe(50);
  expect(taskScore([])).toBeNull();
});

test('LongBench-E is split at 4000 and 8000 words, LongBench v2 by difficulty', () => {
  const long = (words: number, score: number) => ({ sample: sample({ words }), score });
  expect(scoresByLength([long(3999, 1), long(4000, 0.5), long(7999, 0), long(8000, 0.25)])).toEqual({ '0-4k': 100, '4-8k': 25, '8k+': 25 });
  expect(scoresByLength([long(1, 1)])).toEqual({ '0-4k': 100, '4-8k': null, '8k+': null });
  const hard = (difficulty: string, score: number) => ({ sample: sample({ groups: { difficulty } }), score });
  expect(scoresByGroup([hard('hard', 0), hard('easy', 1), hard('hard', 1)], 'difficulty')).toEqual({ easy: 100, hard: 50 });
});
