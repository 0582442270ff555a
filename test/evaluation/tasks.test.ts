/** What holds for every generated task: lengths, answers, seeds, errors. What each of them is made of: tasks-made.test.ts. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { CountTokens, Sample } from '../../evaluation/contract.ts';
import { generateSamples, type SamplesRequest } from '../../evaluation/tasks/generate.ts';
import { rulerTasks, styles, tasks } from '../../evaluation/tasks/registry.ts';
import { InputError } from '../../presses/input-error.ts';
import { needleTokens, words } from './tokenizers.ts';

const make = (request: Partial<SamplesRequest> & { task: string }) =>
  generateSamples({ length: 1024, samples: 3, seed: 42, count: words, ...request });
const prompt = ({ context, question, answerPrefix }: Sample) => context + question + answerPrefix;

function size({ context, question, answerPrefix, answers, metric, maxNewTokens }: Sample, count: CountTokens): number {
  const answer = metric === 'string_match_part' ? Math.max(...answers.map((one) => count(` ${one}`))) : count(` ${answers.join(', ')}`);
  return count(context) + count(question) + count(answerPrefix) + answer + maxNewTokens;
}

/** Tokens of one more unit of haystack, at most: a sample may fall short of its length by less than that. */
function unit({ task, context, answers }: Sample, style: string, count: CountTokens): number {
  const longest = (pieces: string[]) => Math.max(...pieces.map((piece) => count(`${piece}\n`) + 1));
  if (task.startsWith('qa')) return longest(context.split(/\n(?=Document)/)) * (style === 'needle' ? 1.5 : 2); // another one may be longer
  if (task === 'niah_single_1' || task.startsWith('niah_multikey_2') || task.startsWith('niah_multikey_3') || task === 'vt')
    return longest(context.split('\n')) + 8;
  // a word thrice; or one more of all common words, where these are a share
  if (task === 'cwe') return (style === 'needle' ? answers.length + 2 : 3) * longest(context.split(/\s\d+\.\s/).slice(1, -1)) + 3 * count(' 10000.');
  if (task === 'fwe') return 4 * longest(answers as string[]); // some ranks may gain one at once
  return longest(context.split(/\s/)); // a word of the essay
}

const runs: readonly [style: string, tokenizer: string, count: CountTokens, lengths: number[]][] = [
  ['ruler', 'words', words, [512, 1000, 4096]],
  ['ruler', 'needle', needleTokens, [1200]],
  ['needle', 'needle', needleTokens, [480, 1500]],
  ['needle', 'words', words, [512]],
];

describe.each(runs)('style %s, tokens of %s', (style, _, count, lengths) => {
  test.each(tasks)(
    '$name: never longer than asked, less than one unit of haystack shorter; samples differ; references and ids are whole',
    ({ name, metric }) => {
      for (const length of lengths) {
        const { samples } = make({ task: name, length, count, style });
        expect(samples.length).toBe(3);
        for (const [i, sample] of samples.entries()) {
          const used = size(sample, count);
          expect(used).toBeLessThanOrEqual(length);
          expect(length - used, `${length}`).toBeLessThan(unit(sample, style, count));
          expect(count(prompt(sample)) + sample.maxNewTokens).toBeLessThanOrEqual(length); // also where it is read as one text
          expect(sample).toMatchObject({ id: `${name}/${length}/${i}`, task: name, metric });
          expect(sample.answers.length).toBeGreaterThan(0);
          if (metric === 'string_match_all') for (const answer of sample.answers) expect(sample.context).toContain(answer);
          else expect(sample.answers.some((answer) => sample.context.includes(answer))).toBe(true);
          expect(sample.context.endsWith('\n')).toBe(true);
          expect(sample.question).toMatch(/[?.]$/);
        }
        expect(new Set(samples.map(prompt)).size).toBe(3);
      }
    },
  );

  test.each(tasks)(
    '$name: the same seed makes the same samples, however many; another seed others; what is asked does not depend on the length',
    ({ name }) => {
      const [length, longer] = [lengths[0], lengths[0] + 200];
      const { samples } = make({ task: name, length, count, style });
      expect(make({ task: name, length, count, style }).samples).toEqual(samples);
      expect(make({ task: name, length, count, style, samples: 1 }).samples).toEqual(samples.slice(0, 1));
      const other = make({ task: name, length, count, style, seed: 43 }).samples;
      for (const [i, sample] of samples.entries()) expect(prompt(other[i])).not.toBe(prompt(sample));
      const same = make({ task: name, length: longer, count, style }).samples;
      for (const [i, { question, answers }] of samples.entries()) {
        expect(same[i].question).toBe(question);
        expect(same[i].answers.toSorted()).toEqual(answers.toSorted());
        expect(size(same[i], count)).toBeGreaterThan(length);
      }
    },
  );
});

test.each(tasks)('$name: too short a length is refused, and the length that is named works, while one less does not', ({ name }) => {
  for (const style of ['ruler', 'needle']) {
    const at = (length: number) => make({ task: name, length, style });
    const refused = (length: number): InputError => {
      try {
        at(length);
      } catch (error) {
        expect(error).toBeInstanceOf(InputError);
        return error as InputError;
      }
      throw new Error(`${name} works at ${length}`);
    };
    const { message, code } = refused(20);
    expect(code).toBe('length_too_short');
    const works = Number(/; (\d+) or more works/.exec(message)![1]);
    expect(at(works).samples.length).toBe(3);
    expect(refused(works - 1).message).toContain(String(works));
  }
});

test('reserve: what a chat template takes is left free', () => {
  const count = needleTokens;
  const [sample] = make({ task: 'niah_single_2', style: 'needle', length: 512, samples: 1, reserve: 100, count }).samples;
  expect(size(sample, count)).toBeLessThanOrEqual(412);
  expect(size(sample, count)).toBeGreaterThan(390);
});

test('names: RULER has thirteen tasks, all names are different; every default of a style is a parameter of its task', () => {
  expect(rulerTasks.length).toBe(13);
  expect(new Set(tasks.map(({ name }) => name)).size).toBe(tasks.length);
  for (const { defaults } of styles)
    for (const [name, params] of Object.entries(defaults)) {
      const task = tasks.find((one) => one.name === name)!;
      for (const param of Object.keys(params)) expect(Object.keys(task.params.shape)).toContain(param);
    }
});

test('evaluation/README.md has every task, with its recipe', () => {
  const readme = readFileSync('evaluation/README.md', 'utf8');
  for (const { name, recipe } of tasks) expect(readme).toContain(`| ${name} | ${recipe} |`);
});

describe('refused, with what was seen and what works', () => {
  test.each<[string, Partial<SamplesRequest>, RegExp]>([
    ['a task', { task: 'niah_singel_1' }, /unknown task "niah_singel_1"; did you mean "niah_single_1"/],
    ['a style', { style: 'rules' }, /unknown style "rules"; did you mean "ruler"/],
    ['a length', { length: 12.5 }, /length must be a whole number from 1 to 4194304, got 12.5/],
    ['a length without end', { length: Number.POSITIVE_INFINITY }, /length must be a whole number/],
    ['no samples', { samples: 0 }, /samples must be a whole number from 1 to 100000, got 0/],
    ['a seed', { seed: Number.NaN }, /seed must be a whole number/],
    ['a parameter', { params: { quries: 2 } }, /niah_multikey_1 has no parameter "quries"; did you mean "queries"/],
    ['a parameter’s range', { params: { keys: 41 } }, /keys: must be a whole number from 1 to 40, got 41/],
    ['a parameter’s type', { params: { keys: 'four' } }, /keys: must be a whole number from 1 to 40, got "four"/],
    ['more queries than keys', { params: { queries: 5 } }, /queries: must be at most the number of keys, got 5/],
    ['more needles than places', { params: { keys: 40, values: 2 } }, /values: keys x values must be at most 40/],
    ['depths of several needles', { params: { depths: [50] } }, /depths are for one needle/],
    ['a haystack', { params: { haystack: 'straw' } }, /haystack: must be stock, essay or needles, got "straw"/],
    [
      'words that are as rare as others',
      { task: 'cwe', params: { common_times: 3, uncommon_times: 3 } },
      /uncommon_times must be less than common_times, got 3 and 3/,
    ],
    ['two rules for one number', { task: 'cwe', params: { common_times: 30, common_share: 0.5 } }, /common_share: stands in place of common_times/],
    ['an essay without words', { task: 'niah_single_2', essay: ' \n ' }, /essay has no words/],
  ])('%s', (_, request, message) => {
    expect(() => make({ task: 'niah_multikey_1', ...request })).toThrow(InputError);
    expect(() => make({ task: 'niah_multikey_1', ...request })).toThrow(message);
  });

  test('a tokenizer that counts nothing', () => {
    expect(() => make({ task: 'vt', count: () => Number.NaN })).toThrow(/count\(\) must give whole numbers of tokens, got NaN/);
    // bounded, and said
    const { samples, notes } = make({ task: 'niah_single_1', samples: 1, length: 200, count: () => 0 });
    expect(samples[0].context.split('\n').length).toBe(803); // four sentences per token, the needle, the introduction, the end
    expect(notes).toEqual(['niah_single_1 fills 128 of 200 tokens: there are no more than 800 stock sentences']);
  });

  test('more samples than there are different ones', () => {
    const questions = {
      name: 'q',
      paragraphs: [{ text: 'Ada is at home.', article: 'a' }],
      questions: [{ question: 'Where is Ada?', answers: ['at home'], paragraphs: [0] }],
    };
    expect(make({ task: 'qa_1', questions, samples: 1 }).samples.length).toBe(1);
    expect(() => make({ task: 'qa_1', questions, samples: 2 })).toThrow(
      /fewer different samples than 2: 1 were found; 1 or fewer, or a longer length work/,
    );
  });
});
