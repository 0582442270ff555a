/** The user's question files and essays: every layout that is read, and what is wrong with others. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { generateSamples } from '../../evaluation/tasks/generate.ts';
import { parseQuestions } from '../../evaluation/tasks/question-files.ts';
import { readEssay, readQuestions } from '../../evaluation/tasks/read-files.ts';
import { InputError } from '../../presses/input-error.ts';
import { words } from './tokenizers.ts';

const lines = (...records: unknown[]) => records.map((record) => JSON.stringify(record)).join('\n');

describe('layouts', () => {
  test('JSONL: one paragraph or several, one answer or several; equal paragraphs are one', () => {
    const set = parseQuestions(
      `\uFEFF${lines({ question: 'Who?', answer: 'Ada', context: 'Ada did.' }, { question: ' How? ', answers: ['so', 'so '], context: ['Ada did.', 'It was so.'], title: 'T' })}\n\n`,
      'f',
    );
    expect(set).toEqual({
      name: 'f',
      paragraphs: [
        { text: 'Ada did.', article: 'line 1' },
        { text: 'It was so.', article: 'T' },
      ],
      questions: [
        { question: 'Who?', answers: ['Ada'], paragraphs: [0] },
        { question: 'How?', answers: ['so'], paragraphs: [0, 1] },
      ],
    });
  });

  test('a JSON array, a single record, and a record over several lines', () => {
    const record = { question: 'Who?', answer: 'Ada', context: 'Ada did.' };
    for (const text of [JSON.stringify([record]), JSON.stringify(record), JSON.stringify(record, null, 2)])
      expect(parseQuestions(text, 'f').questions).toEqual([{ question: 'Who?', answers: ['Ada'], paragraphs: [0] }]);
  });

  test('SQuAD: paragraphs without an answerable question are there as documents', () => {
    const qa = (question: string, answers: string[], is_impossible = false) => ({
      question,
      answers: answers.map((text) => ({ text, answer_start: 0 })),
      is_impossible,
      id: 'x',
    });
    const data = [
      {
        title: 'A',
        paragraphs: [
          { context: 'One.', qas: [qa('1?', ['One', 'One'])] },
          { context: 'Two.', qas: [qa('2?', ['Two'], true), qa('3?', [])] },
        ],
      },
      { title: 'B', paragraphs: [{ context: 'Three.', qas: [qa('4?', ['Three', 'three'])] }] },
    ];
    const set = parseQuestions(JSON.stringify({ version: 'v2.0', data }), 'squad');
    expect(set.paragraphs.map(({ article }) => article)).toEqual(['A', 'A', 'B']);
    expect(set.questions).toEqual([
      { question: '1?', answers: ['One'], paragraphs: [0] },
      { question: '4?', answers: ['Three', 'three'], paragraphs: [2] },
    ]);
  });

  test('HotpotQA, and rows of the datasets library', () => {
    const sentences = [['Ada ', 'Ada was born. ', 'In Lind.'] as const].map(([title, ...rest]) => [title, rest]);
    const hotpot = parseQuestions(
      JSON.stringify([{ _id: '1', question: 'Where?', answer: 'Lind', context: [...sentences, ['Bo', ['Bo was not.']]], supporting_facts: [] }]),
      'h',
    );
    expect(hotpot.paragraphs).toEqual([
      { text: 'Ada was born. In Lind.', article: 'Ada ' },
      { text: 'Bo was not.', article: 'Bo' },
    ]);
    expect(hotpot.questions[0].paragraphs).toEqual([0, 1]);
    const rows = parseQuestions(
      lines(
        { id: '1', title: 'A', context: 'One.', question: '1?', answers: { text: ['One'], answer_start: [0] } },
        { id: '2', title: 'A', context: 'One.', question: 'No?', answers: { text: [], answer_start: [] } },
        { question: '2?', answer: 'Bo', context: { title: ['B', 'C'], sentences: [['Bo.'], ['Cy.', ' Dee.']] } },
      ),
      'rows',
    );
    expect(rows.questions.map(({ question, paragraphs }) => [question, paragraphs])).toEqual([
      ['1?', [0]],
      ['2?', [1, 2]],
    ]);
    expect(rows.paragraphs[2]).toEqual({ text: 'Cy. Dee.', article: 'C' });
  });
});

test.each([
  ['nothing', ' \n', /f is empty; JSONL or a JSON array of \{"question", "answers", "context"\}/],
  ['no JSON', `${lines({ question: 'q?', answer: 'a', context: 'a.' })}\nquestion,answer\n`, /f: line 2 is no JSON, got question,answer; JSONL/],
  [
    'a file that was cut off',
    `${lines({ question: 'q?', answer: 'a', context: 'a.' })}\n{"question": "q2?", "ans`,
    /line 2 is no JSON, got \{"question": "q2\?", "ans/,
  ],
  ['a number', '12', /line 1 is no object, got 12/],
  ['no question', lines({ answer: 'a', context: 'a.' }, { answer: 'a', context: 'a.' }), /line 1: question must be a text, got nothing/],
  ['no answer', lines({ question: 'q?', context: 'a.' }), /line 1: answers must be a text, or a list of them, got nothing/],
  ['an empty answer', lines({ question: 'q?', answers: [''], context: 'a.' }), /line 1: answers must be a text, or a list of them, got \[""\]/],
  ['no context', lines({ question: 'q?', answer: 'a' }), /line 1: context must be a text, or a list of them, got nothing/],
  ['an empty list of paragraphs', lines({ question: 'q?', answer: 'a', context: [] }), /line 1: context must have a paragraph, got \[\]/],
  [
    'a paragraph that is none',
    lines({ question: 'q?', answer: 'a', context: ['a.', 7] }),
    /line 1: context\[1\] must be a text, or a list of them, got 7/,
  ],
  ['a title', lines({ question: 'q?', answer: 'a', context: 'a.', title: 3 }), /line 1: title must be a text, got 3/],
  [
    'columns of unequal length',
    lines({ question: 'q?', answer: 'a', context: { title: ['t'], sentences: [] } }),
    /must have as many "sentences" as "title"/,
  ],
  ['SQuAD without articles', '{"data": {}}', /data must be an array of articles, got \{\}/],
  ['SQuAD without paragraphs', '{"data": [{"title": "A"}]}', /data\[0\] must have an array "paragraphs", got \{"title":"A"\}/],
  [
    'SQuAD without questions',
    '{"data": [{"paragraphs": [{"context": "c"}]}]}',
    /data\[0\]\.paragraphs\[0\] must have a "context" and an array "qas"/,
  ],
  [
    'SQuAD with a broken question',
    '{"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "q?", "answers": [{}]}]}]}]}',
    /data\[0\]\.paragraphs\[0\]\.qas\[0\]: answers must be a text/,
  ],
  [
    'only impossible questions',
    '{"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "q?", "answers": []}]}]}]}',
    /f has no question that has an answer; one or more works/,
  ],
])('refused: %s', (_, text, message) => {
  expect(() => parseQuestions(text, 'f')).toThrow(InputError);
  expect(() => parseQuestions(text, 'f')).toThrow(message);
});

describe('files', () => {
  const folder = mkdtempSync(join(tmpdir(), 'evaluation-'));
  const file = (name: string, content: string | Uint8Array) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  afterAll(() => rmSync(folder, { recursive: true }));

  test('a question file goes into the QA tasks, in either style', async () => {
    const records = Array.from({ length: 30 }, (_, i) => ({
      question: `Where is town ${i}?`,
      answers: [`by lake ${i}`],
      context: `Town ${i} lies by lake ${i}.`,
    }));
    const questions = await readQuestions(file('q.jsonl', lines(...records)));
    for (const style of ['ruler', 'needle']) {
      const { samples } = generateSamples({ task: 'qa_1', length: 256, samples: 30, seed: 1, count: words, style, questions });
      expect(new Set(samples.map(({ question }) => question)).size).toBe(30);
      for (const { context, question, answers } of samples) {
        expect(context).toContain(`lies ${answers[0]}.`);
        expect(question).toContain(`town ${/\d+/.exec(answers[0])![0]}?`);
      }
    }
  });

  test('an essay: a text file, JSON with a text, or the .txt files of a folder by name', async () => {
    expect(await readEssay(file('e.txt', 'One. Two.'))).toBe('One. Two.');
    expect(await readEssay(file('e.json', '{"text": "One. Two."}'))).toBe('One. Two.');
    mkdirSync(join(folder, 'essays'));
    file('essays/b.txt', 'Two.');
    file('essays/a.txt', 'One.');
    file('essays/c.md', 'Three.');
    expect(await readEssay(join(folder, 'essays'))).toBe('One.\nTwo.');
  });

  test('what is no such file is refused by its path', async () => {
    mkdirSync(join(folder, 'empty'));
    for (const [made, message] of [
      [() => readEssay(join(folder, 'none.txt')), /none\.txt is no file that can be read; the path of a text file works/],
      [() => readQuestions(join(folder, 'none.jsonl')), /none\.jsonl is no file that can be read; the path of a JSONL or JSON file works/],
      [() => readQuestions(folder), /is no file that can be read/],
      [() => readEssay(join(folder, 'empty')), /empty has no \.txt file/],
      [
        () => readEssay(file('bad.json', '{"texts": 1}')),
        /bad\.json is no JSON object with a text in "text", got "\{\\"texts\\": 1\}"; a \.txt file works/,
      ],
      [() => readEssay(file('bytes.txt', Uint8Array.of(0xff, 0xfe, 0x41))), /bytes\.txt is no UTF-8 text/],
      [() => readQuestions(file('zero.jsonl', 'a\0b')), /zero\.jsonl is no UTF-8 text/],
      [() => readQuestions(file('cut.jsonl', '{"question": "q')), /cut\.jsonl: line 1 is no JSON/],
    ] as const) {
      await expect(made()).rejects.toThrow(InputError);
      await expect(made()).rejects.toThrow(message);
    }
  });
});
