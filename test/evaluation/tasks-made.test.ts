/** What generated tasks are made of, read back from their text: needles and depths, chains, counts, documents. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Sample } from '../../evaluation/contract.ts';
import { Random } from '../../evaluation/random.ts';
import { sentencesOf } from '../../evaluation/tasks/essay.ts';
import { generateSamples, type SamplesRequest } from '../../evaluation/tasks/generate.ts';
import { DEPTHS } from '../../evaluation/tasks/niah.ts';
import { ownEssay } from '../../evaluation/tasks/own/essay.ts';
import { needle } from '../../evaluation/tasks/phrasebooks/needle.ts';
import * as needleWords from '../../evaluation/tasks/phrasebooks/needle-words.ts';
import { ruler } from '../../evaluation/tasks/phrasebooks/ruler.ts';
import { styles } from '../../evaluation/tasks/registry.ts';
import { words } from './tokenizers.ts';

const make = (request: Partial<SamplesRequest> & { task: string }): Sample[] =>
  generateSamples({ length: 1500, samples: 6, seed: 7, count: words, ...request }).samples;
const times = (text: string, part: string) => text.split(part).length - 1;

const STYLES = styles.map(({ name }) => name);
const NEEDLES: Record<string, RegExp> = {
  ruler: /Mind this: one of the special magic (number|UUID|word)s of (\S+) is (\S+)\./g,
  needle: /One of the special magic (number|uuid|word)s for ([^:]+) is: (\S+)\./g,
};
const INTRODUCTION = /^(A|Some) special magic .*\n/;

describe.each(STYLES)('needles, style %s', (style) => {
  const found = (context: string) => [...context.matchAll(NEEDLES[style])].map(([text, kind, key, value]) => ({ text, kind, key, value }));
  const asked = ({ question }: Sample, keys: string[]) => keys.filter((key) => question.includes(key));

  test.each([
    ['niah_single_1', 1, 1, /^\d{7}$/],
    ['niah_single_2', 1, 1, /^\d{7}$/],
    ['niah_single_3', 1, 1, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/],
    ['niah_multikey_1', 4, 1, /^\d{7}$/],
    ['niah_multikey_2', null, 1, /^\d{7}$/],
    ['niah_multikey_3', null, 1, /^[0-9a-f]{8}-[0-9a-f]{4}-4/],
    ['niah_multivalue', 4, 4, /^\d{7}$/],
    ['niah_multiquery', 4, 4, /^\d{7}$/],
    ['needle_in_haystack', 1, 1, /^\d{7}$/],
  ] as const)('%s: as many needles as it has; each reference stands once, in the needle of a key that is asked', (task, count, answers, form) => {
    for (const sample of make({ task, style })) {
      const needles = found(sample.context);
      if (count === null) expect(needles.length).toBe(sample.context.trim().split('\n').length - (style === 'ruler' ? 1 : 0));
      else expect(needles.length).toBe(count);
      expect(sample.answers.length).toBe(answers);
      const keys = asked(sample, [...new Set(needles.map(({ key }) => key))]);
      expect(keys.length).toBe(task === 'niah_multiquery' ? 4 : 1);
      for (const answer of sample.answers) {
        expect(answer).toMatch(form);
        expect(times(sample.context + sample.question + sample.answerPrefix, answer)).toBe(1);
        expect(keys).toContain(needles.find(({ value }) => value === answer)!.key);
      }
      // and nothing that is asked is no answer
      expect(
        needles
          .filter(({ key }) => keys.includes(key))
          .map(({ value }) => value)
          .toSorted(),
      ).toEqual(sample.answers.toSorted());
      if (task !== 'niah_multivalue') expect(new Set(needles.map(({ key }) => key)).size).toBe(needles.length);
      if (style === 'ruler') for (const key of keys) expect(sample.answerPrefix).toContain(key);
      else expect(sample.answerPrefix).toBe('');
    }
  });

  test.each(['niah_single_1', 'niah_single_2', 'niah_multikey_2', 'needle_in_haystack'])(
    '%s: the needle stands at its depth, to the sentence',
    (task) => {
      const samples = make({ task, style, samples: 22 });
      for (const { context, answers, depth } of samples) {
        const body = context.replace(INTRODUCTION, '').trim();
        const text = found(context).find(({ value }) => value === answers[0])!.text;
        const all =
          task === 'niah_single_1' || task === 'niah_multikey_2' ? body.split('\n') : sentencesOf(body, 'context').map((sentence) => sentence.trim());
        const before = all.indexOf(text);
        expect(before).toBe(Math.floor(((all.length - 1) * depth!) / 100));
      }
      const depths = samples.map(({ depth }) => depth);
      if (task === 'needle_in_haystack') expect(depths).toEqual([...Array(22).keys()].map((i) => (i % 11) * 10));
      else {
        for (const depth of depths) expect(DEPTHS).toContain(depth);
        expect(new Set(depths).size).toBeGreaterThan(8);
      }
    },
  );

  test('needles of one sample stand at different places, drawn all over the text', () => {
    const places = make({ task: 'niah_multikey_1', style, samples: 30 }).flatMap(({ context }) => {
      const at = found(context).map(({ text }) => context.indexOf(text) / context.length);
      expect(new Set(at).size).toBe(4);
      return at;
    });
    for (let quarter = 0; quarter < 4; quarter++)
      expect(places.filter((at) => Math.floor(at * 4) === quarter).length, `quarter ${quarter}`).toBeGreaterThan(15); // of 120; 30 is the mean, sigma 4.7
  });

  test('parameters: keys, values, queries, kinds, digits', () => {
    const params = { keys: 6, values: 3, queries: 2, key_kind: 'uuid', value_kind: 'number', digits: 9, haystack: 'stock' };
    for (const sample of make({ task: 'niah_multiquery', style, params })) {
      const needles = found(sample.context);
      expect(needles.length).toBe(18);
      expect(sample.answers.length).toBe(6);
      for (const { key, value } of needles) {
        expect(key).toMatch(/^[0-9a-f-]{36}$/);
        expect(value).toMatch(/^\d{9}$/);
      }
      expect(
        asked(
          sample,
          needles.map(({ key }) => key),
        ).length,
      ).toBe(6); // 2 keys, 3 needles each
      expect(sample.depth).toBeUndefined();
    }
    for (const { answers } of make({ task: 'niah_single_2', style, params: { value_kind: 'word' } })) expect(answers[0]).toMatch(/^[a-z]+$/);
  });
});

test('more needles than there are keys of adjective and noun: keys of two adjectives', () => {
  const pairs = needleWords.ADJ.length * needleWords.NOUNS.length;
  const [{ context }] = make({ task: 'niah_multikey_2', style: 'needle', length: 21_000, samples: 1, count: (text) => Math.ceil(text.length / 64) });
  const keys = [...context.matchAll(NEEDLES.needle)].map(([, , key]) => key);
  expect(keys.length).toBeGreaterThan(pairs);
  expect(new Set(keys).size).toBe(keys.length);
  expect(keys.some((key) => key.split(' ').length === 3)).toBe(true);
});

describe('essay', () => {
  test('the user’s text is the haystack; it begins anywhere and repeats where it is too short', () => {
    const essay = 'First it rains. Then it snows! Does it thaw? "It does." No more.';
    const parts = ['First it rains.', 'Then it snows!', 'Does it thaw?', '"It does."', 'No more.'];
    const samples = make({ task: 'niah_single_2', style: 'ruler', length: 400, essay });
    const begins = new Set<string>();
    for (const { context, answers } of samples) {
      const body = sentencesOf(context.replace(INTRODUCTION, ''), 'context').filter((sentence) => !sentence.includes(answers[0]));
      const first = parts.indexOf(body[0]);
      begins.add(body[0]);
      for (const [i, sentence] of body.slice(0, -1).entries()) expect(sentence).toBe(parts[(first + i) % parts.length]);
    }
    expect(begins.size).toBeGreaterThan(2);
    expect(make({ task: 'niah_single_2', style: 'needle', length: 400, essay })[0].context).toContain('Then it snows!');
  });

  test('a text without full stops is cut, so that needles have places; own essays are long, and hold no number', () => {
    const pieces = sentencesOf(Array.from({ length: 1000 }, (_, i) => `w${i}`).join(' '), 'text');
    expect(pieces.length).toBe(17);
    expect(Math.max(...pieces.map(words))).toBe(60);
    const own = ownEssay();
    expect(words(own.join(' '))).toBeGreaterThan(2500);
    expect(own.length).toBeGreaterThan(120);
    expect(own.join(' ')).not.toMatch(/\d/);
    expect(new Set(own).size).toBe(own.length);
  });
});

describe.each(STYLES)('vt, style %s', (style) => {
  /** Runs the statements: what each variable holds. A variable that is copied before it has a value throws. */
  function run(text: string): Map<string, string> {
    const held = new Map<string, string>();
    for (const [, name, from, value] of text.matchAll(/VAR (\w+) = (?:VAR (\w+)|(\d+))/g)) {
      if (held.has(name)) throw new Error(`${name} twice`);
      if (from !== undefined && !held.has(from)) throw new Error(`${from} has no value yet`);
      held.set(name, from === undefined ? value : held.get(from)!);
    }
    return held;
  }
  const body = (context: string) => context.split('\n\n').at(-1)!; // behind the worked example

  test.each([[{}], [{ chains: 4, hops: 2 }], [{ hops: 7, names: 'letters', letters: 6 }]])(
    'the chain runs, and ends in the answers alone: %j',
    (params) => {
      for (const { context, question, answers } of make({ task: 'vt', style, params })) {
        const { hops = 4, chains = 1 } = params as { hops?: number; chains?: number };
        const held = run(body(context));
        const value = /\d{5}/.exec(question)![0];
        expect(held.size).toBe(chains * (hops + 1));
        expect([...held].filter(([, number]) => number === value).map(([name]) => name)).toEqual(answers);
        expect(answers.length).toBe(hops + 1);
        for (const [i, name] of answers.slice(1).entries()) expect(context).toContain(`VAR ${name} = VAR ${answers[i]}`); // hop by hop, no shortcut
        expect(new Set(held.values()).size).toBe(chains);
        for (const a of answers) for (const b of answers) if (a !== b) expect(a.toLowerCase()).not.toContain(b.toLowerCase());
      }
    },
  );

  test('statements stand all over the text', () => {
    const at = make({ task: 'vt', style, samples: 20 }).flatMap(({ context }) => {
      const lines = body(context).split('\n');
      return lines.flatMap((line, i) => (line.startsWith('VAR') ? [i / lines.length] : []));
    });
    expect(at.length).toBe(100);
    expect(at.filter((place) => place < 0.25).length).toBeGreaterThan(8);
    expect(at.filter((place) => place > 0.75).length).toBeGreaterThan(8);
  });

  test('worked example: it runs too, is right, and its names are shorter; left out where asked', () => {
    const [sample] = make({ task: 'vt', style, params: { example: true, names: 'letters' } });
    const [, value] = /VAR \w{3} = (\d{5})/.exec(sample.context)!;
    const text = sample.context.slice(0, sample.context.lastIndexOf('VAR', sample.context.indexOf(sample.answers[0]) - 1));
    const names = [...run(text)].filter(([, number]) => number === value).map(([name]) => name);
    expect(names.length).toBe(5);
    expect(text).toContain(names.join(', '));
    const [without] = make({ task: 'vt', style, params: { example: false } });
    expect(times(without.context + without.question, '?') + times(without.context + without.question, 'Find all')).toBe(1);
  });
});

describe.each(STYLES)('cwe, style %s', (style) => {
  const counts = (context: string) => {
    const list = context.trim().split('\n').at(-1)!;
    const entries = [...list.matchAll(/(\d+)\. (\S+)/g)];
    expect(entries.map(([, number]) => Number(number))).toEqual(entries.map((_, i) => i + 1));
    const count = new Map<string, number>();
    for (const [, , word] of entries) count.set(word, (count.get(word) ?? 0) + 1);
    return count;
  };

  test.each([
    [6000, {}, style === 'ruler' ? [30, 3, 10] : null],
    [1500, {}, style === 'ruler' ? [6, 1, 10] : null],
    [1500, { common: 3, common_times: 20, uncommon_times: 2, common_share: null }, [20, 2, 3]],
  ] as const)('at length %i with %j: the answers are the most common words, and all others are as rare as said', (length, params, expected) => {
    for (const { context, answers } of make({ task: 'cwe', style, length, params, samples: 3 })) {
      const count = counts(context);
      const ranked = [...count].toSorted((a, b) => b[1] - a[1]);
      expect(
        ranked
          .slice(0, answers.length)
          .map(([word]) => word)
          .toSorted(),
      ).toEqual(answers.toSorted());
      const often = new Set(answers.map((word) => count.get(word)!));
      const rarely = new Set(ranked.slice(answers.length).map(([, n]) => n));
      expect([often.size, rarely.size]).toEqual([1, 1]);
      const [common, uncommon] = [[...often][0], [...rarely][0]];
      if (expected) expect([common, uncommon, answers.length]).toEqual(expected);
      else {
        const all = [...count.values()].reduce((sum, n) => sum + n, 0);
        expect((common * answers.length) / all).toBeCloseTo(0.5, 1);
        expect(uncommon).toBe(1);
      }
      for (const answer of answers) for (const word of count.keys()) if (word !== answer) expect(word).not.toContain(answer);
    }
  });

  test('a list longer than there are words joins them in pairs', () => {
    const count = counts(make({ task: 'cwe', style, length: 20_000, samples: 1, params: { uncommon_times: 1 } })[0].context);
    expect(count.size).toBeGreaterThan(styles.find(({ name }) => name === style)!.listWords.length);
  });

  test('worked example: right about its list', () => {
    const { context, answers } = make({ task: 'cwe', style, length: 1500, samples: 1, params: { example: true } })[0];
    const lines = context.split('\n');
    const at = lines.findIndex((line) => line.startsWith('1. '));
    const count = counts(lines.slice(0, at + 1).join('\n'));
    const common = [...count].filter(([, n]) => n === 3).map(([word]) => word);
    expect(common.length).toBe(answers.length);
    for (const word of common) expect(lines[at + 1]).toContain(word);
    expect(count.size).toBe(20);
  });
});

describe.each(STYLES)('fwe, style %s', (style) => {
  test.each([[{}], [{ noise: false, alpha: 1.5, top: 2 }]])('the answers are the most frequent but the dots, by the formula: %j', (params) => {
    const { noise = true, alpha = 2, top = 3 } = params as { noise?: boolean; alpha?: number; top?: number };
    for (const length of [1000, 3000])
      for (const { context, answers } of make({ task: 'fwe', style, params, length, samples: 3 })) {
        const count = new Map<string, number>();
        for (const word of context
          .replace(/^.*\n(?=.)|^Coded text: /, '')
          .trim()
          .split(' '))
          count.set(word, (count.get(word) ?? 0) + 1);
        const ranked = [...count].toSorted((a, b) => b[1] - a[1]);
        if (noise) expect(ranked[0][0]).toBe('...');
        const first = noise ? 1 : 0;
        expect(ranked.slice(first, first + top).map(([word]) => word)).toEqual(answers);
        expect(ranked[first + top - 1][1]).toBeGreaterThan(ranked[first + top][1]);
        // f(k) = floor(f k^-alpha), f(1) <= f < f(1) + 1
        for (const [i, [, n]] of ranked.entries()) {
          expect(n).toBeGreaterThanOrEqual(Math.floor(ranked[0][1] * (i + 1) ** -alpha));
          expect(n).toBeLessThanOrEqual((ranked[0][1] + 1) * (i + 1) ** -alpha);
        }
        expect(count.size).toBeLessThanOrEqual(length / 50);
      }
  });
});

describe.each(STYLES)('qa, style %s', (style) => {
  const documents = (context: string) =>
    context
      .split(/\n+(?=Document \d+:|One question)/)
      .flatMap((part) => [...part.matchAll(/^Document (\d+):\s([\s\S]*)$/g)].map(([, n, text]) => [Number(n), text.trim()] as const));

  test.each(['qa_1', 'qa_2'])('%s: numbered documents, those with the answer once among them, in a place of their own each time', (task) => {
    const phrasebook = styles.find(({ name }) => name === style)!;
    const { paragraphs, questions } = phrasebook.questions(new Random(7, task).fork('questions'), task === 'qa_1' ? 1 : 2);
    const places = new Set<number>();
    for (const sample of make({ task, style, samples: 12 })) {
      const shown = documents(sample.context);
      expect(shown.map(([n]) => n)).toEqual(shown.map((_, i) => i + 1));
      const asked = questions.find(({ question }) => sample.question.endsWith(question))!;
      expect(asked.answers).toEqual(sample.answers);
      for (const at of asked.paragraphs) {
        expect(shown.filter(([, text]) => text === paragraphs[at].text).length).toBe(1);
        places.add(shown.findIndex(([, text]) => text === paragraphs[at].text));
      }
      expect(asked.paragraphs.some((at) => sample.answers.some((answer) => paragraphs[at].text.includes(answer)))).toBe(true);
      expect(shown.length).toBeGreaterThan(10);
    }
    expect(places.size).toBeGreaterThan(5);
    expect(
      make({ task, style, samples: 12 })
        .map(({ question }) => question)
        .filter((q, i, all) => all.indexOf(q) === i).length,
    ).toBe(12); // no question twice
  });

  test.each([1, 2] as const)(
    'own questions, %i hop: every answer stands in the paragraph that is said to hold it, and not in the question',
    (hops) => {
      const { paragraphs, questions } = styles.find(({ name }) => name === style)!.questions(new Random('q'), hops);
      expect(questions.length).toBeGreaterThanOrEqual(hops === 1 ? 48 : 16);
      expect(new Set(paragraphs.map(({ text }) => text)).size).toBe(paragraphs.length);
      for (const { question, answers, paragraphs: gold } of questions) {
        expect(gold.length).toBe(hops);
        expect(new Set(gold).size).toBe(hops);
        for (const answer of answers) {
          expect(paragraphs[gold.at(-1)!].text.includes(answer), `${question} ${answer}`).toBe(true);
          expect(question.toLowerCase()).not.toContain(answer.toLowerCase());
        }
        // in words, the answer is told nowhere before the last hop
        if (hops === 2) expect(paragraphs[gold[0]].text).not.toMatch(new RegExp(`\\b${answers[0]}\\b`));
      }
    },
  );
});

test('qa_1: other paragraphs of the same article come first, and only then others; too few repeat, but not the one with the answer', () => {
  const paragraphs = Array.from({ length: 12 }, (_, i) => ({ text: `Paragraph ${i} of article ${i % 3} says nothing.`, article: String(i % 3) }));
  const questions = { name: 'file', paragraphs, questions: [{ question: 'What does it say?', answers: ['nothing'], paragraphs: [4] }] };
  const articles = (length: number) => {
    const { samples, notes } = generateSamples({ task: 'qa_1', length, samples: 2, seed: 1, count: words, questions });
    return { notes, shown: samples.map(({ context }) => [...context.matchAll(/Paragraph (\d+)/g)].map(([, i]) => Number(i))) };
  };
  for (const shown of articles(106).shown) {
    expect(shown.length).toBeLessThan(5);
    expect(shown.every((i) => i % 3 === 1)).toBe(true);
  }
  for (const shown of articles(140).shown) expect([1, 4, 7, 10].every((i) => shown.includes(i))).toBe(true);
  const { shown, notes } = articles(1000);
  expect(notes).toEqual(['file: documents repeat, 12 paragraphs are fewer than fit']);
  for (const list of shown) {
    expect(list.filter((i) => i === 4).length).toBe(1);
    expect(list.length).toBeGreaterThan(80);
  }
});

test('the needle style has the words of models/recipe/words.py, and its question forms are in models/recipe/data.py', () => {
  const recipe = readFileSync('models/recipe/words.py', 'utf8');
  let lists = 0;
  for (const [, name, list] of recipe.matchAll(/^(\w+) = w\("(.*)"\)$/gm)) {
    if (name === 'FUNCTION') continue; // for prose, not used here
    expect((needleWords as unknown as Record<string, string[]>)[name], name).toEqual(list.split(' '));
    lists++;
  }
  expect(lists).toBe(19);
  const forms = readFileSync('models/recipe/data.py', 'utf8');
  for (const form of [
    'mentioned in the provided text?',
    'Find all variables that are assigned the value',
    'most common words in the list above?',
    'most frequent words in the coded text above?',
    'One of the special magic',
    'Coded text: ',
  ])
    expect(forms).toContain(form);
  expect(needle.niah.question('number', ['brave otter'], false)).toBe(
    'What is the special magic number for brave otter mentioned in the provided text?',
  );
  expect(needle.vt.question('12345')).toBe('Find all variables that are assigned the value 12345 in the text above.');
  expect(needle.cwe.question(3)).toBe('What are the three most common words in the list above?');
});

test('ruler style: one answer is asked in the singular', () => {
  expect(ruler.niah.question('number', ['odd-owl'], false)).toBe('Which is the special magic number of odd-owl that the text above tells?');
  expect(ruler.niah.question('uuid', ['odd-owl', 'icy-ivy', 'able-axle'], false)).toBe(
    'Which are all the special magic UUIDs of odd-owl, icy-ivy and able-axle that the text above tells?',
  );
  expect(ruler.niah.answerPrefix('number', ['odd-owl'], true)).toBe('The special magic numbers of odd-owl, as the text tells, are');
});
